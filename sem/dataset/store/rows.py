"""One stored row to the parts of an example, or to the reason why it cannot be one."""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from sem.core import jsonio, schema, shape
from sem.core.errors import SemError
from sem.core.example import read_alternatives
from sem.core.taskspec import TaskSpec
from sem.dataset import text
from sem.dataset.config import TaskOptions
from sem.dataset.html import words
from sem.dataset.store.examples_table import RawRow

# The one slot of a task whose output is not an object.
WHOLE = "(answer)"
URL_LINE = re.compile(r"^\s*url:\s*(\S{4,2000})", re.I | re.M)
LANGUAGE = re.compile(r"[a-z]{2,3}(?=$|[-_])")
LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
HOST = re.compile(r"(?:[\w-]{1,63}\.)+[\w-]{2,63}")


class Reject(Exception):
    """This row cannot be used: `reason` is one of the report's words, `detail` says where."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail[:300]


@dataclass(frozen=True)
class PreparedRow:
    """A row whose reference and metadata are in order; its page is still raw."""

    id: str
    spec: TaskSpec
    options: TaskOptions
    # Text that precedes the page in the prompt.
    before: str
    page: str
    reference: Any
    meta: dict[str, Any]
    system_prompt: str | None
    slot_specs: dict[str, Any] | None
    source_id: str | None
    # As the row names it, never the reference: a budget may depend on it.
    page_type: str = ""
    notes: tuple[str, ...] = field(default=())


def prepare_row(row: RawRow, tasks: dict[str, TaskSpec], options: Any) -> PreparedRow:
    """Return `row` checked against its task; Reject with the reason when it does not pass."""
    if not row.id or not row.id.strip():
        raise Reject("no_id")
    meta, notes = _meta(row.metadata)
    if row.capture:
        meta = {"capture": _meta(row.capture)[0], **meta}
    spec = _task(row, meta, tasks)
    if row.input_text is None or not row.input_text.strip():
        raise Reject("no_input")
    task_options = options.of(spec.task_id)
    before, page, has_marker = cut_prompt(row.input_text, task_options)
    reference = _reference(row.reference, spec, task_options)
    facts, more = _facts(row, meta, before, reference)
    notes += more if has_marker else (*more, "page_marker_missing")
    notes += _alternatives(meta, spec)
    return PreparedRow(
        id=row.id,
        spec=spec,
        options=task_options,
        before=before,
        page=page,
        reference=reference,
        meta={**meta, **facts},
        system_prompt=_system_prompt(row, meta, spec, task_options),
        slot_specs=_slot_specs(row, spec),
        source_id=_text(row.source_id) or _text(meta.get("source_id")),
        page_type=_text(meta.get("page_type")) or _text(row.page_type) or "",
        notes=notes,
    )


def unlabelled_row(
    spec: TaskSpec, options: TaskOptions, prompt: str, meta: dict[str, Any]
) -> PreparedRow:
    """Return `prompt`, an input of the task without a reference, as a row of it."""
    before, page, has_marker = cut_prompt(prompt, options)
    return PreparedRow(
        id="",
        spec=spec,
        options=options,
        before=before,
        page=page,
        reference=None,
        meta=meta,
        system_prompt=None,
        slot_specs=None,
        source_id=None,
        page_type=_text(meta.get("page_type")) or "",
        notes=() if has_marker else ("page_marker_missing",),
    )


def cut_prompt(prompt: str, options: TaskOptions) -> tuple[str, str, bool]:
    """Return what precedes the page, the page, and whether the marker that was asked for is
    there.
    """
    marker = options.page_starts_at
    start = prompt.find(marker) if marker else 0
    tail = prompt[max(0, start) :]
    if options.input == "text":
        return "", tail, start >= 0
    tag = words.HTML.search(tail)
    if tag is None:
        return "", tail, start >= 0
    # A comment, doctype or stray text may open the page: the page starts at the first `<`.
    opened = tail.find("<", 0, tag.start() + 1)
    return text.normalise_text(tail[:opened]), tail[opened:], start >= 0


def _meta(stored: str | None) -> tuple[dict[str, Any], tuple[str, ...]]:
    if stored is None or not stored.strip():
        return {}, ()
    try:
        value = jsonio.parse_json(stored)
    except ValueError:
        return {}, ("metadata_not_json",)
    return (value, ()) if isinstance(value, dict) else ({}, ("metadata_not_an_object",))


def _alternatives(meta: dict[str, Any], spec: TaskSpec) -> tuple[str, ...]:
    """Return a note where further right answers (`metadata.alternatives`) name no slot or are
    none.
    """
    alternatives = read_alternatives(meta.get("alternatives"))
    if alternatives is None:
        return ("alternatives_not_an_object",)
    slots = [*spec.slots(), WHOLE]
    odd = [
        s
        for s in alternatives
        if not any(n == s or n.startswith((f"{s}.", f"{s}[].")) for n in slots)
    ]
    return ("alternatives_of_no_slot",) if odd else ()


def _task(row: RawRow, meta: dict[str, Any], tasks: dict[str, TaskSpec]) -> TaskSpec:
    named = row.task or meta.get("task") or row.page_type or meta.get("page_type")
    if not named:
        raise Reject("no_task")
    if named not in tasks:
        raise Reject("unknown_task", str(named))
    return tasks[named]


def _reference(stored: str | None, spec: TaskSpec, options: TaskOptions) -> Any:
    if stored is None or not stored.strip():
        raise Reject("no_reference")
    value = clean_strings(_parsed(stored, spec))
    if options.nulls == "fill":
        value = shape.fill_nulls(value, spec.io_schema, spec.io_schema)
    problems = schema.schema_problems(value, spec.io_schema, limit=3)
    if problems:
        raise Reject("reference_breaks_schema", "; ".join(problems))
    return value


def _parsed(stored: str, spec: TaskSpec) -> Any:
    allowed = shape.schema_types(shape.resolve_shape(spec.io_schema, spec.io_schema))
    is_text = "string" in allowed
    try:
        # Prose is an answer where a text is wanted: what stands in it is not cut out.
        value = _fenced(stored) if is_text else jsonio.read_reply(stored)
        # JSON held as text inside JSON, as stores that encode twice leave it.
        if isinstance(value, str) and not is_text:
            value = jsonio.parse_json(value)
    except ValueError as error:
        if is_text and stored.lstrip()[0] not in '{["':
            return stored
        raise Reject("reference_not_json", str(error)) from error
    if value is None and "null" not in allowed:
        raise Reject("no_reference")
    if is_text and not isinstance(value, str):
        return stored.strip()
    return value


def _fenced(stored: str) -> Any:
    """Return the JSON that is all of `stored`, or of the one fence around it."""
    fence = jsonio.FENCE.fullmatch(stored.strip())
    return jsonio.parse_json(fence[2] if fence else stored)


def clean_strings(value: Any) -> Any:
    """Return `value` with its texts as cleaned pages spell them, or no model could copy them."""
    if isinstance(value, str):
        return text.clean_text(value).strip()
    if isinstance(value, list):
        return [clean_strings(inner) for inner in value]
    if isinstance(value, dict):
        return {text.clean_text(key): clean_strings(inner) for key, inner in value.items()}
    return value


def _facts(
    row: RawRow, meta: dict[str, Any], before: str, reference: Any
) -> tuple[dict[str, Any], tuple[str, ...]]:
    line = URL_LINE.search(before)
    url = _text(meta.get("url")) or (line[1] if line else "")
    named = _text(meta.get("domain"))
    domain = registered_domain(url) or registered_domain(named or "")
    answered = reference.get("page_type") if isinstance(reference, dict) else None
    kind = meta.get("page_type") or row.page_type or answered or ""
    facts = {"domain": domain, "page_type": _text(kind) or "", "url": url}
    notes = ("no_domain",) if not domain else ()
    return facts, (*notes, "bad_url") if url and not registered_domain(url) else notes


def page_language(meta: dict[str, Any], page_language: str) -> str:
    """Return two or three letters from the metadata or the page, 'und' when neither says."""
    for named in (meta.get("language"), page_language):
        match = LANGUAGE.match(named.strip().lower()) if isinstance(named, str) else None
        if match:
            return match[0]
    return "und"


@lru_cache(maxsize=50_000)
def registered_domain(address: str) -> str:
    """'https://www.a.co.uk:80/x' -> 'a.co.uk'; an IP address as it is; '' when there is none."""
    if "/" not in address:
        address = f"//{address}"
    try:
        parts = urlsplit(address.strip())
        # Refuses `javascript:alert(1)` and other ports that are none.
        _ = parts.port
        host = (parts.hostname or "").rstrip(".").lower()
        host = host.encode("idna").decode("ascii") if not host.isascii() else host
    except (ValueError, UnicodeError):
        return ""
    if re.fullmatch(r"[0-9.]+|.*:.*", host):
        return host if _is_ip(host) else ""
    if LABEL.fullmatch(host):
        # a host of an intranet: pages of it still belong together.
        return host
    return (_suffixes().privatesuffix(host) or "") if HOST.fullmatch(host) else ""


def _is_ip(host: str) -> bool:
    import ipaddress

    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=1)
def _suffixes() -> Any:
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList()


def _system_prompt(
    row: RawRow, meta: dict[str, Any], spec: TaskSpec, options: TaskOptions
) -> str | None:
    named = row.system_prompt or _text(meta.get("system_prompt"))
    if options.system_prompt == "task" or not named or named.strip() == spec.system_prompt.strip():
        return None
    return text.normalise_text(named)


def _slot_specs(row: RawRow, spec: TaskSpec) -> dict[str, Any] | None:
    if row.slot_specs is None or row.slot_specs.strip() in ("", "null"):
        return None
    try:
        value = jsonio.parse_json(row.slot_specs)
        if not isinstance(value, dict):
            raise ValueError("not an object")
        spec.slots(value)
    except (ValueError, SemError, TypeError) as error:
        raise Reject("slot_specs", str(error)) from error
    return value


def _text(value: Any) -> str | None:
    return value.strip() if isinstance(value, str) and value.strip() else None

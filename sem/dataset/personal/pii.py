"""Personal data in a row: found, and kept, redacted or rejected as the sem says.

    Mail ann@x.de or call 030 1234567   ->   Mail [EMAIL_1] or call [PHONE_1]

Pure and deterministic. The same value has the same placeholder in input and reference, so what a
model shall copy is still there to be copied.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sem.core import shape, slotspec
from sem.core.errors import SemError, suggest_nearest_name
from sem.dataset.config import Pii, PiiAction
from sem.dataset.personal.pii_phones import is_country
from sem.dataset.personal.pii_search import (
    KINDS,
    PLACEHOLDER,
    find_personal_data,
    identity_key,
    merge_spans,
    phone_regions,
)
from sem.dataset.personal.pii_spans import PiiSpan

__all__ = [
    "KINDS",
    "PiiSpan",
    "apply_pii_policy",
    "check_pii_policy",
    "find_personal_data",
    "phone_regions",
]

# a number in the reference cannot hold a placeholder.
NOT_TEXT = "pii_not_text"
CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|[_\W]+")
TELLING = re.compile(r"\d|@|[\[({]at[\])}]", re.I)
TOKEN = re.compile(r"(?<![^\W_])[^\W_]{7,34}(?![^\W_])")
SHORTEST_NAME = 3
# Digits of an answer inside a longer find that keep the find.
MIN_ANSWER = 5
WORDS = ("email", "name")  # what is not a number
Key = tuple[str, str]


@dataclass(frozen=True)
class PiiResult:
    """A row after the policy, how often which kind met which action, and why it is refused."""

    text: str
    reference: Any
    counts: dict[str, dict[str, int]]
    reason: str | None = None
    also: Any = None


def apply_pii_policy(
    text: str,
    reference: Any,
    policy: Pii,
    hints: Mapping[str, Any] | None = None,
    also: Any = None,
) -> PiiResult:
    """Return `text` and `reference` under `policy`; a reason where the row must not be used.

    `hints` are the page's `language` and `url`, which tell the country of its telephone numbers.
    A value in a slot that `policy` keeps is kept everywhere. A slot that `policy` redacts holds
    personal data by declaration: a value of no known kind counts as a name. A number that is
    the whole of another slot's value is an answer (an article number) and stays. `also` is more of
    the row (metadata, wrong answers), for which the same placeholders are used. The reason is
    `pii_KIND` of the first kind that rejects, or NOT_TEXT where a number of the reference would
    have to be redacted.
    """
    if not policy.slots and all(getattr(policy, kind) == "keep" for kind in KINDS):
        return PiiResult(text, reference, {}, None, also)
    page_hints = {name: str(value or "") for name, value in (hints or {}).items()}
    countries = phone_regions(
        page_hints.get("language", ""), page_hints.get("url", ""), policy.regions
    )
    row = _PiiRow(policy, countries)
    row.read(text, reference, also)
    rewritten = row.rewritten(text)
    answer, more = row.rewritten_all(reference), row.rewritten_all(also)
    counts = {kind: dict(sorted(n.items())) for kind, n in sorted(row.counts.items())}
    rejects = [kind for kind, n in counts.items() if n.get("reject")]
    reason = f"pii_{rejects[0]}" if rejects else NOT_TEXT if row.is_stuck else None
    return PiiResult(rewritten, answer, counts, reason, more)


def redact_new_page(
    text: str, policy: Pii, hints: Mapping[str, Any] | None = None
) -> tuple[str, dict[str, str]]:
    """Return `text`, a page without a reference, as rows of it were written, and what each
    placeholder of it stands for.

    What a model learnt to copy as `[EMAIL_1]` it says as `[EMAIL_1]`: whoever reads its answer
    puts the value back. A kind that rejects rows is redacted; `policy.slots` are of references.
    """
    kinds: dict[str, Any] = {k: "redact" for k in KINDS if getattr(policy, k) != "keep"}
    if not kinds:
        return text, {}
    page_hints = {name: str(value or "") for name, value in (hints or {}).items()}
    countries = phone_regions(
        page_hints.get("language", ""), page_hints.get("url", ""), policy.regions
    )
    row = _PiiRow(replace(policy, slots={}, **kinds), countries)
    row.read(text, None, None)
    return row.rewritten(text), row.values_by_placeholder()


def check_pii_policy(policy: Pii, schemas: Iterable[dict[str, Any]], where: str) -> None:
    """Raise SemError at `where` when `policy` names a slot of none of `schemas`, or no country.

    A slot that is misspelled would be redacted, and nobody would miss it.
    """
    slots: set[str] = set()
    for io_schema in schemas:
        if not shape.schema_properties(io_schema, io_schema):
            # Objects of any shape: any slot may be there.
            return
        for path in slotspec.schema_leaves(io_schema):
            parts = path.split(".")
            held = {".".join(parts[:size]) for size in range(1, len(parts) + 1)}
            slots |= held | {name.removesuffix("[]") for name in held}
    for name in policy.slots:
        if name not in slots:
            raise SemError(
                f"{where}: pii.slots: no slot {name!r}", suggest_nearest_name(name, slots)
            )
    for region in policy.regions:
        if not is_country(region):
            raise SemError(
                f"{where}: pii.regions: {region!r} is not a country with telephone numbers",
                "write ISO 3166 codes, as [DE, US]",
            )


class _PiiRow:
    """What one row holds, and the placeholders it has been given so far."""

    def __init__(self, policy: Pii, regions: tuple[str, ...]) -> None:
        self.policy, self.regions = policy, regions
        self.kinds = [kind for kind in KINDS if kind != "name" or policy.name != "keep"]
        self.by_slot: dict[Key, set[PiiAction]] = {}
        self.answers: set[str] = set()
        self.spans: dict[str, list[PiiSpan]] = {}
        self.given: dict[Key, str] = {}
        self.last: Counter[str] = Counter()
        self.counts: dict[str, Counter[str]] = {}
        self.is_stuck = False

    def read(self, text: str, reference: Any, also: Any) -> None:
        """Find what `text`, `reference` and `also` hold, decide, and number it in that order."""
        leaves = sorted(_leaves(reference), key=lambda leaf: leaf[0])
        others = [value for _, value in _leaves(also)]
        for value in (text, *(value for _, value in leaves), *others):
            for kind, number in PLACEHOLDER.findall(value if isinstance(value, str) else ""):
                self.last[kind] = max(self.last[kind], int(number))
        slot_spans = [(value, self._in_slot(path, value)) for path, value in leaves]
        whole = [(text, find_personal_data(text, self.kinds, self.regions)), *slot_spans]
        whole += [(v, self._plain(v)) for v in others]
        spans_by_key = {self._key(s): s for _, spans in whole for s in spans if self._acts(s)}
        for value, spans in whole:
            self._settle(value, spans, spans_by_key)

    def _in_slot(self, path: str, value: Any) -> list[PiiSpan]:
        """Return the spans of a slot's `value`.

        Its name says what it is, as a label does in a text.
        """
        action, prefix = self._slot_action(path), f"{CAMEL.sub(' ', path).strip()}: "
        spans = [
            PiiSpan(span.kind, span.start - len(prefix), span.end - len(prefix), span.text)
            for span in self._plain(prefix + str(value), TELLING.search(str(value)) is not None)
            if span.start >= len(prefix)
        ]
        if action in ("redact", "reject") and not spans and isinstance(value, str):
            is_done = not value.strip() or PLACEHOLDER.search(value)
            spans = [] if is_done else [PiiSpan("name", 0, len(value), value)]
        if action:
            for span in spans:
                self.by_slot.setdefault(self._key(span), set()).add(action)
        if action == "keep" or not spans:
            self.answers.add(_packed(str(value)))
        return spans

    def _plain(self, value: Any, is_telling: bool | None = None) -> list[PiiSpan]:
        text = str(value)
        if is_telling is None:
            is_telling = TELLING.search(text) is not None
        kinds = self.kinds if is_telling else [k for k in self.kinds if k == "name"]
        return find_personal_data(text, kinds, self.regions) if kinds else []

    def _slot_action(self, path: str) -> PiiAction | None:
        """Return the policy of the slot `path` or of the nearest object that holds it."""
        parts = path.split(".")
        for size in range(len(parts), 0, -1):
            name = ".".join(parts[:size])
            for spelled in (name, name.removesuffix("[]")):
                if spelled in self.policy.slots:
                    return self.policy.slots[spelled]
        return None

    def _key(self, span: PiiSpan) -> Key:
        return identity_key(span, self.regions)

    def _action(self, span: PiiSpan) -> PiiAction:
        actions = self.by_slot.get(self._key(span), set())
        if actions:
            return next(action for action in ("reject", "keep", "redact") if action in actions)
        is_answer = span.kind not in WORDS and self._holds_answer(_packed(span.text))
        return "keep" if is_answer else getattr(self.policy, span.kind)

    def _holds_answer(self, packed: str) -> bool:
        """Return True if a number `packed` is an answer of the row, or mostly one: a postcode."""
        return packed in self.answers or any(
            len(answer) >= MIN_ANSWER
            and answer.isdigit()
            and answer in packed
            and 2 * len(answer) > len(packed)
            for answer in self.answers
        )

    def _acts(self, span: PiiSpan) -> bool:
        return self._action(span) != "keep"

    def _settle(self, value: Any, spans: list[PiiSpan], spans_by_key: dict[Key, PiiSpan]) -> None:
        """Record which parts of `value` are redacted; `spans_by_key` are from the whole row."""
        if isinstance(value, str):
            spans = merge_spans(spans, _again(value, spans_by_key))
        acting = []
        for span in spans:
            action = self._action(span)
            self.counts.setdefault(span.kind, Counter())[action] += 1
            if action != "keep":
                acting.append(span)
                self._placeholder(span)
        if isinstance(value, str):
            self.spans[value] = merge_spans(acting, iter(self.spans.get(value, ())))
        elif any(self._action(span) == "redact" for span in acting):
            self.is_stuck = True

    def _placeholder(self, span: PiiSpan) -> str:
        name = self._key(span)
        if name not in self.given:
            self.last[span.kind.upper()] += 1
            self.given[name] = f"[{span.kind.upper()}_{self.last[span.kind.upper()]}]"
        return self.given[name]

    def values_by_placeholder(self) -> dict[str, str]:
        """Return what each placeholder stands for, as it is written where it comes first."""
        values: dict[str, str] = {}
        for spans in self.spans.values():
            for span in spans:
                values.setdefault(self._placeholder(span), span.text)
        return values

    def rewritten(self, value: str) -> str:
        """Return `value` with placeholders."""
        parts, position = [], 0
        for span in self.spans.get(value, ()):
            parts += [value[position : span.start], self._placeholder(span)]
            position = span.end
        return "".join((*parts, value[position:]))

    def rewritten_all(self, value: Any) -> Any:
        """Return `value` with placeholders in every text of it."""
        if isinstance(value, str):
            return self.rewritten(value)
        if isinstance(value, list):
            return [self.rewritten_all(inner) for inner in value]
        if isinstance(value, dict):
            return {name: self.rewritten_all(inner) for name, inner in value.items()}
        return value


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(slot, scalar) of every text and whole number in `value`, spelled as slot_specs are."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, f"{path}[]" if isinstance(inner, dict) else path)
    elif isinstance(value, str | int) and not isinstance(value, bool):
        yield path, value


def _packed(value: str) -> str:
    return re.sub(r"[\W_]", "", value).casefold()


def _again(value: str, spans_by_key: dict[Key, PiiSpan]) -> Iterator[PiiSpan]:
    """Yield where a text of `spans_by_key` stands in `value` once more, written without gaps or by
    itself.
    """
    names = {span.text for span in spans_by_key.values() if span.kind == "name"}
    for name in sorted(names, key=lambda text: (-len(text), text)):
        if len(name) >= SHORTEST_NAME and name in value:
            for match in re.finditer(rf"(?<!\w){re.escape(name)}(?!\w)", value):
                yield PiiSpan("name", *match.span(), name)
    numbers = {name[1]: span.kind for name, span in spans_by_key.items() if span.kind not in WORDS}
    if numbers:
        for token in TOKEN.finditer(value):
            kind = numbers.get(token[0].casefold()) or numbers.get(token[0].lstrip("0"))
            if kind:
                yield PiiSpan(kind, *token.span(), token[0])

"""Variants of training rows whose answer stays as it is: other markup, blocks, spellings.

Each variant is cleaned like its row and refused, and counted, when the reference changes, a value
that was found is found no more, values of a list come in another order, or the cleaned text is
the one that is there already. Rows of val and test are never read: ids come from train alone.
"""

import hashlib
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sem.core import files, jsonio, state
from sem.core.errors import SemError, suggest_nearest_name
from sem.core.example import Example, from_json
from sem.core.project import Project
from sem.dataset.augment import page_edits
from sem.dataset.augment.page_edits import EditablePage
from sem.dataset.clean import engine, grounding
from sem.dataset.clean.row_cleaning import CleaningPlan, RowCleaner
from sem.dataset.config import Dataset
from sem.dataset.html import markup, words
from sem.dataset.split import snapshot
from sem.dataset.split.snapshot import Snapshot
from sem.dataset.store import rows, store
from sem.dataset.store.examples_table import RawRow

# Is a file beside a snapshot still what its facts say, and made for that snapshot?


def read_variant_facts(path: Path, frozen: Snapshot, what: str, command: str) -> Any:
    """Return the facts of `path`, which holds `what` of snapshot `frozen` and was made by
    `command`.

    Raise SemError when it is not there, changed on disk, or belongs to other rows.
    """
    if not path.with_suffix(".json").exists():
        raise SemError(f"{path.name}: no {what} of {frozen.name}", f"make them with `{command}`")
    facts = state.read_state_file(path.with_suffix(".json"), state.DerivedSetFacts)
    digest = files.sha256_file(path) if path.exists() else "missing"
    if digest != facts["sha256"] or facts["snapshot_sha256"] != frozen.sha256:
        raise SemError(
            f"{path.name} is {digest[:12]}…, {path.stem}.json says {facts['sha256'][:12]}…",
            f"make it again with `{command}`",
        )
    return facts


def write_facts(project: Project, frozen: Snapshot, path: Path, facts: dict[str, Any]) -> None:
    """Write the facts of `path`, made of `frozen`.

    Raise SemError when a takedown withdrew it meanwhile.

    The file then holds rows that were to go, and is removed.
    """
    try:
        snapshot.load_snapshot(project, frozen.version)
    except SemError:
        path.unlink()
        raise
    files.write_file(path.with_suffix(".json"), jsonio.pretty_json(facts))


COMMAND = "fab dataset.augment"
# Between a row's id and the kind of its variant.
MARK = "~"
NOT_APPLICABLE = "not_applicable"
# The row has its variants already.
NOT_NEEDED = "not_needed"
BASE_DIFFERS = "row_differs_from_snapshot"


@dataclass(frozen=True)
class VariantOptions:
    """Which variants: kinds, how many of each row, the seed; and what cleaning needs."""

    kinds: tuple[str, ...] = tuple(page_edits.KINDS)
    each: int = 2
    seed: int = 0
    # a tokenizer.json, where max_tokens is set.
    tokenizer: str | None = None
    # YYYY-MM-DD, by which consent is judged.
    today: str = ""

    def __post_init__(self) -> None:
        for name in self.kinds:
            if name not in page_edits.KINDS:
                raise SemError(
                    f"unknown kind of variant {name!r}",
                    suggest_nearest_name(name, page_edits.KINDS),
                )
        if self.each < 1:
            raise SemError(f"{self.each} variants of each row", "ask for 1 or more")


@dataclass(frozen=True)
class Augmented:
    """The facts of a written set of variants: its file, counts and hashes."""

    facts: dict[str, Any]
    path: Path


def write_variants(
    project: Project,
    version: int | str | None = None,
    request: VariantOptions | None = None,
    progress: Callable[[Any, int], Any] | None = None,
) -> Augmented:
    """Write the variants of the train part of snapshot `version`, read-only, facts last."""
    request = request or VariantOptions()
    frozen = snapshot.load_snapshot(project, version)
    settings = project.settings("dataset", Dataset).clean
    path, refused = project.processed / variants_path(frozen), Counter[str]()
    with files.lock_file(project.processed / ".augment.lock", str(path)):
        digests = {example.id: _digest(example) for example in frozen.examples("train")}
        plan = CleaningPlan(settings, project.tasks, 0.0, request.tokenizer, request.today)
        with store.open_store(project.store) as opened:
            stored = (row for row in opened.rows() if row.id in digests)
            raw = progress(stored, len(digests)) if progress else stored
            variants = _checked(raw, plan, request, digests, refused)
            count = write_sorted(path, variants)
        facts = _facts(frozen, request, path, count, refused)
        write_facts(project, frozen, path, facts)
    return Augmented(facts, path)


def variants_path(frozen: Snapshot) -> str:
    """Return the file of the variants of snapshot `frozen`."""
    return f"augmented.{frozen.name}.jsonl"


def variants_facts(project: Project, frozen: Snapshot) -> dict[str, Any]:
    """Return what the variants of snapshot `frozen` are.

    Raise SemError when there are none or they changed.
    """
    return read_variant_facts(
        project.processed / variants_path(frozen), frozen, "variants", COMMAND
    )


def read_variants(project: Project, frozen: Snapshot) -> Iterator[Example]:
    """Yield the variants of snapshot `frozen`, verified before the first one."""
    variants_facts(project, frozen)
    path = project.processed / variants_path(frozen)
    for number, row in enumerate(files.read_rows(path), 1):
        yield from_json(row, f"{path}:{number}")


def _digest(example: Example) -> bytes:
    return hashlib.sha256(example.content().encode("utf-8")).digest()[:16]


def write_sorted(path: Path, variants: Iterable[dict[str, Any]]) -> int:
    """Write the rows `variants` to `path` in order of id, read-only; how many there were.

    They are spilled as they come: a million variants of pages do not fit into memory.
    """
    places: list[tuple[str, int]] = []
    with tempfile.TemporaryFile(dir=path.parent) as spill:
        for row in variants:
            places.append((row["id"], spill.tell()))
            spill.write((jsonio.canonical_json(row) + "\n").encode("utf-8"))
        with files.open_atomic_file(path, 0o444) as file:
            for _, offset in sorted(places):
                spill.seek(offset)
                file.write(spill.readline())
    return len(places)


def _checked(
    raw: Iterable[RawRow],
    plan: CleaningPlan,
    request: VariantOptions,
    digests: dict[str, bytes],
    refused: Counter,
) -> Iterator[dict[str, Any]]:
    """Yield every variant that keeps its row's answer, as a row of a snapshot part."""
    base: Example | None = None
    texts: set[str] = set()
    planned = _variants(raw, plan, request, digests, refused)
    for record in engine.clean_rows_locally(planned, plan):
        origin, mark, variant = record.id.rpartition(MARK)
        if not mark or record.id in digests:
            base, texts = _base(record, digests, refused), set()
            continue
        if base is None:
            continue
        if len(texts) == request.each:
            refused[NOT_NEEDED] += 1
            continue
        reason, example = _verdict(record, base, texts)
        if reason:
            refused[f"{variant}:{reason}"] += 1
            continue
        texts.add(example.input_text)
        tagged = {"of": origin, "kind": variant, "seed": request.seed}
        yield replace(example, meta={**example.meta, "augmented": tagged}).as_json()


def _base(record: engine.RowRecord, digests: dict[str, bytes], refused: Counter) -> Example | None:
    """Return the row itself, cleaned again; None where it is not what the snapshot holds."""
    if record.made.reason is None:
        example = Example(**jsonio.parse_json(record.made.line))
        if _digest(example) == digests[record.id]:
            return example
    refused[BASE_DIFFERS] += 1
    return None


def _verdict(
    record: engine.RowRecord, base: Example, texts: Collection[str]
) -> tuple[str | None, Example]:
    """Why the variant `record` of `base` is refused, None for not at all; and its example."""
    if record.made.reason is not None:
        return record.made.reason, base
    example = Example(**jsonio.parse_json(record.made.line))
    if jsonio.canonical_json(example.output_json) != jsonio.canonical_json(base.output_json):
        return "answer_changed", example
    if example.input_text == base.input_text or example.input_text in texts:
        return "same_text", example
    before, after = (
        grounding.SearchableText(base.input_text),
        grounding.SearchableText(example.input_text),
    )
    values = list(grounding.scalar_leaves(base.output_json))
    if any(
        grounding.is_grounded(v, before) and not grounding.is_grounded(v, after) for _, v in values
    ):
        return "evidence_lost", example
    if _order(values, before) != _order(values, after):
        return "order_changed", example
    return None, example


def _order(values: list[tuple[str, Any]], text: grounding.SearchableText) -> list[list[int]]:
    """Per slot of several texts, the order in which they first appear in `text`."""
    places: dict[str, list[int]] = {}
    for slot, value in values:
        places.setdefault(slot, []).append(
            text.flat.find(grounding.SearchableText(str(value)).flat)
        )
    return [sorted(range(len(at)), key=at.__getitem__) for at in places.values() if len(at) > 1]


def _variants(
    raw: Iterable[RawRow],
    plan: CleaningPlan,
    request: VariantOptions,
    known_ids: Collection[str],
    refused: Counter,
) -> Iterator[RawRow]:
    """Yield each row of `raw`, as it is and then edited."""
    options = RowCleaner(replace(plan, tokenizer=None))
    for row in raw:
        try:
            prepared = rows.prepare_row(row, plan.tasks, options)
        except rows.Reject:
            refused[BASE_DIFFERS] += 1
            continue
        yield row
        for variant in _edited(row, _page(prepared), request, refused):
            if variant.id in known_ids:
                refused["id_taken"] += 1
            else:
                yield variant


def _page(row: rows.PreparedRow) -> EditablePage:
    kind = row.options.input
    is_html = kind == "html" or (kind == "auto" and words.HTML.search(row.page) is not None)
    return EditablePage(row.page, row.reference, rows.page_language(row.meta, ""), is_html)


def _edited(
    row: RawRow, page: EditablePage, request: VariantOptions, refused: Counter
) -> Iterator[RawRow]:
    """Yield every variant of `row` that applies, in an order of its own.

    Many leave the text as it is.
    """
    prompt, name = row.input_text or "", row.id or ""
    kinds = sorted(request.kinds)
    for variant in random_of(request.seed, name, "").sample(kinds, len(kinds)):
        edited = page_edits.KINDS[variant](page, random_of(request.seed, name, variant))
        if edited is None or edited == page.source:
            refused[f"{variant}:{NOT_APPLICABLE}"] += 1
            continue
        whole = prompt.removesuffix(page.source) + edited
        yield replace(row, id=f"{name}{MARK}{variant}", input_text=whole)


def random_of(seed: int, row: str, variant: str) -> random.Random:
    """Return a generator of its own for each row and kind, so that the order of rows does not
    matter.
    """
    digest = hashlib.sha256(jsonio.canonical_json([seed, row, variant]).encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))


def _facts(
    frozen: Snapshot, request: VariantOptions, path: Path, count: int, refused: Counter
) -> dict[str, Any]:
    kinds = Counter(row["meta"]["augmented"]["kind"] for row in files.read_rows(path))
    return {
        "snapshot": frozen.name,
        "snapshot_sha256": frozen.sha256,
        "cleaner": markup.FINGERPRINT,
        "seed": request.seed,
        "each": request.each,
        "kinds": sorted(request.kinds),
        "rows": count,
        "by_kind": dict(sorted(kinds.items())),
        "refused": dict(sorted(refused.items())),
        "sha256": files.sha256_file(path),
    }

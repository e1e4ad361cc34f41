"""The golden set, edited: questions added under ids that stay, and what is wrong with the set.

Everything is checked before anything is written, and golden_set.json is replaced in one step.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sem.core import console, files, jsonio
from sem.core.errors import SemError, suggest_nearest_name
from sem.core.example import Example
from sem.core.project import Project
from sem.dataset.clean import near_duplicates
from sem.dataset.ingest import csv_dialects
from sem.dataset.ingest.readers import ReadReporter
from sem.dataset.split import snapshot
from sem.dataset.store import tombstones
from sem.eval.answers import golden

FIELDS = ("question", "answer", "id", "task", "domain", "source_id")
ENDS = (".json", ".jsonl", ".csv")
LONGEST_SHOWN = 60
# Between the answers of a question that has several.
JOINED = "; "
# Characters of an answer from which a question that holds it gives it away.
GIVEN_AWAY = 12


@dataclass(frozen=True)
class GoldenColumns:
    """How a file is read: columns under our names, and whether unknown ones are kept in meta."""

    columns: Mapping[str, str] = field(default_factory=dict)  # ours -> theirs
    keep: bool = False


@dataclass
class GoldenAdditions:
    """What became of the entries."""

    added: list[str] = field(default_factory=list)
    same: int = 0
    replaced: int = 0
    # Answers that were a list of texts.
    joined: int = 0
    taken_down: int = 0
    # Keys that went to meta.
    kept: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class GoldenFinding:
    """One thing that is wrong with one question."""

    id: str
    problem: str
    detail: str


def golden_columns(pairs: Sequence[str]) -> dict[str, str]:
    """Return {ours: theirs} of `pairs` (`question=q,answer=a`).

    Raise SemError when `ours` is not a field.
    """
    columns: dict[str, str] = {}
    for pair in ",".join(pairs).split(",") if pairs else ():
        ours, equals, theirs = pair.partition("=")
        if not equals or not theirs:
            raise SemError(f"--map {pair!r}: not OURS=THEIRS", "write question=their_name")
        if ours not in FIELDS and not ours.startswith("meta."):
            raise SemError(
                f"--map {pair!r}: unknown field {ours!r}", suggest_nearest_name(ours, FIELDS)
            )
        columns[ours] = theirs
    return columns


def read_golden_entries(path: Path) -> list[tuple[str, Any]]:
    """(where, entry) of the JSON, JSON lines or CSV file `path`.

    Raise SemError when it is none.
    """
    if not path.name.lower().endswith(ENDS):
        raise SemError(
            f"{path}: not a kind of file that golden sets are read from",
            f"known: {' '.join(ENDS)}",
        )
    if path.name.lower().endswith(".json"):
        return [
            (f"{path}: entry {n}", item) for n, item in enumerate(golden.golden_entries(path), 1)
        ]
    if path.name.lower().endswith(".jsonl"):
        return [(f"{path}: row {n}", item) for n, item in enumerate(files.read_values(path), 1)]
    return list(_csv(path))


def _csv(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield rows of a sheet with any delimiter and encoding.

    One that is not a row refuses the file.
    """

    def refuse(where: str, why: str) -> None:
        raise SemError(f"{path}: {where} {why}", "correct it; nothing was added")

    for where, row in csv_dialects.read_csv_rows(path, ReadReporter(refuse, console.print_note)):
        yield f"{path}: {where}", {name: cell or "" for name, cell in row.items()}


def add_golden_entries(
    project: Project, items: Iterable[tuple[str, Any]], how: GoldenColumns, replace: bool = False
) -> GoldenAdditions:
    """Add `items` to the golden set of `project`.

    The SemError names the first that cannot be.

    An id is the entry's own, else made of task and question: the same question added twice is
    there once. Another answer under a known id needs `replace`.
    """
    with files.lock_file(
        project.golden.with_name(".golden.lock"), f"the golden set of {project.sem}"
    ):
        entries, tally = _there(project), GoldenAdditions()
        pairs = [_made(item, where, how, project, tally) for where, item in items]
        living = tombstones.filter_remaining_examples(
            project, [example for example, _ in pairs], "given"
        )
        tally.taken_down = len(pairs) - len(living)
        for example, where in pairs:
            if example in living:
                _put(entries, example, where, replace, tally)
        if tally.added or tally.replaced:
            target = project.golden.with_name("golden_set.json")
            files.write_file(target, jsonio.pretty_json(list(entries.values())))
            golden.golden_examples(project)
    return tally


def _there(project: Project) -> dict[str, Any]:
    """Return the entries of today's set by id, as golden_set.json holds them."""
    source = golden.find_golden_set(project)
    if source is None and not project.golden.exists():
        return {}
    if source is not None and source.parent != project.golden.parent:
        raise SemError(
            f"{source} is the golden set of every project without one of its own",
            f"copy it to {project.golden.with_name('golden_set.json')} first",
        )
    # All of them were taken out by hand.
    if source is not None and files.read_json(source) == []:
        return {}
    return {example.id: example.as_json() for example in golden.golden_examples(project)}


def _made(
    item: Any, where: str, how: GoldenColumns, project: Project, tally: GoldenAdditions
) -> tuple[Example, str]:
    if not isinstance(item, dict):
        raise SemError(f"{where} is not an object", "write question and answer")
    entry = _renamed(item, where, how, tally)
    answer = entry.get("answer")
    if isinstance(answer, list) and answer and all(isinstance(part, str) for part in answer):
        entry["answer"] = JOINED.join(answer)
        tally.joined += 1
    if not str(entry.get("question") or "").strip():
        raise SemError(f"{where}: the question is empty", "name its key: --map question=THEIRS")
    if answer is None or (isinstance(answer, str) and not answer.strip()):
        raise SemError(f"{where}: the answer is empty", "name its key: --map answer=THEIRS")
    if entry.get("id") is None:
        identity = [entry.get("task"), entry["question"]]
        entry["id"] = f"golden-{files.sha256_json(identity)[:12]}"
    return golden.parse_golden_entry(entry, where, 0, project.tasks), where


def _renamed(
    item: dict[str, Any], where: str, how: GoldenColumns, tally: GoldenAdditions
) -> dict[str, Any]:
    """Return `item` under our names; what is left over goes to meta, or is refused by name."""
    named = dict(how.columns)
    for ours, spellings in (("question", golden.INPUT), ("answer", golden.ANSWER)):
        theirs = next((name for name in spellings if name in item), None)
        if ours not in named and theirs:
            named[ours] = theirs
    for ours, theirs in named.items():
        if theirs not in item and ours in how.columns:
            raise SemError(f"{where}: no key {theirs!r}", suggest_nearest_name(theirs, item))
    entry = {ours: item[theirs] for ours, theirs in named.items() if theirs in item}
    extra = {name: value for name, value in item.items() if name not in named.values()}
    entry |= {
        name: extra.pop(name) for name in golden.OTHER if name in extra and name not in entry
    }
    meta = {ours.removeprefix("meta."): entry.pop(ours) for ours in [*entry] if "meta." in ours}
    if extra and not how.keep:
        name = min(extra)
        raise SemError(
            f"{where}: unknown key {name!r}", "add --keep to keep such keys in meta, or --map it"
        )
    tally.kept.update(list(extra))
    held = entry.pop("metadata", None) or entry.pop("meta", None) or {}
    return {**entry, "meta": {**extra, **meta, **(held if isinstance(held, dict) else {})}}


def _put(
    entries: dict[str, Any], example: Example, where: str, replace: bool, tally: GoldenAdditions
) -> None:
    row, before = example.as_json(), entries.get(example.id)
    if before is None:
        tally.added.append(example.id)
    elif before == row:
        tally.same += 1
    elif not replace:
        raise SemError(
            f"{where}: id {example.id!r} is in the set with different content",
            "add --replace, or give it another id",
        )
    else:
        tally.replaced += 1
    entries[example.id] = row


def list_golden_set_faults(
    project: Project, language: Callable[[str], str | None], expected_language: str | None = None
) -> tuple[int, list[GoldenFinding], Counter[str]]:
    """Return how many questions there are, what is wrong with them, and their languages.

    `language` tells the language of a text, None where it cannot; with `expected_language`
    others are findings.
    """
    findings = _broken(project)
    if findings:
        return len(findings), findings, Counter()
    examples = golden.golden_examples(project)
    for example in examples:
        findings += _alone(example)
    findings += _alike(examples, project)
    spoken = {example.id: language(example.input_text) for example in examples}
    for name, spoken_language in spoken.items():
        if expected_language and spoken_language not in (None, expected_language):
            findings.append(
                GoldenFinding(name, "language", f"{spoken_language}, not {expected_language}")
            )
    return (
        len(examples),
        findings,
        Counter(spoken_language or "too short to tell" for spoken_language in spoken.values()),
    )


def _broken(project: Project) -> list[GoldenFinding]:
    """Return the entries that cannot be read at all, each with its reason."""
    source, findings = golden.find_golden_set(project), []
    for number, item in enumerate(golden.golden_entries(source) if source else (), 1):
        try:
            golden.parse_golden_entry(item, f"entry {number}", number, project.tasks)
        except SemError as error:
            name = item.get("id") if isinstance(item, dict) else None
            findings.append(GoldenFinding(str(name or f"entry {number}"), "schema", error.message))
    return findings


def _alone(example: Example) -> list[GoldenFinding]:
    answers = _texts(example.output_json)
    findings = []
    if not example.input_text.strip() or not any(text.strip() for text in answers):
        findings.append(
            GoldenFinding(example.id, "empty", "a question or an answer without a character")
        )
    given_away = [t for t in answers if len(t) >= GIVEN_AWAY and t in example.input_text]
    if given_away:
        findings.append(GoldenFinding(example.id, "answer in the question", _short(given_away[0])))
    return findings


def _texts(value: Any) -> list[str]:
    """Return every text and number in `value`, as text."""
    if isinstance(value, dict):
        return [text for item in value.values() for text in _texts(item)]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [] if value is None else [str(value)]


def _alike(examples: Sequence[Example], project: Project) -> list[GoldenFinding]:
    """Questions that are the same or nearly, among themselves and with what is trained on."""
    versions = snapshot.snapshot_versions(project)
    trained = []
    if versions:
        frozen = snapshot.load_snapshot(project, versions[-1])
        trained = [example for part in ("train", "val") for example in frozen.examples(part)]
    # What is trained on comes first, so that it is named.
    everything = [*trained, *examples]
    texts = [example.input_text for example in everything]
    folded = [" ".join(text.casefold().split()) for text in texts]
    first_of: dict[str, int] = {}
    for number, text in enumerate(folded):
        first_of.setdefault(text, number)
    near = near_duplicates.of_texts(texts).first
    findings = []
    for number in range(len(trained), len(everything)):
        same, alike = first_of[folded[number]], near[number]
        other = same if same != number else alike
        if other == number:
            continue
        where = "in train" if other < len(trained) else "there twice"
        kind = where if same != number else f"nearly {where}"
        findings.append(GoldenFinding(everything[number].id, kind, everything[other].id))
    return findings


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"

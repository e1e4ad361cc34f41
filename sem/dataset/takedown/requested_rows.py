"""Which rows a takedown is about: those asked for, their twins, their near-duplicates.

Rows are looked for in the store and in every file that holds rows of it one by one: clean.jsonl,
snapshots and the golden set.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sem.core import files
from sem.core.errors import SemError
from sem.core.project import Project
from sem.dataset.clean import dedupe
from sem.dataset.personal import person
from sem.dataset.personal.person import Person
from sem.dataset.split import splits
from sem.dataset.store import row_marks, rows, store
from sem.dataset.store.row_marks import Marks
from sem.dataset.takedown.shingles import ShingleSet


@dataclass(frozen=True)
class TakedownRequest:
    """What is to go: ids, documents, registered domains, people; and why."""

    ids: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    people: tuple[Person, ...] = ()
    reason: str = ""

    @property
    def is_empty(self) -> bool:
        return not (self.ids or self.sources or self.domains or self.people)

    def wants(self, row: Marks) -> str | None:
        """By what `row` is asked for; None when it is not."""
        if row.id in self.ids:
            return "id"
        if row.source is not None and row.source in self.sources:
            return "source"
        if any(domain in self.domains for domain in row.domains):
            return "domain"
        named = (
            person.mentions_person(text, target) for target in self.people for text in row.texts
        )
        return "person" if any(named) else None


def parse_request(
    ids: list[str], sources: list[str], domains: list[str], people: list[str], reason: str
) -> TakedownRequest:
    """Return the Ask in what a user wrote; the SemError names what cannot be looked for."""
    hosts = [rows.registered_domain(text) for text in domains]
    for text, host in zip(domains, hosts, strict=True):
        if not host:
            raise SemError(f"--domain {text!r} is not a domain", "write it as example.com")
    targets = tuple(person.parse_person(text) for text in people)
    if any(person.mentions_person(reason, target) for target in targets):
        raise SemError(
            "the reason names the person, and reasons are kept",
            "write it without the name, as --reason 'request 2026-17'",
        )
    return TakedownRequest(tuple(ids), tuple(sources), tuple(hosts), targets, reason)


@dataclass
class RowSelection:
    """The rows that go: why each one, and their contents as digests."""

    # Id -> id, source, domain, person, twin, …
    why: dict[str, str] = field(default_factory=dict)
    contents: set[bytes] = field(default_factory=set)
    pages: set[bytes] = field(default_factory=set)
    # Cluster -> inputs of rows that go.
    near: dict[str, list[str]] = field(default_factory=dict)
    # Of those clusters, but not alike enough.
    kept_near: set[str] = field(default_factory=set)

    def counts(self) -> dict[str, int]:
        """Return how many rows go for each reason."""
        return dict(sorted(Counter(self.why.values()).items()))

    def take(self, row: Marks, why: str) -> None:
        """Let `row` go for `why`; what it holds is then known as well."""
        self.why.setdefault(row.id, why)
        page = row.page
        self.contents.add(dedupe.digest_text(row.content))
        self.pages |= set() if page is None else {dedupe.digest_text(page)}

    def is_twin(self, row: Marks) -> bool:
        """Return whether `row` says the same as one that goes."""
        page = row.page
        is_page = page is not None and dedupe.digest_text(page) in self.pages
        return is_page or dedupe.digest_text(row.content) in self.contents


def choose_rows(project: Project, ask: TakedownRequest, threshold: float) -> RowSelection:
    """Return the rows of `project` that `ask` is about, with twins and near-duplicates at
    `threshold`.
    """
    selection = RowSelection()
    for _, row in iter_project_rows(project):
        if why := ask.wants(row):
            selection.take(row, why)
    _add_near(project, selection, threshold)
    _add_twins(project, selection)
    return selection


def _add_twins(project: Project, selection: RowSelection) -> None:
    size = -1
    while selection.why and size != len(selection.why) + len(selection.contents):
        size = len(selection.why) + len(selection.contents)
        for _, row in iter_project_rows(project):
            # A row that is known stands elsewhere in another form, which has twins of its own.
            if row.id in selection.why or selection.is_twin(row):
                selection.take(row, "twin")


def _add_near(project: Project, selection: RowSelection, threshold: float) -> None:
    """Rows of the near-duplicate clusters that cleaning found, where they are alike themselves."""
    from sem.dataset.clean import near_duplicates

    for _, row in _examples(project):
        if row["id"] in selection.why and (cluster := row.get("meta", {}).get("near")):
            selection.near.setdefault(cluster, []).append(row["input_text"])
    for _, row in _examples(project) if selection.near else ():
        others = selection.near.get(row.get("meta", {}).get("near"), ())
        if row["id"] in selection.why or not others:
            continue
        if any(
            near_duplicates.text_similarity(row["input_text"], other) >= threshold
            for other in others
        ):
            selection.take(row_marks.marks_of_json(row), "near")
        else:
            selection.kept_near.add(row["id"])
    selection.kept_near -= set(selection.why)


def iter_project_rows(project: Project) -> Iterator[tuple[str, Marks]]:
    """Yield every row of `project` in every form it is kept in, with the file it stands in."""
    if project.store.exists() and not _is_empty(project):
        with store.open_store(project.store) as opened:
            yield from (("store", row_marks.of_raw(row)) for row in opened.rows())
    for where, row in _examples(project):
        yield where, row_marks.marks_of_json(row)


def _is_empty(project: Project) -> bool:
    try:
        with store.open_store(project.store):
            return False
    except SemError as error:
        if "has no rows" in error.message:
            return True
        raise


def _examples(project: Project) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in row_files(project):
        for row in files.read_rows(path):
            if isinstance(row, dict) and isinstance(row.get("input_text"), str):
                yield path.name, row


def row_files(project: Project) -> list[Path]:
    """Return the JSON-lines files of examples: clean.jsonl, parts of snapshots, golden.jsonl.

    Not what is made from several rows (variants, pairs): a row that goes can be inside another.
    """
    paths = sorted(project.processed.glob("*.jsonl"))
    named = [p for p in paths if p.name == "clean.jsonl" or p.name.split(".")[0] in splits.PARTS]
    return named + [path for path in (project.golden,) if path.exists()]


def collect_trace(project: Project, names: frozenset[str]) -> ShingleSet:
    """Return the shingles that the rows `names` have and no other row, nor a TaskSpec."""
    shingles = ShingleSet.of(
        t for _, row in iter_project_rows(project) if row.id in names for t in row.texts
    )
    if len(shingles.hashes):
        digests: set[bytes] = set()
        for _, row in iter_project_rows(project):
            key = dedupe.digest_text("\0".join((*row.texts, *row.stored)))
            if row.id not in names and key not in digests:
                digests.add(key)
                for text in (*row.texts, *row.stored):
                    shingles.forget(text)
        for path in sorted(project.configs.glob("tasks/*")):
            shingles.forget(files.read_text(path))
    return shingles.settled()

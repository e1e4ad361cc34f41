"""BaseForge, the one interface of every forge, and the nouns that pass between its steps.

A forge turns what a project holds (documents, pages, a table, images) into examples:
`load` yields items, `synthesize` turns items into pairs, `format` turns pairs into rows of the
example store. A forge of one's own overrides what differs:

    class Headings(BaseForge):
        def load(self):
            yield from self.config.raw.glob("*.md")

        def synthesize(self, items):
            for path in items:
                title, _, body = path.read_text().partition("\\n")
                yield Pair("Give the title.", {"title": title.strip("# ")}, body, source=path.name)

The older spelling load_data / synthesize / format_data works, too.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sem.core import files, jsonio
from sem.core.errors import SemError
from sem.core.project import Project


@dataclass(frozen=True)
class Document:
    """One source as text: what chunks, provenance and takedowns refer to."""

    # Path below the raw folder, with forward slashes; the source_id of its examples.
    name: str
    sha256: str  # of the file's bytes
    # As converted; the spans of chunks count its characters.
    text: str
    # Txt, md, html, pdf, docx.
    kind: str
    title: str = ""
    # What the conversion lost or replaced, for the report.
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chunk:
    """The characters [start, end) of a document's text, with the headings they stand under."""

    document: str  # Document.name
    sha256: str  # Document.sha256
    start: int
    end: int
    text: str
    headings: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Return names the same characters of the same bytes, and nothing else."""
        return f"{self.sha256[:12]}:{self.start}-{self.end}"


@dataclass(frozen=True)
class Pair:
    """One example in the making: what is asked, and the answer as a JSON value."""

    instruction: str
    output: Any
    # What the instruction is about, empty for a question that stands alone.
    input: str = ""
    # Document.name, or what else must never be on two sides of a split.
    source: str = ""
    # The task_id; None where the sem has one task.
    task: str | None = None
    # document_sha256, span [start, end], teacher, prompt_sha256, kind, checks, reason
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Return the same for the same content from the same source."""
        return files.sha256_json(
            [self.task, self.instruction, self.input, self.output, self.source]
        )[:24]

    @property
    def prompt(self) -> str:
        """Return what becomes the example's input_text."""
        return f"{self.instruction}\n\n{self.input}" if self.input else self.instruction

    def as_json(self) -> dict[str, Any]:
        """Return one line of pairs.jsonl."""
        return {"id": self.id, **vars(self), "provenance": dict(self.provenance)}


@dataclass(frozen=True)
class ForgeConfig:
    """What a forge may look at: folders, its own `params`, and the teacher when it has one."""

    project: Project
    # Where the sources lie.
    raw: Path
    # data/SEM/processed/forge: reports and pairs.
    processed: Path
    # `params:` of forge.yaml.
    params: Mapping[str, Any] = field(default_factory=dict)
    # forge.teacher.Teacher, None without a teacher.
    ask: Callable[..., Any] | None = None
    seed: int = 42
    # forge.config.ForgeSettings, all of forge.yaml; None in a forge's test.
    settings: Any = None
    # What a forge wants said in the report.
    notes: list[str] = field(default_factory=list)
    # rows of skipped.jsonl {what, where, reason, detail}: every source, chunk or reply that
    # became nothing
    skipped: list[dict[str, Any]] = field(default_factory=list)

    def __getitem__(self, name: str) -> Any:
        return self.params[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Return one of `params`, as older forges read it."""
        return self.params.get(name, default)


class BaseForge(ABC):
    """The strategy: what is loaded, how pairs are made of it, and what a row looks like."""

    def __init__(self, config: ForgeConfig) -> None:
        self.config = config

    def load(self) -> Iterable[Any]:
        """Return the items to work on, one by one."""
        return self._older("load_data")()

    @abstractmethod
    def synthesize(self, items: Iterable[Any]) -> Iterable[Pair | Mapping[str, Any]]:
        """Pairs made of `items`; a mapping {instruction, input, output} counts as one."""

    def format(self, pairs: Iterable[Pair]) -> Iterable[dict[str, Any]]:
        """Return rows of the example store.

        A forge that changes what the model sees overrides this.
        """
        if _overrides(self, "format_data"):
            all_pairs = list(pairs)
            rows = self._older("format_data")([pair_as_older(pair) for pair in all_pairs])
            if rows is not None:
                return rows
            # It wrote files of its own, as it did elsewhere.
            pairs = all_pairs
        return (pair_row(pair) for pair in pairs)

    def source_of(self, item: Any) -> str | None:
        """Return the Pair.source that `item`'s pairs will have; None: only its pairs tell."""
        return None

    def checks(self, quality: Any) -> Any:
        """Return `quality` as it fits pairs of this kind: a page is not a question."""
        return quality

    def _older(self, name: str) -> Callable[..., Any]:
        if not _overrides(self, name):
            newer_name = {"load_data": "load", "format_data": "format"}[name]
            raise SemError(
                f"{type(self).__name__} has no {newer_name}",
                f"define {newer_name} (or {name}) in it",
            )
        return getattr(self, name)


def pair_row(pair: Pair) -> dict[str, Any]:
    """Return `pair` as a row of the example store."""
    row = {
        "id": pair.id,
        "input_text": pair.prompt,
        "output_json": pair.output,
        "source_id": pair.source or None,
        "meta": {
            "reference_source": "forge",
            "forge": jsonio.parse_json(jsonio.canonical_json(dict(pair.provenance))),
        },
    }
    return row if pair.task is None else {**row, "task": pair.task}


def pair_of(pair_like: Pair | Mapping[str, Any], where: str) -> Pair:
    """Return `pair_like` as a Pair of texts and JSON; a SemError names `where` it does not fit."""
    pair = pair_like if isinstance(pair_like, Pair) else _of_mapping(pair_like, where)
    for name in ("instruction", "input", "source"):
        value = getattr(pair, name)
        if not isinstance(value, str):
            raise SemError(f"{where}: {name} is not text: {value!r:.80}", f"make {name} a str")
    if not isinstance(pair.provenance, Mapping):
        raise SemError(f"{where}: provenance is not a mapping", "leave it out, or write a dict")
    try:
        jsonio.canonical_json([pair.as_json()]).encode("utf-8")
    except (TypeError, ValueError) as error:
        raise SemError(
            f"{where} cannot be written as JSON: {error}",
            "output and provenance hold texts, finite numbers, true, false, None, lists, dicts",
        ) from error
    return pair


def _of_mapping(pair_like: Any, where: str) -> Pair:
    if not isinstance(pair_like, Mapping) or not {"instruction", "output"} <= set(pair_like):
        raise SemError(
            f"{where}: a pair needs instruction and output", "yield Pair(…) or a mapping"
        )
    fields = {
        name: pair_like[name]
        for name in Pair.__dataclass_fields__
        if pair_like.get(name) is not None
    }
    extra = {name: pair_like[name] for name in pair_like if name not in Pair.__dataclass_fields__}
    provenance = fields.pop("provenance", {})
    if not isinstance(provenance, Mapping):
        raise SemError(f"{where}: provenance is not a mapping", "leave it out, or write a dict")
    return Pair(**{"output": None, **fields}, provenance={**extra, **provenance})


def pair_as_older(pair: Pair) -> dict[str, Any]:
    """Return `pair` as older forges know it."""
    return {"instruction": pair.instruction, "input": pair.input, "output": pair.output}


def _overrides(forge: BaseForge, name: str) -> bool:
    return callable(getattr(type(forge), name, None))

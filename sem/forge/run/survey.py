"""What documents become before anybody is asked: chunks, coverage, and what is in no chunk."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from sem.core import files
from sem.core.errors import SemError
from sem.core.project import Project
from sem.forge.base import Chunk, ForgeConfig
from sem.forge.kinds import plugins
from sem.forge.kinds.text import DocumentTally, TextForge
from sem.forge.run import config

DOCUMENTS = ("document", "kind", "characters", "chunks", "in chunks", "in skips", "in neither")
SKIPPED = ("reason", "what", "count", "first of them")
TOTALS = ("documents", "files skipped", "characters", "chunks", "median", "longest", "covered")
CHUNKS, SKIPS = "chunks.jsonl", "skipped.chunks.jsonl"


@dataclass
class Survey:
    """The chunks of every document, and what became of each character."""

    chunks: list[Chunk] = field(default_factory=list)
    tallies: list[DocumentTally] = field(default_factory=list)
    skipped: list[dict[str, object]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def document_rows(self) -> list[tuple[object, ...]]:
        """Return a row for each document."""
        return [
            (
                t.document.name,
                t.document.kind,
                f"{len(t.document.text):,}",
                t.chunks,
                f"{t.in_chunks:,}",
                f"{t.in_skips:,}",
                t.missing,
            )
            for t in self.tallies
        ]

    def skip_rows(self) -> list[tuple[object, ...]]:
        """Return a row for each reason."""
        kinds = Counter((str(s["reason"]), str(s["what"])) for s in self.skipped)
        first = {(s["reason"], s["what"]): s["where"] for s in reversed(self.skipped)}
        return [(*kind, count, first[kind]) for kind, count in sorted(kinds.items())]

    def total_rows(self) -> list[tuple[object, ...]]:
        """Return one row over all documents."""
        sizes = sorted(len(chunk.text) for chunk in self.chunks)
        characters = sum(len(t.document.text) for t in self.tallies)
        missing = sum(t.missing for t in self.tallies)
        whole = f"{100 * (characters - missing) / characters:.1f} %" if characters else "-"
        skipped = sum(s["what"] == "file" for s in self.skipped)
        return [
            (
                len(self.tallies),
                skipped,
                f"{characters:,}",
                len(sizes),
                sizes[len(sizes) // 2] if sizes else 0,
                sizes[-1] if sizes else 0,
                whole,
            )
        ]


def survey_documents(project: Project, allow_plugins: bool = False) -> Survey:
    """Return the chunks that `project`'s documents would be asked about."""
    loaded = config.load_forge_config(project)
    forge_config = ForgeConfig(
        project,
        config.raw_folder(project, loaded.settings),
        project.processed / "forge",
        loaded.settings.params,
        seed=loaded.settings.seed,
        settings=loaded.settings,
        notes=list(loaded.notes),
    )
    forge = plugins.load_forge_class(loaded.settings.forge_class, project.root, allow_plugins)(
        forge_config
    )
    if not isinstance(forge, TextForge):
        raise SemError(
            f"{loaded.settings.forge_class} makes no chunks of documents",
            "`fab forge.run` runs it; `fab forge.chunks` is for TextForge and its subclasses",
        )
    survey = Survey(skipped=forge_config.skipped, notes=forge_config.notes)
    for chunks, tally in forge.tallied():
        survey.chunks += chunks
        survey.tallies.append(tally)
    return survey


def write_chunks(project: Project, survey: Survey) -> Path:
    """Write the chunks and what is in none; the path of the chunks."""
    folder = project.processed / "forge"
    rows = [{**vars(chunk), "id": chunk.id} for chunk in survey.chunks]
    files.write_rows(folder / SKIPS, survey.skipped)
    files.write_rows(folder / CHUNKS, rows)
    return folder / CHUNKS

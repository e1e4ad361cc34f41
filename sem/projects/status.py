"""What a project has so far, and the next command on the way to an expert."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sem.core import files, projects, run, state
from sem.core.errors import SemError
from sem.core.project import Project
from sem.core.projects import ProjectLocation
from sem.core.run import Run
from sem.dataset.split import snapshot
from sem.dataset.store import store
from sem.eval.answers import golden
from sem.projects import add_data

Found = TypeVar("Found")


@dataclass(frozen=True)
class Status:
    """What stands in one project; None where a stage has left nothing."""

    sem: str
    documents: int
    examples: int
    golden: int
    snapshot: str | None
    runs: tuple[Run, ...]
    scores: dict[str, Any] | None  # of the newest report
    packages: int
    promoted: str | None
    # What could not be read, and counts as absent above.
    damaged: tuple[SemError, ...] = ()

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Return one line for each thing."""
        finished = sum(run.is_finished for run in self.runs)
        return [
            ("documents", f"{self.documents:,}"),
            ("examples", f"{self.examples:,}"),
            ("golden questions", f"{self.golden:,}"),
            ("snapshot", self.snapshot or "none"),
            ("runs", f"{finished} finished, {len(self.runs) - finished} begun"),
            ("last report", _said(self.scores)),
            ("packages", str(self.packages)),
            ("promoted", self.promoted or "none"),
        ]

    @property
    def next(self) -> str:
        """Return the command that brings this project one step further."""
        steps = (
            (not self.documents and not self.examples, "opensem-cli add-data FILES…"),
            (not self.documents and not self.snapshot, "fab dataset.clean dataset.split"),
            (not self.examples or not self.snapshot, "opensem-cli run-forge"),
            (not any(run.is_finished for run in self.runs), "opensem-cli train"),
            (self.scores is None, "opensem-cli eval"),
            (not self.packages, "opensem-cli package"),
            (self.promoted is None, "fab eval.gate ops.promote"),
        )
        command = next((command for is_due, command in steps if is_due), "opensem-cli report")
        return f"{command} --sem {self.sem}" if command.startswith("fab") else command


def project_status(project: Project) -> Status:
    """Return the Status of `project`.

    Reads, changes nothing, and one damaged file hides no other thing.
    """
    place = ProjectLocation(project.sem, project.root)
    damaged: list[SemError] = []

    def look(read: Callable[[], Found], otherwise: Found) -> Found:
        try:
            return read()
        except SemError as error:
            damaged.append(error)
            return otherwise

    look(lambda: project.tasks, {})
    return Status(
        sem=project.sem,
        documents=len(add_data.list_raw_documents(place.raw)),
        examples=look(lambda: _examples(project.store), 0),
        golden=look(lambda: _golden(project), 0),
        snapshot=look(lambda: _snapshot(project), None),
        runs=tuple(list_runs(place)),
        scores=look(lambda: newest_scores(project.reports), None),
        packages=len(list(project.packages.glob("*/manifest.json"))),
        promoted=look(lambda: _promoted(project), None),
        damaged=tuple(damaged),
    )


def list_project_rows(root: Path) -> list[tuple[str, ...]]:
    """Return a row for each project of the tree `root`."""
    current = projects.current_project(root)
    return [
        (
            place.name,
            "*" if place.name == current else "",
            "older" if place.is_older else "tasks",
            f"{len(add_data.list_raw_documents(place.raw)):,}",
            str(len(list_runs(place))),
            "yes" if (place.folder("models") / "promoted.json").is_file() else "no",
        )
        for place in projects.find_projects(root)
    ]


def list_runs(place: ProjectLocation) -> list[Run]:
    """Return the runs of `place`, oldest first."""
    paths = sorted((place.folder("models") / "adapters").glob("*/run.json"))
    return [Run(path.parent.name, path.parent) for path in paths]


def newest_scores(reports: Path) -> dict[str, Any] | None:
    """Return the scores.json below `reports` of the run with the latest id; None where none is."""
    paths = sorted(reports.glob("*/scores.json"))
    return scores_in(paths[-1]) if paths else None


def scores_in(path: Path) -> dict[str, Any]:
    """Return the scores in `path`; raise SemError when it holds none."""
    scores: Any = state.read_state_file(path, state.Scores)
    return scores


def _promoted(project: Project) -> str | None:
    """Return the id of the promoted run of `project`, or that it is tainted.

    None where none is.
    """
    promotion_facts = run.read_promotion(project)
    return None if promotion_facts is None else str(promotion_facts["run"])


def _examples(path: Path) -> int:
    if not path.is_file():
        return 0
    try:
        with store.open_store(path) as opened:
            return opened.count
    except SemError as error:
        if "has no rows" in error.message:
            return 0
        raise


def _golden(project: Project) -> int:
    source = golden.find_golden_set(project)
    if source is not None:
        return len(golden.golden_entries(source))
    return sum(1 for _ in files.read_rows(project.golden)) if project.golden.is_file() else 0


def _snapshot(project: Project) -> str | None:
    versions = snapshot.snapshot_versions(project)
    if not versions:
        return None
    version = versions[-1]
    rows = snapshot.read_ledger(project)[f"v{version}"].get("rows", {})
    return f"v{version}: " + ", ".join(f"{part} {count:,}" for part, count in rows.items())


def _said(scores: dict[str, Any] | None) -> str:
    if scores is None:
        return "none"
    before, after = (scores[side]["accuracy"] for side in ("baseline", "tuned"))
    figures = (
        f"{before:.1%} to {after:.1%}, n = {scores['tuned']['n']}" if after is not None else ""
    )
    return f"run {scores['tuned']['run']}: {scores['verdict']} ({figures})"

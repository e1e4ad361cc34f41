"""parity.json: in which runtimes a package answered as it was proven, and how fast.

`package.parity` writes it; a promotion asks it, and who serves takes the fastest engine from it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from sem.core import console, files, jsonio, provenance, state
from sem.core.errors import SemError
from sem.core.project import Project
from sem.core.run import Run
from sem.lm.local import hardware, llamacpp

FILE = "parity.json"
PASS, FAIL, NOT_CHECKED = "PASS", "FAIL", "NOT CHECKED"
# Points of slots that may differ, and of accuracy that may be lost; the same of quantised weights.
MARGIN_POINTS, QUANTISED_MARGIN_POINTS = 2.0, 5.0
QUANTISED = ("llamacpp-q8_0",)
# Engines that answer in this process; the first one is what was evaluated.
EMBEDDED = ("transformers", "llamacpp", "llamacpp-q8_0")


@dataclass(frozen=True)
class TargetCheck:
    """What one runtime showed; counts are (equal, asked)."""

    target: str
    verdict: str
    faults: tuple[str, ...] = ()
    runtime: str = ""
    prompts: tuple[int, int] = (0, 0)
    ids: tuple[int, int] = (0, 0)
    slots: tuple[int, int] = (0, 0)
    answers: tuple[int, int] = (0, 0)
    # Slot accuracy, this runtime minus the proven answers, in points.
    difference: dict[str, Any] = field(default_factory=dict)
    margin_points: float = 0.0
    # Of which a sample may have been asked.
    proven_rows: int = 0
    weight_bytes: int = 0
    tokens_per_second: float = 0.0
    # Of one request at a time, prompt and answer.
    p50_ms: int = 0
    p95_ms: int = 0

    @property
    def reason(self) -> str:
        """Return what stands against this target, in a line; nothing where it passed."""
        return "; ".join(self.faults)


def standard_margin(target: str) -> float:
    """Return how far `target` may be from what was proven, in points, where nobody says else."""
    return QUANTISED_MARGIN_POINTS if target in QUANTISED else MARGIN_POINTS


def write_parity(
    project: Project, target: Run, folder: Path, checks: Sequence[TargetCheck]
) -> Path:
    """Add `checks` to the run's parity.json; return its path.

    Checks of other runtimes stay where they are of the same package.
    """
    path = project.reports / target.id / FILE
    digest = files.sha256_file(folder / "manifest.json")
    try:
        before = state.read_if_there(path, state.Parity)
    except SemError as error:
        # It says to ask again, which is what happens here.
        console.print_note(f"{error.message}: written anew, without what else it held")
        before = None
    kept = before["targets"] if before and before["package_sha256"] == digest else {}
    record = {
        "format": "parity.v1",
        "run": target.id,
        "package_sha256": digest,
        "hardware": asdict(hardware.detect_hardware()),
        "at": provenance.utc_now().isoformat(),
        "targets": {**kept, **{check.target: asdict(check) for check in checks}},
    }
    return files.write_file(path, jsonio.pretty_json(record))


def find_parity_faults(project: Project, target: Run, name: str) -> list[str]:
    """Return why the run's package is not shown to answer as proven in the runtime `name`.

    It is on every proven row, within the margin that nobody widened.
    """
    record = state.read_if_there(project.reports / target.id / FILE, state.Parity)
    folder = project.packages / target.id
    if not (folder / "manifest.json").is_file():
        return ["it has no package: `fab package.export`, then `fab package.parity`"]
    check = record["targets"].get(name) if record else None
    if record is None or check is None:
        return [f"its package was not asked in {name}: `fab package.parity --targets {name}`"]
    if record["run"] != target.id:
        return [f"its {FILE} is of the run {record['run']}"]
    if record["package_sha256"] != files.sha256_file(folder / "manifest.json"):
        return ["its package was exported again since: `fab package.parity`"]
    if check["verdict"] != PASS:
        return [f"its package in {name}: {check['verdict']}: {'; '.join(check['faults'])}"]
    faults = []
    if check["prompts"][1] < check["proven_rows"]:
        asked, proven = check["prompts"][1], check["proven_rows"]
        faults.append(
            f"its package in {name} was asked {asked} of {proven} proven rows: "
            f"`fab package.parity --targets {name}` without --rows"
        )
    if check["margin_points"] > standard_margin(name):
        faults.append(
            f"its package passed in {name} by a margin of {check['margin_points']:g} points, "
            f"not {standard_margin(name):g}"
        )
    return faults


class EngineChoice(NamedTuple):
    """The engine that a package is asked by here, and why."""

    name: str
    reason: str


def choose_serving_engine(folder: Path) -> EngineChoice:
    """Return the fastest engine in which the package in `folder` was shown to answer as proven.

    That is Transformers, which the evaluation ran in, unless parity.json, in the project's reports
    or beside a package elsewhere as NAME.parity.json, says otherwise of this machine.
    """
    first = EMBEDDED[0]
    record = _record_of(folder)
    if record is None:
        return EngineChoice(first, "no parity.json says that another engine answers alike")
    if record["package_sha256"] != files.sha256_file(folder / "manifest.json"):
        return EngineChoice(first, "parity.json is of another package")
    here = hardware.detect_hardware()
    if record["hardware"].get("name") != here.name:
        return EngineChoice(first, "parity.json is of another machine")
    speeds = {
        name: check["tokens_per_second"]
        for name, check in record["targets"].items()
        if name in EMBEDDED and check["verdict"] == PASS
    }
    if not llamacpp.is_installed():
        speeds = {name: speed for name, speed in speeds.items() if name == first}
    if not speeds:
        return EngineChoice(first, "no engine passed in parity.json")
    fastest = max(speeds, key=lambda name: speeds[name])
    return EngineChoice(fastest, f"parity passed, at {speeds[fastest]:.1f} tokens/s the fastest")


def _record_of(folder: Path) -> state.Parity | None:
    place = folder.resolve()
    beside = place.with_name(f"{place.name}.{FILE}")
    # ROOT/models/SEM/packages/RUN
    if not beside.is_file() and len(place.parents) > 3 and place.parent.name == "packages":
        beside = place.parents[3] / "reports" / place.parents[1].name / place.name / FILE
    return state.read_if_there(beside, state.Parity)

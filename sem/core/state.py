"""The project's own files, read back: one reader, one error, the shape of each in one place.

    state.read_state_file(folder / "run.json", state.TrainedPlan)["snapshot"]["version"]

A file that was cut, replaced or edited by hand is told by name, with the first place that does not
fit and what to do, and never reaches the code as another type. Only keys that some code reads are
listed; others are left as they are.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from typing_extensions import TypedDict

from sem.core import files, settings
from sem.core.errors import SemError

State = TypeVar("State")
Counts = dict[str, int]
Hashes = dict[str, str]


class _SnapshotName(TypedDict):
    version: int


class SnapshotName(_SnapshotName, total=False):
    sha256: str


class _BaseModel(TypedDict):
    base_model_id: str


class BaseModel(_BaseModel, total=False):
    revision: str
    precision_note: str
    licence: str


class RunHardware(TypedDict, total=False):
    device: str
    dtype: str


class RunPlan(TypedDict, total=False):
    """run.json of any run."""

    run_id: str
    sem: str
    base_model: BaseModel
    renderer: str
    tasks: dict[str, dict[str, Any]]
    task_hashes: Hashes
    recipe: dict[str, Any]
    hardware: RunHardware
    engine: str
    counts: dict[str, Counts]
    total_steps: int


class TrainedPlan(RunPlan):
    """run.json of a run of a sem, which rests on a snapshot."""

    snapshot: SnapshotName


class OptimizerPlan(TypedDict):
    """run.json of a prompt optimizer."""

    base_model: BaseModel


class _Promoted(TypedDict):
    run: str


class Promoted(_Promoted, total=False):
    """promoted.json, and a line of promotions.jsonl."""

    action: str
    by: str

    promoted_at: str
    gate: dict[str, str | None]
    reason: str | None


class _Gate(TypedDict):
    verdict: str


class Gate(_Gate, total=False):
    """gate.json."""

    format: str
    sem: str
    run: str
    baseline: str
    split: str
    rests_on: dict[str, Any]
    evidence_sha256: str


class ParityCheck(TypedDict):
    verdict: str
    faults: list[str]
    # Equal to the proven ones, asked.
    prompts: list[int]
    proven_rows: int
    margin_points: float
    tokens_per_second: float


class Parity(TypedDict):
    """parity.json."""

    run: str
    package_sha256: str
    hardware: dict[str, Any]
    targets: dict[str, ParityCheck]


class GateEntry(TypedDict):
    """A line of gates.jsonl."""

    run: str
    split: str
    verdict: str
    evidence_sha256: str
    split_sha256: str | None
    gate_sha256: str


class FileEntry(TypedDict):
    bytes: int
    sha256: str


class FileManifest(TypedDict):
    """manifest.json of a package or a checkpoint."""

    files: dict[str, FileEntry]


class StageResult(TypedDict, total=False):
    train_runtime: float


class RunResult(TypedDict, total=False):
    """What training says at its end."""

    kept_step: int | None
    stages: dict[str, StageResult]


class _RunManifest(TypedDict):
    adapter: Hashes


class RunManifest(_RunManifest, total=False):
    """manifest.json of a run."""

    run_id: str
    run_json_sha256: str


class FinishedRun(RunManifest):
    """manifest.json of a run, with what training said at its end."""

    result: RunResult


class Lineage(TypedDict, total=False):
    snapshot: SnapshotName
    base_model: BaseModel
    renderer: str


class PackageManifest(FileManifest, total=False):
    """manifest.json of a package."""

    lineage: Lineage


class HashedFiles(TypedDict, total=False):
    """manifest.json of a prompt optimizer."""

    files: Hashes


class Mark(TypedDict):
    takedown: str


class TaintMarks(TypedDict):
    """tainted.json."""

    marks: list[Mark]


class RemoteRunHost(TypedDict):
    """host.json of a run that was sent to a host."""

    host: str


class LoggedStep(TypedDict):
    """A line of metrics.jsonl."""

    stage: str
    step: int


class _Answerer(TypedDict):
    from_row: int


class AnswererMachine(_Answerer, total=False):
    """The machine that answered from a row on."""

    dtype: str | None
    batch: int | None
    machine: dict[str, Any]


class AnswersHeader(TypedDict, total=False):
    """answers.SPLIT.json: what the answers depend on, and which machines gave them."""

    made_on: list[AnswererMachine]


class AnswerRow(TypedDict):
    """A line of answers.SPLIT.jsonl."""

    id: str
    task: str
    text: str
    finish: str
    tokens_in: int
    tokens_out: int
    latency_ms: int
    batch: int


class VerdictsHeader(TypedDict):
    """verdicts.SPLIT.json."""

    answers: str
    tasks: Hashes
    judge: dict[str, Any]


class EvalReport(TypedDict, total=False):
    """NAME.eval-report.json, ours or that of another tool."""

    notes: dict[str, Any]


class BacklogRow(TypedDict):
    """A line of backlog.jsonl."""

    split: str


class ScoresSide(TypedDict):
    run: str
    n: int
    accuracy: float | None


class Scores(TypedDict):
    """scores.json."""

    baseline: ScoresSide
    tuned: ScoresSide
    verdict: str


class PipelinePace(TypedDict):
    """pace.json: how much of a pipeline fitted the time."""

    key: str
    pace: dict[str, float]
    answers: int
    examples: int


class NearThreshold(TypedDict):
    threshold: float


class CleanFacts(TypedDict):
    """clean.json."""

    sha256: str
    store_sha256: str
    cleaner: str
    tasks: Hashes
    near: NearThreshold
    read: int
    rows: int
    rejected: Counts


class _SnapshotFacts(TypedDict):
    version: int
    inputs: dict[str, Any]
    rows: Counts
    sha256: Hashes


class MadeBy(TypedDict):
    takedown: str


class SnapshotFacts(_SnapshotFacts, total=False):
    """vN.json."""

    made_by: MadeBy | None
    domains: dict[str, Counts]
    tasks: dict[str, Counts]
    strata: dict[str, Counts]
    shared: dict[str, Counts]
    groups: Counts
    certificate: dict[str, Any] | None


class LedgerEntry(TypedDict, total=False):
    """An entry of datasets.yaml; a frozen one also has its hashes."""

    status: str
    frozen_at: str
    rows: Counts
    sha256: Hashes
    facts_sha256: str
    tasks: Hashes
    takedown: str


class FrozenEntry(TypedDict):
    """An entry of datasets.yaml that no takedown withdrew."""

    sha256: Hashes
    facts_sha256: str


class NamedRow(TypedDict):
    """A line of which little but the id is read."""

    id: str


class ExampleRow(NamedRow, total=False):
    """A line of a snapshot, of clean.jsonl or of golden.jsonl."""

    task: str
    input_text: str
    output_json: Any
    meta: dict[str, Any]
    system_prompt: str | None
    slot_specs: dict[str, Any] | None
    source_id: str | None
    negative_examples: list[Any] | None


class Tombstone(TypedDict):
    """A line of tombstones.jsonl."""

    kind: str
    digest: str


class PersonStone(Tombstone):
    """A tombstone of a person."""

    form: str
    words: int


class FeedLine(TypedDict):
    """A line of feed.jsonl."""

    sha256: str
    options: dict[str, Any]


class HashedSnapshot(TypedDict):
    sha256: str


# A line of acknowledged.jsonl; `from` is a word of Python's.
Acknowledged = TypedDict(
    "Acknowledged",
    {"from": HashedSnapshot, "to": HashedSnapshot, "diff_sha256": str, "reason": str},
)


class KeptSpec(TypedDict):
    """A TaskSpec as it was, below data/SEM/specs."""

    io_schema: dict[str, Any]


class Night(TypedDict):
    """A line of the nights' history."""

    date: str
    status: str


class DerivedSetFacts(TypedDict):
    """augmented.vN.json and preferences.vN.json."""

    sha256: str
    snapshot_sha256: str


class PurgedCounts(TypedDict):
    rows: Counts
    documents: list[str]


class Receipt(TypedDict):
    """A takedown's receipt."""

    purged: PurgedCounts


# What brings a damaged file back. Others: a copy, or the job that writes it.
REMEDIES: dict[Any, str] = {
    RunPlan: "restore it from a copy, or make the run again",
    TrainedPlan: "restore it, or prepare and train a new run: `fab train.prepare train.run`",
    OptimizerPlan: "restore it from a copy, or train again with `fab optimizer.train`",
    Promoted: "name the run again: `fab ops.promote`",
    Gate: "decide again: `fab eval.gate`",
    Parity: "ask the package again: `fab package.parity`",
    GateEntry: "restore the ledger of gates from a copy: it counts how often a test set was used",
    FileManifest: "restore the folder from a copy, or make it again",
    RunManifest: "restore the run from a copy, or go on with `fab train.resume`",
    FinishedRun: "restore the run from a copy, or go on with `fab train.resume`",
    TaintMarks: "restore it from a copy: it says which takedowns block this folder",
    Scores: "make it again: `fab eval.report`",
    PipelinePace: "remove it: the machine is measured again",
    CleanFacts: "clean again: `fab dataset.clean`",
    SnapshotFacts: "restore it from a copy, or cut a new snapshot: `fab dataset.split`",
    FrozenEntry: "restore datasets.yaml from git: it says which snapshots there are",
    LedgerEntry: "restore datasets.yaml from git: it says which snapshots there are",
    Night: "restore it from a copy, or move it away: the nights are counted from the start again",
    DerivedSetFacts: "make them again: `fab dataset.augment`",
    RemoteRunHost: "restore it from a copy: it says on which host the run is",
    LoggedStep: "restore it from a copy, or move it away: what was logged is lost",
    AnswersHeader: "answer again: move the answers away, then `fab eval.generate`",
    AnswerRow: "answer again: move the answers away, then `fab eval.generate`",
    VerdictsHeader: "judge again: move the verdicts away, then `fab eval.judge`",
    EvalReport: "move it away: `fab eval.report` writes a new one",
    BacklogRow: "move it away: `fab eval.report` writes a new one",
    ExampleRow: "restore the file from a copy, or make it again",
    NamedRow: "restore the file from a copy, or make it again",
    Tombstone: "restore it from a copy: it says what was taken down",
    PersonStone: "restore it from a copy: it says what was taken down",
    FeedLine: "restore it from a copy: it says which chunks were taken",
    Acknowledged: "restore it from git: it says which differences are wanted",
    KeptSpec: "restore it from a copy, or remove it: every row then counts as touched",
    Receipt: "restore it from a copy",
}


def read_state_file(path: Path, shape: type[State]) -> State:
    """Return the value of the JSON file `path`; the SemError names where it is not a `shape`."""
    return check_state(files.read_json(path), shape, str(path))


def read_if_there(path: Path, shape: type[State]) -> State | None:
    """Return the value of the JSON file `path`, None where there is no file of that name."""
    return read_state_file(path, shape) if path.exists() else None


def read_state_rows(path: Path, shape: type[State]) -> Iterator[State]:
    """Yield each row of the JSON-lines file `path`.

    The SemError names the line that does not fit.
    """
    for number, row in enumerate(files.read_rows(path), 1):
        yield check_state(row, shape, f"{path}:{number}")


def check_state(value: Any, shape: type[State], where: str) -> State:
    """Return `value` unchanged if it is a `shape`.

    Otherwise raise SemError, which says what in `where` is wrong.
    """
    from pydantic import ValidationError

    try:
        adapter: Any = _adapter(shape)  # type: ignore[arg-type] # a class is hashable
        adapter.validate_python(value, strict=True)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "missing":
            problem = f"key {place!r} is missing"
        else:
            excerpt = settings.shorten_value(fault["input"])
            problem = f"{place or 'the whole file'}: {fault['msg']}, not {excerpt}"
        remedy = REMEDIES.get(
            shape, "restore it from a copy, or run the command that writes it again"
        )
        raise SemError(f"{where}: damaged: {problem}", remedy) from error
    return value


@lru_cache(maxsize=64)
def _adapter(shape: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(shape)

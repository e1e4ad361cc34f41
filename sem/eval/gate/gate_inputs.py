"""What a gate rests on, read from disk with its hashes; the verdict and the ledger of gates."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sem.core import files, jsonio, manifest, provenance, run, state
from sem.core.project import ROOT, Project
from sem.core.run import STRONG
from sem.dataset.split import snapshot
from sem.eval.answers.subject import EvalSubject
from sem.eval.gate import gate, policy
from sem.eval.gate.gate import Evidence, GateDecision
from sem.eval.gate.policy import Policy
from sem.eval.report import baselines, compare
from sem.eval.report.compare import ScoredRuns
from sem.eval.scoring import scoring

LEDGER = "gates.jsonl"


@dataclass(frozen=True)
class GateRequest:
    """Which run is to replace which, and on what it is tried."""

    project: Project
    run_id: str | None
    baseline: str
    split: str
    # Of the snapshot; None: the run's own, else the latest.
    version: int | None


@dataclass(frozen=True)
class GateCase:
    """A decided gate and everything it rests on."""

    run_id: str
    verdict: GateDecision
    rests_on: dict[str, Any]
    split_sha256: str | None

    @property
    def sha256(self) -> str:
        """Hash over what the decision follows from; the same evidence is the same gate."""
        return files.sha256_json({k: v for k, v in self.rests_on.items() if k not in VARYING})


# Written anew without the evidence having changed.
VARYING = ("code", "scores")


def decide_request(request: GateRequest) -> GateCase:
    """Read what `request` needs and decide it."""
    rules = policy.load_gate_policy(request.project)
    target = run.find_run(request.project, request.run_id)
    withdrawals = list_withdrawn_snapshots(request)
    base: dict[str, Any] = {
        "policy": policy_facts(request.project, rules),
        "code": provenance.read_git_commit(ROOT),
    }
    if withdrawals and rules.takedown == "required":
        base["withdrawn"] = list(withdrawals)
        return GateCase(target.id, gate.refuse_gate(withdrawals), base, None)
    reading = compare.read_comparison(
        request.project, request.run_id, request.baseline, request.split, request.version
    )
    split = _split(reading.after)
    base |= _hashes(reading) | {
        "split": {"name": request.split, "sha256": files.sha256_file(split)}
    }
    case = GateCase(target.id, GateDecision(()), base, files.sha256_file(split))
    evidence = _evidence(reading, withdrawals, count_split_uses(request.project, case))
    return GateCase(target.id, gate.decide_gate(evidence, rules), base, case.split_sha256)


def list_withdrawn_snapshots(request: GateRequest) -> tuple[str, ...]:
    """Return the snapshots, of training or of this split, that a takedown has withdrawn."""
    target = run.find_run(request.project, request.run_id)
    trained = None if target.is_base else target.plan()["snapshot"]["version"]
    entries = snapshot.read_ledger(request.project)
    names = {f"v{version}" for version in (trained, request.version) if version is not None}
    withdrawals = sorted(n for n in names if entries.get(n, {}).get("status") == "withdrawn")
    return (*withdrawals, *(f"run tainted by {name}" for name in run.takedowns_of(target.folder)))


def count_split_uses(project: Project, case: GateCase) -> int:
    """Return how many different gates have used `case`'s split file, `case` included."""
    path = project.reports / LEDGER
    rows = state.read_state_rows(path, state.GateEntry) if path.exists() else ()
    same = {row["evidence_sha256"] for row in rows if row["split_sha256"] == case.split_sha256}
    return len(same | {case.sha256})


def write_gate(request: GateRequest, case: GateCase, at: datetime) -> Path:
    """Write gate.json and enter the gate into the ledger; the path of gate.json."""
    when = f"{at:%Y-%m-%dT%H:%M:%SZ}"
    document = {
        "format": "gate.v1",
        "at": when,
        "sem": request.project.sem,
        "run": case.run_id,
        "baseline": request.baseline,
        "split": request.split,
        "verdict": case.verdict.word,
        "sentence": case.verdict.sentence(),
        "more_domains": case.verdict.more_domains,
        "more_rows": case.verdict.more_rows,
        "checks": [check.as_json() for check in case.verdict.checks],
        "rests_on": case.rests_on,
        "evidence_sha256": case.sha256,
    }
    reports = request.project.reports
    path = files.write_file(reports / case.run_id / "gate.json", jsonio.pretty_json(document))
    entry = {
        name: document[name]
        for name in ("at", "run", "baseline", "split", "verdict", "evidence_sha256")
    }
    entry |= {"split_sha256": case.split_sha256, "gate_sha256": files.sha256_file(path)}
    with (
        files.lock_file(reports / ".gates.lock", "the ledger of gates"),
        files.open_for_append(reports / LEDGER) as ledger,
    ):
        files.append_row(ledger, entry)
    return path


def _evidence(reading: ScoredRuns, withdrawals: tuple[str, ...], used: int) -> Evidence:
    after, examples = reading.after, reading.after.examples
    rules = policy.load_gate_policy(after.project).strong.independent
    judge_facts = reading.compared.facts.get("judge")
    return Evidence(
        before=reading.compared.before,
        after=reading.compared.after,
        critical=frozenset(_critical(reading)),
        shared=_shared(reading),
        withdrawn=withdrawals,
        package=_package_faults(after),
        uses=used,
        is_judge_calibrated=None if judge_facts is None else bool(judge_facts.get("calibrated")),
        rivals=baselines.score_rivals(after, reading.score_by_rule).scores,
        by_rule=reading.by_rule,
        strong=compare.strong_scores(reading.after, reading.closeness),
        independent=frozenset(e.id for e in examples if e.meta.get("reference_source") in rules),
    )


def _critical(reading: ScoredRuns) -> Iterator[str]:
    """Critical slots of the TaskSpecs, also those no row has, and those that were compared."""
    for example in reading.after.examples:
        levels = scoring.levels_of(
            reading.after.tasks[example.task], example, reading.after.shared
        )
        yield from (f"{example.task}.{name}" for name in levels if levels[name].critical)
    for score in (*reading.compared.before, *reading.compared.after):
        yield from (f"{score.task}.{name}" for name in score.critical)


def _shared(reading: ScoredRuns) -> dict[str, int]:
    """Return what train and the split have in common.

    Domains as counted now, the rest as frozen.
    """
    counts = {"domains": len(reading.compared.facts["snapshot"]["shared_domains"])}
    frozen = reading.after.frozen.facts.get("shared", {})
    for kind in ("ids", "groups"):
        pair = f"train∩{reading.after.split}"
        if pair in frozen.get(kind, {}):
            counts[kind] = int(frozen[kind][pair])
    return counts


def _package_faults(after: EvalSubject) -> tuple[str, ...] | None:
    folder = after.project.packages / after.run.id
    if not (folder / manifest.NAME).exists():
        return None
    lineage = manifest.read_manifest(folder).get("lineage", {})
    faults = manifest.manifest_faults(folder)
    if lineage.get("adapter") != after.header["adapter"]:
        faults.append("made from another adapter")
    return tuple(faults)


def _answers(project: Project, run_id: str, split: str) -> Path:
    return project.reports / run_id / f"answers.{split}.jsonl"


def _split(after: EvalSubject) -> Path:
    return after.project.golden if after.split == "golden" else after.frozen.path(after.split)


def policy_facts(project: Project, rules: Policy) -> dict[str, Any]:
    """Return which policy decides, its values, and the hash of them that a gate rests on."""
    path = policy.path_of(project)
    values = jsonio.parse_json(jsonio.canonical_json(asdict(rules)))
    return {
        "file": path.relative_to(project.root).as_posix() if path.exists() else None,
        "sha256": files.sha256_json(values),
        "values": values,
    }


def _hashes(reading: ScoredRuns) -> dict[str, Any]:
    """Hashes of every file and contract that the scores depend on."""
    after, before = reading.after, reading.before
    strong = _answers(after.project, STRONG, after.split)
    package = after.project.packages / after.run.id / manifest.NAME
    settings = after.project.root / "configs" / "judge_slots.yaml"
    scores = after.project.reports / after.run.id / "scores.json"
    return {
        "answers": {
            "run": files.sha256_file(after.book.path),
            "baseline": files.sha256_file(before.book.path),
            "strong": _sha256(strong),
            **_held(after),
        },
        "answered": {
            "run": after.header | {"made_on": after.book.made_on},
            "baseline": before.header | {"made_on": before.book.made_on},
        },
        "snapshot": {"version": after.frozen.version, "sha256": after.frozen.sha256},
        "tasks": {name: spec.fingerprint() for name, spec in sorted(after.tasks.items())},
        "settings": asdict(after.settings),
        "judge_slots": _sha256(settings),
        "package": _sha256(package),
        "scores": _sha256(scores),
    }


def _held(after: EvalSubject) -> dict[str, str]:
    """Return the hash of the constrained base's answers, where it has some."""
    book = baselines.constrained_base(after).book
    is_there = book.path.exists() and not book.is_stale()
    return {"base, constrained": files.sha256_file(book.path)} if is_there else {}


def _sha256(path: Path) -> str | None:
    return files.sha256_file(path) if path.exists() else None

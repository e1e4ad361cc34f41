"""EvalReport v1: one evaluation as a file that other tools read, made from scores.json.

`YYYY-MM-DD__TASK__run-N.eval-report.json`; TASK is the task of the sem, or the sem's name where
it has several. Aggregates before and after stand under `notes`, where the format leaves room.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from sem.core import files, jsonio, schema, state
from sem.core.errors import SemError
from sem.core.projects import SHIPPED
from sem.core.taskspec import TaskSpec

VERSION = "eval-report.v1"
SCORES = "scores.v1"
SUFFIX = ".eval-report.json"
OLDER_SUFFIX = ".evalreport.json"
SCHEMAS = SHIPPED / "schemas"


@dataclass(frozen=True)
class RateRule:
    """One check: the rate it looks at, the least that passes, how bad a failure is."""

    id: str
    says: str
    key: str
    least: float
    severity: str


# Least rates: the plan's promotion criterion (99 % JSON), then what pilots asked for
# (98 % schema validity, 90 % of documents right); arithmetic has no excuse.
RATES = (
    RateRule("schema.json_valid", "The raw text is one JSON value", "json_valid", 0.99, "blocker"),
    RateRule("schema.valid", "The answer fits io_schema", "schema_valid", 0.98, "blocker"),
    RateRule("slots.critical", "Every critical field is right", "doc_crit_ok", 0.90, "major"),
)
COUNTS = (
    ("schema.no_additional_keys", "No key beyond io_schema", "forbidden_keys"),
    ("schema.label_enums", "No label beyond its list", "out_of_enum"),
)
SEVERITIES = ("blocker", "major", "minor")


@dataclass(frozen=True)
class Timing:
    """When the evaluation ran, in local time with its offset."""

    started: datetime
    ended: datetime

    def as_json(self) -> dict[str, Any]:
        return {
            "startedAtLocal": self.started.isoformat(timespec="seconds"),
            "endedAtLocal": self.ended.isoformat(timespec="seconds"),
            "elapsedMs": round((self.ended - self.started).total_seconds() * 1000),
        }


def write_eval_report(
    folder: Path,
    scores: dict[str, Any],
    tasks: Mapping[str, TaskSpec],
    today: date,
    timing: Timing | None = None,
) -> Path:
    """Write the EvalReport of `scores` (scores.json) into `folder`; the path.

    The same scores keep their number; others get the next one. SemError when the scores or the
    report do not fit their schemas.
    """
    check_eval_report(scores, SCORES, str(folder / "scores.json"))
    name = _name(scores, tasks)
    digest = files.sha256_json(scores)
    path = _place(folder, name, digest, today)
    report = build_eval_report(scores, tasks, timing)
    report["metadata"]["runId"] = path.name.removesuffix(SUFFIX).partition("__")[2]
    report["notes"]["scoresSha256"] = digest
    check_eval_report(report, VERSION, str(path))
    return files.write_file(path, jsonio.pretty_json(report))


def build_eval_report(
    scores: dict[str, Any], tasks: Mapping[str, TaskSpec], timing: Timing | None = None
) -> dict[str, Any]:
    """Return the EvalReport of `scores` as a value."""
    checks = [check for _, check in _checks(scores)]
    return {
        "$schema": f"{VERSION}.schema.json",
        "schemaVersion": VERSION,
        "metadata": {
            "runId": scores["tuned"]["run"],
            "evaluator": "sem",
            "environment": _environment(scores),
            **(timing.as_json() if timing else {}),
        },
        "task": _task(scores, tasks),
        "inputs": _inputs(scores, tasks),
        "outputs": _outputs(scores),
        "checks": checks,
        "overallResult": _overall(scores),
        "notes": {
            "verdict": scores["verdict"],
            "baseline": scores["baseline"],
            "tuned": scores["tuned"],
            "differencePoints": scores["difference_points"],
            "tasks": scores["tasks"],
            "strata": scores["strata"],
        },
    }


def check_eval_report(value: Any, name: str, where: str) -> None:
    """Raise SemError when `value`, to be written to `where`, breaks
    configs/schemas/NAME.schema.json.
    """
    problems = schema.schema_problems(value, files.read_json(SCHEMAS / f"{name}.schema.json"))
    if problems:
        raise SemError(
            f"{where}: breaks {name}: {problems[0]}", "make it again: `fab eval.report`"
        )


def read_scores(path: Path) -> dict[str, Any]:
    """Return the scores in `path`; raise SemError when they break their schema."""
    scores: Any = state.read_state_file(path, state.Scores)
    check_eval_report(scores, SCORES, str(path))
    return scores


def read_eval_report(path: Path) -> dict[str, Any]:
    """Return the EvalReport in `path`, ours or another tool's.

    Raise SemError when it does not fit.
    """
    if not path.name.endswith((SUFFIX, OLDER_SUFFIX)):
        raise SemError(f"{path}: its name is not that of an EvalReport", f"name it …{SUFFIX}")
    value = files.read_json(path)
    problems = schema.schema_problems(value, files.read_json(SCHEMAS / f"{VERSION}.schema.json"))
    if problems:
        raise SemError(f"{path}: not a valid {VERSION}: {problems[0]}", "correct that key")
    return value


def _name(scores: dict[str, Any], tasks: Mapping[str, TaskSpec]) -> str:
    name = next(iter(tasks)) if len(tasks) == 1 else scores["sem"]
    return re.sub(r"[^A-Za-z0-9._-]+|_{2,}", "-", name)


def _place(folder: Path, name: str, digest: str, today: date) -> Path:
    number = 0
    for path in sorted(folder.glob(f"*__{name}__run-*{SUFFIX}")):
        match = re.fullmatch(r".*__run-([0-9]+)", path.name.removesuffix(SUFFIX))
        notes = state.read_state_file(path, state.EvalReport).get("notes", {})
        if match and notes.get("scoresSha256") == digest:
            return path
        number = max(number, int(match[1]) if match else 0)
    return folder / f"{today.isoformat()}__{name}__run-{number + 1}{SUFFIX}"


def _checks(scores: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """(severity, check) in the order they are reported."""
    tuned = scores["tuned"]
    checks = [_rate(rule, tuned[rule.key], tuned["n"]) for rule in RATES if _is_there(tuned, rule)]
    checks += [
        ("major", _check(name, says, not tuned["proxies"][key], f"{tuned['proxies'][key]} found"))
        for name, says, key in COUNTS
    ]
    for name, sums in tuned["total_consist"].items():
        rule = RateRule(
            name, f"The amounts add up ({name.removeprefix('arith.')})", "", 1.0, "major"
        )
        checks.append(_rate(rule, sums["pass"], sums["n"], sums["reference_fails"]))
    gain = scores["difference_points"]["accuracy"]
    says = f"Slot accuracy is better than that of {scores['baseline']['run']}"
    checks.append(("minor", _check("compare.improved", says, gain["shown"], scores["verdict"])))
    return checks


def _is_there(totals: dict[str, Any], rule: RateRule) -> bool:
    return totals[rule.key] is not None


def _rate(rule: RateRule, rate: float, count: int, faulty: int = 0) -> tuple[str, dict[str, Any]]:
    evidence = f"{rate:.1%} of {count}; passes from {rule.least:.0%}"
    evidence += f"; {faulty} references fail it themselves" if faulty else ""
    return rule.severity, _check(rule.id, rule.says, rate >= rule.least, evidence)


def _check(name: str, says: str, passed: bool, evidence: str) -> dict[str, Any]:
    result = "pass" if passed else "fail"
    return {"id": name, "check": says, "method": "auto", "result": result, "evidence": evidence}


def _overall(scores: dict[str, Any]) -> dict[str, Any]:
    failed = [
        (worse, check["id"]) for worse, check in _checks(scores) if check["result"] == "fail"
    ]
    if not failed:
        return {"status": "PASS", "severityIfFail": None, "reasonIfFail": None}
    return {
        "status": "FAIL",
        "severityIfFail": min((worse for worse, _ in failed), key=SEVERITIES.index),
        "reasonIfFail": f"failed: {', '.join(name for _, name in failed)}",
    }


def _environment(scores: dict[str, Any]) -> dict[str, Any]:
    names = ("sem", "split", "snapshot", "settings", "hardware", "base_model")
    runs = {"baseline": scores["baseline"]["run"], "model": scores["tuned"]["run"]}
    return {**{name: scores[name] for name in names}, **runs}


def _task(scores: dict[str, Any], tasks: Mapping[str, TaskSpec]) -> dict[str, Any]:
    sem = scores["sem"]
    if len(tasks) != 1:
        named = ", ".join(f"{name} {tasks[name].task_version}" for name in sorted(tasks))
        return {"taskId": sem, "goal": f"Answer the tasks of {sem}: {named}"}
    (spec,) = tasks.values()
    return {
        "taskId": spec.task_id,
        "taskVersion": spec.task_version,
        "taskName": spec.task_id.replace("_", " "),
        "goal": spec.system_prompt,
        "promptText": f"{spec.system_prompt}\n\n{spec.instruction_template}",
        "taskSpecPath": f"configs/{sem}/tasks/{spec.task_id}.yaml",
    }


def _inputs(scores: dict[str, Any], tasks: Mapping[str, TaskSpec]) -> dict[str, Any]:
    snapshot = scores["snapshot"]
    file = f"{scores['split']}.v{snapshot['version']}.jsonl"
    flags = ("json_schema_valid", "forbid_additional_keys", "null_when_missing")
    return {
        "userInputs": [
            {
                "type": "file",
                "content": f"{scores['tuned']['n']} examples of snapshot sha256 "
                f"{snapshot['sha256']}",
                "path": f"data/{scores['sem']}/processed/{file}",
            }
        ],
        "assumptions": {
            name: {flag: spec.rubric[flag] for flag in flags if flag in spec.rubric}
            for name, spec in sorted(tasks.items())
        },
    }


def _outputs(scores: dict[str, Any]) -> dict[str, Any]:
    tuned = scores["tuned"]
    folder = f"reports/{scores['sem']}/{tuned['run']}"
    names = (f"answers.{scores['split']}.jsonl", "scores.json")
    errors = [{"kind": kind, "slots": count} for kind, count in tuned["errors"].items()]
    return {
        "primaryOutputs": [
            {"type": "file", "name": name, "content": None, "path": f"{folder}/{name}"}
            for name in names
        ],
        "sideEffects": [],
        "logs": {"errors": errors, "warnings": list(scores["notes"])},
    }

"""EvalReport v1 and scores.json: valid against their schemas, numbered, and read from others."""

import json
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from toy import SPEC

from sem.core import files, schema, settings
from sem.core.errors import SemError
from sem.core.example import Example
from sem.core.taskspec import TaskSpec
from sem.eval.answers.answers import Answer
from sem.eval.config import EvalSettings
from sem.eval.report import eval_report_v1, report
from sem.eval.scoring import scoring

CHECKS = {"checks": [{"id": "totals_equation", "tolerance": 0.02}]}
RUBRIC = SPEC["rubric"] | CHECKS | {"json_schema_valid": True}
TASK = settings.build_settings(TaskSpec, SPEC | {"base_model_id": "x", "rubric": RUBRIC}, "spec")
TODAY = date(2026, 2, 23)
FACTS = {
    "sem": "shop",
    "snapshot": {"version": 2, "sha256": "ab" * 32},
    "settings": {"draws": 200},
    "hardware": {"name": "cpu"},
    "base_model": {"revision": "r"},
    "notes": ["read with care"],
}


def scores(text: str, wanted: Any = None, count: int = 40) -> list[scoring.Score]:
    wanted = wanted or {"title": "Mug", "price": 9.5}
    return [
        scoring.score_answer(
            Example(f"e{n}", "price", "Mug 9.5", wanted, {"domain": f"d{n}.example"}),
            Answer(f"e{n}", "price", text, "stop", 10, 5, 100, 1),
            TASK,
            None,
        )
        for n in range(count)
    ]


GOOD = '{"title": "Mug", "price": 9.5}'


def found(after: str = GOOD, before: str = "no", wanted: Any = None) -> dict[str, Any]:
    compared = report.Comparison(
        "base", "r1", "test", scores(before, wanted), scores(after, wanted), FACTS
    )
    return report.report_scores(compared, EvalSettings(draws=200))


def checks(made: dict[str, Any]) -> dict[str, str]:
    return {check["id"]: check["result"] for check in made["checks"]}


def test_a_good_run_passes() -> None:
    made = eval_report_v1.build_eval_report(found(), {"price": TASK})
    assert set(checks(made).values()) == {"pass"}
    assert made["overallResult"] == {
        "status": "PASS",
        "severityIfFail": None,
        "reasonIfFail": None,
    }
    assert made["task"]["taskId"] == "price"
    assert made["task"]["taskVersion"] == "1.0.0"
    assert made["task"]["goal"] == "Answer with one JSON object."
    assert made["inputs"]["userInputs"][0]["path"] == "data/shop/processed/test.v2.jsonl"
    assert made["inputs"]["assumptions"] == {"price": {"json_schema_valid": True}}
    assert made["outputs"]["logs"] == {"errors": [], "warnings": ["read with care"]}
    assert made["notes"]["tuned"]["accuracy"] == 1.0
    assert made["notes"]["baseline"]["run"] == "base"
    assert made["metadata"]["environment"]["model"] == "r1"


SUM = {"title": "Mug", "price": 9.5, "total": 3, "subtotal": 1}


@pytest.mark.parametrize(
    ("after", "wanted", "failed", "severity"),
    [
        (
            "no",
            None,
            ["schema.json_valid", "schema.valid", "slots.critical", "compare.improved"],
            "blocker",
        ),
        ('{"title": "Mug"}', None, ["schema.valid"], "blocker"),
        ('{"title": "Cup", "price": 9.5}', None, ["slots.critical"], "major"),
        (
            '{"title": "Mug", "price": 9.5, "x": 1}',
            None,
            ["schema.valid", "schema.no_additional_keys"],
            "blocker",
        ),
        (GOOD, SUM, ["arith.totals_equation"], "major"),
    ],
)
def test_a_failure_is_named(after: str, wanted: Any, failed: list[str], severity: str) -> None:
    made = eval_report_v1.build_eval_report(found(after, wanted=wanted), {"price": TASK})
    assert [name for name, result in checks(made).items() if result == "fail"] == failed
    assert made["overallResult"] == {
        "status": "FAIL",
        "severityIfFail": severity,
        "reasonIfFail": f"failed: {', '.join(failed)}",
    }


def test_no_gain_is_a_minor_failure() -> None:
    made = eval_report_v1.build_eval_report(found(before=GOOD), {"price": TASK})
    assert checks(made)["compare.improved"] == "fail"
    assert made["overallResult"]["severityIfFail"] == "minor"


def test_the_evidence_has_figures() -> None:
    made = eval_report_v1.build_eval_report(
        found('{"title": "Cup", "price": 9.5}', wanted=SUM), {"price": TASK}
    )
    shown = {check["id"]: check["evidence"] for check in made["checks"]}
    assert shown["schema.json_valid"] == "100.0% of 40; passes from 99%"
    assert shown["slots.critical"] == "0.0% of 40; passes from 90%"
    assert shown["schema.no_additional_keys"] == "0 found"
    assert shown["arith.totals_equation"] == (
        "0.0% of 40; passes from 100%; 40 references fail it themselves"
    )
    errors = made["outputs"]["logs"]["errors"]
    assert errors == [{"kind": "hallucinated", "slots": 40}]


def test_a_rate_passes_from_its_bound() -> None:
    value = found()
    for rate, result in ((0.99, "pass"), (0.9899, "fail")):
        value["tuned"]["json_valid"] = rate
        assert (
            checks(eval_report_v1.build_eval_report(value, {"price": TASK}))["schema.json_valid"]
            == result
        )
    value["tuned"]["doc_crit_ok"] = None
    assert "slots.critical" not in checks(eval_report_v1.build_eval_report(value, {"price": TASK}))


def test_reports_are_written_valid_and_numbered(tmp_path: Path) -> None:
    value = found()
    path = eval_report_v1.write_eval_report(tmp_path, value, {"price": TASK}, TODAY)
    assert path.name == "2026-02-23__price__run-1.eval-report.json"
    made = eval_report_v1.read_eval_report(path)
    assert made["metadata"]["runId"] == "price__run-1"
    assert made["notes"]["scoresSha256"] == files.sha256_json(value)
    later = TODAY + timedelta(1)
    assert eval_report_v1.write_eval_report(tmp_path, value, {"price": TASK}, later) == path
    other = eval_report_v1.write_eval_report(tmp_path, found("no"), {"price": TASK}, later)
    assert other.name == "2026-02-24__price__run-2.eval-report.json"
    (tmp_path / "2026-01-01__price__run-10.eval-report.json").write_text("{}")
    third = eval_report_v1.write_eval_report(tmp_path, found(GOOD, GOOD), {"price": TASK}, later)
    assert third.name == "2026-02-24__price__run-11.eval-report.json"


def test_several_tasks_are_one_report_by_the_name_of_the_sem(tmp_path: Path) -> None:
    tasks = {"price": TASK, "nav": TASK}
    path = eval_report_v1.write_eval_report(tmp_path, found(), tasks, TODAY)
    assert path.name == "2026-02-23__shop__run-1.eval-report.json"
    task = eval_report_v1.read_eval_report(path)["task"]
    assert task == {"taskId": "shop", "goal": "Answer the tasks of shop: nav 1.0.0, price 1.0.0"}


def test_a_name_never_leaves_the_folder(tmp_path: Path) -> None:
    path = eval_report_v1.write_eval_report(tmp_path, found(), {"../a__b c": TASK}, TODAY)
    assert path.parent == tmp_path
    assert path.name == "2026-02-23__..-a-b-c__run-1.eval-report.json"


def test_times_are_local_with_their_offset() -> None:
    begun = datetime(2026, 2, 23, 16, 5, tzinfo=timezone(timedelta(hours=2)))
    timing = eval_report_v1.Timing(begun, begun + timedelta(minutes=7, milliseconds=0.6))
    made = eval_report_v1.build_eval_report(found(), {"price": TASK}, timing)["metadata"]
    assert made["startedAtLocal"] == "2026-02-23T16:05:00+02:00"
    assert made["endedAtLocal"] == "2026-02-23T16:12:00+02:00"
    assert made["elapsedMs"] == 420_001


def test_what_breaks_the_schema_is_not_written(tmp_path: Path) -> None:
    older = found()
    del older["tuned"]["doc_crit_ok"]
    with pytest.raises(SemError, match=r"scores.json: breaks scores.v1: .*'doc_crit_ok'"):
        eval_report_v1.write_eval_report(tmp_path, older, {"price": TASK}, TODAY)
    wordless = {"": replace(TASK, system_prompt="")}
    with pytest.raises(SemError, match=r"breaks eval-report.v1: task/goal"):
        eval_report_v1.write_eval_report(tmp_path, found(), wordless, TODAY)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        "eval-report-template.eval-report.json",
        "examples/2026-02-23__invoice-mvp__run-003.eval-report.json",
        "examples/2026-02-23__invoice_mvp_extract_v1__run-001.eval-report.json",
    ],
)
def test_reports_of_other_tools_are_read(shared: Path, tmp_path: Path, name: str) -> None:
    path = shared / "compat/promptprecision/eval" / name
    value = eval_report_v1.read_eval_report(path)
    assert value["schemaVersion"] == "eval-report.v1"
    older = tmp_path / "x.evalreport.json"
    older.write_bytes(path.read_bytes())
    assert eval_report_v1.read_eval_report(older) == value


def test_both_schemas_agree_on_what_is_wrong(shared: Path, tmp_path: Path) -> None:
    theirs = files.read_json(shared / "compat/promptprecision/eval/eval-report.v1.schema.json")
    ours = files.read_json(eval_report_v1.SCHEMAS / "eval-report.v1.schema.json")
    made = eval_report_v1.build_eval_report(found(), {"price": TASK})
    for path, value in BROKEN:
        wrong = json.loads(json.dumps(made))
        here = wrong
        for step in path[:-1]:
            here = here[step]
        here[path[-1]] = value
        assert bool(schema.schema_problems(wrong, theirs)) is bool(
            schema.schema_problems(wrong, ours)
        ), path
    assert schema.schema_problems(made, theirs) == schema.schema_problems(made, ours) == []


BROKEN: list[tuple[list[Any], Any]] = [
    (["extra"], 1),
    (["schemaVersion"], "eval-report.v2"),
    (["metadata", "runId"], ""),
    (["metadata", "elapsedMs"], -1),
    (["metadata", "elapsedMs"], 1.5),
    (["metadata", "extra"], 1),
    (["metadata", "environment"], []),
    (["metadata", "environment", "extra"], 1),
    (["task", "goal"], ""),
    (["task", "extra"], ""),
    (["inputs", "extra"], 1),
    (["inputs", "attachments"], [1]),
    (["inputs", "userInputs", 0, "type"], "json"),
    (["inputs", "userInputs", 0, "content"], None),
    (["outputs", "extra"], 1),
    (["outputs", "primaryOutputs", 0, "content"], []),
    (["outputs", "primaryOutputs", 0, "content"], {}),
    (["outputs", "primaryOutputs", 0, "type"], "image"),
    (["outputs", "logs", "extra"], []),
    (["outputs", "sideEffects"], {}),
    (["checks"], []),
    (["checks", 0, "id"], ""),
    (["checks", 0, "check"], ""),
    (["checks", 0, "method"], "semi"),
    (["checks", 0, "result"], "PASS"),
    (["checks", 0, "extra"], 1),
    (["overallResult", "status"], "pass"),
    (["overallResult", "severityIfFail"], "huge"),
    (["overallResult", "severityIfFail"], "minor"),
    (["overallResult", "reasonIfFail"], 1),
    (["overallResult"], {}),
    (["timingBreakdown"], {"runMs": 1}),
    (["timingBreakdown"], {"runMs": -1}),
    (["timingBreakdown"], {"totalMs": 1}),
    (["notes"], []),
    (["notes", "extra"], 1),
    (["$schema"], 1),
]


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("{}", "x.json", "its name is not that of an EvalReport"),
        ("{}", "x.eval-report.json", "not a valid eval-report.v1"),
        ("[1]", "x.eval-report.json", "not a valid eval-report.v1"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, text: str, name: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SemError, match=message):
        eval_report_v1.read_eval_report(tmp_path / name)


def test_scores_fit_their_schema() -> None:
    for value in (found(), found("no", "no"), found(wanted=SUM)):
        eval_report_v1.check_eval_report(value, "scores.v1", "scores.json")
    wrong = found()
    wrong["tuned"]["accuracy"] = 1.5
    with pytest.raises(SemError, match="breaks scores.v1: tuned/accuracy"):
        eval_report_v1.check_eval_report(wrong, "scores.v1", "scores.json")
    with pytest.raises(SemError, match="breaks scores.v1"):
        eval_report_v1.check_eval_report({"format": "scores.v1"}, "scores.v1", "scores.json")

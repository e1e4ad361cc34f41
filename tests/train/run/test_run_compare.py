"""Runs side by side: only what differs, only what is comparable, a page that asks for nothing."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import warm
from paths import ROOT

from sem.core import files
from sem.core.errors import SemError
from sem.core.project import Project
from sem.core.run import Run
from sem.eval.report import plots
from sem.train.run import plan, run_compare
from sem.train.run.run_compare import ComparedRun

PLAN = {
    "recipe": {
        "learning_rate": 2e-4,
        "seed": 1,
        "val_examples": 8,
        "val_answers": 4,
        "loss": {"value": 1.0},
        "lora": {"rank": 16},
    },
    "snapshot": {"version": 1, "sha256": "a" * 64},
    "task_hashes": {"price": "t"},
    "renderer": "r",
    "engine": "trl",
    "total_steps": 6,
    "base_model": {"base_model_id": "m", "revision": "b"},
    "hardware": {"name": "cpu"},
    "counts": {"train": {"examples": 9, "tokens": 900}, "val": {"examples": 8, "tokens": 80}},
    "source": {"commit": "c" * 40, "dirty": False},
}


def side(name: str, *rows: dict, result: dict | None = None, **changes) -> ComparedRun:
    logged = tuple({"stage": "examples", "step": n, **row} for n, row in enumerate(rows, 1))
    return ComparedRun(Run(name, Path(name)), {**PLAN, **changes}, logged, result)


def figure(found: dict, label: str) -> dict:
    return next(row for row in found["figures"] if row["figure"] == label)


@pytest.fixture
def project(toy: Path) -> Project:
    return Project.load("toy")


def test_only_what_differs_in_the_recipe_is_shown() -> None:
    other = {**PLAN["recipe"], "lora": {"rank": 8}, "patience": 2}
    found = run_compare.recipe_differences([side("a"), side("b", recipe=other)])
    assert found == [
        {"key": "lora.rank", "values": [16, 8]},
        {"key": "patience", "values": [None, 2]},
    ]


def test_runs_of_one_snapshot_are_comparable(project) -> None:
    sides = [side("a", {"loss": 2.0}, {"eval_loss": 1.5}), side("b", {"loss": 3.0})]
    found = run_compare.compared_runs(project, sides)
    assert figure(found, "last train loss")["shown"] == ["2.0000", "3.0000"]
    assert figure(found, "best val loss")["shown"] == ["1.5000", "-"]
    assert run_compare.list_comparison_notes(found) == []


def test_what_different_snapshots_and_machines_make_incomparable_is_said(project) -> None:
    there = {"snapshot": {"version": 2, "sha256": "f" * 64}, "hardware": {"name": "H200"}}
    result = {"train_runtime": 9.0, "stages": {}}
    rows = ({"loss": 2.0, "tokens_per_second": 5.0},)
    sides = [side("a", *rows, result=result), side("b", *rows, result=result, **there)]
    found = run_compare.compared_runs(project, sides)
    assert run_compare.list_comparison_notes(found) == [
        "Not comparable (different snapshots): last train loss.",
        "Not comparable (different machines): seconds, tokens/s.",
    ]
    assert run_compare.describe_test_result(found["test"][0]) == (
        "b against a on test: not compared: different snapshots"
    )
    assert "| last train loss* | 2.0000 | 2.0000 |" in run_compare.compare_markdown(found)


def test_weighted_losses_are_not_compared_with_plain_ones(project) -> None:
    weighted = {**PLAN["recipe"], "loss": {"value": 3.0}}
    sides = [side("a", {"loss": 2.0}), side("b", {"loss": 2.0}, recipe=weighted)]
    found = run_compare.compared_runs(project, sides)
    assert run_compare.list_comparison_notes(found) == [
        "Not comparable (different loss weights): last train loss."
    ]


def test_steps_of_a_later_stage_go_on_from_the_earlier(project) -> None:
    made = side("a")
    logged = [("pretrain", 1), ("pretrain", 4), ("examples", 1), ("examples", 2)]
    rows = tuple({"stage": stage, "step": step, "loss": 1.0} for stage, step in logged)
    assert [x for x, _ in replace(made, rows=rows).line("loss")] == [1, 4, 5, 6]


def test_the_page_runs_nothing_asks_for_nothing_and_escapes_what_it_shows(project) -> None:
    evil = "<script>alert(1)</script>"
    sides = [side("a", {"loss": 2.0}, {"loss": 1.0}), side(evil, {"loss": 3.0}, {"loss": 2.0})]
    page = run_compare.compare_html(run_compare.compared_runs(project, sides), sides)
    assert evil not in page
    assert "&lt;script&gt;" in page
    assert "default-src 'none'" in page
    assert not re.search(r"(?:src|href)\s*=|url\(|@import", page)
    assert page.count('<path class="c') == 2


def test_a_curve_fills_its_box() -> None:
    drawn = plots.build_line_plot({"a": [(0, 2.0), (10, 1.0)], "b": []})
    assert drawn["paths"] == {"a": "M0.0 0.0L600.0 200.0", "b": ""}
    assert (drawn["low"], drawn["high"], drawn["most"]) == (1.0, 2.0, 10)


@pytest.mark.parametrize("names", [["a"], ["a", "a"]])
def test_one_run_is_not_compared_with_itself(project, names) -> None:
    with pytest.raises(SemError) as caught:
        run_compare.read_runs(project, names)
    assert caught.value.hint == "name two or more different runs"


@pytest.mark.slow
def test_two_real_runs_are_compared_on_test_with_an_interval(toy) -> None:
    import sys

    from sem.dataset.clean import clean
    from sem.dataset.split import snapshot

    project = Project.load("toy", ["train.max_steps=3"])
    clean.clean_store(project)
    snapshot.freeze_snapshot(project, plan.provenance.utc_now())
    names = []
    for rate in ("1e-2", "1e-4"):
        mine = Project.load("toy", ["train.max_steps=3", f"train.learning_rate={rate}"])
        made = plan.prepare_training(mine, None)
        plan.train_prepared(mine, made, resume=False)
        names.append(made.id)
        for script in ("eval_generate", "eval_report"):
            if script == "eval_report":
                base = [sys.executable, str(ROOT / "scripts/eval_generate.py"), "--sem=toy"]
                warm.run([*base, "--run=base"], check=True, capture_output=True)
            command = [sys.executable, str(ROOT / f"scripts/{script}.py"), "--sem=toy"]
            warm.run([*command, f"--run={made.id}"], check=True, capture_output=True)
    sides = run_compare.read_runs(project, names)
    found = run_compare.compared_runs(project, sides)
    assert [row["key"] for row in found["recipe"]] == ["learning_rate"]
    (test,) = found["test"]
    assert test["reason"] is None
    assert test["difference"]["pairs"] > 5
    assert test["difference"]["low"] <= test["difference"]["points"] <= test["difference"]["high"]
    assert figure(found, "adapter sha256")["values"] == [
        files.sha256_file(project.adapters / name / "adapter" / "adapter_model.safetensors")
        for name in names
    ]
    folder = run_compare.write_run_comparison(project, found, sides)
    assert sorted(path.name for path in folder.iterdir()) == [
        "compare.html",
        "compare.json",
        "compare.md",
    ]

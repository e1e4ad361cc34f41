"""The projection: hand-computed figures, measured tokens first, an alert that cannot be missed."""

import json
import os
import sys
from pathlib import Path

import pytest
import warm
from paths import ROOT

from sem.core.errors import SemError
from sem.core.project import Project
from sem.ops import budget

# The older file as its users wrote it, in our own words.
OLDER = """
budget: {daily_tokens: 10000000, alert_threshold: 0.85}
traffic_profile:
  navpage: {requests_per_day: 120000, avg_prompt_tokens: 1300, avg_completion_tokens: 350}
  productpage: {requests_per_day: 80000, avg_prompt_tokens: 1500, avg_completion_tokens: 420}
mitigations: {html_truncation_tokens: 2000, caching_hit_rate: 0.1}
notes: >
  Placeholder figures.
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "budget.yaml"
    path.write_text(text)
    return path


def answers(folder: Path, *rows: dict) -> Path:
    path = folder / "answers.test.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def row(task: str, tokens_in: int, tokens_out: int) -> dict:
    return {"id": "a", "task": task, "tokens_in": tokens_in, "tokens_out": tokens_out}


@pytest.fixture(params=["shipped", "older"])
def config(request, tmp_path) -> budget.BudgetSettings:
    shipped = ROOT / "configs" / "budget.yaml"
    return budget.load_budget(shipped if request.param == "shipped" else written(tmp_path, OLDER))


def test_the_profile_is_316_million_tokens_a_day_and_an_alert(config):
    found = budget.project_daily_tokens(config, {})

    # 0.9 x (120,000 x 1,650 + 80,000 x 1,920)
    assert found.daily_tokens == pytest.approx(316_440_000)
    assert round(found.share, 1) == 31.6
    assert found.is_alert
    assert {line.source for line in found.lines} == {"profile"}


def test_measured_tokens_replace_the_profile_of_their_page_only(config, tmp_path):
    path = answers(tmp_path, *(row("navpage_classifier", n, 3) for n in (100, 300)))
    found = budget.project_daily_tokens(config, budget.measure_tokens(path))

    nav, product = found.lines
    assert (nav.prompt_tokens, nav.completion_tokens) == (200, 3)
    assert nav.source == "measured, n=2"
    assert nav.daily_tokens == pytest.approx(0.9 * 120_000 * 203)
    assert product.source == "profile"


def test_a_prompt_counts_no_further_than_its_truncation(config, tmp_path):
    path = answers(tmp_path, row("productpage_extractor", 9_000, 100))
    found = budget.project_daily_tokens(config, budget.measure_tokens(path))

    assert found.lines[1].prompt_tokens == 2_000


@pytest.mark.parametrize(("tokens", "alert"), [(849, False), (850, True), (1_001, True)])
def test_the_alert_begins_at_the_threshold(tokens, alert):
    traffic = {"page": budget.Traffic(1, tokens, 0)}
    settings = budget.BudgetSettings(budget.TokenBudget(1_000), traffic)

    assert budget.project_daily_tokens(settings, {}).is_alert is alert


BAD = {
    "unknown key 'budget.alert_treshold'": OLDER.replace("threshold", "treshold"),
    "traffic_profile is empty": "budget: {daily_tokens: 5}\ntraffic_profile: {}\n",
    "mitigations out of range": OLDER.replace("0.1}", "1.5}"),
    "traffic below zero": OLDER.replace("120000", "-1"),
    "alert at 0.0": OLDER.replace("0.85", "0"),
    "daily_tokens": OLDER.replace("10000000", "many"),
}


@pytest.mark.parametrize("message", BAD)
def test_a_budget_that_makes_no_sense_is_refused(tmp_path, message):
    with pytest.raises(SemError) as caught:
        budget.load_budget(written(tmp_path, BAD[message]))

    assert message in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("bad", [{"task": "x"}, row("x", -1, 2), row("x", 1.5, 2), ["x"]])
def test_answers_without_token_counts_are_refused_by_line(tmp_path, bad):
    path = answers(tmp_path, row("x", 1, 1), bad)

    with pytest.raises(SemError, match=r"answers\.test\.jsonl:2"):
        budget.measure_tokens(path)


def test_the_job_exits_1_with_the_table_and_one_clear_line(tmp_path):
    (tmp_path / "configs" / "demo").mkdir(parents=True)
    script = [sys.executable, str(ROOT / "scripts" / "ops_project_tokens.py")]
    config = ["--config", str(ROOT / "configs" / "budget.yaml")]
    done = warm.run(
        [*script, *config],
        env={**os.environ, "SEM_ROOT": str(tmp_path), "SEM": "demo"},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 1
    assert "316.4 M" in done.stdout
    assert "error: 316.4 M tokens a day is 31.6 x the budget" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_job_reads_the_answers_of_the_run_it_is_given(tmp_path):
    (tmp_path / "configs" / "demo").mkdir(parents=True)
    folder = tmp_path / "reports" / "demo" / "base"
    folder.mkdir(parents=True)
    answers(folder, row("navpage_classifier", 10, 1), row("productpage_extractor", 10, 20))
    script = [sys.executable, str(ROOT / "scripts" / "ops_project_tokens.py"), "--run", "base"]
    config = ["--config", str(ROOT / "configs" / "budget.yaml")]
    done = warm.run(
        [*script, *config],
        env={**os.environ, "SEM_ROOT": str(tmp_path), "SEM": "demo"},
        capture_output=True,
        text=True,
    )

    # 0.9 x (120,000 x 11 + 80,000 x 30) = 3.3 M of 10 M
    assert done.returncode == 0, done.stderr
    assert "measured, n=1" in done.stdout
    assert "0.3 x the budget" in done.stdout


FREE, HELD = "answers.test.jsonl", "answers.test.constrained.jsonl"


@pytest.mark.parametrize(
    ("decoding", "present", "wanted"),
    [
        # Who answers constrained got the tokens of the free answers, or none at all.
        ("constrained", (FREE, HELD), HELD),
        ("constrained", (FREE,), FREE),
        ("free", (FREE, HELD), FREE),
        ("free", (HELD,), HELD),
        ("free", (), None),
    ],
)
@pytest.mark.parametrize("run", ["r1", None])
def test_the_measured_answers_are_those_of_the_decoding_that_is_asked(
    tmp_path, run, decoding, present, wanted
):
    project = Project("shop", tmp_path, (f"eval.decoding={decoding}",))
    for name in present:
        path = project.reports / "r1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    if wanted is None and run:
        with pytest.raises(SemError, match="no such file"):
            budget.find_answers(project, run, "test")
        return

    found = budget.find_answers(project, run, "test")

    assert (found and found.name) == wanted

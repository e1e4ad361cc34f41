"""Examples of a sem, as they are spelled, trained by the trainer, scored in nats."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sem.core import files
from sem.core.errors import SemError
from sem.dataset.split import snapshot
from sem.jobs import load_jobs
from sem.preview.contribution import examples
from sem.preview.contribution.overlap import Overlap
from sem.preview.linear import cache
from sem.preview.lora import bench as benches
from sem.preview.lora import lora
from sem.preview.lora.advice import ExampleAdvice
from sem.preview.lora.gradient_likeness import GradientLikeness
from sem.preview.lora.lora import LoraBudget
from sem.preview.result import task_preview
from sem.preview.stats.paired_gain import PairedGain


def told(root: Path, rows: list[dict], name: str = "given.jsonl") -> Path:
    path = root / name
    files.write_rows(path, rows)
    return path


def page(number: int, **more: object) -> dict:
    said = {"title": f"Lamp {number}", "price": number + 0.5}
    return {
        "task": "price",
        "input_text": f"Lamp {number} costs {number}.50",
        "output_json": said,
        "domain": f"lamps{number % 4}.example",
        **more,
    }


def test_older_spellings_are_read_and_wrong_answers_are_counted(cut_toy, tmp_path) -> None:
    rows = [
        page(1),
        {"prompt": "Lamp 2", "response_strong": json.dumps({"title": "Lamp 2", "price": 2})},
        page(3, output_json={"title": 3}),
        page(4, task="other"),
        page(6, task=None, task_id="other"),
        page(5, input_text=" "),
        {"task": "price"},
        7,
    ]
    found = examples.read_examples(told(tmp_path, rows), cut_toy.tasks, 10, 1)
    assert found.size == 2
    assert {one.output_json["title"] for one in found.kept} == {"Lamp 1", "Lamp 2"}
    assert found.refused == {
        "answer_breaks_schema": 1,
        "no_such_task": 2,
        "no_input_text": 2,
        "no_object": 1,
    }
    assert {one.domain for one in found.kept} == {"lamps1.example", ""}


def test_rows_of_one_id_are_told_apart(cut_toy, tmp_path) -> None:
    rows = [page(n, id="7") for n in range(3)]
    found = examples.read_examples(told(tmp_path, rows), cut_toy.tasks, 10, 1)
    assert {one.id for one in found.kept} == {"7", "line 2", "line 3"}


def test_training_itself_widens_the_interval_and_a_larger_share_more() -> None:
    found = PairedGain(0.02, 0.01, 0.04, 30)
    by = {"sd": 0.03, "t": 2.0, "share": 0.2, "larger": 0.0, "smaller": 0.0}
    same = lora.widen_by_backtest(found, 0.2, by)
    assert (same.mean, same.n) == (0.02, 30)
    assert same.low == pytest.approx(0.02 - (0.01**2 + 0.06**2) ** 0.5)
    assert same.high == pytest.approx(0.02 + (0.02**2 + 0.06**2) ** 0.5)
    wider = lora.widen_by_backtest(found, 0.8, by)
    assert wider.low == pytest.approx(0.02 - (0.01**2 + 0.12**2) ** 0.5)
    assert lora.widen_by_backtest(found, 0.2, {}) == found


@pytest.mark.parametrize("sign", [1, -1])
def test_the_rest_of_a_training_makes_a_gain_larger_or_smaller(sign: int) -> None:
    by = {"sd": 0.0, "t": 2.0, "share": 0.2, "larger": 1.5, "smaller": 0.5}
    made = lora.widen_by_backtest(
        PairedGain(sign * 0.2, sign * 0.2 - 0.04, sign * 0.2 + 0.04, 30), 0.5, by
    )
    away, towards = (made.high, made.low) if sign > 0 else (made.low, made.high)
    assert sign * away == pytest.approx(0.2 + (0.04**2 + 0.3**2) ** 0.5)
    assert sign * towards == pytest.approx(0.2 - (0.04**2 + 0.1**2) ** 0.5)


@pytest.mark.parametrize("way", ["all", "last"])
def test_what_backtests_found_is_there_for_each_way_to_train(way: str) -> None:
    found = PairedGain(0.02, 0.01, 0.03, 30)
    made = lora.widen_by_backtest(found, 0.2, lora.backtest_widening(way))
    assert made.low < found.low < found.high < made.high


@pytest.fixture
def slow_machine(monkeypatch) -> None:
    """LoRA in every layer takes too long; in the last ones it takes what it takes."""
    every = benches.seconds_a_step

    def slow(bench, *more):
        return every(bench, *more) if bench.lower else 1e9

    monkeypatch.setattr(benches, "seconds_a_step", slow)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("slow_machine")
def test_where_all_layers_do_not_fit_the_last_ones_are_trained_and_it_is_said(
    cut_toy, tmp_path, capsys
) -> None:
    path = told(tmp_path, [page(n) for n in range(12)])
    load_jobs()["preview.run"].call(
        ["--data-path", str(path), "--sem", "toy", "--output-format", "json"]
    )
    made = json.loads(capsys.readouterr().out)["estimate"]
    assert made["trained_layers"] == 1
    assert made["complete"] is False
    assert any("both trainings change the last 1 of 2 layers only" in n for n in made["notes"])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("slow_machine")
def test_a_stopped_preview_of_the_last_layers_goes_on_with_them(cut_toy, tmp_path) -> None:
    given = examples.read_examples(
        told(tmp_path, [page(n) for n in range(12)]), cut_toy.tasks, 100, 1
    )
    parts, said = cache.partial_fits_folder(tmp_path, "a" * 64), []
    asked = lora.LoraRequest(cut_toy, given, 1500, parts=parts)
    whole = lora.examples_worth(asked)
    assert whole.lower.trained == 1
    max(parts.iterdir(), key=lambda path: path.stat().st_mtime_ns).unlink()
    again = lora.examples_worth(asked, said.append)
    assert said == ["baseline: kept from before", f"candidate: {whole.budget.steps} steps"]
    assert (again.gain, again.advised) == (whole.gain, whole.advised)


def test_a_file_without_examples_is_one_line(cut_toy, tmp_path) -> None:
    path = told(tmp_path, [page(1, output_json={})])
    with pytest.raises(SemError) as caught:
        examples.read_examples(path, cut_toy.tasks, 10, 1)
    assert caught.value.message == (
        f"{path}: none of its rows is an example of price: answer_breaks_schema"
    )
    with pytest.raises(SemError, match="must be JSON lines"):
        examples.read_examples(told(tmp_path, [page(1)], "given.csv"), cut_toy.tasks, 10, 1)


def test_what_the_snapshot_holds_is_left_out(cut_toy, tmp_path) -> None:
    frozen = snapshot.load_snapshot(cut_toy, None)
    rows = [one.as_json() for part in ("train", "val") for one in frozen.examples(part)]
    given = examples.read_examples(told(tmp_path, rows), cut_toy.tasks, 100, 1)
    with pytest.raises(SemError, match="known already or in val or test"):
        lora.examples_worth(lora.LoraRequest(cut_toy, given, 600))


def test_without_time_for_two_trainings_it_says_so(cut_toy, tmp_path) -> None:
    given = examples.read_examples(
        told(tmp_path, [page(n) for n in range(9)]), cut_toy.tasks, 10, 1
    )
    with pytest.raises(SemError) as caught:
        lora.examples_worth(lora.LoraRequest(cut_toy, given, 0.01))
    assert caught.value.message.startswith("4 steps of two trainings do not fit ")
    assert "proxy" in caught.value.hint


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_both_trainings_take_equal_steps_and_nothing_is_left_behind(cut_toy, tmp_path) -> None:
    rows = [page(n) for n in range(12)]
    given = examples.read_examples(told(tmp_path, rows), cut_toy.tasks, 100, 1)
    before = sorted(cut_toy.root.rglob("*"))
    first = lora.examples_worth(lora.LoraRequest(cut_toy, given, 600))
    assert first.budget.steps >= 4
    assert first.budget.is_whole
    assert first.learnt == first.usable == 12
    assert (
        first.gain.n
        == first.val
        == len(list(snapshot.load_snapshot(cut_toy, None).examples("val")))
    )
    assert sum(one.pull is not None for one in first.advised) == 12
    assert first.gain.low <= first.gain.mean <= first.gain.high
    assert first.gain.mean == pytest.approx(first.after - first.before, abs=1e-6)
    assert sorted(cut_toy.root.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_trainings_are_done_once_and_a_damaged_score_again(cut_toy, tmp_path) -> None:
    given = examples.read_examples(
        told(tmp_path, [page(n) for n in range(12)]), cut_toy.tasks, 100, 1
    )
    parts, said = cache.partial_fits_folder(tmp_path, "a" * 64), []
    asked = lora.LoraRequest(cut_toy, given, 1500, parts=parts)
    whole = lora.examples_worth(asked, said.append)
    both = [f"baseline: {whole.budget.steps} steps", f"candidate: {whole.budget.steps} steps"]
    assert said[1:] == both
    _, baseline, candidate = sorted(parts.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    baseline.write_text(baseline.read_text().replace("-", "", 1))
    candidate.unlink()
    said.clear()
    assert lora.examples_worth(asked, said.append) == whole
    assert said == both
    candidate.unlink()
    said.clear()
    assert lora.examples_worth(asked, said.append) == whole
    assert said == ["baseline: kept from before", both[1]]


FOUND = lora.ExampleWorth(
    gain=PairedGain(0.05, 0.02, 0.08, 12),
    measured=PairedGain(0.05, 0.03, 0.07, 12),
    before=-1.0,
    after=-0.95,
    overlap=Overlap(*[frozenset()] * 4),
    learnt=9,
    usable=9,
    budget=LoraBudget(17, 12, 1, 17, 0.5),
    model="tiny",
    too_long=0,
    val=12,
    advised=(
        ExampleAdvice("line 1", "lamps1.example", "keep", pull=GradientLikeness(-0.5, 0.25)),
        ExampleAdvice("line 2", "lamps2.example", "inspect", "value_not_in_input", ("title",)),
    ),
)


@pytest.mark.parametrize(
    ("steps", "low", "high", "word", "why"),
    [
        (17, 0.02, 0.08, "improves", "above 0, and 0.01 nats or more"),
        (8, 0.02, 0.08, "improves", "above 0, and 0.01 nats or more"),
        (17, -0.02, 0.005, "does_not_improve", "below 0.01 nats"),
        (8, -0.02, 0.005, "cannot_tell", "no gain in 8 steps of the recipe's 17"),
        (8, -0.08, -0.02, "does_not_improve", "below 0 nats"),
        (17, -0.02, 0.08, "cannot_tell", "holds both no gain and 0.01 nats or more"),
    ],
)
def test_a_part_of_a_training_that_gains_nothing_decides_nothing(
    steps, low, high, word, why
) -> None:
    found = replace(
        FOUND,
        gain=PairedGain((low + high) / 2, low, high, 12),
        budget=replace(FOUND.budget, steps=steps),
    )
    said, reason = task_preview.decide_by_nats(found, 0.01)
    assert said == word
    assert reason.endswith(why)


def test_what_the_time_did_not_hold_is_said(cut_toy, tmp_path, capsys, monkeypatch) -> None:
    found = replace(FOUND, budget=replace(FOUND.budget, steps=8), learnt=3, val=40)
    monkeypatch.setattr(lora, "examples_worth", lambda *_: found)
    load_jobs()["preview.run"].call(
        ["--data-path", str(told(tmp_path, [page(1)])), "--sem", "toy", "--verbose"]
    )
    said = " ".join(capsys.readouterr().out.split())
    assert "8 steps of the recipe's 17, in which 3 of 9 contributed rows were learnt" in said
    assert "12 of 40 val rows, drawn by lot, are scored" in said
    assert "line 2" in said
    assert "value_not_in_input" in said


def test_the_command_takes_examples_for_a_sem_that_names_no_files(
    cut_toy, tmp_path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(
        lora, "examples_worth", lambda *_: FOUND
    )  # trained for real in the slow test
    path = told(tmp_path, [page(n) for n in range(9)])
    load_jobs()["preview.run"].call(
        ["--data-path", str(path), "--sem", "toy", "--output-format", "json"]
    )
    made = json.loads(capsys.readouterr().out)
    assert made["estimate"]["decision"] == "improves"
    assert made["new_model"]["metrics"]["token_probability"] == pytest.approx(0.38674, abs=1e-5)
    assert made["preview_metadata"]["estimation_confidence"] is None
    load_jobs()["preview.run"].call(["--data-path", str(path), "--sem", "toy"])
    said = capsys.readouterr().out
    assert "it improves the model: +0.050 nats a token [+0.020, +0.080], n = 12, 17 steps" in said
    for flag in ("--zk", "--save-model", "--target"):
        value = "number" if flag == "--target" else str(tmp_path / "z")
        with pytest.raises(SemError, match=f"^{flag}: "):
            load_jobs()["preview.run"].call(
                ["--data-path", str(path), "--sem", "toy", flag, value]
            )


@pytest.mark.parametrize("kind", ["benchmark_exact", "benchmark_near"])
def test_examples_that_copy_the_val_rows_are_refused(
    cut_toy, tmp_path, capsys, monkeypatch, kind
) -> None:
    copied = replace(FOUND, overlap=replace(FOUND.overlap, **{kind: frozenset({0})}))
    monkeypatch.setattr(lora, "examples_worth", lambda *_: copied)
    path = told(tmp_path, [page(n) for n in range(9)])
    words = ["--data-path", str(path), "--sem", "toy", "--output-format", "json"]

    with pytest.raises(SemError, match=r"refused: benchmark_overlap_above_1_percent: 1 rows"):
        load_jobs()["preview.run"].call(words)

    assert json.loads(capsys.readouterr().out)["estimate"]["decision"] == "refused"

"""A target that is a number: a ridge, its error, and what of a preview does not apply to it."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.metrics import d2_absolute_error_score, mean_absolute_error, r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sem.core import files
from sem.core.errors import SemError
from sem.jobs import load_jobs
from sem.preview.contribution import contribution
from sem.preview.contribution.columns import ColumnShape
from sem.preview.contribution.contribution import Sample
from sem.preview.contribution.encoders import Features
from sem.preview.linear import linear_models, number_targets
from sem.preview.linear.learners import FitBudget
from tests.preview.contribution.test_encoders import texts

NUMBERS = ColumnShape("table", "y", features=tuple("abc"), width=3, target="number")


def made(count: int, seed: int = 1, noise: float = 1.0) -> tuple[Sample, ...]:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, 3))
    said = rows @ [3.0, -2.0, 0.5] + 7 + rng.normal(size=count) * noise
    return tuple(
        Sample(f"row {n}", repr(float(y)), features=tuple(map(float, row)))
        for n, (row, y) in enumerate(zip(rows, said, strict=True))
    )


def fitted(samples: tuple[Sample, ...], strength: float = 0.5):
    return number_targets.fit_regression(
        Features(NUMBERS, samples), samples, FitBudget(strength=strength)
    )


def test_it_is_scikit_learns_ridge_over_scaled_numbers() -> None:
    samples, tested = made(200), made(80, seed=2)
    x, y = np.array([one.features for one in samples]), number_targets.number_targets_of(samples)
    asked, truth = (
        np.array([one.features for one in tested]),
        number_targets.number_targets_of(tested),
    )
    said = make_pipeline(StandardScaler(), Ridge(alpha=2.0)).fit(x, y).predict(asked)
    model = fitted(samples)
    assert model.values(tested) == pytest.approx(said)
    scored = number_targets.score_regression(model, tested)
    assert scored.metrics["r2"] == pytest.approx(r2_score(truth, said))
    assert scored.metrics[number_targets.PRIMARY] == pytest.approx(
        d2_absolute_error_score(truth, said)
    )
    assert scored.right.mean() == pytest.approx(scored.metrics[number_targets.PRIMARY])
    assert scored.errors.mean() == pytest.approx(mean_absolute_error(truth, said))


def test_the_penalty_is_stronger_only_where_rows_clearly_ask_for_it() -> None:
    rng = np.random.default_rng(3)
    noise = [
        Sample(f"row {n}", repr(float(y)), features=tuple(map(float, row)))
        for n, (row, y) in enumerate(
            zip(rng.normal(size=(60, 40)), rng.normal(size=60), strict=True)
        )
    ]
    wide = ColumnShape("table", "y", features=("features",), width=40, target="number")
    found = number_targets.tune_regression(Features(wide, noise), noise, FitBudget()).strength
    assert found < number_targets.STRENGTH["table"]
    quiet = made(60, noise=0.01)
    assert (
        number_targets.tune_regression(Features(NUMBERS, quiet), quiet, FitBudget()).strength
        > found
    )
    few = made(19)
    assert number_targets.tune_regression(Features(NUMBERS, few), few, FitBudget()) == FitBudget()


def test_words_say_numbers_too() -> None:
    samples = tuple(Sample(s.where, repr(float(s.label) * 10), s.text) for s in texts(90))
    shape = ColumnShape("text", "y", text="text", target="number")
    model = number_targets.fit_regression(Features(shape, samples), samples, FitBudget())
    assert np.abs(model.values(samples) - number_targets.number_targets_of(samples)).mean() < 2


def test_a_model_of_a_number_is_read_as_it_was_written(tmp_path) -> None:
    samples = made(50)
    model = fitted(samples)
    path = linear_models.write_linear_model(tmp_path / "a.safetensors", model, samples)
    again, _ = linear_models.read_linear_model(path)
    assert (again.values(samples) == model.values(samples)).all()
    assert again.classes == ()


def test_a_benchmark_of_one_value_says_nothing() -> None:
    tested = [Sample("a", "2.5", features=(1.0, 2.0, 3.0))] * 9
    with pytest.raises(SemError) as caught:
        number_targets.score_regression(fitted(made(50)), tested)
    assert caught.value.message == "every one of the 9 benchmark rows has the value 2.5"


def told(path: Path, labels: list[object]) -> str:
    files.write_rows(path, [{"a": n * 0.5, "label": y} for n, y in enumerate(labels)])
    return contribution.read_contribution(path, 1_000, 1).shape.target


@pytest.mark.parametrize(
    ("labels", "target"),
    [
        ([n / 3 for n in range(200)], "number"),
        ([str(n / 3) for n in range(200)], "number"),
        ([n % 51 for n in range(254)], "number"),
        ([n % 51 for n in range(255)], "classes"),  # 5 rows a value
        ([n % 50 for n in range(100)], "classes"),  # 50 values
        ([n / 3 for n in range(195)] + ["x"] * 5, "classes"),  # 97.5 % are numbers
        ([f"c{n}" for n in range(200)], "classes"),
    ],
)
def test_labels_are_a_number_where_they_are_many_and_few_of_each(tmp_path, labels, target) -> None:
    assert told(tmp_path / "a.jsonl", labels) == target


def test_the_target_can_be_said_and_what_is_no_number_is_counted(tmp_path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"a": n, "label": y} for n, y in enumerate([1, 2, 2.5, "x", "1e400", 1e200, None])]
    files.write_rows(path, rows)
    found = contribution.read_contribution(path, 10, 1, target="number")
    assert [one.label for one in found.samples] == ["1.0", "2.0", "2.5"]
    assert found.skipped == {"label_is_no_number": 3, "no_label": 1}
    assert contribution.read_contribution(path, 10, 1, target="classes").shape.target == "classes"
    assert len(contribution.read_contribution(path, 2, 1, target="number").samples) == 2


@pytest.fixture
def diabetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sem `it` of scikit-learn's diabetes: 40 base rows of noise, 200 given, 200 tested on."""
    monkeypatch.setenv("SEM_ROOT", str(tmp_path))
    data = load_diabetes(scaled=False)
    order = np.random.default_rng(7).permutation(len(data.target))
    rows = [
        dict(zip(data.feature_names, map(float, data.data[n]), strict=True))
        | {"target": float(data.target[n])}
        for n in order
    ]
    files.write_file(
        tmp_path / "configs" / "it" / "preview.yaml",
        "base: data/it/base.jsonl\nbenchmark: data/it/benchmark.jsonl\ntarget: number\n",
    )
    files.write_rows(tmp_path / "base.jsonl", rows[:40])
    files.write_rows(tmp_path / "data" / "it" / "base.jsonl", shuffled(rows[:40]))
    files.write_rows(tmp_path / "data" / "it" / "benchmark.jsonl", rows[40:240])
    files.write_rows(tmp_path / "good.jsonl", rows[240:440])
    files.write_rows(tmp_path / "shuffled.jsonl", shuffled(rows[240:440]))
    files.write_rows(tmp_path / "all.jsonl", rows)
    return tmp_path


def shuffled(rows: list[dict]) -> list[dict]:
    """Return `rows`, each with another's target."""
    order = np.random.default_rng(8).permutation(len(rows))
    return [
        row | {"target": rows[other]["target"]}
        for row, other in zip(rows, map(int, order), strict=True)
    ]


def shown(path: Path, capsys: pytest.CaptureFixture, *words: str) -> dict:
    load_jobs()["preview.run"].call(["--data-path", str(path), "--output-format", "json", *words])
    return json.loads(capsys.readouterr().out)


def test_real_rows_improve_a_base_of_noise_and_rows_of_noise_improve_no_base(
    diabetes, capsys
) -> None:
    good = shown(diabetes / "good.jsonl", capsys, "--sem", "it")
    found = good["estimate"]
    assert found["decision"] == "improves"
    assert found["primary_metric"] == "d2_absolute_error"
    missed = found["mean_absolute_error"]
    assert missed["gain"]["mean"] == pytest.approx(missed["baseline"] - missed["new"])
    assert missed["gain"]["ci95_low"] > 0
    assert found["measured"]["mean"] == pytest.approx(
        missed["gain"]["mean"] / missed["unit_of_a_point"]
    )
    assert set(good["delta_computation"]["metric_deltas"]) == {"d2_absolute_error", "r2"}
    assert found["comparators"]["absolute_error"]["family"] == "continuous"
    (diabetes / "base.jsonl").replace(diabetes / "data" / "it" / "base.jsonl")
    noise = shown(diabetes / "shuffled.jsonl", capsys, "--sem", "it")
    assert noise["estimate"]["decision"] == "does_not_improve"


def test_what_does_not_apply_to_a_number_is_said(diabetes, capsys) -> None:
    made = shown(diabetes / "all.jsonl", capsys)
    told = made["preview_metadata"]
    assert told["estimation_confidence"] is None
    assert told["estimation_confidence_reason"] == "not_fitted: the backtest was of classes"
    assert made["production_rule"]["accepted"] is False
    assert made["production_rule"]["reason"] == "metric_is_no_proportion"
    assert made["estimate"]["log_likelihood"] is None
    assert made["rows"]["gaps_filled"] is None
    assert made["estimate"]["notes"][-1] == (
        "numbers: values of rows, doubts of labels and gaps are of classes and do not apply"
    )
    assert made["baseline_model"]["model_type"] == "impute-scale-ridge.v1"
    assert all(math.isfinite(value) for value in made["new_model"]["metrics"].values())
    load_jobs()["preview.run"].call(["--data-path", str(diabetes / "all.jsonl"), "--verbose"])
    said = capsys.readouterr().out
    assert "production rule: not accepted: metric_is_no_proportion" in said
    assert "mean absolute error: " in said


def test_a_strict_document_of_a_number_is_refused_and_nothing_is_written(diabetes, capsys) -> None:
    before = sorted(diabetes.glob("*"))
    with pytest.raises(SemError) as caught:
        shown(
            diabetes / "all.jsonl",
            capsys,
            "--zk",
            str(diabetes / "zk.json"),
            "--output-file",
            str(diabetes / "out.json"),
        )
    assert caught.value.message == (
        "--zk: a strict document needs an accuracy, and numbers have none"
    )
    assert sorted(diabetes.glob("*")) == before


def test_a_model_of_classes_is_no_baseline_of_a_number(diabetes, capsys) -> None:
    path = diabetes / "new.safetensors"
    first = shown(diabetes / "good.jsonl", capsys, "--sem", "it", "--save-model", str(path))
    again = shown(diabetes / "good.jsonl", capsys, "--sem", "it", "--baseline-model", str(path))
    assert again["baseline_model"]["metrics"] == pytest.approx(first["new_model"]["metrics"])
    with pytest.raises(SemError) as caught:
        shown(
            diabetes / "good.jsonl",
            capsys,
            "--sem",
            "it",
            "--baseline-model",
            str(path),
            "--target",
            "classes",
        )
    assert caught.value.message == f"{path}: a model of a number, not of classes"

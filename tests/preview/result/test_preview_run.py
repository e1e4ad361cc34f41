"""From a file of a contributor to the document: the whole path, by the real command."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sem.core import files, schema
from sem.core.errors import SemError
from sem.core.project import ROOT
from sem.jobs import load_jobs
from sem.preview.linear import linear_models
from sem.preview.result import zk
from sem.preview.stats import decision

WORDS = {
    "pay": ["bill", "invoice", "amount", "due", "settle"],
    "fly": ["seat", "flight", "gate", "board", "luggage"],
    "eat": ["soup", "bread", "table", "menu", "waiter"],
}
OTHER = ["please", "the", "a", "now", "today", "my", "some", "it"]


def rows(count: int, seed: int, wrong: float = 0.0) -> list[dict]:
    rng, made = np.random.default_rng(seed), []
    names = sorted(WORDS)
    for number in range(count):
        label = names[number % 3]
        words = [*rng.choice(WORDS[label], 1), *rng.choice(OTHER, 4)]
        said = names[(number + 1) % 3] if rng.random() < wrong else label
        made.append({"text": f"{' '.join(words)} {number}", "label": said})
    return made


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sem called `it`: 9 base rows, a benchmark of 900."""
    monkeypatch.setenv("SEM_ROOT", str(tmp_path))
    monkeypatch.setattr(decision, "CURVE", tmp_path / "curve.json")
    (tmp_path / "configs" / "it" / "tasks").mkdir(parents=True)
    files.write_file(
        tmp_path / "configs" / "it" / "preview.yaml",
        "base: data/it/base.jsonl\nbenchmark: data/it/benchmark.jsonl\n",
    )
    files.write_rows(tmp_path / "data" / "it" / "base.jsonl", rows(9, 1))
    files.write_rows(tmp_path / "data" / "it" / "benchmark.jsonl", rows(900, 2))
    files.write_rows(tmp_path / "good.jsonl", rows(120, 3))
    return tmp_path


def shown(root: Path, capsys: pytest.CaptureFixture, *words: str, sem: bool = True) -> dict:
    argv = ["--data-path", str(root / "good.jsonl"), "--output-format", "json", *words]
    load_jobs()["preview.run"].call([*argv, *(["--sem", "it"] if sem else [])])
    return json.loads(capsys.readouterr().out)


def test_good_rows_improve_and_production_would_accept_them(root, capsys) -> None:
    made = shown(root, capsys)
    assert made["estimate"]["decision"] == "improves"
    assert made["estimate"]["percentage_points"]["ci95_low"] > 10
    rule = made["production_rule"]
    assert (rule["accepted"], rule["reason"], rule["n_current"]) == (True, "accepted", 900)
    assert rule["dataset_hash"].startswith("sha256:")
    assert rule["not_known"] == ["cooldown", "active_spec"]
    families = {n: one["family"] for n, one in made["estimate"]["comparators"].items()}
    assert families == {
        "accuracy": "proportion",
        "log_likelihood": "continuous",
        "rank_of_the_class": "rank_or_ordinal",
    }
    assert all(one["passed"] for one in made["estimate"]["comparators"].values())
    told = made["preview_metadata"]
    assert told["estimation_confidence"] is None
    assert told["estimation_confidence_reason"] == "not_fitted: curve.json is missing"


def test_wrong_rows_do_not_improve(root, capsys) -> None:
    files.write_rows(root / "good.jsonl", rows(120, 3, wrong=1.0))
    made = shown(root, capsys)
    assert made["estimate"]["decision"] == "does_not_improve"
    assert made["production_rule"]["reason"] == "delta_below_threshold"


def test_a_small_benchmark_is_no_ground_for_acceptance(root, capsys) -> None:
    files.write_rows(root / "data" / "it" / "benchmark.jsonl", rows(300, 2))
    assert shown(root, capsys)["production_rule"]["reason"] == "insufficient_samples"


def test_a_contribution_that_copies_the_benchmark_is_refused_and_never_accepted(
    root, capsys
) -> None:
    # The same document said `refused` and `accepted: true`, `improves`, with exit 0.
    files.write_rows(root / "good.jsonl", [*rows(120, 3), *rows(900, 2)[:30]])
    with pytest.raises(SemError, match="refused: benchmark_overlap_above_1_percent: ") as caught:
        shown(root, capsys, "--output-file", str(root / "told.json"), "--zk", str(root / "z.json"))
    made = files.read_json(root / "told.json")
    leaks = made["estimate"]["in_benchmark"]

    assert leaks["exact"] >= 30
    assert leaks["refused"] == "benchmark_overlap_above_1_percent"
    assert made["rows"]["reasons"]["in_benchmark"] == leaks["exact"] + leaks["near"]
    assert made["estimate"]["decision"] == "refused"
    assert made["estimate"]["size"] == {"told": False, "reason": "the contribution is refused"}
    rule = made["production_rule"]
    assert (rule["accepted"], rule["reason"]) == (False, leaks["refused"])
    assert not (root / "z.json").exists()
    assert "z.json was not written" in caught.value.message

    with pytest.raises(SemError):
        load_jobs()["preview.run"].call(["--data-path", str(root / "good.jsonl"), "--sem", "it"])
    said = capsys.readouterr().out
    assert "it is refused: benchmark_overlap_above_1_percent: " in said
    assert "production rule: not accepted: benchmark_overlap_above_1_percent" in said


def test_near_copies_of_the_benchmark_alone_are_refused(root, capsys) -> None:
    copies = [row | {"text": f"{row['text']} ok"} for row in rows(900, 2)[:30]]
    files.write_rows(root / "good.jsonl", [*rows(120, 3), *copies])
    with pytest.raises(SemError, match="refused: benchmark_overlap_above_1_percent: "):
        shown(root, capsys, "--output-file", str(root / "told.json"))
    made = files.read_json(root / "told.json")

    leaks = made["estimate"]["in_benchmark"]
    assert leaks["exact"] == 0
    assert leaks["near"] >= 30
    assert made["estimate"]["decision"] == "refused"
    assert made["production_rule"]["accepted"] is False


def test_a_sample_is_extrapolated_to_the_whole_contribution(root, capsys) -> None:
    made = shown(root, capsys, "--sample-size", "40")
    found = made["estimate"]
    assert (found["measured"]["rows"], found["expected"]["rows"]) == (40, 120)
    assert found["expected"]["mean"] >= found["measured"]["mean"]
    width = [
        found[name]["ci95_high"] - found[name]["ci95_low"] for name in ("measured", "expected")
    ]
    assert width[1] > width[0]


def test_the_same_question_is_answered_once(root, capsys) -> None:
    first = shown(root, capsys)
    kept = sorted((root / "data" / "it" / ".preview").iterdir())
    assert [path.suffix for path in kept] in ([".json", ".safetensors"], [".safetensors", ".json"])
    load_jobs()["preview.run"].call(["--data-path", str(root / "good.jsonl"), "--sem", "it"])
    assert "cached: " in capsys.readouterr().err
    again = shown(root, capsys)
    assert again["preview_metadata"].pop("cached") is True
    assert first["preview_metadata"].pop("cached") is False
    assert again == first


@pytest.mark.parametrize("change", ["data", "base", "benchmark", "seed", "damage"])
def test_another_question_is_not(root, capsys, change) -> None:
    shown(root, capsys)
    words: list[str] = []
    if change == "data":
        files.write_rows(root / "good.jsonl", rows(121, 3))
    elif change == "seed":
        words = ["--random-seed", "7"]
    elif change == "damage":
        next((root / "data" / "it" / ".preview").glob("*.json")).write_text('{"a": 1}')
    else:
        files.write_rows(root / "data" / "it" / f"{change}.jsonl", rows(300, 9))
    assert shown(root, capsys, *words)["preview_metadata"]["cached"] is False


def test_a_kept_baseline_gives_the_same_result(root, capsys) -> None:
    first = shown(root, capsys)
    next((root / "data" / "it" / ".preview").glob("*.json")).unlink()
    again = shown(root, capsys)
    assert again["delta_computation"] == first["delta_computation"]


def test_without_a_sem_nothing_is_kept(root, capsys) -> None:
    before = sorted(root.rglob("*"))
    assert shown(root, capsys, sem=False)["evaluation_metadata"]["benchmark_dataset"]["size"] > 10
    assert sorted(root.rglob("*")) == before


def test_the_model_of_one_round_is_the_baseline_of_the_next(root, capsys) -> None:
    path = root / "new.safetensors"
    first = shown(root, capsys, "--save-model", str(path))
    again = shown(root, capsys, "--baseline-model", str(path))
    assert again["baseline_model"]["metrics"] == pytest.approx(first["new_model"]["metrics"])
    assert again["estimate"]["notes"][-1].startswith("baseline_model: it has learnt from other")
    files.write_rows(root / "data" / "it" / "base.jsonl", [*rows(9, 1), *rows(120, 3)])
    files.write_rows(root / "good.jsonl", rows(60, 4))
    next_round = shown(root, capsys, "--baseline-model", str(path))
    assert not any("baseline_model" in note for note in next_round["estimate"]["notes"])


def test_a_model_of_numbers_is_no_baseline_for_texts(root, capsys) -> None:
    from tests.preview.contribution.test_encoders import table
    from tests.preview.linear.test_linear_models import fitted

    samples = table(40)
    path = linear_models.write_linear_model(root / "numbers.safetensors", fitted(samples), samples)
    with pytest.raises(SemError) as caught:
        shown(root, capsys, "--baseline-model", str(path))
    assert caught.value.message == (f"{path}: a model of table, 4 numbers a row, not of text, 0")


def test_a_baseline_without_a_sem_is_refused(root, capsys) -> None:
    with pytest.raises(SemError) as caught:
        shown(root, capsys, "--baseline-model", "x", sem=False)
    assert caught.value.message == (
        "--baseline-model without --sem: what it was trained on is not known"
    )


def test_the_strict_document_fits_its_schema_and_proves_itself(root, capsys) -> None:
    shown(root, capsys, "--zk", str(root / "zk.json"))
    made = files.read_json(root / "zk.json")
    assert zk.zk_problems(made) == []
    assert zk.is_proven(made)


def test_older_readers_find_their_fields(root, capsys, shared) -> None:
    made = shown(root, capsys)
    legacy = files.read_json(shared / "compat" / "hokusai" / "outputs" / "preview_test.json")
    assert set(legacy) <= set(made)
    assert set(legacy["preview_metadata"]) <= set(made["preview_metadata"])
    delta = {"type": "object", "properties": {"improvement": {"type": "boolean"}}}
    for one in made["delta_computation"]["metric_deltas"].values():
        assert schema.schema_problems(one, delta) == []
    assert made["disclaimer"].startswith("PREVIEW - NON-BINDING ESTIMATE")


def test_a_linked_loop_is_one_line(root, capsys) -> None:
    path = root / "loop.jsonl"
    path.symlink_to(path.name)
    with pytest.raises(SemError, match="no such file"):
        load_jobs()["preview.run"].call(
            ["--data-path", str(path), "--output-file", str(root / "out.json")]
        )


@pytest.mark.parametrize("words", [["-m", "sem.preview"], [str(ROOT / "src/hokusai_preview.py")]])
def test_it_is_started_by_older_names(words: list[str], tmp_path: Path) -> None:
    argv = [sys.executable, *words, "--data-path", "nowhere.csv"]
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1
    assert "error: nowhere.csv: no such file" in done.stderr
    assert done.stdout == ""


def test_the_last_lines_say_that_it_is_done(root: Path, capsys) -> None:
    files.write_rows(root / "given.jsonl", rows(60, 3))
    load_jobs()["preview.run"].call(["--data-path", str(root / "given.jsonl"), "--test-mode"])
    *_, done, disclaimer = capsys.readouterr().out.strip().splitlines()
    assert done.startswith("Preview complete in ")
    assert disclaimer.startswith("PREVIEW - NON-BINDING ESTIMATE")

"""Sweeps: every point with every seed, chosen on val alone, going on after a kill."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import warm
from paths import ROOT
from toy import rows

from sem.core import files, settings
from sem.core.errors import SemError
from sem.core.project import Project
from sem.train.run import plan
from sem.train.sweep import search, sweep, sweep_points
from sem.train.sweep.search import Sweep
from sem.train.sweep.sweep_points import PointResult, PointRun, SweepTable

SWEEP = "metric: loss\nseeds: [1, 2]\nspace: {learning_rate: [1e-2, 1e-4], lora.rank: [2]}\n"
COMMAND = [sys.executable, str(ROOT / "scripts/train_sweep.py"), "--sem", "toy"]


@pytest.fixture
def project(toy: Path) -> Project:
    from sem.dataset.clean import clean
    from sem.dataset.split import snapshot

    files.write_file(toy / "configs/toy/sweep.yaml", SWEEP)
    made = Project.load("toy", ["train.val_answers=0", "train.max_steps=3"])
    clean.clean_store(made)
    snapshot.freeze_snapshot(made, plan.provenance.utc_now())
    return made


def table(*means: tuple[float, float], metric: str = "slot_f1") -> SweepTable:
    """Return a table of points a, b, … with the values of two seeds each."""
    tried = [
        PointResult(
            {"epochs": n}, "complete", (PointRun("r", 1, low, 2.0), PointRun("r", 2, high, 4.0))
        )
        for n, (low, high) in enumerate(means)
    ]
    return SweepTable(
        "toy", "x", Sweep({"epochs": [1]}, metric=metric), {"version": 1}, tuple(tried)
    )


def test_a_sweep_trains_every_point_with_every_seed(project) -> None:
    found, folder = sweep.run_sweep(project, None)
    assert [len(one.runs) for one in found.tried] == [2, 2]
    assert len(list(project.adapters.glob("*/manifest.json"))) == 4
    for one in found.tried:
        for made in one.runs:
            recorded = files.read_json(project.adapters / made.run / "run.json")
            assert recorded["sweep"] == found.name
            assert recorded["recipe"]["seed"] == made.seed
            assert recorded["recipe"]["learning_rate"] == one.point["learning_rate"]
            log = rows(project.adapters / made.run / "metrics.jsonl")
            assert made.value in [row["eval_loss"] for row in log if "eval_loss" in row]
    assert files.read_json(folder / "sweep.json")["part"] == "val"
    best = found.complete[0].point["learning_rate"]
    assert (folder / "best.yaml").read_text() == f"learning_rate: {best}\nlora:\n  rank: 2\n"
    whole = (folder / "sweep.json").read_bytes()
    # The same again trains nothing.
    assert sweep.run_sweep(project, None)[1] == folder
    assert (folder / "sweep.json").read_bytes() == whole
    assert len(list(project.adapters.glob("*/run.json"))) == 4


@pytest.mark.slow
def test_rows_of_test_are_never_read(project) -> None:
    # The rows of test are noise under a true hash: whoever read one would stop or differ.
    _, folder = sweep.run_sweep(project, None)
    whole = files.read_json(folder / "sweep.json")["points"]
    path, facts = project.processed / "test.v1.jsonl", project.processed / "v1.json"
    for each in (path, facts):
        each.chmod(0o644)
    path.write_bytes(b"\x00 no row \xff\n")
    told = json.loads(facts.read_text())
    old = {"test": told["sha256"]["test"], "facts": files.sha256_file(facts)}
    new = {"test": files.sha256_file(path)}
    facts.write_text(facts.read_text().replace(old["test"], new["test"]))
    new["facts"] = files.sha256_file(facts)
    ledger = project.ledger.read_text()
    for name, digest in old.items():
        ledger = ledger.replace(digest, new[name])
    project.ledger.write_text(ledger)
    second, other = sweep.run_sweep(project, None)
    # Another snapshot by its hash: everything was trained again.
    assert other != folder
    assert [one["set"] for one in whole] == [one.point for one in second.complete]
    values = [[run["value"] for run in one["runs"]] for one in whole]
    assert values == [one.values for one in second.complete]


@pytest.mark.slow
def test_a_killed_sweep_goes_on_and_ends_the_same(project) -> None:
    given = ["--set=train.val_answers=0", "--set=train.max_steps=3"]
    with warm.Popen([*COMMAND, *given], start_new_session=True) as process:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not list(project.adapters.glob("*/checkpoint-3/m*")):
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
    (folder,) = (project.adapters.parent / "sweeps").iterdir()
    with (folder / "journal.log").open("ab") as journal:
        # Half a line, and the lock of a killed writer.
        journal.write(b'{"op_code":4,"wor')
    Path(f"{folder}/journal.log.lock").touch()
    warm.run([*COMMAND, *given], check=True, timeout=200)
    killed = [one["runs"] for one in files.read_json(folder / "sweep.json")["points"]]
    assert [len(one) for one in killed] == [2, 2]
    assert len(list(project.adapters.glob("*/run.json"))) == 4


@pytest.mark.slow
def test_val_loss_compares_points_that_weigh_tokens_differently(project) -> None:
    # The adapter begins as no change and hardly learns: the model is the same at every point.
    said = "metric: loss\nseeds: [1, 2]\nspace: {loss.value: [1, 9], learning_rate: [1e-12]}\n"
    files.write_file(project.configs / "sweep.yaml", said)
    found, _ = sweep.run_sweep(project, None)
    values = [value for one in found.tried for value in one.values]
    assert values == pytest.approx([values[0]] * 4, abs=1e-5)


def test_a_point_that_cannot_be_trained_is_left_out_and_said(project) -> None:
    said = "metric: loss\nseeds: [1, 2]\nspace: {max_tokens: [9, 2048]}\n"
    files.write_file(project.configs / "sweep.yaml", said)
    found, _ = sweep.run_sweep(project, None)
    (failed,) = found.rest
    assert failed.point == {"max_tokens": 9}
    assert failed.state == "failed"
    assert failed.reason
    assert sweep_points.point_rows(found)[-1][:2] == ("max_tokens=9", "-")


def test_tpe_asks_for_the_same_points_when_it_is_begun_again(tmp_path) -> None:
    space = {"learning_rate": search.Range(1e-5, 1e-2, log=True), "lora.rank": [4, 8]}
    wanted = Sweep(space, "tpe", points=6)

    def tried(journal: Path, most: int) -> list[dict]:
        found = []
        for asked in search.propose_points(wanted, journal):
            found.append(asked.point)
            if len(found) > most:
                # The point under way is lost with its process.
                return found
            asked.tell(-asked.point["learning_rate"], "complete")
        return found

    whole = tried(tmp_path / "a.log", 99)
    cut = tried(tmp_path / "b.log", 2)
    assert len(whole) == 6
    assert cut[:2] + tried(tmp_path / "b.log", 99) == whole


def test_a_point_below_the_median_of_first_seeds_is_pruned(tmp_path) -> None:
    wanted = Sweep({"epochs": [1, 2, 3, 4, 5]}, prune=True)
    hopeless = {}
    for asked in search.propose_points(wanted, tmp_path / "j.log"):
        value = {1: 0.5, 2: 0.6, 3: 0.7, 4: 0.1, 5: 0.9}[asked.point["epochs"]]
        hopeless[asked.point["epochs"]] = asked.is_hopeless(value)
        asked.tell(value, "pruned" if hopeless[asked.point["epochs"]] else "complete")
    assert hopeless == {1: False, 2: False, 3: False, 4: True, 5: False}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("space: {lerning_rate: [1]}", "unknown key 'lerning_rate'"),
        ("space: {learning_rate: [7]}", "learning_rate 7"),
        ("seeds: [1]\nspace: {epochs: [1]}", "seeds [1]"),
        ("space: {seed: [1, 2]}", "space: seed cannot be searched"),
        ("space: {}", "space: nothing to try"),
        ("split: test\nspace: {epochs: [1]}", "unknown key 'split'"),
    ],
)
def test_a_wrong_sweep_is_refused_before_anything_is_trained(toy, text, said) -> None:
    files.write_file(toy / "configs/toy/sweep.yaml", text)
    with pytest.raises(SemError) as caught:
        sweep.load_sweep(Project.load("toy"))
    assert said in caught.value.message


def test_a_grid_that_is_too_large_or_has_a_range_is_refused() -> None:
    with pytest.raises(SemError, match="the grid has 4 points, points allows 3"):
        Sweep({"epochs": [1, 2], "lora.rank": [4, 8]}, points=3).grid()
    with pytest.raises(SemError, match=r"space\.epochs: a range in a grid"):
        Sweep({"epochs": search.Range(1, 2)}).grid()


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            table((0.5, 0.6), (0.8, 0.9)),
            "epochs=1 is beyond the spread of the second, epochs=0: every one of its 2 seeds "
            "is better than all of the other's.",
        ),
        (
            table((0.5, 0.85), (0.8, 0.9)),
            "No difference shown: over 2 seeds the values of epochs=1 overlap with those of 1 "
            "other points (epochs=0).",
        ),
        (
            table((0.5, 0.6), (0.8, 0.9), metric="loss"),
            "epochs=0 is beyond the spread of the second, epochs=1: every one of its 2 seeds "
            "is better than all of the other's.",
        ),
    ],
)
def test_the_verdict_says_whether_the_best_stands_out(made, said) -> None:
    assert sweep_points.describe_best_point(made) == said


def test_the_winner_can_be_pasted_into_train_yaml() -> None:
    text = sweep_points.point_yaml({"lora.rank": 8, "lora.rslora": True, "schedule": "linear"})
    assert text == 'lora:\n  rank: 8\n  rslora: true\nschedule: "linear"\n'
    assert settings.parse_yaml(text, "x") == {
        "lora": {"rank": 8, "rslora": True},
        "schedule": "linear",
    }


def test_the_shipped_sweep_is_one_that_works() -> None:
    assert len(sweep.load_sweep(Project.load("demo")).grid()) == 6

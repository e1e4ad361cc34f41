"""A begun run goes on with what may soundly change; the rest is refused and nothing is written."""

import pytest
from toy import rows

from sem.core.errors import SemError
from sem.train.engine import trainer
from sem.train.run import plan, updates


def test_a_longer_run_goes_on_where_the_shorter_one_stopped(trained_toy) -> None:
    project, made = trained_toy(stop_after=6)
    changed = updates.apply_updates(
        made, ["train.epochs=2", "train.log_steps=2", "train.epochs=2"]
    )
    assert changed == [("epochs", 1.0, 2), ("log_steps", 1, 2), ("epochs", 1.0, 2)]
    assert made.plan()["updates"][0] | {"at": ""} == {
        "at": "",
        "after_step": 6,
        "set": {"epochs": 2, "log_steps": 2},
    }
    result = plan.train_prepared(project, made, resume=True)
    assert result["resumed_from"] == "checkpoint-6"
    assert result["steps"] == 18
    steps = [row["step"] for row in rows(made.folder / "metrics.jsonl") if "loss" in row]
    assert steps == [1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 18]


def test_a_new_learning_rate_is_used_at_once(trained_toy) -> None:
    project, made = trained_toy(stop_after=3)
    updates.apply_updates(made, ["train.learning_rate=2e-3"])
    plan.train_prepared(project, made, resume=True)
    found = rows(made.folder / "metrics.jsonl")
    rates = {row["step"]: row["learning_rate"] for row in found if "learning_rate" in row}
    assert rates[3] > 6e-3
    # The stock trainer goes on with the rate that is in scheduler.pt.
    assert rates[4] < 2e-3


def test_a_decay_that_was_none_is_used(trained_toy, monkeypatch) -> None:
    project, made = trained_toy(stop_after=3)
    updates.apply_updates(made, ["train.weight_decay=0.25"])
    usual, seen = trainer._set_rates, []

    def look(given) -> None:
        usual(given)
        seen.append([group["weight_decay"] for group in given.optimizer.param_groups])

    monkeypatch.setattr(trainer, "_set_rates", look)
    plan.train_prepared(project, made, resume=True)
    assert seen == [[0.25, 0.0]]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("train.seed=1", r"train\.seed cannot change in a run that has begun"),
        ("train.lora.rank=8", r"train\.lora\.rank cannot change"),
        ("train.effective_batch=8", r"train\.effective_batch cannot change"),
        ("train.preference.method=dpo", r"train\.preference\.method cannot change"),
        ("eval.batch=2", r"--set 'eval\.batch=2': not a key of train\.yaml"),
        ("train.micro_batch=3", "effective_batch 4 is not a multiple of micro_batch 3"),
        ("train.epoch=3", r"train\.epoch cannot change|epochs"),
    ],
)
def test_what_is_not_sound_is_refused_and_nothing_is_written(prepared_toy, given, said) -> None:
    _, made = prepared_toy
    before = (made.folder / "run.json").read_bytes()
    with pytest.raises(SemError, match=said):
        updates.apply_updates(made, ["train.epochs=2", given])
    assert (made.folder / "run.json").read_bytes() == before

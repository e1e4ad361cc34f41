"""What goes wrong while training: memory, disk, signals, numbers. Nothing is lost or silent."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
import warm
from paths import ROOT
from toy import rows

from sem.core import files
from sem.core.errors import SemError
from sem.core.project import Project
from sem.train.engine import checkpoints, trainer
from sem.train.recipe import Lora
from sem.train.run import memory, plan


def sha(made) -> str:
    return files.sha256_file(made.adapter / "adapter_model.safetensors")


def test_out_of_memory_halves_the_micro_batch_not_the_step(prepared_toy, monkeypatch, capsys):
    project, made = prepared_toy
    usual, sizes = trainer.losses.answer_loss, []

    def hungry(model, inputs, *more):
        sizes.append(len(inputs["input_ids"]))
        if len(inputs["input_ids"]) > 1 and len(sizes) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return usual(model, inputs, *more)

    monkeypatch.setitem(trainer.losses.LOSSES, "answer", hungry)
    result = plan.train_prepared(project, made, resume=False)
    assert (result["micro_batch"], result["halved"]) == (1, 1)
    assert result["steps"] == 9
    assert result["resumed_from"] == "checkpoint-3"
    assert "out of memory with micro_batch 2: going on with 1, effective_batch stays 4" in (
        capsys.readouterr().err
    )


def test_out_of_memory_at_one_row_says_what_to_do(prepared_toy, monkeypatch) -> None:
    project, made = prepared_toy

    def never(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")

    monkeypatch.setitem(trainer.losses.LOSSES, "answer", never)
    with pytest.raises(SemError, match="out of memory with micro_batch 1"):
        plan.train_prepared(project, made, resume=False)
    assert not made.is_finished


def test_other_errors_are_not_taken_for_memory(prepared_toy, monkeypatch) -> None:
    project, made = prepared_toy

    def never(*_):
        raise RuntimeError("shape mismatch")

    monkeypatch.setitem(trainer.losses.LOSSES, "answer", never)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        plan.train_prepared(project, made, resume=False)


def test_a_nan_loss_stops_at_its_step_and_names_the_examples(prepared_toy, monkeypatch) -> None:
    project, made = prepared_toy
    usual, calls = trainer.losses.answer_loss, []

    def poisoned(model, inputs, *more):
        calls.append(1)
        return usual(model, inputs, *more) * (float("nan") if len(calls) == 9 else 1.0)

    monkeypatch.setitem(trainer.losses.LOSSES, "answer", poisoned)
    with pytest.raises(SemError, match=r"step 5: loss is nan on p\d\d-\d, p\d\d-\d"):
        plan.train_prepared(project, made, resume=False)
    assert not made.adapter.exists()
    assert checkpoints.newest_checkpoint(made.folder).name == "checkpoint-3"


def test_an_infinite_gradient_stops_before_it_reaches_the_weights(prepared_toy, monkeypatch):
    project, made = prepared_toy
    usual = trainer.losses.answer_loss
    monkeypatch.setitem(
        trainer.losses.LOSSES, "answer", lambda *given: usual(*given) * torch.tensor(1e30) ** 1.2
    )
    with pytest.raises(SemError, match=r"step 1: (loss|the gradient's norm) is (inf|nan)"):
        plan.train_prepared(project, made, resume=False)
    assert not made.adapter.exists()


def test_a_full_disk_is_said_and_the_run_goes_on_later(prepared_toy, monkeypatch) -> None:
    project, made = prepared_toy
    usual = torch.save

    def full(value, path, *more, **words):
        if "checkpoint-6" in str(path):
            with open(path, "wb") as file:
                file.write(b"torn")
            raise OSError(28, "No space left on device", str(path))
        return usual(value, path, *more, **words)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(SemError, match="checkpoint-6 was not written: .*No space left"):
            plan.train_prepared(project, made, resume=False)
    assert not (made.folder / "checkpoint-6").exists()
    assert plan.train_prepared(project, made, resume=True)["resumed_from"] == "checkpoint-3"


@pytest.mark.slow
def test_a_signal_leaves_a_checkpoint_and_its_own_exit_code(cut_toy) -> None:
    made = plan.prepare_training(
        Project.load("toy", ["train.epochs=6", "train.checkpoint_steps=50"]), None
    )
    plan.train_prepared(cut_toy, made, resume=False)
    whole = sha(made)
    (made.folder / "manifest.json").unlink()
    for path in [*made.folder.glob("checkpoint-*"), made.folder / "metrics.jsonl"]:
        subprocess.run(["rm", "-r", str(path)], check=True)
    command = [sys.executable, str(ROOT / "scripts/train_run.py"), "--sem", "toy", "--resume"]

    last = 0
    for kind, code in ((signal.SIGTERM, 75), (signal.SIGINT, 130)):
        with warm.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline and steps_in(made) <= last:
                time.sleep(0.02)
            os.kill(process.pid, kind)
            said = process.communicate(timeout=60)[1]
        assert process.returncode == code, said
        assert not made.is_finished
        left = checkpoints.newest_checkpoint(made.folder)
        assert left.name not in ("checkpoint-50", "checkpoint-54")
        last = int(left.name.partition("-")[2])

    assert plan.train_prepared(cut_toy, made, resume=True)["resumed_from"] == left.name
    assert sha(made) == whole
    steps = [row["step"] for row in rows(made.folder / "metrics.jsonl") if "loss" in row]
    assert steps == list(range(1, 55))


def steps_in(made) -> int:
    """Return the last step that the metrics of a run tell of; 0 without any."""
    path = made.folder / "metrics.jsonl"
    lines = path.read_text().splitlines()[:-1] if path.exists() else []
    return max((json.loads(line).get("step", 0) for line in lines), default=0)


def test_two_starts_of_one_run_are_one_run(prepared_toy) -> None:
    project, made = prepared_toy
    path = made.folder.parent / f".{made.id}.lock"
    with files.lock_file(path, "held"), pytest.raises(SemError, match="run"):
        plan.train_prepared(project, made, resume=False)


def test_the_forecast_grows_with_what_costs_memory(cut_toy, tiny_model) -> None:
    job = plan.load_training_job(cut_toy, plan.prepare_training(cut_toy, None))

    def total(**changes) -> float:
        recipe = replace(job.recipe, **changes)
        return memory.forecast_memory(recipe, tiny_model, "bfloat16", "cpu", job.stages).total

    usual = total()
    assert total(micro_batch=4) > usual
    assert total(method="full", lora=Lora()) > usual
    assert total(gradient_checkpointing=True) < usual
    assert memory.count_parameters(tiny_model) == sum(
        p.numel() for p in trainer.adapters.models.load_model(tiny_model, "float32").parameters()
    )


@pytest.mark.parametrize(
    ("card", "gib", "limit"),
    [
        ("NVIDIA GeForce RTX 4090", 23.6, 22.0),
        ("NVIDIA A100-SXM4-80GB", 79.2, 79.2),
        ("NVIDIA H200", 139.8, 139.8),
        # It is the memory that counts: this card got 22 of its 16 for its name.
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 15.99, 15.99),
        ("NVIDIA GeForce RTX 4090 D", 23.6, 22.0),
        ("NVIDIA GeForce RTX 3090", 23.7, 22.0),
        ("NVIDIA L4", 22.0, 22.0),
        ("Tesla T4", 14.6, 14.6),
        ("NVIDIA L40S", 44.5, 44.5),
        ("NVIDIA GeForce RTX 5090", 31.4, 31.4),
    ],
)
def test_a_card_of_24_gib_is_held_to_22_and_others_to_nothing(card, gib, limit) -> None:
    from sem.lm.local.hardware import Hardware
    from sem.train.recipe import Checks, Recipe

    machine = Hardware("cuda", card, gib, 8, "bfloat16")
    assert memory.memory_limit_gib(Recipe(), machine) == limit
    assert memory.memory_limit_gib(Recipe(checks=Checks(memory_gib=10.0)), machine) == 10.0

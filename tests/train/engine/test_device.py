"""A run is prepared for the machine that will train it, also on another one."""

import pytest

from sem.core.errors import SemError
from sem.lm.local import hardware
from sem.train.engine import engines
from sem.train.recipe import Recipe
from sem.train.run import plan


@pytest.mark.parametrize(("text", "gib"), [("cuda", 24.0), ("cuda:80", 80.0), ("cuda:8", 8.0)])
def test_a_gpu_elsewhere_is_described(text, gib) -> None:
    found = hardware.parse_device(text)
    assert (found.device, found.memory_gib, found.dtype) == ("cuda", gib, "bfloat16")
    assert not found.is_here


@pytest.mark.parametrize("text", ["", "gpu", "cuda:", "cuda:0", "cuda:-1", "cuda:24gb", "cpu:8"])
def test_a_device_that_is_none_is_refused(text) -> None:
    with pytest.raises(SemError) as caught:
        hardware.parse_device(text)
    assert caught.value.message == f"--device {text!r} is unknown"
    assert caught.value.hint == "write cpu, cuda, or cuda:24 for a GPU of 24 GiB"


def test_this_processor_may_be_named() -> None:
    assert hardware.parse_device("cpu").device == "cpu"
    assert hardware.parse_device("cpu").is_here


@pytest.mark.parametrize(
    ("text", "gib"), [("cuda", 22.0), ("cuda:24", 22.0), ("cuda:16", 16.0), ("cuda:80", 80.0)]
)
def test_a_gpu_elsewhere_gives_what_the_same_card_here_does(cut_toy, text, gib) -> None:
    # Before: cuda:24 was checked against 24.0 GiB, the 22 came with the name of a card.
    made = plan.prepare_training(cut_toy, None, machine=hardware.parse_device(text))
    checks = {each["name"]: each["found"] for each in made.plan()["preflight"]}
    assert checks["memory"].endswith(f"at its peak, {gib} GiB may be used")


def test_a_run_for_a_gpu_is_prepared_here_and_refused_where_there_is_none(cut_toy) -> None:
    made = plan.prepare_training(cut_toy, None, machine=hardware.parse_device("cuda:24"))
    found = made.plan()
    assert (found["engine"], found["hardware"]["device"]) == ("unsloth", "cuda")
    assert found["hardware"]["name"] == "a GPU of 24 GiB on another machine"
    with pytest.raises(SemError, match=r"was prepared for a GPU, and this machine shows none"):
        plan.train_prepared(cut_toy, made, resume=False)
    assert not made.is_finished


def test_a_gpu_elsewhere_has_what_its_lock_holds(tiny_model) -> None:
    recipe = Recipe(load_in_4bit=True)
    assert engines.choose_engine(recipe, hardware.parse_device("cuda"), tiny_model) == "unsloth"

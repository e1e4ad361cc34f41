"""Which engine trains a run: a table, one a backend."""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sem.core import files
from sem.core.errors import SemError
from sem.lm.local.hardware import Hardware
from sem.train.recipe import Recipe
from sem.train.rows.stages import TrainingJob

Engine = Callable[[TrainingJob, bool], dict[str, Any]]
# Engine -> the module that trains with it. Encoder-decoders load and train as others do; only
# which class of model is loaded differs, and that is the base's own matter.
BACKENDS = {"trl": "backend_trl", "unsloth": "backend_unsloth", "seq2seq": "backend_trl"}
ENGINES = tuple(BACKENDS)


def choose_engine(recipe: Recipe, machine: Hardware, base: Path) -> str:
    """Return the recipe's own word, or what fits base model and machine.

    Raise SemError if it cannot.
    """
    encodes = bool(files.read_object(base / "config.json").get("is_encoder_decoder"))
    fits = "seq2seq" if encodes else "trl"
    if recipe.engine == "auto":
        unsloth = machine.device == "cuda" and not encodes and _has(machine, "unsloth")
        fits = "unsloth" if unsloth else fits
    elif (recipe.engine == "seq2seq") != encodes:
        kind = "an encoder-decoder" if encodes else "a causal model"
        raise SemError(f"engine: {recipe.engine} does not train {kind}", f"use engine: {fits}")
    else:
        fits = recipe.engine
    if recipe.load_in_4bit and (machine.device != "cuda" or not _has(machine, "bitsandbytes")):
        raise SemError(
            f"load_in_4bit needs a GPU and bitsandbytes; this is {machine.name}",
            "leave it out here: LoRA over a bf16 base learns the same",
        )
    if recipe.load_in_4bit and machine.dtype != "bfloat16":
        # TRL trains a quantised model's adapter in bf16; in fp32 the first product is an error.
        raise SemError(
            f"load_in_4bit computes in bf16, which {machine.name} does not have",
            "leave it out here, or take a card with bf16 (Ampere, MI200 or newer)",
        )
    if encodes and recipe.preference.method != "none":
        raise SemError("preference training needs a causal model", "set preference.method: none")
    return fits


def _has(machine: Hardware, package: str) -> bool:
    # A host's environment comes from requirements-gpu.lock, which holds both that are asked for.
    return not machine.is_here or find_spec(package) is not None


def load_engine(name: str) -> Engine:
    """Return the engine called `name`; what must be imported before all else is."""
    module = import_module(f"sem.train.engine.{BACKENDS[name]}")
    if name == "unsloth":
        # Patches transformers and trl, which loading a job imports.
        module.library()
    return module.train

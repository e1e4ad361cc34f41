"""Our trainer against a plain TRL SFTTrainer: same rows, model, machine, loss; in turns.

    python benchmarks/speed/train_speed.py --sem demo --base gemma-3-270m --examples 24 --rounds 2
    python benchmarks/speed/train_speed.py --sem demo --base gemma-3-270m --long

All train LoRA r 16 on all linear layers, completion-only loss, the same optimizer steps, each in a
process of its own, --epochs times over the rows: the first epoch compiles kernels and is shown
apart, the best of the others counts. CPU seconds say more than seconds where others share the
cores. `TRL` is TRL's defaults (chunked head, gradient checkpointing, bf16 autocast over fp32
weights, rows in random order); `TRL tuned` has gradient checkpointing off and bf16 weights.
--long: two steps on one row of 2,048 tokens, for peak memory. Compiled code starts from an empty
cache in round 1 and comes from it in later ones, as on a user's machine.

Writes  benchmarks/results/train_speed_SEM_BASE.md, with --long train_memory_BASE.md
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from sem.core import console, files
from sem.core.project import Project
from sem.core.run import Run
from sem.jobs.job import add_shared_flags

HERE = Path(__file__).resolve().parent
LONG = 2048
# Tokens of the long row that are trained.
LABELLED = 240


@dataclass(frozen=True)
class Timed:
    """The fastest epoch after the first of one trainer, and all that came before it."""

    wall: float
    cpu: float
    # Seconds of making it faster and of the first epoch, with all that compiles.
    start: float
    peak_gib: float
    first: float
    last: float


def main(argv: list[str] | None = None) -> None:
    parser = console.make_argument_parser(__doc__)
    add_shared_flags(parser, "sem", "set")
    parser.add_argument("--base", default="smollm2-135m-instruct", help="a folder of models/base")
    parser.add_argument("--examples", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--trainers", nargs="+", choices=TRAINERS, default=list(TRAINERS))
    parser.add_argument("--long", action="store_true", help="one row of 2,048 tokens, two steps")
    parser.add_argument("--one", choices=[*TRAINERS, "floor"], help="used by this script itself")
    args = parser.parse_args(argv)
    if args.one:
        job = prepared(args, Path(tempfile.mkdtemp()))
        found = floor(job) if args.one == "floor" else asdict(TRAINERS[args.one](job))
        print(json.dumps(found))
        return
    runs: dict[str, list[Timed]] = {name: [] for name in args.trainers}
    with tempfile.TemporaryDirectory() as cache:
        for _ in range(args.rounds):
            for name in args.trainers:
                runs[name].append(Timed(**child(args, name, cache)))
                console.print_note(f"{name}: {runs[name][-1]}")
        limits = child(args, "floor", cache)
    console.print_output_path(write(args, runs, limits))


def child(args: Namespace, name: str, cache: str) -> dict[str, Any]:
    """Return what this script prints for trainer `name` in a process of its own."""
    command = [sys.executable, __file__, "--sem", args.sem, "--base", args.base, "--one", name]
    command += ["--examples", str(args.examples), "--epochs", str(args.epochs)]
    command += [*(["--long"] if args.long else [])]
    command += [word for each in args.set for word in ("--set", each)]
    env = os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache}
    done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def prepared(args: Namespace, folder: Path) -> Any:
    """Return a job over the chosen rows, every trained token counting 1."""
    from sem.core import slotspec
    from sem.dataset.split import snapshot
    from sem.eval.config import EvalSettings
    from sem.lm.local import chat, hardware
    from sem.train.recipe import LossWeights, Recipe
    from sem.train.rows import parts, stages

    project = Project.load(args.sem, [*args.set, f"train.max_train_examples={args.examples}"])
    size = {"effective_batch": 1, "micro_batch": 1} if args.long else {}
    recipe = replace(
        project.settings("train", Recipe),
        epochs=args.epochs,
        checkpoint_steps=10_000,
        log_steps=1,
        loss=LossWeights(),
        **size,
    )
    base, machine = project.root / "models" / "base" / args.base, hardware.detect_hardware()
    speaker = chat.load_chat(base)
    found = parts.load_parts(
        project, snapshot.load_snapshot(project, None), project.tasks, speaker, recipe
    )
    rows = found.rows if not args.long else replace(found.rows, kept=(long_row(found.rows),) * 2)
    none = replace(found.rows, kept=())
    stage = stages.Stage(
        stages.EXAMPLES, "answer", rows, none, recipe.learning_rate, recipe.epochs
    )
    return stages.TrainingJob(
        run=Run("benchmark", folder),
        recipe=recipe,
        base=base,
        dtype=machine.dtype,
        device=machine.device,
        chat=speaker,
        stages=(stage,),
        tasks=project.tasks,
        slots=slotspec.load_slot_levels(project.root / "configs" / "judge_slots.yaml"),
        answering=project.settings("eval", EvalSettings),
        val_examples=tuple(found.val_examples),
    )


def long_row(rows: Any) -> Any:
    """Return the rows one after the other, cut at 2,048 tokens."""
    ids = [token for row in rows.kept for token in row.ids][:LONG]
    return replace(rows.kept[0], ids=tuple(ids), prompt=len(ids) - LABELLED, weights=None)


def ours(job: Any, fast: bool = True) -> Timed:
    """This project's trainer; its parts compiled as in a run that is worth it."""
    from transformers import set_seed

    from sem.lm.local import model as models
    from sem.train.engine import adapters, trainer
    from sem.train.fast import layers

    set_seed(1)
    model = adapters.prepare_trainable_model(
        models.load_model(job.base, job.dtype, job.device), job.recipe
    )
    before = clock()
    if fast:
        layers.speed_up(model, layers.COMPILES_FROM)
    spent = [now - then for now, then in zip(clock(), before, strict=True)]
    return timed(trainer.build_trainer(job, job.stages[0], model, []), spent)


def ours_plain(job: Any) -> Timed:
    """Return the same with `fast: false`."""
    return ours(job, fast=False)


def peer(job: Any) -> Timed:
    """TRL as it comes."""
    return stock(job, {}, "float32")


def peer_tuned(job: Any) -> Timed:
    """TRL with gradient checkpointing off over bf16 weights."""
    return stock(job, {"gradient_checkpointing": False}, "bfloat16")


def stock(job: Any, options: dict[str, Any], dtype: str) -> Timed:
    """Return a stock SFTTrainer over the same token rows, timed."""
    from transformers import AutoModelForCausalLM, set_seed

    from sem.train.engine.adapters import lora_config

    set_seed(1)
    model = AutoModelForCausalLM.from_pretrained(job.base, dtype=dtype)
    options = options | {"use_cpu": job.device == "cpu"}
    return timed(stock_trainer(job, model, options, lora_config(job.recipe, model)), [0.0, 0.0])


def stock_trainer(job: Any, model: Any, options: dict[str, Any], peft: Any = None) -> Any:
    """TRL's SFTTrainer over `model` and `job`'s token rows, with `job`'s recipe and `options`."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    recipe = job.recipe
    rows = [
        {"input_ids": list(r.ids), "labels": [-100] * r.prompt + list(r.ids[r.prompt :])}
        for r in job.stages[0].rows.kept
    ]
    args = SFTConfig(
        output_dir=str(job.folder),
        num_train_epochs=recipe.epochs,
        learning_rate=recipe.learning_rate,
        per_device_train_batch_size=recipe.micro_batch,
        gradient_accumulation_steps=recipe.effective_batch // recipe.micro_batch,
        lr_scheduler_type=recipe.schedule,
        warmup_steps=round(recipe.warmup_ratio * job.stages[0].steps(recipe)),
        logging_steps=1,
        max_length=None,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        **options,
    )
    return SFTTrainer(
        model=model,
        args=args,
        train_dataset=Dataset.from_list(rows),
        processing_class=job.chat.tokenizer,
        peft_config=peft,
    )


def timed(trainer: Any, spent: list[float]) -> Timed:
    """`trainer`'s epochs; `spent`: seconds, wall and CPU, that making it faster took before."""
    from transformers import TrainerCallback

    ends = [clock()]

    class Clock(TrainerCallback):
        """The time at each epoch's end."""

        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            ends.append(clock())

    trainer.add_callback(Clock())
    trainer.train()
    walls, cpus = ([b[n] - a[n] for a, b in pairwise(ends)] for n in (0, 1))
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    start = spent[0] + walls[0]
    first, last = float(losses[0]), float(losses[-1])
    return Timed(min(walls[1:]), min(cpus[1:]), start, peak, first, last)


def clock() -> tuple[float, float]:
    """Seconds on the wall and of this process's threads."""
    return time.perf_counter(), time.process_time()


TRAINERS = {"ours": ours, "ours, fast: false": ours_plain, "TRL": peer, "TRL tuned": peer_tuned}


def operations(job: Any) -> dict[str, Any]:
    """Return the operations of the products that an epoch needs, its tokens and its rows.

    4 a weight and token (frozen weights have no gradient), 6 an adapter weight and
    token, 12 a query's width and attended pair, 4 a head weight and labelled token.
    """
    from transformers import AutoConfig

    shape, rows = AutoConfig.from_pretrained(job.base), job.stages[0].rows.kept
    wide, deep, mid = shape.hidden_size, shape.num_hidden_layers, shape.intermediate_size
    q, kv = (n * shape.head_dim for n in (shape.num_attention_heads, shape.num_key_value_heads))
    sides = [(wide, q), (wide, kv), (wide, kv), (q, wide), (wide, mid), (wide, mid), (mid, wide)]
    tokens = sum(row.length for row in rows)
    weights = deep * sum(a * b for a, b in sides) * 4
    adapter = deep * sum(a + b for a, b in sides) * job.recipe.lora.rank * 6
    pairs = sum(row.length**2 / 2 for row in rows) * deep * q * 6 * 2
    labels = sum(row.trained for row in rows) * shape.vocab_size * wide * 4
    flop = tokens * (weights + adapter) + pairs + labels
    return {"flop": flop, "tokens": tokens, "rows": len(rows)}


def floor(job: Any) -> dict[str, Any]:
    """Return the operations of an epoch, and this machine's rate at its widest products just
    now.
    """
    import torch
    from transformers import AutoConfig

    shape = AutoConfig.from_pretrained(job.base)
    wide, mid = shape.hidden_size, shape.intermediate_size
    states, weight = torch.randn(2048, wide).bfloat16(), torch.randn(mid, wide).bfloat16()
    rates = []
    for _ in range(200):
        began = time.perf_counter()
        torch.nn.functional.linear(states, weight)
        rates.append(2 * 2048 * wide * mid / (time.perf_counter() - began))
    return operations(job) | {"rate": max(rates)}


def write(args: Namespace, runs: dict[str, list[Timed]], limits: dict[str, Any]) -> Path:
    """Return the table as Markdown."""
    from sem.lm.local import hardware

    machine, load = hardware.detect_hardware(), os.getloadavg()[1]
    best = {name: min(each.wall for each in found) for name, found in runs.items()}
    work = {name: min(each.cpu for each in found) for name, found in runs.items()}
    head = (
        "trainer",
        "tokens/s",
        "ours is faster",
        "by CPU seconds",
        "seconds an epoch",
        "first epoch, all in",
        "peak GiB",
        "of ours",
        "first loss",
        "last loss",
    )
    peaks = {name: max(each.peak_gib for each in found) for name, found in runs.items()}
    rows = [
        (
            name,
            f"{limits['tokens'] / best[name]:.0f}",
            f"{best[name] / best['ours']:.2f}x",
            f"{work[name] / work['ours']:.2f}x",
            " ".join(f"{r.wall:.1f}" for r in found),
            " ".join(f"{r.start:.0f}" for r in found),
            f"{peaks[name]:.2f}",
            f"{peaks[name] / peaks['ours']:.2f}x",
            f"{found[0].first:.3f}",
            f"{found[0].last:.3f}",
        )
        for name, found in runs.items()
    ]
    console.print_table(f"{args.sem}, {args.base}", head, rows)
    least = limits["flop"] / limits["rate"]
    what = f"two rows of {LONG:,} tokens" if args.long else f"{limits['rows']} examples"
    flags = f"{'--long ' if args.long else ''}--examples {args.examples}"
    if list(runs) != list(TRAINERS):
        flags += " --trainers " + " ".join(f'"{name}"' if " " in name else name for name in runs)
    lines = [
        f"# Training {'memory' if args.long else 'speed'} on a CPU: {args.base}",
        f"{machine.name}, {machine.threads} threads, {machine.memory_gib:.0f} GiB, load average "
        f"{load:.1f} of 2 (other work on the same core); {what} of `{args.sem}`, "
        f"{limits['tokens']:,} tokens; rounds: {args.rounds}, epochs in each: {args.epochs}, "
        "the trainers in turns.",
        f"Command: `python benchmarks/speed/train_speed.py --sem {args.sem} --base {args.base} {flags} "
        f"--epochs {args.epochs} --rounds {args.rounds}`",
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
        f"The epoch needs {limits['flop'] / 1e12:.1f} Tflop of matrix products; this machine's "
        f"best rate at them (2,048 tokens through a layer's widest product) is "
        f"{limits['rate'] / 1e12:.2f} Tflop/s: {least:.0f} s, {least / best['ours']:.0%} of ours "
        f"and {least / best['TRL']:.0%} of TRL's.",
    ]
    name = f"train_memory_{args.base}" if args.long else f"train_speed_{args.sem}_{args.base}"
    return files.write_file(HERE.parent / "results" / f"{name}.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    console.run_main(main)

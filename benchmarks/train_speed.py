"""Our trainer against a plain TRL SFTTrainer: same rows, model, machine, in turns in one run.

    python benchmarks/train_speed.py --sem demo --examples 48 --rounds 2

Both train LoRA r 16 on all linear layers, completion-only loss, the same optimizer steps. The peer
is TRL's defaults (its chunked head, gradient checkpointing, bf16 autocast over fp32 weights,
batches in random order); `peer tuned` is TRL with gradient checkpointing off and bf16 weights.

Writes  benchmarks/results/train_speed.md
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

from sem.core import console, files
from sem.core.project import Project
from sem.core.run import Run

HERE = Path(__file__).resolve().parent


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem", "set")
    parser.add_argument("--examples", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args(argv)
    from sem.train import plan

    project = Project.load(args.sem, [*args.set, f"train.max_train_examples={args.examples}"])
    prepared = plan.job(project, plan.prepare(project, None))
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(args.rounds):
        for name, train in PEERS.items():
            found.setdefault(name, []).append(train(prepared))
            console.note(f"{name}: {found[name][-1]}")
    tokens = sum(len(row.ids) for row in prepared.train.kept)
    rows = [row(name, runs, found["ours"], tokens) for name, runs in found.items()]
    columns = (
        "trainer",
        "tokens/s (best)",
        "seconds",
        "first loss",
        "last loss",
        "ours is faster",
    )
    console.table(f"{args.sem}, {args.examples} examples, {tokens:,} tokens", columns, rows)
    console.done(write(args, prepared, columns, rows, tokens))


def row(name: str, runs: list, ours: list, tokens: int) -> tuple[str, ...]:
    seconds, first, last = min(runs)
    best = min(ours)[0]
    return (name, f"{tokens / seconds:.0f}", f"{seconds:.0f}", f"{first:.3f}", f"{last:.3f}",
            f"{seconds / best:.2f}x")  # fmt: skip


def ours(job: object) -> tuple[float, float, float]:
    """(seconds, first loss, last loss) of one epoch with this project's trainer."""
    from peft import get_peft_model
    from transformers import set_seed

    from sem.lm import model as models
    from sem.train.fit import build, lora_config

    with tempfile.TemporaryDirectory() as folder:
        run = Run("benchmark", Path(folder))
        recipe = replace(job.recipe, epochs=1, checkpoint_steps=10_000, log_steps=1)
        mine = replace(job, run=run, recipe=recipe, val=replace(job.val, kept=()))
        set_seed(1)
        base = models.load(job.base, job.dtype, job.device)
        trainer = build(mine, get_peft_model(base, lora_config(recipe)))
        return timed(trainer)


def peer(job: object) -> tuple[float, float, float]:
    """The same with TRL as it comes."""
    return stock(job, {}, "float32")


def peer_tuned(job: object) -> tuple[float, float, float]:
    """TRL with gradient checkpointing off over bf16 weights."""
    return stock(job, {"gradient_checkpointing": False}, "bfloat16")


def stock(job: object, options: dict, dtype: str) -> tuple[float, float, float]:
    """One epoch of a stock SFTTrainer over the same token rows."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, set_seed
    from trl import SFTConfig, SFTTrainer

    from sem.train.fit import lora_config

    rows = [
        {"input_ids": list(r.ids), "labels": [-100] * r.prompt + list(r.ids[r.prompt :])}
        for r in job.train.kept
    ]
    set_seed(1)
    with tempfile.TemporaryDirectory() as folder:
        recipe = job.recipe
        args = SFTConfig(
            output_dir=folder,
            num_train_epochs=1,
            learning_rate=recipe.learning_rate,
            per_device_train_batch_size=recipe.micro_batch,
            gradient_accumulation_steps=recipe.effective_batch // recipe.micro_batch,
            lr_scheduler_type=recipe.schedule,
            logging_steps=1,
            max_length=None,
            save_strategy="no",
            report_to=[],
            use_cpu=job.device == "cpu",
            disable_tqdm=True,
            **options,
        )
        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(job.base, dtype=dtype),
            args=args,
            train_dataset=Dataset.from_list(rows),
            processing_class=job.chat.tokenizer,
            peft_config=lora_config(recipe),
        )
        return timed(trainer)


def timed(trainer: object) -> tuple[float, float, float]:
    began = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - began
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    return seconds, float(losses[0]), float(losses[-1])


PEERS = {"ours": ours, "peer": peer, "peer tuned": peer_tuned}


def write(args: object, job: object, columns: tuple, rows: list, tokens: int) -> Path:
    from sem.lm import hardware

    machine = hardware.detect()
    lines = [
        "# Training speed on a CPU",
        f"{machine.name}, {machine.threads} threads, {machine.memory_gib:.0f} GiB; "
        f"{args.examples} examples of `{args.sem}`, {tokens:,} tokens, base {job.base.name}; "
        f"best of {args.rounds} rounds, the trainers in turns.",
        f"Command: `python benchmarks/train_speed.py --sem {args.sem} --examples {args.examples} "
        f"--rounds {args.rounds}`",
        "",
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
        *("| " + " | ".join(map(str, row)) + " |" for row in rows),
    ]
    suffix = "" if args.sem == "demo" else f"_{args.sem}"
    text = "\n".join(lines) + "\n"
    return files.write(HERE / "results" / f"train_speed{suffix}.md", text)


if __name__ == "__main__":
    console.run(main)

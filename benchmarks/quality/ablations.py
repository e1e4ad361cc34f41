"""Which settings of train.yaml teach the demo sem more: each against rank 16, same rows.

    python benchmarks/quality/ablations.py [--train 160] [--test 70] [--seeds 2] [--only NAME]

One run for each variant and seed, in turns, so that an interrupted benchmark has compared all of
them as often as it could; the same command goes on where it stopped. The seed changes the
adapter's start and the order of the rows, not which rows. Pairs are made by `dataset.augment`.

Writes  benchmarks/results/ablations.md; the runs and scores below --work
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.speed.clean import machine
from sem.core import files
from sem.core.project import Project
from sem.eval.answers import subject
from sem.eval.report import compare
from sem.eval.stats import clusters
from sem.train.run import plan

ROOT = Path(__file__).resolve().parents[2]
# What the others are compared with; the default until rank 64 won here.
BASE = "rank 16"
VARIANTS: dict[str, list[str]] = {
    BASE: [],
    "values count 2": ["loss.value=2"],
    "values 2, critical 2": ["loss.value=2", "loss.critical=2"],
    "keys and punctuation count 0.3": ["loss.key=0.3", "loss.punctuation=0.3"],
    "rank 4": ["lora.rank=4", "lora.alpha=8"],
    "rank 64": ["lora.rank=64", "lora.alpha=128"],
    "then dpo": ["preference.method=dpo", "preference.max_pairs=80"],
    "then orpo": ["preference.method=orpo", "preference.max_pairs=80"],
    "dora": ["lora.dora=true"],
    "the plan's turns": ["renderer=plan"],
}
# a variant's own words come later, and win.
RANK = ["lora.rank=16", "lora.alpha=32"]
# What decides which checkpoint is kept must not differ: the last one is.
FIXED = ["select=last", "val_answers=0", "val_examples=4", "checkpoint_steps=1000"]


def run(root: Path, script: str, *words: str) -> None:
    env = {**os.environ, "SEM_ROOT": str(root), "WANDB_MODE": "disabled"}
    command = [sys.executable, str(ROOT / "scripts" / f"{script}.py"), "--sem", "demo", *words]
    subprocess.run(command, env=env, check=True, stdout=sys.stderr)


def prepare(root: Path) -> None:
    """The demo's data below `root`, cleaned, cut, with pairs; once."""
    if (root / "ready").exists():
        return
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(ROOT / "configs", root / "configs")
    (root / "configs" / "demo" / "datasets.yaml").unlink(missing_ok=True)
    (root / "models").mkdir()
    (root / "models" / "base").symlink_to(ROOT / "models" / "base")
    for script in ("demo_data", "dataset_clean", "dataset_split"):
        run(root, script)
    run(root, "dataset_augment", "--negatives", "1", "--each", "1")
    files.write_file(root / "ready", "")


def measure(root: Path, name: str, seed: int, args: argparse.Namespace) -> dict:
    """Scores of the variant `name` with `seed`: trained and answered now."""
    words = [*RANK, *VARIANTS[name], *FIXED, f"max_train_examples={args.train}", f"seed={seed}"]
    given = [f"train.{word}" for word in words] + [f"eval.max_examples={args.test}"]
    flags = [word for one in given for word in ("--set", one)]
    project = Project("demo", root, tuple(given))
    # The same settings make the same run.
    made = plan.prepare_training(project, None)
    if not made.is_finished:
        run(root, "train_run", "--resume", "--run", made.id)
    took = files.read_json(made.folder / "manifest.json")["result"]["train_runtime"]
    run(root, "eval_generate", "--split", "test", "--run", made.id, *flags)
    found = subject.resolve_subject(project, made.id, "test", None)
    scores = compare.score_run_answers(found)
    return {
        "variant": name,
        "seed": seed,
        "train_s": took,
        "json_valid": sum(s.json_valid for s in scores) / len(scores),
        "rows": {s.id: s.accuracy for s in scores},
        "domains": {s.id: s.domain or s.id for s in scores},
    }


def gap(found: list[dict], name: str) -> tuple[float, float, float, int]:
    """(mean, low, high) of `name` - BASE in points, rows averaged over seeds, and the seeds."""
    both = [
        (next(r for r in found if (r["variant"], r["seed"]) == (BASE, one["seed"])), one)
        for one in found
        if one["variant"] == name
        and any((r["variant"], r["seed"]) == (BASE, one["seed"]) for r in found)
    ]
    ids = sorted(both[0][0]["rows"])
    gaps = [sum(b["rows"][i] - a["rows"][i] for a, b in both) / len(both) for i in ids]
    moved = clusters.sum_by_cluster(gaps, [both[0][0]["domains"][i] for i in ids])
    low, high = clusters.confidence_bounds(moved)
    return 100 * sum(gaps) / len(gaps), 100 * low, 100 * high, len(both)


def report(found: list[dict], args: argparse.Namespace) -> str:
    first = found[0]
    lines = [
        "# Which settings teach the demo sem more",
        "",
        f"SmolLM2-135M-instruct, the embedded demo, {args.train} training pages, one epoch, n = "
        f"{len(first['rows'])} pages of {len(set(first['domains'].values()))} unseen shops, the "
        f"same rows in every run. {machine()}.",
        "",
        f"Command: `python benchmarks/quality/ablations.py --train {args.train} --test {args.test} "
        f"--seeds {args.seeds}`",
        "",
        "| variant | seeds | slot accuracy, by seed | JSON valid | − rank 16, 95 % | train, s |",
        "| --- | ---: | --- | ---: | --- | ---: |",
    ]
    for name in VARIANTS:
        runs = [one for one in found if one["variant"] == name]
        if not runs:
            continue
        means = [sum(one["rows"].values()) / len(one["rows"]) for one in runs]
        versus = "–"
        if name != BASE and any(one["variant"] == BASE for one in found):
            mean, low, high, _ = gap(found, name)
            versus = f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"
        valid = sum(one["json_valid"] for one in runs) / len(runs)
        took = min(one["train_s"] for one in runs)
        shown = ", ".join(f"{mean:.1%}" for mean in means)
        lines.append(f"| {name} | {len(runs)} | {shown} | {valid:.1%} | {versus} | {took:,.0f} |")
    lines += [
        "",
        "Differences are paired by row, averaged over the seeds both have, with a jackknife over "
        "shops; an interval that holds 0 shows no difference. No correction for several tests. "
        "Rank 64 is the default since.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=int, default=160)
    parser.add_argument("--test", type=int, default=70)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", action="append", choices=list(VARIANTS))
    parser.add_argument("--work", type=Path, default=ROOT / "reports" / "ablations")
    args = parser.parse_args()
    root = args.work.resolve() / "project"
    prepare(root)
    path = args.work / f"scores.{args.train}.{args.test}.jsonl"
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    for seed in range(1, args.seeds + 1):
        for name in args.only or VARIANTS:
            if any((r["variant"], r["seed"]) == (name, seed) for r in found):
                continue
            found.append(measure(root, name, seed, args))
            with files.open_for_append(path) as file:
                files.append_row(file, found[-1])
            text = report(found, args)
            files.write_file(ROOT / "benchmarks" / "results" / "ablations.md", text)
    print(report(found, args))


if __name__ == "__main__":
    main()

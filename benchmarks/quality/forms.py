"""Which way to show a page teaches a small model more: the same rows, twice, one run each.

    python benchmarks/quality/forms.py [--budget 420] [--train 240] [--test 70]

The embedded demo, cleaned once as `price: 9 €` lines and once as `main>p.price | 9 €` lines, both
within one budget of tokens; the same ids in train and test, the same recipe and seed.

Writes  benchmarks/results/forms.md
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.speed.clean import machine
from sem.core import files
from sem.core.project import Project
from sem.dataset.split import snapshot
from sem.eval.answers import subject
from sem.eval.report import compare
from sem.eval.stats import clusters

ROOT = Path(__file__).resolve().parents[2]
FORMS = ("lines", "addressed")
# Groups by domain alone, so that both cuts hold the same ids whatever the texts look like.
CUT = ["dataset.split.leaks.near=report", "dataset.split.leaks.exact=report"]


def run(root: Path, script: str, *words: str) -> None:
    env = {**os.environ, "SEM_ROOT": str(root), "WANDB_MODE": "disabled"}
    command = [sys.executable, str(ROOT / "scripts" / f"{script}.py"), "--sem", "demo", *words]
    subprocess.run(command, env=env, check=True, stdout=sys.stderr)


def prepared(folder: Path, form: str, args: argparse.Namespace) -> tuple[Path, list[str]]:
    """Return a project with the demo in `form`, cut, and the settings of its run."""
    root = folder / form
    shutil.copytree(ROOT / "configs" / "demo", root / "configs" / "demo")
    (root / "configs" / "demo" / "datasets.yaml").unlink(missing_ok=True)
    for name in ("gate.yaml", "judge.yaml", "judge_slots.yaml", "budget.yaml"):
        shutil.copy(ROOT / "configs" / name, root / "configs" / name)
    (root / "models").mkdir()
    (root / "models" / "base").symlink_to(ROOT / "models" / "base")
    choices = {
        "dataset.clean.default.form": form,
        "dataset.clean.default.max_chars": "null",
        "dataset.clean.default.max_tokens": str(args.budget),
        "dataset.clean.tasks.productpage_extractor.max_chars": "null",
        "train.max_train_examples": str(args.train),
        "eval.max_examples": str(args.test),
    }
    given = [f"{key}={value}" for key, value in choices.items()] + CUT
    return root, [word for one in given for word in ("--set", one)]


def measured(
    folder: Path, form: str, args: argparse.Namespace
) -> tuple[subject.EvalSubject, dict]:
    """Return the trained subject of `form` and its times."""
    root, words = prepared(folder, form, args)
    run(root, "demo_data")
    for script in ("dataset_clean", "dataset_split", "train_prepare"):
        run(root, script, *words)
    began = time.perf_counter()
    run(root, "train_run")
    trained = time.perf_counter() - began
    run(root, "eval_generate", "--split", "test", *words)
    project = Project("demo", root, tuple(words[1::2]))
    found = subject.resolve_subject(project, None, "test", None)
    return found, {"train_s": trained}


def ids(found: subject.EvalSubject) -> dict[str, list[str]]:
    frozen = snapshot.load_snapshot(found.project)
    return {part: [e.id for e in frozen.examples(part)] for part in ("train", "test")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", type=int, default=420)
    parser.add_argument("--train", type=int, default=240)
    parser.add_argument("--test", type=int, default=70)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="sem-forms-"))
    found = {form: measured(folder, form, args) for form in FORMS}
    subjects = [one for one, _ in found.values()]
    if ids(subjects[0]) != ids(subjects[1]):
        raise SystemExit("the two cuts hold different rows")
    scores = [compare.score_run_answers(one) for one in subjects]
    if [s.id for s in scores[0]] != [s.id for s in scores[1]]:
        raise SystemExit("the two runs answered different rows")
    gaps = [a.accuracy - b.accuracy for a, b in zip(*scores, strict=True)]
    moved = clusters.sum_by_cluster(gaps, [score.domain or score.id for score in scores[0]])
    low, high = clusters.confidence_bounds(moved)
    lines = [
        "# Two representations, one small model",
        "",
        f"SmolLM2-135M-instruct, the embedded demo, {args.train} training pages, "
        f"n = {len(gaps)} pages of {moved.domains} unseen shops,",
        f"both within {args.budget} tokens a page. {machine()}.",
        "",
        f"Command: `python benchmarks/quality/forms.py --budget {args.budget} --train {args.train} "
        f"--test {args.test}`",
        "",
        "| representation | slot accuracy | JSON validity | tokens a prompt | training, s |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for form, one in zip(FORMS, scores, strict=True):
        lines.append(
            f"| {form} | {sum(s.accuracy for s in one) / len(one):.1%} | "
            f"{sum(s.json_valid for s in one) / len(one):.1%} | "
            f"{sum(s.tokens_in for s in one) / len(one):,.0f} | {found[form][1]['train_s']:,.0f} |"
        )
    mean = 100 * sum(gaps) / len(gaps)
    lines += [
        "",
        f"lines - addressed: **{mean:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]** "
        "(paired, jackknife over shops, 95 %).",
    ]
    text = "\n".join(lines) + "\n"
    files.write_file(ROOT / "benchmarks" / "results" / "forms.md", text)
    print(text)


if __name__ == "__main__":
    main()

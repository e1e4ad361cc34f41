"""What a biased judge reports, and what is left of the bias once its errors are measured.

    python benchmarks/proof/judge_correction.py --draws 2000

Each scenario draws a true pass rate, a judge with known errors, 600 judged slots, and human labels
on a random part of them, again and again. Bias is the mean difference to the share of slots that
truly pass, in points; cover is how often a 95 % interval holds the true rate of the population.

Writes  benchmarks/results/proof_judge.md
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from sem.core import console, files
from sem.eval.judge import calibration
from sem.eval.stats import paired_stats

RESULTS = Path(__file__).resolve().parents[1] / "results" / "proof_judge.md"
# truth, TPR, TNR, labels
SCENARIOS = (
    (0.60, 0.95, 0.80, 200),
    (0.70, 0.85, 0.90, 200),
    (0.80, 0.90, 0.60, 200),
    (0.90, 0.85, 0.80, 200),
    (0.50, 0.98, 0.75, 200),
    (0.70, 0.85, 0.90, 100),
    (0.70, 0.85, 0.90, 400),
    (0.80, 0.99, 0.98, 200),
)
COLUMNS = (
    *("true rate", "TPR", "TNR", "labels", "raw bias", "corrected bias"),
    *("raw cover", "corrected cover", "mean width", "kappa"),
)


def main(argv: list[str] | None = None) -> None:
    parser = console.make_argument_parser(__doc__)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--slots", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    rows = [scenario(args, *values) for values in SCENARIOS]
    console.print_table("judge correction", COLUMNS, rows)
    console.print_output_path(files.write_file(RESULTS, report(args, rows)))


def scenario(
    args: argparse.Namespace, truth: float, tpr: float, tnr: float, labels: int
) -> Sequence[str]:
    """Return one row: bias and coverage of the raw and of the corrected rate."""
    import numpy as np

    dice = np.random.default_rng(args.seed)
    raw, fixed, covers, width, kappas = [], [], [0, 0], [], []
    for _ in range(args.draws):
        right = dice.random(args.slots) < truth
        said = np.where(right, dice.random(args.slots) < tpr, dice.random(args.slots) >= tnr)
        seen = dice.choice(args.slots, labels, replace=False)
        found = estimate(right[seen], said[seen], said)
        raw.append(found.raw - right.mean())
        low, high = paired_stats.clopper_pearson(int(said.sum()), args.slots)
        covers[0] += low <= truth <= high
        kappas.append(agreement(right[seen], said[seen]))
        if found.rate is not None:
            fixed.append(found.rate - right.mean())
            covers[1] += found.low <= truth <= found.high
            width.append(found.high - found.low)
    return (
        f"{truth:.2f}",
        f"{tpr:.2f}",
        f"{tnr:.2f}",
        str(labels),
        f"{np.mean(raw) * 100:+.2f}",
        f"{np.mean(fixed) * 100:+.2f}",
        f"{covers[0] / args.draws:.1%}",
        f"{covers[1] / args.draws:.1%}",
        f"{np.mean(width) * 100:.1f}",
        f"{np.mean(kappas):.2f}",
    )


def estimate(right, said, every):  # type: ignore[no-untyped-def]
    """Return the corrected rate of `every` judged slot from labels `right` on the sample
    `said`.
    """
    passes, fails = int(right.sum()), int((~right).sum())
    tpr = calibration.estimate_rate(int((right & said).sum()), passes)
    tnr = calibration.estimate_rate(int((~right & ~said).sum()), fails)
    return calibration.corrected_pass_rate(int(every.sum()), len(every), tpr, tnr)


def agreement(right, said) -> float:  # type: ignore[no-untyped-def]
    counts = [(right & said), (~right & said), (right & ~said), (~right & ~said)]
    return calibration.cohen_kappa(*(int(c.sum()) for c in counts)) or 0.0


def report(args: argparse.Namespace, rows: Sequence[Sequence[str]]) -> str:
    lines = [
        "# A judge's pass rate, raw and corrected",
        f"Command: `python benchmarks/proof/judge_correction.py --draws {args.draws} "
        f"--slots {args.slots} --seed {args.seed}`",
        "",
        f"{args.draws:,} simulated evaluations a row, {args.slots} judged slots each. Bias and "
        "width in points; cover of a 95 % interval. Labels are a random part of the judged slots;",
        "a part picked by disagreement would need weights. Slots are drawn independently.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    console.run_main(main)

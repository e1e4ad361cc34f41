"""A target that is a number: how often useless and true rows are called an improvement.

    python benchmarks/preview/preview_numbers.py --seeds 30

scikit-learn's diabetes, cut anew for each seed: base rows, 142 contributed, 200 of the benchmark;
once with their own targets, once with each other's. The word is that of the measured gain.

Writes  benchmarks/results/preview_numbers.md
"""

import argparse
import statistics
from collections import Counter
from pathlib import Path

import numpy as np
from sklearn.datasets import load_diabetes

from benchmarks.speed.clean import machine
from sem.core import console, files
from sem.preview.contribution.columns import ColumnShape
from sem.preview.contribution.contribution import Sample
from sem.preview.linear import estimate
from sem.preview.linear.estimate import EstimateRows
from sem.preview.linear.learners import FitBudget
from sem.preview.stats import decision

RESULT = Path(__file__).resolve().parents[1] / "results" / "preview_numbers.md"
WORDS = ("improves", "cannot_tell", "does_not_improve")
BASES = (40, 100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=30)
    args = parser.parse_args()
    data = load_diabetes(scaled=False)
    shape = ColumnShape(
        "table", "target", features=tuple(data.feature_names), width=10, target="number"
    )
    rows = []
    for base in BASES:
        for kind in ("true", "shuffled"):
            found = [one(data, shape, base, kind, seed) for seed in range(args.seeds)]
            words = Counter(word for word, _ in found)
            median = statistics.median(points for _, points in found)
            rows.append([base, kind, len(found), *(words[w] for w in WORDS), f"{median:+.1f}"])
    head = [
        "base rows",
        "targets",
        "seeds",
        *(w.replace("_", " ") for w in WORDS),
        "points, median",
    ]
    table = "\n".join(f"| {' | '.join(map(str, row))} |" for row in (head, ["---"] * 7, *rows))
    said = (
        f"# Previews of a number\n\n`python benchmarks/preview/preview_numbers.py --seeds "
        f"{args.seeds}`. {machine()}. diabetes, 142 rows contributed, 200 of the "
        f"benchmark.\n\n{table}\n"
    )
    print(said)
    console.print_output_path(files.write_file(RESULT, said))


def one(data, shape: ColumnShape, base: int, kind: str, seed: int) -> tuple[str, float]:
    """Return the word and the points of one cut."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(data.target))
    parts = order[:base], order[300:], order[100:300]
    targets = rng.permutation(parts[1]) if kind == "shuffled" else parts[1]
    samples = [
        tuple(row(data.data[n], data.target[own], n) for n, own in zip(part, said, strict=True))
        for part, said in zip(parts, (parts[0], targets, parts[2]), strict=True)
    ]
    gain = estimate.estimate_gain(EstimateRows(shape, *samples), FitBudget()).gain
    return decision.decide_gain(gain).word, gain.mean * decision.POINTS


def row(numbers: np.ndarray, target: float, number: int) -> Sample:
    return Sample(f"row {number}", repr(float(target)), "", tuple(map(float, numbers)))


if __name__ == "__main__":
    console.run_main(main)

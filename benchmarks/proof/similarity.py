"""The local stand-in for a judge, calibrated on pairs that people graded.

    python benchmarks/proof/similarity.py

Reads ../shared/data/pii_neardup/sts_similarity.jsonl (STS benchmark test pairs, grades 0 to 5).
A pair counts as the same from grade 4. The best threshold is chosen on one half of the pairs, by
balanced accuracy, and its error is measured on the other half.

Writes  benchmarks/results/proof_similarity.md
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats as scipy_stats

from sem.core import console, files
from sem.core.errors import SemError
from sem.core.slotspec import THRESHOLDS
from sem.eval.config import EvalSettings
from sem.eval.scoring import similarity
from sem.eval.stats import paired_stats
from sem.lm.weights import weights

ROOT = Path(__file__).resolve().parents[2]
PAIRS = ROOT.parent / "shared" / "data" / "pii_neardup" / "sts_similarity.jsonl"
SAME_FROM = 4.0
COLUMNS = (
    *("language", "pairs", "same", "Pearson", "Spearman", "best threshold", "its error"),
    *("error at 0.85", "passed wrongly", "failed wrongly"),
)


def main(argv: list[str] | None = None) -> None:
    console.make_argument_parser(__doc__).parse_args(argv)
    if not PAIRS.is_file():
        raise SemError(f"{PAIRS}: no such file", "this benchmark needs the shared data")
    model = str(EvalSettings().similarity_model)
    closeness = similarity.load_similarity(weights.resolve_weights(model, ROOT).folder)
    rows = [json.loads(line) for line in PAIRS.read_text("utf-8").splitlines()]
    for row in console.show_progress(rows, len(rows), "pairs"):
        row["cosine"] = closeness(row["a"], row["b"])
    languages = sorted({row["lang"] for row in rows})
    table = [figures(name, [r for r in rows if r["lang"] == name]) for name in languages]
    table.append(figures("all", rows))
    console.print_table("local similarity against people", COLUMNS, table)
    lines = [
        "# The local similarity model against people",
        "Command: `python benchmarks/proof/similarity.py`",
        "",
        f"`{model}`, cosine of mean-pooled vectors; {len(rows):,} pairs of the STS benchmark's "
        f"test part, the same from grade {SAME_FROM:g} of 5. Best threshold: chosen on one half, "
        "error on the other, with an exact 95 % interval. Wrongly passed: of different pairs; "
        "wrongly failed: of same pairs, both at 0.85, the plan's threshold.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
        *("| " + " | ".join(row) + " |" for row in table),
    ]
    path = ROOT / "benchmarks" / "results" / "proof_similarity.md"
    console.print_output_path(files.write_file(path, "\n".join(lines) + "\n"))


def figures(name: str, rows: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """Correlations, the best threshold with its error, and the errors at the plan's own."""
    grade = np.array([row["similarity_0_5"] for row in rows])
    cosine = np.array([row["cosine"] for row in rows])
    same = grade >= SAME_FROM
    half = np.random.default_rng(42).permutation(len(rows)) % 2 == 0
    best = max(np.arange(0.30, 0.99, 0.01), key=lambda t: balanced(cosine[half] >= t, same[half]))
    wrong = (cosine[~half] >= best) != same[~half]
    plan = cosine >= THRESHOLDS["llm_similarity"]
    return (
        name,
        f"{len(rows):,}",
        str(int(same.sum())),
        f"{scipy_stats.pearsonr(cosine, grade)[0]:.3f}",
        f"{scipy_stats.spearmanr(cosine, grade)[0]:.3f}",
        f"{best:.2f}",
        interval(int(wrong.sum()), len(wrong)),
        interval(int((plan != same).sum()), len(rows)),
        interval(int((plan & ~same).sum()), int((~same).sum())),
        interval(int((~plan & same).sum()), int(same.sum())),
    )


def balanced(said: np.ndarray, wanted: np.ndarray) -> float:
    """Return mean of the shares of same and of different pairs that are told right."""
    return float((said[wanted].mean() + (~said)[~wanted].mean()) / 2)


def interval(hits: int, count: int) -> str:
    low, high = paired_stats.clopper_pearson(hits, count)
    return f"{hits / max(count, 1) * 100:.1f} % [{low * 100:.1f}, {high * 100:.1f}]"


if __name__ == "__main__":
    console.run_main(main)

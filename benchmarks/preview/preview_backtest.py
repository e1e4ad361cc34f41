"""Backtest: what previews said of 90 contributions, and what the full computation found.

    python benchmarks/preview/preview_backtest.py            # goes on where it was stopped; reports
    python benchmarks/preview/preview_backtest.py --report   # the report and the confidence only

Preview: the contributor's file is sampled and read as `hokusai-preview` does, one setting of the
penalty, a ladder, an extrapolation. Budgets: a quarter of the rows and half of the benchmark; half
and half; everything. Full: all rows, the whole benchmark, the penalty of baseline and candidate
each chosen from four by a fifth of their own rows held out, for three seeds of that fifth; the
mean gain. Both leave out rows that the benchmark holds or the base knows.

Reads   ../shared/data/preview, scikit-learn's sets
Writes  benchmarks/results/preview_backtest.{jsonl,md,svg}, configs/preview_confidence.json
"""

import argparse
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.preview import preview_cases, preview_fit
from benchmarks.preview.preview_cases import Case
from benchmarks.speed.clean import machine
from sem.core import console, files
from sem.preview.contribution import contribution, overlap
from sem.preview.contribution.contribution import Sample
from sem.preview.contribution.encoders import Features
from sem.preview.linear import learners, measure
from sem.preview.linear.learners import FitBudget, Model
from sem.preview.linear.measure import BenchmarkScore
from sem.preview.result import preview_run, sources
from sem.preview.result.sources import ComparisonData
from sem.preview.stats import decision
from sem.preview.stats.paired_gain import measure_paired_gain

RESULTS = Path(__file__).resolve().parents[1] / "results"
BUDGETS = {"quarter": (0.25, 0.5), "half": (0.5, 0.5), "whole": (1.0, 1.0)}  # rows, benchmark
STRENGTHS = (0.1, 0.3, 1.0, 3.0)  # times the kind's own
SEEDS = (1, 2, 3)
HELD_OUT = 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--report", action="store_true", help="from the rows that are there")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--rows", type=Path, default=RESULTS / "preview_backtest.jsonl")
    parser.add_argument("--full-of", type=Path, help="rows whose full results are taken over")
    args = parser.parse_args()
    if not args.report:
        compute(args.rows, args.only, found_before(args.full_of))
    if args.rows.parent == RESULTS:
        preview_fit.report(list(files.read_rows(args.rows)), RESULTS, decision.CURVE)


def found_before(path: Path | None) -> dict[str, dict[str, Any]]:
    """Full results of an earlier backtest, by case."""
    return {row["case"]: row for row in files.read_rows(path)} if path else {}


def compute(path: Path, only: str, before: dict[str, dict[str, Any]]) -> None:
    """Add the cases to `path` that it does not hold; full results may be those `before`."""
    done = found_before(path) if path.exists() else {}
    with files.open_for_append(path) as file:
        for case in preview_cases.cases():
            if case.name not in done and only in case.name:
                files.append_row(file, one(case, before.get(case.name)))
                console.print_note(case.name)


# Of full computations, by pool and strength.
BASELINES: dict[Any, BenchmarkScore] = {}
# Of previews, by pool: what `--cache` keeps.
MODELS: dict[str, Model] = {}


def one(case: Case, before: dict[str, Any] | None) -> dict[str, Any]:
    """Previews of `case` by every budget, and the full result, which may be the one `before`."""
    began = time.process_time()
    previews = {
        name: preview(case, *budget, seed) for seed, (name, budget) in enumerate(BUDGETS.items())
    }
    between = time.process_time()
    full = before["full"] if before else whole(case)
    spent = before["cpu_s"]["full"] if before else round(time.process_time() - between, 2)
    return {
        "case": case.name,
        "kind": case.kind,
        "pool": case.pool.name,
        "rows": len(case.given),
        "previews": previews,
        "full": full,
        "cpu_s": {"previews": round(between - began, 2), "full": spent},
        "machine": machine(),
    }


def preview(case: Case, share: float, tested: float, seed: int) -> dict[str, Any]:
    """Return the product's own way from the file to the estimate, before an interval is
    widened.
    """
    pool = case.pool
    benchmark = sorted(pool.benchmark, key=lambda one: one.lot(f"benchmark {seed}"))
    benchmark = benchmark[: round(len(benchmark) * tested)]
    compared = ComparisonData(tuple(pool.base), tuple(benchmark), "the benchmark")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "given.jsonl"
        files.write_rows(path, map(preview_cases.as_row, case.given))
        most = max(10, round(len(case.given) * share))
        given = contribution.read_contribution(path, most, seed, pool.shape)
    asked = preview_run.EstimateRequest(pool.shape, compared, tuple(given.samples), given.size)
    box = preview_run.FitLimits(FitBudget().steps, 1e6, time.monotonic())
    found = preview_run.rows_worth(asked, box, MODELS.get(pool.name))
    MODELS[pool.name] = found.estimate.models[0]
    gain = found.estimate.full
    return {
        "measured": found.estimate.gain.mean,
        "mean": gain.mean,
        "low": gain.low,
        "high": gain.high,
        "n": gain.n,
        "used": found.learnt,
        "size": found.estimate.reached,
        "balance": decision.class_balance(given.classes),
        "learnt": len(pool.base) + found.learnt,
        "leaking": len(found.overlap.benchmark) / len(given.samples),
    }


def whole(case: Case) -> dict[str, Any]:
    """Return the full computation of `case`."""
    pool = case.pool
    known = overlap.find_overlap(case.given, pool.base, pool.benchmark)
    left = sources.exclude_rows(case.given, known.left_out)
    features = Features(pool.shape, (*pool.base, *case.given, *pool.benchmark))
    scored: dict[float, BenchmarkScore] = {}
    gains = []
    for seed in SEEDS:
        old = chosen(features, pool.base, seed)
        key = (pool.name, old)
        BASELINES.setdefault(key, score(features, pool.base, pool.benchmark, old))
        learnt = (*pool.base, *left)
        new = chosen(features, learnt, seed)
        scored.setdefault(new, score(features, learnt, pool.benchmark, new))
        gains.append(measure_paired_gain(BASELINES[key].right, scored[new].right, None))
    return {
        "mean": sum(gain.mean for gain in gains) / len(gains),
        "seeds": [gain.mean for gain in gains],
        "low": gains[0].low,
        "high": gains[0].high,
        "n": len(pool.benchmark),
    }


def chosen(features: Features, learnt: Sequence[Sample], seed: int) -> float:
    """Return the strength that is right most often on a fifth of `learnt` that it has not seen."""
    order = list(learnt)
    random.Random(seed).shuffle(order)
    cut = max(2, round(len(order) * HELD_OUT))
    held, rest = order[:cut], order[cut:]
    tried = [(score(features, rest, held, one).right.mean(), -one) for one in STRENGTHS]
    return -max(tried)[1]


def score(
    features: Features, learnt: Sequence[Sample], tested: Sequence[Sample], strength: float
) -> BenchmarkScore:
    budget = FitBudget(strength=strength * learners.STRENGTH[features.shape.kind])
    return measure.score_benchmark(learners.fit_classifier(features, learnt, budget), tested)


if __name__ == "__main__":
    console.run_main(main)

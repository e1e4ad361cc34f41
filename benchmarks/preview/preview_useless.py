"""Useless and duplicate contributions over 200 seeds; planted label errors and planted good rows.

    python benchmarks/preview/preview_useless.py [--seeds 200]

Called an improvement: the word of the preview with production's least gain of 1 point, and, more
strictly, its interval above 0. Useless: noise of the base rows' own columns under labels drawn by
lot; duplicates: base rows again; moved: base rows changed by a ten-thousandth or a hundredth.

Reads   scikit-learn's breast cancer, ../shared/data/preview (banking77)
Writes  benchmarks/results/preview_useless.md
"""

import argparse
import random
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.preview import preview_cases
from benchmarks.preview.preview_cases import Pool, Rows, alike, duplicates, labelled, scattered
from benchmarks.speed.clean import machine
from sem.core import files
from sem.preview.contribution.contribution import Sample
from sem.preview.linear import estimate as estimates
from sem.preview.linear import influence
from sem.preview.linear.learners import FitBudget
from sem.preview.result import preview_run
from sem.preview.result.sources import ComparisonData
from sem.preview.stats import decision
from sem.preview.stats.paired_gain import PairedGain

RESULTS = Path(__file__).resolve().parents[1] / "results" / "preview_useless.md"
ROWS = RESULTS.with_suffix(".jsonl")
BASE, TESTED = 100, 400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=200)
    seeds = parser.parse_args().seeds
    pools = {p.name: p for p in preview_cases.tables() if p.name in ("breast_cancer", "made")}
    compute(pools, seeds)
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in files.read_rows(ROWS):
        found.setdefault((row["pool"], row["kind"]), []).append(row)
    where = "; ".join(sorted({row["machine"] for rows in found.values() for row in rows}))
    lines = [
        "# Useless contributions, and planted rows",
        "",
        "`python benchmarks/preview/preview_useless.py` (200 seeds; it goes on where it was stopped). "
        f"{where}. Base of {BASE} rows, benchmark of {TESTED}, both drawn anew for each "
        "seed; at most 5 % may be called an improvement.",
        "",
        "| rows | contribution | seeds | an improvement | interval above 0 | cannot be told |",
        "|---|---|---|---|---|---|",
    ]
    lines += [called(*key, found[key]) for key in sorted(found)]
    lines += ["", *planted()]
    files.write_file(RESULTS, "\n".join(lines) + "\n")
    print("\n".join(lines))


def noise(pool: Pool, dice: random.Random) -> Rows:
    """As many rows as the base, of values that occur, the label drawn among near rows' own."""
    return [scattered(pool, dice, 1.0, number) for number in range(len(pool.base))]


def moved(pool: Pool, dice: random.Random, by: float) -> Rows:
    """Base rows again, numbers changed `by` a share: too much to be known, too little to teach."""
    return [
        Sample(
            one.where, one.label, features=tuple(v * (1 + dice.gauss(0, by)) for v in one.features)
        )
        for one in pool.base
    ]


KINDS: dict[str, Callable[[Pool, random.Random], Rows]] = {
    "useless: noise": noise,
    "useless: base rows moved": alike,
    "useless: base rows moved by a hundredth": lambda pool, dice: moved(pool, dice, 0.01),
    "duplicates": duplicates,
}


def called(name: str, kind: str, found: list[dict[str, Any]]) -> str:
    """Return one line: how often `kind` of contribution to `name` is called an improvement."""
    words, above = [], 0
    for row in found:
        gain = decision.widen_gain(PairedGain(*row["gain"]), 0.0)
        words.append(decision.decide_gain(gain).word)
        above += gain.low > 0
    seeds, better, open_ = len(found), words.count("improves"), words.count("cannot_tell")
    return (
        f"| {name} | {kind} | {seeds} | {better / seeds:.1%} | {above / seeds:.1%} | "
        f"{open_ / seeds:.1%} |"
    )


def compute(pools: dict[str, Pool], seeds: int) -> None:
    """Add to ROWS the gain of every kind, pool and seed that it does not hold."""
    done = (
        {(r["pool"], r["kind"], r["seed"]) for r in files.read_rows(ROWS)} if ROWS.exists() else ()
    )
    with files.open_for_append(ROWS) as file:
        for seed in range(seeds):
            for (name, pool), kind in product(pools.items(), KINDS):
                if (name, kind, seed) not in done:
                    files.append_row(file, one(pool, kind, seed) | {"machine": machine()})


def one(pool: Pool, kind: str, seed: int) -> dict[str, Any]:
    """Return the gain that a preview sees, before its interval is widened."""
    dice = random.Random(seed)
    rows = dice.sample([*pool.base, *pool.pool, *pool.benchmark], BASE + TESTED)
    drawn = Pool(pool.name, pool.shape, rows[:BASE], [], rows[BASE:])
    compared = ComparisonData(tuple(rows[:BASE]), tuple(rows[BASE:]), "the benchmark")
    own = tuple(KINDS[kind](drawn, dice))
    asked = preview_run.EstimateRequest(pool.shape, compared, own, len(own))
    found = preview_run.rows_worth(
        asked, preview_run.FitLimits(FitBudget().steps, 1e6, time.monotonic())
    )
    gain = found.estimate.full
    return {
        "pool": pool.name,
        "kind": kind,
        "seed": seed,
        "gain": [gain.mean, gain.low, gain.high, gain.n],
    }


def planted() -> list[str]:
    """Precision and recall of label errors and good rows that were planted."""
    lines = [
        "Planted among contributed rows (banking77: 1,220 base rows and 500 of the "
        "benchmark; digits: 150 and 500). k: as many as were planted.",
        "",
        "| rows | planted | of | by | found | precision | recall | at k |",
        "|---|---|---|---|---|---|---|---|",
    ]
    pools = {pool.name: pool for pool in preview_cases.pools()}
    for name in ("banking77", "digits"):
        lines += errors(pools[name]) + good(pools[name])
    return lines


def rows_of(pool: Pool, given: Sequence[Sample]) -> estimates.EstimateRows:
    tested = sorted(pool.benchmark, key=lambda one: one.lot("planted"))[:500]
    return estimates.EstimateRows(pool.shape, tuple(pool.base), tuple(given), tuple(tested))


def errors(pool: Pool) -> list[str]:
    """Return rows of which one in ten has another class's label."""
    dice = random.Random(11)
    given = pool.pool[:2_000]
    wrong = set(dice.sample(range(len(given)), len(given) // 10))
    rows = rows_of(
        pool,
        [
            labelled(one, dice.choice([c for c in pool.classes if c != one.label]))
            if n in wrong
            else one
            for n, one in enumerate(given)
        ],
    )
    doubted = set(influence.doubtful_labels(rows, FitBudget()))
    values = influence.shapley_values(rows)
    worst = set(sorted(range(len(given)), key=lambda n: values[n])[: len(wrong)])
    found = {"label_doubtful": doubted, "lowest value": worst}
    return [
        line(pool, "label errors", len(wrong), len(given), by, rows, wrong)
        for by, rows in found.items()
    ]


def good(pool: Pool) -> list[str]:
    """Return rows of which one in five is good; the others have labels drawn by lot."""
    dice = random.Random(12)
    given = pool.pool[:1_500]
    kept = set(dice.sample(range(len(given)), len(given) // 5))
    rows = rows_of(
        pool,
        [
            one if n in kept else labelled(one, dice.choice(pool.classes))
            for n, one in enumerate(given)
        ],
    )
    kept |= {n for n, one in enumerate(given) if rows.given[n].label == one.label}
    values = influence.shapley_values(rows)
    best = set(sorted(range(len(given)), key=lambda n: -values[n])[: len(kept)])
    return [line(pool, "good rows", len(kept), len(given), "highest value", best, kept)]


def line(
    pool: Pool, what: str, planted: int, of: int, by: str, found: set[int], wanted: set[int]
) -> str:
    hits = len(found & wanted)
    at_k = f"{hits / planted:.0%}" if len(found) == planted else ""
    return (
        f"| {pool.name} | {planted} {what} | {of:,} | {by} | {len(found)} | "
        f"{hits / max(1, len(found)):.0%} | {hits / planted:.0%} | {at_k} |"
    )


if __name__ == "__main__":
    main()

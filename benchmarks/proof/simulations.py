"""Do the statistics keep their word? Simulations with known truth, through the gate's own code.

    python benchmarks/proof/simulations.py --sims 1000

1. coverage of the 95 % interval with clustered rows, beside the naive and the bootstrap one
2. A/A: two runs of equal quality are gated; how often is an improvement claimed
3. power at the planned number of pairs and domains
4. family error over critical slots, with and without Holm
5. the share that a lower bound certifies although it is not there

Rows come in domains of unequal size; two runs' answers to a row are correlated.
Writes  benchmarks/results/proof_statistics.md
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats as scipy_stats

from sem.core import console, files
from sem.eval.gate import gate, margins
from sem.eval.gate.policy import DifferenceRule, Policy
from sem.eval.scoring.scoring import Score, SlotScore
from sem.eval.stats import clusters, paired_stats, planning
from sem.eval.stats.clusters import DomainDifferences
from sem.eval.stats.paired_stats import PairedDifferences

ROOT = Path(__file__).resolve().parents[2]
SLOTS = ("title", "price", "currency", "sku")
RIGHT, WRONG = (
    SlotScore(1.0, True, said=True, wanted=True),
    SlotScore(0.0, False, said=True, wanted=True),
)
Dice = np.random.Generator


def sizes(domains: int, rows: int) -> Any:
    """Return `domains` row counts, log-normal (sigma 0.7) around a mean of about `rows`."""
    place = scipy_stats.norm.ppf((np.arange(domains) + 0.5) / domains)
    return np.maximum(1, np.round(rows * np.exp(0.7 * place - 0.245))).astype(int)


def latent(dice: Dice, count: int, counts: Any, icc: float, rho: float = 0.7) -> Iterator[Any]:
    """Yield two arrays (`count`, rows) of normals.

    Correlated by `rho`, within a domain by `icc`.
    """
    at = np.repeat(np.arange(len(counts)), counts)

    def both(width: int) -> tuple[Any, Any]:
        first = dice.standard_normal((count, width))
        own = dice.standard_normal((count, width))
        return first, rho * first + np.sqrt(1 - rho**2) * own

    for domain, row in zip(both(len(counts)), both(len(at)), strict=True):
        yield np.sqrt(icc) * domain[:, at] + np.sqrt(1 - icc) * row


def runs(dice: Dice, count: int, counts: Any, icc: float, right: tuple[float, float]) -> Any:
    """Return which rows two runs get right, with probabilities `right`: two boolean arrays."""
    limits = scipy_stats.norm.ppf(right)
    pair = latent(dice, count, counts, icc)
    return [value < limit for value, limit in zip(pair, limits, strict=True)]


def added(before: Any, after: Any, counts: Any) -> DomainDifferences:
    """Differences of two runs by domain."""
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    gains = np.add.reduceat((after & ~before).astype(float), starts, axis=-1)
    losses = np.add.reduceat((before & ~after).astype(float), starts, axis=-1)
    return DomainDifferences(gains - losses, gains, losses, counts.astype(float))


def coverage(dice: Dice, sims: int) -> Iterator[tuple[str, ...]]:
    """Yield one row a setting: how often each interval holds the truth."""
    for domains in (14, 30, 60):
        for icc in (0.0, 0.1, 0.3):
            for right in ((0.7, 0.7), (0.9, 0.95), (0.97, 0.98)):
                counts = sizes(domains, 10)
                parts = [
                    added(*runs(dice, 250, counts, icc, right), counts) for _ in range(sims // 250)
                ]
                found = joined(parts)
                covered = covers(dice, found, right[1] - right[0])
                few = float(np.mean(found.is_few))
                yield (
                    f"{domains}",
                    f"{found.count}",
                    f"{icc:g}",
                    f"{right[0]:g} / {right[1]:g}",
                    *(f"{share:.1%}" for share in covered),
                    f"{few:.0%}",
                )


def joined(parts: list[DomainDifferences]) -> DomainDifferences:
    arrays = (np.vstack([getattr(p, name) for p in parts]) for name in ("sums", "gains", "losses"))
    return DomainDifferences(*arrays, parts[0].rows)


def covers(dice: Dice, found: DomainDifferences, truth: float) -> list[float]:
    """Coverage of the naive, the percentile-bootstrap and our interval."""
    moved = (found.gains + found.losses).sum(-1) / found.count
    naive = 1.96 * np.sqrt((moved - found.mean**2) / found.count)
    weights = dice.multinomial(found.domains, np.full(found.domains, 1 / found.domains), 2000)
    means = (weights @ found.sums.T) / (weights @ found.rows)[:, None]
    intervals = [
        (found.mean - naive, found.mean + naive),
        np.percentile(means, [2.5, 97.5], axis=0),
        clusters.confidence_bounds(found),
    ]
    return [
        float(np.mean((low <= truth + 1e-12) & (high >= truth - 1e-12))) for low, high in intervals
    ]


def same(dice: Dice, sims: int) -> Iterator[tuple[str, ...]]:
    """A/A gates on two runs of equal quality, through `gate.decide`."""
    for domains, icc, right in ((14, 0.2, 0.8), (30, 0.2, 0.8), (30, 0.2, 0.97), (60, 0.1, 0.9)):
        counts = sizes(domains, 8)
        claims = overall = losses = passed = 0
        for _ in range(sims):
            verdict = one_gate(dice, counts, icc, right)
            strict = [c for c in verdict.checks if c.name == "accuracy" or "critical" in c.name]
            claims += any(c.facts["improved"] for c in strict)
            overall += next(c for c in strict if c.name == "accuracy").facts["improved"]
            losses += any(c.verdict == margins.FAIL and "loss" in c.why for c in strict)
            passed += verdict.word == gate.PASS
        figures = (f"{n} ({n / sims:.1%})" for n in (claims, overall, passed, losses))
        yield (f"{domains}", f"{counts.sum()}", f"{icc:g}", f"{right:g}", f"{sims}", *figures)


def one_gate(dice: Dice, counts: Any, icc: float, right: float) -> gate.GateDecision:
    """Return the default policy on two runs that get every slot right equally often."""
    both = [runs(dice, 1, counts, icc, (right, right)) for _ in SLOTS]
    names = [f"shop{n}" for n, count in enumerate(counts) for _ in range(count)]
    before, after = (
        [
            score(f"e{n:04}", name, [slot[side][0, n] for slot in both])
            for n, name in enumerate(names)
        ]
        for side in (0, 1)
    )
    critical = frozenset(f"page.{name}" for name in SLOTS)
    return gate.decide_gate(gate.Evidence(before, after, critical), Policy())


def score(name: str, domain: str, right: list[bool]) -> Score:
    slots = {slot: RIGHT if ok else WRONG for slot, ok in zip(SLOTS, right, strict=True)}
    return Score(
        id=name,
        task="page",
        domain=domain,
        stratum="-|en",
        json_valid=True,
        schema_valid=True,
        recovered=False,
        slots=slots,
        tokens_in=1,
        tokens_out=1,
        latency_ms=1,
        finish="stop",
    )


def copied(
    dice: Dice, sims: int, domains: int, rows: int, icc: float, shares: tuple[float, float]
) -> DomainDifferences:
    """Differences with shares (gains, losses) and, exactly, an intraclass correlation of `icc`.

    A row shows its domain's draw with probability √`icc` and else its own.
    """

    def draw(*shape: int) -> Any:
        at = dice.random(shape)
        return np.where(at < shares[0], 1, np.where(at > 1 - shares[1], -1, 0))

    is_copy = dice.random((sims, domains, rows)) < np.sqrt(icc)
    values = np.where(is_copy, draw(sims, domains, 1), draw(sims, domains, rows))
    gains, losses = (values > 0).sum(-1).astype(float), (values < 0).sum(-1).astype(float)
    return DomainDifferences(gains - losses, gains, losses, np.full(domains, float(rows)))


def power(dice: Dice, sims: int) -> Iterator[tuple[str, ...]]:
    """Yield share of data sets of the planned size that show the claim."""
    plans = []
    for moved in (0.05, 0.10, 0.20):
        shares = (moved / 2, moved / 2)
        plans.append((planning.pairs_needed(0.05, moved), 1, 0.0, shares, -0.05))
        plans.append((planning.domains_needed(0.05, moved, 10, 0.1), 10, 0.1, shares, -0.05))
    # Superiority: 12.5 % gained, 7.5 % lost; the mean's variance is less by its square.
    moved = 0.2 - 0.05**2
    plans.append((planning.pairs_needed(0.05, moved), 1, 0.0, (0.125, 0.075), 0.0))
    plans.append((planning.domains_needed(0.05, moved, 10, 0.1), 10, 0.1, (0.125, 0.075), 0.0))
    for domains, rows, icc, shares, target in plans:
        parts = [copied(dice, 500, domains, rows, icc, shares) for _ in range(4 * sims // 500)]
        shown = float(np.mean([clusters.p_above(part, target) <= 0.025 for part in parts]))
        claim = "no loss of 5 points" if target else "a gain of 5 points"
        yield (
            claim,
            f"{sum(shares):.2f}",
            f"{icc:g}",
            f"{domains}",
            f"{domains * rows}",
            "80.0%",
            f"{shown:.1%}",
            f"{(shown - 0.8) * 100:+.1f}",
        )


def families(dice: Dice, sims: int) -> Iterator[tuple[str, ...]]:
    """Critical slots that all lose exactly the margin: a PASS of any one is an error."""
    rule, policy = DifferenceRule("non_inferiority", margin_points=5.0), Policy()
    for members in (1, 4, 10):
        made = [copied(dice, sims, 40, 8, 0.1, (0.05, 0.10)) for _ in range(members)]
        plain = holm = 0
        for number in range(sims):
            pairs = {
                f"s{n}": PairedDifferences(
                    DomainDifferences(m.sums[number], m.gains[number], m.losses[number], m.rows),
                    0,
                    0,
                )
                for n, m in enumerate(made)
            }
            checks = margins.check_difference_family(
                pairs, margins.FamilyRule("critical", rule, policy)
            )
            holm += any(check.verdict == margins.PASS for check in checks)
            plain += any(clusters.p_above(p.found, -0.05) <= 0.025 for p in pairs.values())
        figures = (f"{n} ({n / sims:.1%})" for n in (plain, holm))
        yield (f"{members}", "320 in 40 domains", f"{sims}", *figures)


def certified(dice: Dice, sims: int) -> Iterator[tuple[str, ...]]:
    """Runs that are 98.9 % valid and are certified to be 99 % valid: an error."""
    policy = Policy().validity
    for rows in (100, 299, 773):
        passed = 0
        for valid in dice.random((10 * sims, rows)) < 0.989:
            low, _ = paired_stats.clopper_pearson(
                int(valid.sum()), rows, 2 * policy.confidence - 1
            )
            passed += low >= policy.at_least
        yield (f"{rows}", f"{10 * sims}", f"{passed} ({passed / sims / 10:.2%})")


PARTS = {
    "Coverage of 95 % intervals (target 93 to 97 %)": (
        coverage,
        (
            "domains",
            "rows",
            "ICC",
            "right, before / after",
            "naive",
            "percentile bootstrap",
            "ours",
            "few moved",
        ),
    ),
    "A/A gates: an improvement claimed (target at most 5 %)": (
        same,
        (
            "domains",
            "rows",
            "ICC",
            "right",
            "gates",
            "any claim",
            "overall claim",
            "gate PASS",
            "false loss",
        ),
    ),
    "Power at the planned size (target: within 3 points)": (
        power,
        ("claim", "discordance", "ICC", "domains", "rows", "planned", "measured", "points"),
    ),
    "Family error over critical slots (target at most 5 %)": (
        families,
        ("slots", "rows", "families", "without Holm", "with Holm"),
    ),
    "98.9 % valid, certified as 99 % (target at most 5 %)": (
        certified,
        ("rows", "runs", "certified"),
    ),
}
NOTES = """Notes.
- Naive: rows taken as independent. Percentile bootstrap: over domains, 2,000 draws here.
- Ours: jackknife over domains with a t quantile at the effective number of domains less one;
  where fewer than five domains moved (share in the last column), widened by exact binomial
  bounds, which are wider than 95 % on purpose.
- A/A: four critical slots, default policy, two-sided 95 % intervals (2.5 % on a side).
- Power is that of the gate's own test at the number of pairs or domains that `planning` names."""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sims", type=int, default=1000, help="A/A gates; others scale with it")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    began, parts = time.monotonic(), []
    for number, (title, (measure, columns)) in enumerate(PARTS.items()):
        sims = 2 * args.sims if measure is coverage else args.sims
        rows = list(measure(np.random.default_rng([args.seed, number]), sims))
        console.print_table(title, columns, rows)
        print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
        lines = ["| " + " | ".join(row) + " |" for row in (columns, *rows)]
        parts.append("\n".join([f"## {title}", lines[0], "|" + "---|" * len(columns), *lines[1:]]))
    command = (
        f"Command: `python benchmarks/proof/simulations.py --sims {args.sims} --seed {args.seed}`"
    )
    text = "\n\n".join(["# Do the statistics keep their word?", command, *parts, NOTES]) + "\n"
    console.print_output_path(
        files.write_file(ROOT / "benchmarks" / "results" / "proof_statistics.md", text)
    )


if __name__ == "__main__":
    main()

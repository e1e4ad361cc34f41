"""The evaluation as Markdown: what was compared, on what, and twenty rewrites to read."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sem.eval.stats.paired_stats import Difference
from sem.optimizer.eval import evaluate
from sem.optimizer.eval.evaluate import MeasuredRewrite
from sem.optimizer.model.confidence import Calibration

SAMPLE = 20


@dataclass(frozen=True)
class PromptSet:
    """One set of prompts, answered by the base and by the tuned network."""

    title: str
    base: list[MeasuredRewrite]
    tuned: list[MeasuredRewrite]
    # Prompts longer than the network reads.
    refused: int
    # Its prompts may be printed: those of others are not.
    is_shown: bool = True

    @cached_property
    def shares(self) -> tuple[dict[str, float], dict[str, float]]:
        """Return the mean of every measure, of the base and of the tuned network."""
        return evaluate.average_measures(self.base), evaluate.average_measures(self.tuned)

    @cached_property
    def differences(self) -> dict[str, Difference]:
        """Tuned minus base in every measure."""
        return evaluate.compare_sides(self.base, self.tuned)


@dataclass(frozen=True)
class EvaluationFacts:
    """What a figure depends on."""

    run: str
    base: str
    machine: str
    command: str
    # That there was one, or why not.
    judge: str
    decoding: str


def optimizer_report_page(
    parts: Sequence[PromptSet],
    facts: EvaluationFacts,
    worth: Calibration,
    seed: int,
    more: Sequence[str] = (),
) -> str:
    """Return the whole report; `more` lines stand before the rewrites to read."""
    lines = [
        f"# Prompt optimizer {facts.run}",
        f"Base: {facts.base}. {facts.decoding}. {facts.machine}.",
        f"Command: `{facts.command}`",
        f"Judge: {facts.judge}",
        "",
        "Differences are tuned minus base in points, paired by prompt; intervals are 95 %, over "
        "task families (jackknife t, exact binomial where few families moved).",
        "",
    ]
    for part in parts:
        lines += [*part_section(part, worth), ""]
    lines += more
    lines += [f"## {SAMPLE} rewrites drawn at random (seed {seed})", ""]
    return "\n".join([*lines, *readable_rewrites(parts, seed)]) + "\n"


def part_section(part: PromptSet, worth: Calibration) -> list[str]:
    """Return the tables of one `part`."""
    families = len({row.asked.family for row in part.tuned})
    base, tuned = part.shares
    lines = [
        f"## {part.title}: n = {len(part.tuned)} prompts of {families} families, "
        f"{part.refused} refused as too long",
        "",
        "| measure | base | tuned | difference in points [95 %] |",
        "|---|---|---|---|",
    ]
    for name, gain in part.differences.items():
        interval = f"{gain.points:+.1f} [{gain.low:+.1f}, {gain.high:+.1f}]"
        lines.append(f"| {name} | {base[name]:.1%} | {tuned[name]:.1%} | {interval} |")
    flaws = Counter(flaw for row in part.tuned for flaw in row.flaws)
    flaw_text = ", ".join(f"{name} {count}" for name, count in flaws.most_common()) or "none"
    was, now = evaluate.measure_variety(part.base), evaluate.measure_variety(part.tuned)
    trust = evaluate.measure_reliability(part.tuned, worth)
    return [
        *lines,
        "",
        f"Flaws of the tuned network's rewrites: {flaw_text}.",
        f"Variety, tuned (base): distinct-2 {now.distinct_2:.2f} ({was.distinct_2:.2f}), mean "
        f"likeness to the likest other {now.nearest:.2f} ({was.nearest:.2f}), exactly alike "
        f"{now.same:.1%} ({was.same:.1%}); median growth {now.growth:.1f}x ({was.growth:.1f}x).",
        f"Confidence above 0.5: {trust.shown} rewrites, {trust.useful_shown} of them useful, by "
        "construction: the checks that say useful decide the half. By the calibrated likelihood "
        f"alone: {trust.likelihood_shown}, {trust.likelihood_useful} of them useful.",
    ]


def readable_rewrites(parts: Sequence[PromptSet], seed: int) -> list[str]:
    """SAMPLE rewrites of what is shown of `parts` as a table, line ends as ` / `."""
    rows = [row for part in parts if part.is_shown for row in part.tuned]
    sample = random.Random(seed).sample(rows, min(SAMPLE, len(rows)))
    lines = ["| prompt | rewrite | confidence | flaws |", "|---|---|---|---|"]
    for row in sample:
        cells = [row.asked.prompt, row.text, f"{row.confidence or 0:.2f}", ", ".join(row.flaws)]
        lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    return lines


def _cell(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # Text of a model or a person: neither markup nor a further column.
    return " / ".join(lines).replace("|", "\\|").replace("<", "&lt;")


def rewrite_rows(part: PromptSet) -> list[dict[str, Any]]:
    """Return every rewrite of `part` as JSON rows, the base's beside the tuned network's."""
    base = {row.asked.id: row.text for row in part.base}
    return [
        {
            "id": row.asked.id,
            "family": row.asked.family,
            "prompt": row.asked.prompt,
            "base": base.get(row.asked.id),
            "tuned": row.text,
            "flaws": list(row.flaws),
            "intent": row.intent,
            "growth": row.growth,
            "useful": row.useful,
            "confidence": row.confidence,
            "mean_logprob": row.mean_logprob,
        }
        for row in part.tuned
    ]

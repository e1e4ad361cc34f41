"""report.html: one file a person can look at, without scripts and without any request.

Pages, references and answers are hostile text: see `core/pages.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sem.core import files, jsonio, pages
from sem.core.example import Example
from sem.eval.answers.answers import Answer
from sem.eval.report import plots, report
from sem.eval.report.compare import ScoredRuns
from sem.eval.scoring.scoring import Score
from sem.eval.stats import paired_stats

TEMPLATE = Path(__file__).with_name("report.html.j2")
# Characters of an input that are shown.
EXCERPT = 1_500
MOST_FLIPS = 150
MOST_DOMAINS = 60
KINDS = {
    "broken": "worse than the baseline",
    "fixed": "better than the baseline",
    "both": "both wrong, alike",
    "right": "both right",
}


@dataclass(frozen=True)
class Flip:
    """One example as both runs answered it."""

    id: str
    kind: str  # a key of KINDS
    domain: str
    task: str
    accuracy: tuple[float, float]
    excerpt: str
    # Characters of the input that are not shown.
    hidden: int
    reference: str
    baseline: str
    tuned: str
    fields: Sequence[tuple[str, bool | None, bool | None]]


def write_html_report(folder: Path, scores: dict[str, Any], reading: ScoredRuns) -> Path:
    """Write report.html into `folder` from scores `scores` and what they were made of."""
    return files.write_file(folder / "report.html", report_html(scores, reading))


def report_html(scores: dict[str, Any], reading: ScoredRuns) -> str:
    """Return the whole page."""
    before, after = reading.compared.before, reading.compared.after
    top_flips, counts = select_flips(reading)
    return pages.render_page(
        TEMPLATE,
        scores=scores,
        tables=report.list_report_tables(scores),
        tests=report.test_sentences(scores),
        slots=plots.build_forest_plot(_slot_differences(before, after, scores.get("rivals"))),
        domains=plots.build_dumbbell_plot(_by_domain(before, after)[:MOST_DOMAINS]),
        hidden_domains=max(0, len({s.domain for s in after}) - MOST_DOMAINS),
        latency=plots.cumulative_steps(
            {
                scores["baseline"]["run"]: [s.latency_ms for s in before],
                scores["tuned"]["run"]: [s.latency_ms for s in after],
            }
        ),
        confusions=plots.build_heatmaps(scores["confusions"]),
        flips=top_flips,
        flip_counts=counts,
        kinds=KINDS,
    )


def _slot_differences(
    before: Sequence[Score], after: Sequence[Score], rivals: dict[str, Any] | None
) -> list[plots.Interval]:
    fields = rivals["fields"] if rivals else {}
    beats = {name: bool(field["beats"]) for name, field in fields.items()}
    return [
        plots.Interval(
            name,
            difference.points,
            difference.low,
            difference.high,
            difference.pairs,
            beats.get(name, not rivals),
        )
        for name, pairs in paired_stats.slot_pairs(before, after).items()
        if (difference := paired_stats.mean_difference(pairs, draws=0)).pairs
    ]


def _by_domain(before: Sequence[Score], after: Sequence[Score]) -> list[plots.Dumbbell]:
    """Slot accuracy of both runs by domain, largest losses first; none where rows have none."""
    if all(score.domain == score.id for score in after):
        return []
    sides: dict[str, tuple[list[float], list[float]]] = {}
    for number, scores in enumerate((before, after)):
        for score in scores:
            sides.setdefault(score.domain, ([], []))[number].append(score.accuracy)
    dumbbells = [
        plots.Dumbbell(name, 100 * _mean(was), 100 * _mean(now), len(now))
        for name, (was, now) in sides.items()
    ]
    return sorted(dumbbells, key=lambda row: (row.after - row.before, row.label))


def select_flips(reading: ScoredRuns) -> tuple[list[Flip], dict[str, int]]:
    """Return the examples most worth reading, losses first, and how many there are of each
    kind.
    """
    was = {score.id: score for score in reading.compared.before}
    said_before = reading.answers(reading.before)
    said_after = reading.answers(reading.after)
    examples = {example.id: example for example in reading.after.examples}
    all_flips = [
        _flip(examples[now.id], was[now.id], now, said_before, said_after)
        for now in reading.compared.after
        if now.id in was
    ]
    counts = {kind: sum(flip.kind == kind for flip in all_flips) for kind in KINDS}
    order = list(KINDS)
    all_flips.sort(key=lambda flip: (order.index(flip.kind), flip.accuracy[1], flip.id))
    return all_flips[:MOST_FLIPS], counts


def _flip(
    example: Example,
    was: Score,
    now: Score,
    said_before: Mapping[str, Answer],
    said_after: Mapping[str, Answer],
) -> Flip:
    names = sorted(was.slots.keys() | now.slots.keys())
    return Flip(
        id=example.id,
        kind=_kind(was, now),
        domain=example.domain or "-",
        task=example.task,
        accuracy=(was.accuracy, now.accuracy),
        excerpt=example.input_text[:EXCERPT],
        hidden=max(0, len(example.input_text) - EXCERPT),
        reference=jsonio.canonical_json(example.output_json),
        baseline=_text(said_before, example.id),
        tuned=_text(said_after, example.id),
        fields=[(name, _passed(was, name), _passed(now, name)) for name in names],
    )


def _kind(was: Score, now: Score) -> str:
    if now.accuracy != was.accuracy:
        return "fixed" if now.accuracy > was.accuracy else "broken"
    return "right" if now.row_exact else "both"


def _passed(score: Score, name: str) -> bool | None:
    slot = score.slots.get(name)
    # A field that this run did not write and the reference has not either is right.
    return True if slot is None else slot.passed


def _text(answers_by_id: Mapping[str, Answer], name: str) -> str:
    return answers_by_id[name].text[:EXCERPT] if name in answers_by_id else "(no answer)"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0

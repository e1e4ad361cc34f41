"""scores.json and report.md: what is shown, with what error, and what is not."""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sem.core import files, jsonio
from sem.core.console import format_markdown_table
from sem.eval.config import EvalSettings
from sem.eval.report import baselines
from sem.eval.scoring import metrics
from sem.eval.scoring.scoring import Score
from sem.eval.stats import paired_stats

RATES = {
    "accuracy": "slot accuracy",
    "row_exact": "row exact (every slot passes, nothing made up)",
    "json_valid": "JSON validity (raw text)",
    "schema_valid": "schema validity",
}
SIDES = ("baseline", "tuned", "strong")
COMPARED = (*RATES, "precision", "recall", "f1", "rubric_score")
COUNTS = ("recovered", "cut", "refused", "missing", "unscored_slots")


@dataclass(frozen=True)
class Comparison:
    """Two runs on the same examples, and everything the report says about them."""

    baseline: str
    run: str
    split: str
    before: Sequence[Score]
    after: Sequence[Score]
    # Snapshot, domains, hardware, weights, settings.
    facts: dict[str, Any]


def report_scores(comparison: Comparison, settings: EvalSettings) -> dict[str, Any]:
    """Return everything in the report as one JSON value."""
    differences = {
        name: paired_stats.paired_differences(
            comparison.before, comparison.after, name, settings.draws, settings.seed
        )
        for name in RATES
    }

    def totals(side: str, scored: Sequence[Score]) -> dict[str, Any]:
        return metrics.compute_totals(scored, settings.prices.get(side))

    return {
        "format": "scores.v1",
        "baseline": {"run": comparison.baseline, **totals("baseline", comparison.before)},
        "tuned": {"run": comparison.run, **totals("tuned", comparison.after)},
        "difference_points": {
            name: difference.as_json() for name, difference in differences.items()
        },
        "tests": _tests(comparison),
        "verdict": differences["accuracy"].sentence(),
        "tasks": _groups(comparison, "task"),
        "strata": _groups(comparison, "stratum"),
        "split": comparison.split,
        **comparison.facts,
    }


def _tests(comparison: Comparison) -> dict[str, Any]:
    """Exact tests that take rows as independent: McNemar on whole rows, bounds of validity."""
    rows = paired_stats.pair_scores(
        comparison.before, comparison.after, lambda score: float(score.row_exact)
    )
    after = comparison.after
    valid = {
        name: paired_stats.clopper_pearson(sum(getattr(s, name) for s in after), len(after))
        for name in ("json_valid", "schema_valid")
    }
    return {
        "row_exact": {
            "gained": rows.gains,
            "lost": rows.losses,
            "mcnemar_p": paired_stats.mcnemar_p_value(rows.gains, rows.losses),
        },
        "bounds": {name: {"low": low, "high": high} for name, (low, high) in valid.items()},
    }


def test_sentences(scores: dict[str, Any]) -> list[str]:
    """Return what the exact tests say, a sentence each."""
    rows, bounds = scores["tests"]["row_exact"], scores["tests"]["bounds"]
    return [
        f"Rows with every slot right: {rows['gained']} gained, {rows['lost']} lost, exact McNemar "
        f"p = {rows['mcnemar_p']:.2g} (rows taken as independent).",
        *(
            f"{RATES[name]} of the tuned run, exact 95 % interval: "
            f"{_percent(bound['low'])} to {_percent(bound['high'])}."
            for name, bound in bounds.items()
        ),
    ]


def seeds_note(spread: dict[str, Any]) -> str:
    """Return what other seeds of the same recipe say of one run's figure."""
    return (
        f"Slot accuracy over {spread['runs']} seeds: mean {spread['mean']:.1f} %, standard "
        f"deviation {spread['sd']:.1f} points; a difference of two runs below "
        f"{spread['noise']:.1f} points is noise."
    )


def report_columns(scores: dict[str, Any]) -> tuple[str, ...]:
    """Return the columns of `table`.

    The model being replaced has one where its answers were kept.
    """
    first = ("metric", "baseline", "tuned", "difference", *baselines.baseline_columns(scores))
    return (*first, "strong") if scores["strong"] else first


def metric_rows(scores: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the rows of `columns`.

    Each holds a metric, baseline, tuned and the difference [95 % interval], for every report.
    """
    rows = []
    for name, label in RATES.items():
        change = scores["difference_points"][name]
        interval_text = f"{change['points']:+.1f} [{change['low']:+.1f}, {change['high']:+.1f}]"
        rows.append(_row(scores, name, label, _percent, interval_text))
    for name in ("precision", "recall", "f1"):
        rows.append(_row(scores, name, f"{name} (micro)", _percent))
    if any(scores[side] and scores[side]["rubric_score"] is not None for side in SIDES):
        rows.append(_row(scores, "rubric_score", "rubric score (weighted)", _percent))
    for name in ("tokens_in", "tokens_out"):
        rows.append(_row(scores, name, f"{name} (mean)", "{:.0f}".format))
    for name in COUNTS:
        rows.append(_row(scores, name, name.replace("_", " "), str))
    if any(scores[side] and scores[side]["cost_usd_per_1000"] is not None for side in SIDES):
        rows.append(_row(scores, "cost_usd_per_1000", "USD for 1,000 requests", _usd))
    for share in ("p50", "p95"):
        name = f"batch_latency_ms_{share}"
        rows.append(_row(scores, name, f"batch latency ms {share}", str))
    return rows


def _row(
    scores: dict[str, Any],
    name: str,
    label: str,
    formatter: Callable[[Any], str],
    change: str = "",
) -> tuple[str, ...]:
    was, now, *strong = [formatter(scores[side][name]) for side in SIDES if scores[side]]
    # What a constant answer costs in tokens or time says nothing.
    others = (
        scores["rivals"][r] if name in COMPARED else None
        for r in baselines.baseline_columns(scores)
    )
    beside = [formatter(other[name]) if other else "-" for other in others]
    return (label, was, now, change, *beside, *strong)


ERROR_COLUMNS = ("why a slot failed", "baseline", "tuned")


def error_rows(scores: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return one row an error kind or hallucination proxy that occurs: how often in either run."""
    rows = []
    for group in ("errors", "proxies"):
        was, now = scores["baseline"][group], scores["tuned"][group]
        for name in {**was, **now}:
            pair = (was.get(name) or 0, now.get(name) or 0)
            if any(pair) and name != "ungrounded_share":
                label = name.replace("_", " ")
                prefix = "" if group == "errors" else "proxy: "
                rows.append((f"{prefix}{label}", *map(str, pair)))
    return rows


def write_report(folder: Path, scores: dict[str, Any]) -> Path:
    """Write scores.json, then report.md, into `folder`; the path of report.md."""
    files.write_file(folder / "scores.json", jsonio.pretty_json(scores))
    return files.write_file(folder / "report.md", report_markdown(scores))


def list_report_tables(
    scores: dict[str, Any],
) -> dict[str, tuple[Sequence[str], Sequence[Sequence[str]]]]:
    """Return the columns and rows of each table of the report by its title."""
    return {
        "Result": (report_columns(scores), metric_rows(scores)),
        "By field": (field_columns(scores), field_rows(scores)),
        "By task": (GROUP_COLUMNS, group_rows(scores["tasks"])),
        "By page type and language": (GROUP_COLUMNS, group_rows(scores["strata"])),
        "Why slots fail": (ERROR_COLUMNS, error_rows(scores)),
        "Decoding": (DECODING_COLUMNS, decoding_rows(scores)),
    }


def report_markdown(scores: dict[str, Any]) -> str:
    """Return the report for a person to read."""
    result, *sections = (
        _section(title, *table) for title, table in list_report_tables(scores).items()
    )
    parts = [
        f"# {escape_markdown_cell(scores['sem'])}: "
        f"{escape_markdown_cell(scores['tuned']['run'])} against "
        f"{escape_markdown_cell(scores['baseline']['run'])}",
        f"**{scores['verdict']}** (percentage points of slot accuracy, 95 % interval).",
        *(
            [f"**{escape_markdown_cell(scores['rivals']['sentence'])}**."]
            if "rivals" in scores
            else []
        ),
        f"n = {scores['tuned']['n']} examples of {scores['tuned']['domains']} domains "
        f"(without a domain: its document, else itself), "
        f"split {scores['split']} of snapshot v{scores['snapshot']['version']}. "
        "Interval: paired, jackknife over domains with a t quantile; exact bounds where fewer "
        "than five domains moved. The percentile bootstrap is in scores.json.",
        result,
        "\n".join(f"- {line}" for line in test_sentences(scores)),
        *sections,
        _domains(scores["snapshot"]),
        _notes(scores),
    ]
    return "\n\n".join(parts) + "\n"


FIELD_COLUMNS = (
    "field",
    "n",
    "pass base",
    "pass tuned",
    "precision",
    "recall",
    "F1",
    "missing",
    "spurious",
)
GROUP_COLUMNS = ("group", "n", "accuracy base", "accuracy tuned", "schema valid tuned")
DECODING_COLUMNS = (
    "run",
    "decoding",
    "slot accuracy",
    "JSON validity",
    "schema validity",
    "tokens out",
    "cut",
    "batch latency ms p50",
)


def decoding_rows(scores: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return one row per run and way of decoding.

    The ways are free, repaired and, where it was run, constrained.
    """
    return [
        (
            scores[side]["run"],
            way,
            *(_percent(totals[name]) for name in ("accuracy", "json_valid", "schema_valid")),
            f"{totals['tokens_out']:.0f}",
            str(totals["cut"]),
            str(totals["batch_latency_ms_p50"]),
        )
        for side in ("baseline", "tuned")
        for way, totals in scores["decoding"][side].items()
    ]


def field_columns(scores: dict[str, Any]) -> tuple[str, ...]:
    """Return the columns of `field_rows`."""
    others = baselines.baseline_columns(scores)
    return (*FIELD_COLUMNS[:4], *others, *["beats the better"][: len(others)], *FIELD_COLUMNS[4:])


def field_rows(scores: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return one row a field; precision, recall, F1, missing and spurious are the tuned run's."""
    before = scores["baseline"]["fields"]
    has_rivals = bool(baselines.baseline_columns(scores))
    return [
        (
            name,
            str(after["n"]),
            _percent(before.get(name, {}).get("pass")),
            _percent(after["pass"]),
            *map(_percent, baselines.rival_pass_rates(scores, name)),
            *(["yes" if baselines.is_beaten(scores, name) else "not shown"] if has_rivals else []),
            *(_percent(after[key]) for key in ("precision", "recall", "f1")),
            str(after["missing"]),
            str(after["spurious"]),
        )
        for name, after in scores["tuned"]["fields"].items()
    ]


def escape_markdown_cell(text: object) -> str:
    """Return `text` as it may stand in a Markdown table: no markup, no link, no new line."""
    flat = " ".join(str(text).split())
    escaped = html.escape(flat, quote=False)
    return "".join("\\" + c if c in "|`*_[]!\\#~<>" else c for c in escaped if c.isprintable())


def _section(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    inert = ([escape_markdown_cell(value) for value in row] for row in rows)
    return f"## {title}\n{format_markdown_table(columns, inert)}"


def _groups(comparison: Comparison, key: str) -> dict[str, dict[str, Any]]:
    before = metrics.group_scores(comparison.before, key)
    groups = {}
    for name, after in metrics.group_scores(comparison.after, key).items():
        was, now = metrics.compute_totals(before.get(name, [])), metrics.compute_totals(after)
        groups[name] = {
            "n": now["n"],
            "accuracy_base": was["accuracy"],
            "accuracy_tuned": now["accuracy"],
            "schema_valid_tuned": now["schema_valid"],
        }
    return groups


def group_rows(groups: dict[str, dict[str, Any]]) -> list[tuple[str, ...]]:
    """Return one row a task or stratum."""
    return [
        (
            name,
            str(group["n"]),
            *(_percent(group[k]) for k in ("accuracy_base", "accuracy_tuned")),
            _percent(group["schema_valid_tuned"]),
        )
        for name, group in groups.items()
    ]


def _domains(snapshot: dict[str, Any]) -> str:
    shared = snapshot["shared_domains"]
    named = ", ".join(escape_markdown_cell(name) for name in shared) if shared else "none"
    return (
        "## Unseen domains\n"
        f"Domains in train: {snapshot['train_domains']}; in this split: "
        f"{snapshot['split_domains']}; in both: **{len(shared)}** ({named}).\n"
        f"Query: `{snapshot['query']}`"
    )


def _notes(scores: dict[str, Any]) -> str:
    return "## Read with care\n" + "\n".join(
        f"- {escape_markdown_cell(note)}" for note in scores["notes"]
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value * 100:.1f} %"


def _usd(value: float | None) -> str:
    return "-" if value is None else f"${value:.4f}"

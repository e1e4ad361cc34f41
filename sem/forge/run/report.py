"""The report of a forge run: rates, distributions and samples, as Markdown and as one HTML page.

Everything in it was written by strangers (documents, teachers): cells are made inert in Markdown
and escaped in HTML, which runs no script and asks for nothing.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sem.core import files, pages
from sem.core.project import Project
from sem.dataset.clean import grounding
from sem.dataset.clean.validation import inert_table, sanitise_table_cell
from sem.forge.checks.pair_quality import PairVerdict
from sem.forge.language import detect_language

NAME = "forge_report"
TEMPLATE = Path(__file__).with_name("report.html.j2")
SAMPLES = 10
# Characters of a sample.
LONGEST = 700
EDGES = (25, 50, 100, 200, 400, 800, 1_600)
DROPPED = ("reason", "pairs", "share of pairs")
CHECKS = ("check", "ran", "did not run")
SKIPPED = ("what: reason", "count")
LOST = ("reason", "rows")
MOST_NOTES = 50
FILES = ("file", "rows", "sha256")


def write_forge_report(
    project: Project, facts: dict[str, Any], verdicts: Sequence[PairVerdict]
) -> Path:
    """Write the report of `facts` and `verdicts` in both forms; the HTML page's path."""
    figures = gather_forge_report(facts, verdicts)
    files.write_file(project.reports / f"{NAME}.md", forge_markdown(figures))
    return files.write_file(project.reports / f"{NAME}.html", forge_html(figures))


def gather_forge_report(facts: dict[str, Any], verdicts: Sequence[PairVerdict]) -> dict[str, Any]:
    """Return everything both forms show.

    Rates, distributions of the kept pairs, samples of both.
    """
    kept_verdicts = [verdict for verdict in verdicts if verdict.kept]
    provenances = [verdict.pair.provenance for verdict in kept_verdicts]
    answers = [_text(verdict) for verdict in kept_verdicts]
    pairs = len(verdicts)
    return {
        "facts": facts,
        "rates": [
            ("items", facts["items"], None),
            ("items left out by --limit", facts["left_out"], facts["items"] + facts["left_out"]),
            ("calls", facts["calls"], None),
            ("unusable replies", sum(facts["unusable"].values()), facts["calls"]),
            ("pairs", pairs, None),
            ("kept", len(kept_verdicts), pairs),
            ("dropped", pairs - len(kept_verdicts), pairs),
            ("rows made of kept pairs", facts["rows"], len(kept_verdicts)),
        ],
        "lost": [
            *((f"not taken: {name}", count) for name, count in facts["refused"].items()),
            *((f"not kept by cleaning: {name}", n) for name, n in facts["uncleaned"].items()),
        ],
        "notes": _some(facts["notes"]),
        "unusable": list(facts["unusable"].items()),
        "dropped": [(n, c, _percent(c, pairs)) for n, c in _ordered(facts["dropped"])],
        "checks": [(n, c["ran"], c["did_not_run"]) for n, c in facts["checks"].items()],
        "skipped": _ordered(facts["skipped"]),
        "files": [(n, f["rows"], f["sha256"][:16]) for n, f in facts["files"].items()],
        "bars": [
            _bar("Kept and dropped", [("kept", len(kept_verdicts)), *_ordered(facts["dropped"])]),
            _bar("Kinds", _counted(provenance.get("kind") for provenance in provenances)),
            _bar(
                "Difficulty", _counted(provenance.get("difficulty") for provenance in provenances)
            ),
            _bar("Asked by", _counted(provenance.get("persona") for provenance in provenances)),
            _bar("Language of the answers", _counted(detect_language(text) for text in answers)),
            _bar("Characters of questions", _lengths(v.pair.prompt for v in kept_verdicts)),
            _bar("Characters of answers", _lengths(answers)),
            _bar(
                "Documents with the most pairs",
                _counted(v.pair.source for v in kept_verdicts)[:12],
            ),
        ],
        "samples": [_sample(verdict) for verdict in _drawn(kept_verdicts)],
        "refused": [_sample(verdict) for verdict in _drawn(v for v in verdicts if not v.kept)],
    }


def forge_markdown(figures: dict[str, Any]) -> str:
    """Return the figures as tables, the samples as lists."""
    facts = figures["facts"]
    head = (
        f"# Forge of {sanitise_table_cell(facts['sem'])}\n\n"
        f"Teacher {sanitise_table_cell(facts['teacher'])}, prompts {facts['prompt_version']}, "
        f"{facts['items']:,} items of {facts['sources']['count']:,} sources with pairs, "
        f"snapshot {facts['snapshot'] or 'none'}.\n"
    )
    tables = _tables(figures)
    parts = [head, *(inert_table(title, *tables[title]) for title in tables if title != "Files")]
    for bar in figures["bars"][1:]:
        rows = [(row["label"], row["count"]) for row in bar["rows"]]
        parts.append(inert_table(bar["title"], ("", "pairs"), rows))
    for title, name in (("Sample of kept pairs", "samples"), ("Sample of dropped", "refused")):
        parts += [f"## {title}\n", *(map(_item, figures[name]))]
    parts += [inert_table("Files", *tables["Files"])]
    parts += [f"- {sanitise_table_cell(note)}" for note in figures["notes"]]
    return "\n".join(parts) + "\n"


def _item(sample: dict[str, Any]) -> str:
    lines = [
        f"- **{sanitise_table_cell(sample['question'])}**",
        f"  {sanitise_table_cell(sample['answer'])}",
    ]
    lines += [
        f"  {sanitise_table_cell(name)}: {sanitise_table_cell(str(value))}"
        for name, value in sample["told"]
    ]
    return "  \n".join(lines) + "\n"


def forge_html(figures: dict[str, Any]) -> str:
    """Return the page, its plots drawn by CSS."""
    return pages.render_page(TEMPLATE, figures=figures, tables=_tables(figures))


def _tables(figures: dict[str, Any]) -> dict[str, tuple[Sequence[str], Sequence[Any]]]:
    """Return the columns and rows of each table by its title."""
    rates = [(name, f"{count:,}", _percent(count, of)) for name, count, of in figures["rates"]]
    return {
        "Rates": (("", "count", "share"), rates),
        "Unusable replies": (("reason", "calls"), figures["unusable"]),
        "Dropped pairs, by the first check they failed": (DROPPED, figures["dropped"]),
        "Checks": (CHECKS, figures["checks"]),
        "Skipped": (SKIPPED, figures["skipped"]),
        "Rows lost on the way to the snapshot": (LOST, figures["lost"]),
        "Files": (FILES, figures["files"]),
    }


def _drawn(verdicts: Iterable[PairVerdict]) -> list[PairVerdict]:
    """SAMPLES of `verdicts`, the same ones for the same pairs."""
    lots = {verdict.pair.id: verdict for verdict in verdicts}
    names = sorted(lots, key=lambda name: hashlib.sha256(name.encode()).digest())
    return [lots[name] for name in names[:SAMPLES]]


def _sample(verdict: PairVerdict) -> dict[str, Any]:
    provenance = verdict.pair.provenance
    names = (
        "kind",
        "difficulty",
        "persona",
        "topic",
        "span",
        "document_sha256",
        "teacher",
        "prompt_sha256",
        "reason",
        "checks",
    )
    details = [(name, provenance[name]) for name in names if provenance.get(name)]
    return {
        "question": _cut(verdict.pair.prompt),
        "answer": _cut(_text(verdict)),
        "source": verdict.pair.source,
        "told": [("source", verdict.pair.source), *details],
    }


def _some(notes: Sequence[str]) -> list[str]:
    more = len(notes) - MOST_NOTES
    return [*notes[:MOST_NOTES], *([f"and {more:,} more in forge.json"] if more > 0 else [])]


def _text(verdict: PairVerdict) -> str:
    return "\n".join(str(value) for _, value in grounding.scalar_leaves(verdict.pair.output))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST] + " …"


def _bar(title: str, counts: Sequence[tuple[str, int]]) -> dict[str, Any]:
    most = max((count for _, count in counts), default=0) or 1
    rows = [
        {"label": label, "count": count, "width": round(100 * count / most, 1)}
        for label, count in counts
    ]
    return {"title": title, "rows": rows}


def _lengths(texts: Iterable[str]) -> list[tuple[str, int]]:
    """Return how many of `texts` are up to each of EDGES long, and longer."""
    counts = Counter(next((e for e in EDGES if len(t) <= e), 0) for t in texts)
    rows = [(f"up to {edge:,}", counts[edge]) for edge in EDGES]
    return [*rows, (f"over {EDGES[-1]:,}", counts[0])]


def _counted(names: Iterable[Any]) -> list[tuple[str, int]]:
    return _ordered(Counter(str(name) if name else "not told" for name in names))


def _ordered(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))


def _percent(count: int, of: int | None) -> str:
    return f"{100 * count / of:.1f} %" if of else "-"


def rate_rows(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what a script's table shows of `facts`."""
    yield "calls", f"{facts['calls']:,}"
    for reason, count in _ordered(facts["unusable"]):
        yield f"unusable: {reason}", f"{count:,}"
    yield "pairs", f"{facts['pairs']:,}"
    yield "kept", f"{facts['kept']:,} ({_percent(facts['kept'], facts['pairs'])})"
    for reason, count in _ordered(facts["dropped"]):
        yield f"dropped: {reason}", f"{count:,}"
    for reason, count in _ordered(facts["skipped"]):
        yield f"skipped: {reason}", f"{count:,}"

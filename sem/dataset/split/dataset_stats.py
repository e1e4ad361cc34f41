"""reports/SEM/dataset_stats.{json,md,html}: what a set holds, for a person who decides on it.

Inputs and labels are strangers' text: the page escapes everything and forbids every request.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from sem.core import files, jsonio, state
from sem.core.example import Example
from sem.core.markdown import titled_table
from sem.core.project import Project
from sem.dataset.clean import clean
from sem.dataset.clean.validation import REASONS, escape
from sem.dataset.split import certificate, profile, snapshot, splits

TEMPLATE = Path(__file__).with_name("stats.html.j2")
NAME = "dataset_stats"
UNGROUNDED = "ungrounded.jsonl"
# Not a hyphen, which a spreadsheet would take for the start of a formula.
NONE = "–"
QUANTILES = ("p50", "p95", "p99", "max")
TOKENS = ("task", "part", "of", "rows", *QUANTILES)
SLOTS = ("slot", "there", "null", "absent", "labels", "balance", "values", *profile.HOW)
SHARED = certificate.COLUMNS
# Labels, strata or domains that are drawn.
MOST = 40


@contextmanager
def collecting(project: Project) -> Iterator[tuple[Any, list[int]]]:
    """A function that takes each ungrounded value into ungrounded.jsonl, and their count."""
    count = [0]
    with files.replacing(project.reports / UNGROUNDED) as file:

        def take(example: Example, slot: str, value: Any) -> None:
            count[0] += 1
            row = {"id": example.id, "task": example.task, "slot": slot, "value": value}
            file.write((jsonio.canonical_json(row) + "\n").encode("utf-8"))

        yield take, count


def gather_dataset_stats(
    project: Project, version: int | str | None, count_tokens: Any
) -> dict[str, Any]:
    """Return everything the page shows about a snapshot, or about clean.jsonl before the first
    one.
    """
    if version or snapshot.snapshot_versions(project):
        frozen = snapshot.load_snapshot(project, version)
        name, facts = frozen.name, frozen.facts
        parts = {part: frozen.examples(part) for part in splits.PARTS}
    else:
        name, facts, parts = clean.NAME, {}, {"all": clean.read_clean_examples(project)}
    with collecting(project) as (take, ungrounded):
        profiles = profile.describe_parts(parts, project.tasks, count_tokens, take)
    path = project.processed / clean.FACTS
    cleaned = state.read_state(path, state.CleanFacts) if path.exists() else {}
    return {
        "sem": project.sem,
        "of": name,
        "tasks": {
            task: profile.profile_json(task_profile) for task, task_profile in profiles.items()
        },
        "ungrounded": ungrounded[0],
        "certificate": facts.get("certificate"),
        "rejected": cleaned.get("rejected", {}),
        "read": cleaned.get("read"),
        "kept": cleaned.get("rows"),
        "near": cleaned.get("near"),
        "pii": cleaned.get("pii", {}),
    }


def write_dataset_stats(project: Project, stats: dict[str, Any]) -> Path:
    """Write `stats` as JSON, Markdown and HTML; the page."""
    folder = project.reports
    files.write_file(folder / f"{NAME}.json", jsonio.pretty(stats))
    files.write_file(folder / f"{NAME}.md", dataset_stats_markdown(stats))
    return files.write_file(folder / f"{NAME}.html", dataset_stats_html(stats))


def token_rows(stats: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return rows of TOKENS."""
    return [
        (
            task,
            part,
            kind,
            figures["rows"],
            *(_cell(figures[f"{kind}_tokens"][q]) for q in QUANTILES),
        )
        for task, whole in stats["tasks"].items()
        for part, figures in whole["parts"].items()
        for kind in ("prompt", "answer")
    ]


def slot_rows(stats: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return rows of SLOTS: shares of rows, then shares of the values that were looked for."""
    rows = []
    for task, whole in stats["tasks"].items():
        for slot, figures in whole["slots"].items():
            ground = figures.get("grounding", {})
            labels = (
                (len(figures["labels"]), figures["balance"])
                if "labels" in figures
                else (NONE, NONE)
            )
            shares = [_percent(figures[key]) for key in ("coverage", "null", "absent")]
            stands = [_percent(ground.get(how)) for how in profile.HOW]
            rows.append((f"{task}.{slot}", *shares, *labels, _cell(ground.get("values")), *stands))
    return rows


def reject_rows(stats: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Reason, what it means, rows; most frequent first."""
    ordered = sorted(stats["rejected"].items(), key=lambda item: (-item[1], item[0]))
    return [(reason, REASONS.get(reason, ""), count) for reason, count in ordered]


def pii_rows(stats: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Kind of personal data, what was done, how often."""
    return [
        (kind, action, count)
        for kind, actions in sorted(stats["pii"].items())
        for action, count in sorted(actions.items())
    ]


def shared_rows(stats: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return rows of SHARED; none before the first snapshot."""
    return certificate.certificate_table(stats) if stats["certificate"] else []


def dataset_stats_markdown(stats: dict[str, Any]) -> str:
    """Return the figures as tables."""
    counts = f"{_cell(stats['read'])} rows read, {_cell(stats['kept'])} kept by cleaning"
    parts = [
        f"# Dataset {escape(stats['of'])} of {escape(stats['sem'])}\n",
        f"{counts}; {stats['ungrounded']:,} label values are not in their input: "
        f"`{UNGROUNDED}`.\n",
        _table("Tokens", TOKENS, token_rows(stats)),
        _table("Slots", SLOTS, slot_rows(stats)),
        _table("What the parts have in common", SHARED, shared_rows(stats)),
        _table("Rejected by cleaning", ("reason", "meaning", "rows"), reject_rows(stats)),
        _table("Personal data found", ("kind", "done", "times"), pii_rows(stats)),
    ]
    for task, whole in stats["tasks"].items():
        strata = list(islice(whole["strata"].items(), MOST))
        parts.append(_table(f"Page type and language, {task}", ("stratum", "rows"), strata))
        rights = list(whole["rights"].items())
        parts.append(_table(f"Consent and licence, {task}", ("said", "rows"), rights))
        largest = list(whole["domains"]["largest"].items())
        title = f"Largest of {whole['domains']['count']:,} domains, {task}"
        parts.append(_table(title, ("domain", "rows"), largest))
    return "\n".join(parts)


def _table(title: str, columns: Any, rows: Any) -> str:
    inert = ([escape(str(cell)) for cell in row] for row in rows)
    return titled_table(escape(title), columns, inert)


def dataset_stats_html(stats: dict[str, Any]) -> str:
    """Return the page, with plots of CSS."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string(TEMPLATE.read_text("utf-8")).render(
        found=stats,
        tables={
            "What the parts have in common": (SHARED, shared_rows(stats)),
            "Rejected by cleaning": (("reason", "meaning", "rows"), reject_rows(stats)),
            "Personal data found": (("kind", "done", "times"), pii_rows(stats)),
        },
        token_columns=TOKENS,
        tokens=token_rows(stats),
        slot_columns=SLOTS,
        slots=slot_rows(stats),
        histograms=[_histogram(*histogram) for histogram in _histograms(stats)],
        grounding=_grounding(stats),
        bars=list(_bars(stats)),
        edges=[_short(edge) for edge in profile.EDGES] + ["more"],
        ungrounded_file=UNGROUNDED,
    )


def _histograms(stats: dict[str, Any]) -> Iterator[tuple[str, str, list[int]]]:
    for task, whole in stats["tasks"].items():
        for kind in ("prompt", "answer"):
            for part, figures in whole["parts"].items():
                yield f"{task}, {kind}", part, figures["histogram"][kind]


def _histogram(title: str, part: str, counts: list[int]) -> dict[str, Any]:
    most, total = max(counts, default=0) or 1, sum(counts)
    heights = [round(100 * count / most, 1) for count in counts]
    return {"title": title, "part": part, "rows": total, "columns": list(zip(heights, counts))}  # noqa: B905


def _grounding(stats: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a bar in three pieces for each slot whose values were looked for, worst first."""
    bars = [
        {"label": f"{task}.{slot}", **figures["grounding"]}
        for task, whole in stats["tasks"].items()
        for slot, figures in whole["slots"].items()
        if "grounding" in figures
    ]
    return sorted(bars, key=lambda bar: (-bar["absent"], bar["label"]))


def _bars(stats: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Bars of labels, strata and domains, the longest first."""
    for task, whole in stats["tasks"].items():
        for slot, figures in whole["slots"].items():
            if "labels" in figures:
                yield _bar(
                    f"Labels of {task}.{slot}, balance {figures['balance']}", figures["labels"]
                )
        yield _bar(f"Page type and language, {task}", whole["strata"])
        yield _bar(f"Consent and licence, {task}", whole["rights"])
        count = whole["domains"]["count"]
        yield _bar(f"Largest of {count:,} domains, {task}", whole["domains"]["largest"])


def _bar(title: str, counts: dict[str, int]) -> dict[str, Any]:
    most = max(counts.values(), default=0) or 1
    rows = [
        {"label": label or "(none)", "count": count, "width": round(100 * count / most, 1)}
        for label, count in islice(counts.items(), MOST)
    ]
    return {"title": title, "rows": rows, "hidden": max(0, len(counts) - MOST)}


def _short(edge: int) -> str:
    return f"{edge / 1024:g}k" if edge >= 1_024 else str(edge)


def _percent(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:.1f} %"


def _cell(value: Any) -> str:
    return NONE if value is None else f"{value:,}"

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
        found = profile.describe_parts(parts, project.tasks, count_tokens, take)
    path = project.processed / clean.FACTS
    cleaned = state.read_state(path, state.CleanFacts) if path.exists() else {}
    return {
        "sem": project.sem,
        "of": name,
        "tasks": {task: profile.profile_json(one) for task, one in found.items()},
        "ungrounded": ungrounded[0],
        "certificate": facts.get("certificate"),
        "rejected": cleaned.get("rejected", {}),
        "read": cleaned.get("read"),
        "kept": cleaned.get("rows"),
        "near": cleaned.get("near"),
        "pii": cleaned.get("pii", {}),
    }


def write_dataset_stats(project: Project, found: dict[str, Any]) -> Path:
    """Write `found` as JSON, Markdown and HTML; the page."""
    folder = project.reports
    files.write_file(folder / f"{NAME}.json", jsonio.pretty(found))
    files.write_file(folder / f"{NAME}.md", dataset_stats_markdown(found))
    return files.write_file(folder / f"{NAME}.html", dataset_stats_html(found))


def token_rows(found: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return rows of TOKENS."""
    return [
        (task, part, kind, one["rows"], *(_cell(one[f"{kind}_tokens"][q]) for q in QUANTILES))
        for task, whole in found["tasks"].items()
        for part, one in whole["parts"].items()
        for kind in ("prompt", "answer")
    ]


def slot_rows(found: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return rows of SLOTS: shares of rows, then shares of the values that were looked for."""
    rows = []
    for task, whole in found["tasks"].items():
        for slot, one in whole["slots"].items():
            ground = one.get("grounding", {})
            labels = (len(one["labels"]), one["balance"]) if "labels" in one else (NONE, NONE)
            shares = [_percent(one[key]) for key in ("coverage", "null", "absent")]
            stands = [_percent(ground.get(how)) for how in profile.HOW]
            rows.append((f"{task}.{slot}", *shares, *labels, _cell(ground.get("values")), *stands))
    return rows


def reject_rows(found: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Reason, what it means, rows; most frequent first."""
    ordered = sorted(found["rejected"].items(), key=lambda item: (-item[1], item[0]))
    return [(reason, REASONS.get(reason, ""), count) for reason, count in ordered]


def pii_rows(found: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Kind of personal data, what was done, how often."""
    return [
        (kind, action, count)
        for kind, actions in sorted(found["pii"].items())
        for action, count in sorted(actions.items())
    ]


def shared_rows(found: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return rows of SHARED; none before the first snapshot."""
    return certificate.certificate_table(found) if found["certificate"] else []


def dataset_stats_markdown(found: dict[str, Any]) -> str:
    """Return the figures as tables."""
    counts = f"{_cell(found['read'])} rows read, {_cell(found['kept'])} kept by cleaning"
    parts = [
        f"# Dataset {escape(found['of'])} of {escape(found['sem'])}\n",
        f"{counts}; {found['ungrounded']:,} label values are not in their input: "
        f"`{UNGROUNDED}`.\n",
        _table("Tokens", TOKENS, token_rows(found)),
        _table("Slots", SLOTS, slot_rows(found)),
        _table("What the parts have in common", SHARED, shared_rows(found)),
        _table("Rejected by cleaning", ("reason", "meaning", "rows"), reject_rows(found)),
        _table("Personal data found", ("kind", "done", "times"), pii_rows(found)),
    ]
    for task, whole in found["tasks"].items():
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


def dataset_stats_html(found: dict[str, Any]) -> str:
    """Return the page, with plots of CSS."""
    from jinja2 import Environment, StrictUndefined

    made = Environment(autoescape=True, undefined=StrictUndefined)
    return made.from_string(TEMPLATE.read_text("utf-8")).render(
        found=found,
        tables={
            "What the parts have in common": (SHARED, shared_rows(found)),
            "Rejected by cleaning": (("reason", "meaning", "rows"), reject_rows(found)),
            "Personal data found": (("kind", "done", "times"), pii_rows(found)),
        },
        token_columns=TOKENS,
        tokens=token_rows(found),
        slot_columns=SLOTS,
        slots=slot_rows(found),
        histograms=[_histogram(*one) for one in _histograms(found)],
        grounding=_grounding(found),
        bars=list(_bars(found)),
        edges=[_short(edge) for edge in profile.EDGES] + ["more"],
        ungrounded_file=UNGROUNDED,
    )


def _histograms(found: dict[str, Any]) -> Iterator[tuple[str, str, list[int]]]:
    for task, whole in found["tasks"].items():
        for kind in ("prompt", "answer"):
            for part, one in whole["parts"].items():
                yield f"{task}, {kind}", part, one["histogram"][kind]


def _histogram(title: str, part: str, counts: list[int]) -> dict[str, Any]:
    most, total = max(counts, default=0) or 1, sum(counts)
    heights = [round(100 * count / most, 1) for count in counts]
    return {"title": title, "part": part, "rows": total, "columns": list(zip(heights, counts))}  # noqa: B905


def _grounding(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a bar in three pieces for each slot whose values were looked for, worst first."""
    made = [
        {"label": f"{task}.{slot}", **one["grounding"]}
        for task, whole in found["tasks"].items()
        for slot, one in whole["slots"].items()
        if "grounding" in one
    ]
    return sorted(made, key=lambda one: (-one["absent"], one["label"]))


def _bars(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Bars of labels, strata and domains, the longest first."""
    for task, whole in found["tasks"].items():
        for slot, one in whole["slots"].items():
            if "labels" in one:
                yield _bar(f"Labels of {task}.{slot}, balance {one['balance']}", one["labels"])
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

"""reports/SEM/dataset_stats.{json,md,html}: what a set holds, for a person who decides on it.

Inputs and labels are strangers' text: see `core/pages.py`.
"""

import math
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from sem.core import files, jsonio, pages, shape, state, taskspec
from sem.core.example import Example
from sem.core.project import Project
from sem.core.taskspec import TaskSpec
from sem.dataset.clean import clean, grounding, tally
from sem.dataset.clean.validation import REASONS, inert_table, sanitise_table_cell
from sem.dataset.split import certificate, snapshot, splits
from sem.dataset.store.examples_table import batch_items

# Figures about a set of examples: tokens, slots, labels, strata, domains.

CountTokens = Callable[[list[str]], list[int]]

BATCH = 64
SHARES = (0.5, 0.95, 0.99)
MAX_LABELS = 200
HOW = ("verbatim", "normalised", "absent")
EDGES = (16, 32, 64, 128, 256, 512, 1_024, 1_536, 2_048, 4_096, 8_192, 16_384)  # tokens


@dataclass
class SlotStats:
    """How often one field of the output is there."""

    present: int = 0
    null: int = 0
    absent: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    # How each value stands in the input.
    grounding: Counter[str] = field(default_factory=Counter)


@dataclass
class PartLengths:
    """Lengths of one part of a snapshot."""

    rows: int = 0
    prompt_tokens: "array[int]" = field(default_factory=lambda: array("L"))
    answer_tokens: "array[int]" = field(default_factory=lambda: array("L"))


@dataclass
class Profile:
    """Figures of one task."""

    rows: int = 0
    prompt_tokens: "array[int]" = field(default_factory=lambda: array("L"))
    answer_tokens: "array[int]" = field(default_factory=lambda: array("L"))
    chars_before: int = 0
    chars_after: int = 0
    slots: dict[str, SlotStats] = field(default_factory=dict)
    strata: Counter[str] = field(default_factory=Counter)
    # Consent and licence, as rows say.
    rights: Counter[str] = field(default_factory=Counter)
    domains: Counter[str] = field(default_factory=Counter)
    parts: dict[str, PartLengths] = field(default_factory=dict)


def describe_parts(
    parts: Mapping[str, Iterable[Example]],
    tasks: dict[str, TaskSpec],
    count_tokens: CountTokens | None = None,
    ungrounded: Callable[[Example, str, Any], None] | None = None,
) -> dict[str, Profile]:
    """Return the figures of all `parts` by task; tokens by `count_tokens`, none when it is None.

    `ungrounded` is told every (example, slot, value) that its input does not hold, labels aside.
    """
    profiles: dict[str, Profile] = {}
    for part, examples in parts.items():
        for batch in batch_items(examples, BATCH):
            for example in batch:
                profile = profiles.setdefault(example.task, Profile())
                profile.parts.setdefault(part, PartLengths()).rows += 1
                _add(profile, example, tasks[example.task])
                _ground(profile, example, tasks[example.task], ungrounded)
            if count_tokens is not None:
                _count(profiles, part, batch, tasks, count_tokens)
    return dict(sorted(profiles.items()))


def _add(profile: Profile, example: Example, spec: TaskSpec) -> None:
    profile.rows += 1
    profile.strata[example.stratum] += 1
    for key in ("consent", "license"):
        statement = f"{key}: {str(example.meta.get(key) or 'not said')[:60]}"
        if len(profile.rights) >= MAX_LABELS and statement not in profile.rights:
            statement = f"{key}: other"
        profile.rights[statement] += 1
    profile.domains[example.domain] += 1
    profile.chars_before += int(example.meta.get("chars_before") or 0)
    profile.chars_after += int(example.meta.get("chars_after") or 0)
    root = spec.io_schema
    value, fields = example.output_json, shape.schema_properties(root, root)
    if not isinstance(value, dict):
        value, fields = {"answer": value}, {"answer": root}
    for name in {**fields, **value}:
        slot = profile.slots.setdefault(name, SlotStats())
        if name not in value:
            slot.absent += 1
        elif value[name] is None:
            slot.null += 1
        else:
            slot.present += 1
            is_closed = shape.is_closed(shape.resolve_shape(fields.get(name), root))
            _label(slot, value[name], is_closed or name in spec.label_enums)


def _ground(profile: Profile, example: Example, spec: TaskSpec, ungrounded: Any) -> None:
    text = grounding.SearchableText(example.input_text)
    root = spec.io_schema
    fields = shape.schema_properties(root, root)
    for name, value in grounding.scalar_leaves(example.output_json):
        kind = fields.get(name, root if name == "answer" else None)
        if spec.label_enums.get(name) or tally.is_listed(kind, root):
            # a label is chosen, not copied.
            continue
        stands = grounding.classify_grounding(value, text)
        profile.slots[name].grounding[stands] += 1
        if stands == "absent" and ungrounded is not None:
            ungrounded(example, name, value)


def _label(slot: SlotStats, value: Any, is_closed: bool) -> None:
    if is_closed or isinstance(value, bool):
        for label in value if isinstance(value, list) else [value]:
            if len(slot.labels) < MAX_LABELS:
                slot.labels[str(label)] += 1


def _count(
    profiles: dict[str, Profile],
    part: str,
    batch: Sequence[Example],
    tasks: dict[str, TaskSpec],
    count_tokens: CountTokens,
) -> None:
    prompts = [
        f"{example.system_prompt or spec.system_prompt}\n{spec.prompt(example.input_text)}"
        for example in batch
        for spec in [tasks[example.task]]
    ]
    answers = [taskspec.taught_text(example.output_json) for example in batch]
    counts = zip(batch, count_tokens(prompts), count_tokens(answers), strict=True)
    for example, prompt, answer in counts:
        for figures in (profiles[example.task], profiles[example.task].parts[part]):
            figures.prompt_tokens.append(prompt)
            figures.answer_tokens.append(answer)


def nearest_rank_quantile(values: Sequence[int], share: float) -> int | None:
    """Return the value below or at which `share` of `values` lie (nearest rank); None for none."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def profile_json(profile: Profile) -> dict[str, Any]:
    """Return `profile` as dataset_stats.json holds it."""
    return {
        "rows": profile.rows,
        "prompt_tokens": _spread(profile.prompt_tokens),
        "answer_tokens": _spread(profile.answer_tokens),
        "chars": {"raw": profile.chars_before, "cleaned": profile.chars_after},
        "parts": {
            name: {
                "rows": part.rows,
                "prompt_tokens": _spread(part.prompt_tokens),
                "answer_tokens": _spread(part.answer_tokens),
                "histogram": {
                    "prompt": histogram_counts(part.prompt_tokens),
                    "answer": histogram_counts(part.answer_tokens),
                },
            }
            for name, part in profile.parts.items()
        },
        "slots": {name: _slot(slot, profile.rows) for name, slot in profile.slots.items()},
        "strata": dict(profile.strata.most_common()),
        "rights": dict(profile.rights.most_common()),
        "domains": {
            "count": len(set(profile.domains) - {""}),
            "rows_without": profile.domains[""],
            "largest": dict(profile.domains.most_common(10)),
        },
    }


def histogram_counts(values: Sequence[int]) -> list[int]:
    """Return how many of `values` lie up to each of EDGES, and beyond the last."""
    counts = [0] * (len(EDGES) + 1)
    for value in values:
        counts[bisect_left(EDGES, value)] += 1
    return counts


def _spread(values: Sequence[int]) -> dict[str, int | None]:
    quantiles = {
        f"p{round(share * 100)}": nearest_rank_quantile(values, share) for share in SHARES
    }
    return {**quantiles, "max": max(values, default=None), "sum": sum(values)}


def _slot(slot: SlotStats, rows: int) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "coverage": round(slot.present / rows, 4),
        "null": round(slot.null / rows, 4),
        "absent": round(slot.absent / rows, 4),
    }
    if slot.grounding:
        total = slot.grounding.total()
        figures["grounding"] = {how: round(slot.grounding[how] / total, 4) for how in HOW}
        figures["grounding"]["values"] = total
    if slot.labels:
        figures["labels"] = dict(slot.labels.most_common())
        figures["balance"] = round(label_balance(slot.labels), 4)
    return figures


def label_balance(labels: Counter[str]) -> float:
    """Entropy of `labels` over its maximum: 1 when all are equally frequent, 0 for one label."""
    total = sum(labels.values())
    if len(labels) < 2:
        return 0.0
    entropy = -sum(n / total * math.log(n / total) for n in labels.values())
    return entropy / math.log(len(labels))


TEMPLATE = Path(__file__).with_name("stats.html.j2")
NAME = "dataset_stats"
UNGROUNDED = "ungrounded.jsonl"
# Not a hyphen, which a spreadsheet would take for the start of a formula.
NONE = "–"
QUANTILES = ("p50", "p95", "p99", "max")
TOKENS = ("task", "part", "of", "rows", *QUANTILES)
SLOTS = ("slot", "there", "null", "absent", "labels", "balance", "values", *HOW)
SHARED = certificate.COLUMNS
# Labels, strata or domains that are drawn.
MOST = 40


@contextmanager
def collect_ungrounded(project: Project) -> Iterator[tuple[Any, list[int]]]:
    """A function that takes each ungrounded value into ungrounded.jsonl, and their count."""
    count = [0]
    with files.open_atomic_file(project.reports / UNGROUNDED) as file:

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
    with collect_ungrounded(project) as (take, ungrounded):
        profiles = describe_parts(parts, project.tasks, count_tokens, take)
    path = project.processed / clean.FACTS
    cleaned: Mapping[str, Any] = state.read_if_there(path, state.CleanFacts) or {}
    return {
        "sem": project.sem,
        "of": name,
        "tasks": {task: profile_json(task_profile) for task, task_profile in profiles.items()},
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
    files.write_file(folder / f"{NAME}.json", jsonio.pretty_json(stats))
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
            stands = [_percent(ground.get(how)) for how in HOW]
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
        f"# Dataset {sanitise_table_cell(stats['of'])} of {sanitise_table_cell(stats['sem'])}\n",
        f"{counts}; {stats['ungrounded']:,} label values are not in their input: "
        f"`{UNGROUNDED}`.\n",
        *(inert_table(title, *table) for title, table in _tables(stats).items()),
    ]
    for task, whole in stats["tasks"].items():
        strata = list(islice(whole["strata"].items(), MOST))
        parts.append(inert_table(f"Page type and language, {task}", ("stratum", "rows"), strata))
        rights = list(whole["rights"].items())
        parts.append(inert_table(f"Consent and licence, {task}", ("said", "rows"), rights))
        largest = list(whole["domains"]["largest"].items())
        title = f"Largest of {whole['domains']['count']:,} domains, {task}"
        parts.append(inert_table(title, ("domain", "rows"), largest))
    return "\n".join(parts)


def dataset_stats_html(stats: dict[str, Any]) -> str:
    """Return the page, with plots of CSS."""
    return pages.render_page(
        TEMPLATE,
        stats=stats,
        tables=_tables(stats),
        histograms=[_histogram(*histogram) for histogram in _histograms(stats)],
        grounding=_grounding(stats),
        bars=list(_bars(stats)),
        edges=[_short(edge) for edge in EDGES] + ["more"],
        ungrounded_file=UNGROUNDED,
    )


def _tables(stats: dict[str, Any]) -> dict[str, tuple[Sequence[str], Sequence[Any]]]:
    """Return the columns and rows of each table by its title."""
    return {
        "Tokens": (TOKENS, token_rows(stats)),
        "Slots": (SLOTS, slot_rows(stats)),
        "What the parts have in common": (SHARED, shared_rows(stats)),
        "Rejected by cleaning": (("reason", "meaning", "rows"), reject_rows(stats)),
        "Personal data found": (("kind", "done", "times"), pii_rows(stats)),
    }


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

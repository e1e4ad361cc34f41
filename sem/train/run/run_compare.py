"""Runs side by side: what their recipes differ in, what came out, and what cannot be compared."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sem.core import console, files, jsonio, manifest, pages, state
from sem.core import run as runs
from sem.core.console import format_markdown_table
from sem.core.errors import SemError
from sem.core.project import Project
from sem.core.run import Run
from sem.eval.answers import subject
from sem.eval.report import compare as scoring
from sem.eval.report import plots
from sem.eval.stats import paired_stats
from sem.train.tracking.trackers import flatten_values

FORMAT = "train-compare.v1"
TEMPLATE = Path(__file__).with_name("compare.html.j2")
NONE = "-"
Json = dict[str, Any]


@dataclass(frozen=True)
class ComparedRun:
    """One run: its plan, its logged rows, its result when it is finished."""

    run: Run
    plan: Json
    rows: tuple[Json, ...]
    result: Json | None

    def last(self, key: str) -> float | None:
        """Return the newest logged value of `key`."""
        values = [row[key] for row in self.rows if _is_number(row.get(key))]
        return float(values[-1]) if values else None

    def best(self, key: str, greater: bool) -> float | None:
        """Return the best logged value of `key`."""
        values = [float(row[key]) for row in self.rows if _is_number(row.get(key))]
        return (max if greater else min)(values) if values else None

    def line(self, key: str) -> list[tuple[float, float]]:
        """(step, value) of `key`, steps of earlier stages counted."""
        points, before, stage, step = [], 0.0, None, 0.0
        for row in self.rows:
            if row.get("stage") != stage:
                before, stage = before + step, row.get("stage")
            step = float(row["step"])
            if _is_number(row.get(key)):
                points.append((before + step, float(row[key])))
        return points


def read_runs(project: Project, names: Sequence[str]) -> list[ComparedRun]:
    """Return the runs called `names`, finished or not.

    Raise SemError when one is named twice or unknown.
    """
    if len(set(names)) < 2 or len(set(names)) != len(names):
        raise SemError(f"runs {', '.join(names)}", "name two or more different runs")
    return [_side(runs.find_run(project, name, finished=False)) for name in names]


def _side(run: Run) -> ComparedRun:
    plan = run.plan()
    assert run.folder is not None
    log = run.folder / "metrics.jsonl"
    rows = tuple(state.read_state_rows(log, state.LoggedStep)) if log.exists() else ()
    sealed = state.read_if_there(run.folder / manifest.NAME, state.FinishedRun)
    return ComparedRun(run, plan, rows, sealed["result"] if sealed else None)


# What two runs must share for a figure of theirs to mean the same; why not, when they do not.
SHARED: dict[str, tuple[str, Callable[[ComparedRun], Any]]] = {
    "snapshot": ("snapshots", lambda s: s.plan["snapshot"]["sha256"]),
    "tasks": ("tasks or schemas", lambda s: s.plan["task_hashes"]),
    "base": ("base models", lambda s: s.plan["base_model"].get("revision")),
    "renderer": ("chat renderers", lambda s: s.plan["renderer"]),
    "val": ("val rows", lambda s: _val_rows(s)),
    "answers": ("val_answers", lambda s: s.plan["recipe"].get("val_answers")),
    "loss": (
        "loss weights",
        lambda s: [s.plan["recipe"].get(k) for k in ("loss", "task_weights")],
    ),
    "hardware": ("machines", lambda s: s.plan["hardware"]["name"]),
}
SAME_DATA = ("snapshot", "tasks")
SAME_TOKENS = (*SAME_DATA, "base", "renderer")
SAME_MACHINE = ("hardware",)


@dataclass(frozen=True)
class ComparedFigure:
    """One row of the table: what it is called, how it is read, what must be the same."""

    label: str
    value: Callable[[ComparedRun], Any]
    form: str = "{}"
    needs: tuple[str, ...] = ()

    def shown(self, side: ComparedRun) -> str:
        """Return the figure of `side` as text; NONE where there is none."""
        value = self.value(side)
        return NONE if value is None else self.form.format(value)


FIGURES = (
    ComparedFigure("state", lambda s: "finished" if s.result else "unfinished"),
    ComparedFigure("snapshot", lambda s: s.plan["snapshot"]["version"], "v{}"),
    ComparedFigure("rows trained on", lambda s: s.plan["counts"]["train"]["examples"], "{:,}"),
    ComparedFigure("tokens an epoch", lambda s: s.plan["counts"]["train"]["tokens"], "{:,}"),
    ComparedFigure("steps", lambda s: s.plan["total_steps"], "{:,}"),
    ComparedFigure("engine", lambda s: s.plan["engine"]),
    ComparedFigure("last train loss", lambda s: s.last("loss"), "{:.4f}", (*SAME_TOKENS, "loss")),
    ComparedFigure(
        "last val loss", lambda s: s.last("eval_loss"), "{:.4f}", (*SAME_TOKENS, "val")
    ),
    ComparedFigure(
        "best val loss", lambda s: s.best("eval_loss", False), "{:.4f}", (*SAME_TOKENS, "val")
    ),
    ComparedFigure(
        "best val slot F1",
        lambda s: s.best("eval_slot_f1", True),
        "{:.4f}",
        (*SAME_DATA, "answers"),
    ),
    ComparedFigure("kept step", lambda s: (s.result or {}).get("kept_step"), "{:,}"),
    ComparedFigure("seconds", lambda s: _seconds(s), "{:,.0f}", SAME_MACHINE),
    ComparedFigure("tokens/s", lambda s: _rate(s), "{:,.0f}", SAME_MACHINE),
    ComparedFigure(
        "peak memory, GiB", lambda s: s.best("peak_memory_gib", True), "{:.2f}", SAME_MACHINE
    ),
    ComparedFigure("adapter sha256", lambda s: (s.result or {}).get("adapter_sha256"), "{:.12}"),
    ComparedFigure("git commit", lambda s: s.plan["source"]["commit"], "{:.10}"),
)


def _val_rows(side: ComparedRun) -> list[Any]:
    recipe, counts = side.plan["recipe"], side.plan["counts"]["val"]
    # A seed chooses the rows only where fewer are taken than there are.
    is_sample = counts["examples"] == recipe["val_examples"]
    return [counts, recipe.get("data_seed", recipe["seed"]) if is_sample else None]


def _seconds(side: ComparedRun) -> float | None:
    stages = (side.result or {}).get("stages") or {}
    seconds = [stage["train_runtime"] for stage in stages.values() if "train_runtime" in stage]
    return sum(seconds) if seconds else (side.result or {}).get("train_runtime")


def _rate(side: ComparedRun) -> float | None:
    rates = sorted(row["tokens_per_second"] for row in side.rows if "tokens_per_second" in row)
    # The median: a busy minute is not a figure.
    return rates[len(rates) // 2] if rates else None


def compared_runs(project: Project, sides: Sequence[ComparedRun]) -> Json:
    """Return everything the table says, as one JSON value."""
    return {
        "format": FORMAT,
        "sem": project.sem,
        "runs": [side.run.id for side in sides],
        "recipe": recipe_differences(sides),
        "figures": [
            {
                "figure": figure.label,
                "values": [figure.value(side) for side in sides],
                "shown": [figure.shown(side) for side in sides],
                "differs": _differs(sides, figure),
            }
            for figure in FIGURES
        ],
        "test": [on_test(project, sides[0], other) for other in sides[1:]],
    }


def recipe_differences(sides: Sequence[ComparedRun]) -> list[Json]:
    """Return the keys of the recipe that are not the same in all of `sides`."""
    recipes = [dict(flatten_values(side.plan["recipe"])) for side in sides]
    keys = sorted({key for recipe in recipes for key in recipe})
    rows = [{"key": key, "values": [recipe.get(key) for recipe in recipes]} for key in keys]
    return [row for row in rows if any(value != row["values"][0] for value in row["values"])]


def _differs(sides: Sequence[ComparedRun], figure: ComparedFigure) -> list[str]:
    present_sides = [side for side in sides if figure.value(side) is not None]
    return list_differing_needs(present_sides, figure.needs) if present_sides else []


def list_differing_needs(sides: Sequence[ComparedRun], needs: Sequence[str]) -> list[str]:
    """Return the parts of `needs` that differ between `sides`.

    The figure is then not comparable.
    """
    return [
        SHARED[name][0]
        for name in needs
        if any(SHARED[name][1](side) != SHARED[name][1](sides[0]) for side in sides)
    ]


def on_test(project: Project, before: ComparedRun, after: ComparedRun) -> Json:
    """Return `after` minus `before` on test where both are scored on the same rows.

    Otherwise return why there is none.
    """
    test_result: Json = {"before": before.run.id, "after": after.run.id, "difference": None}
    different = list_differing_needs((before, after), SAME_DATA)
    if different:
        return test_result | {"reason": f"different {' and '.join(different)}"}
    for side in (before, after):
        if not (project.reports / side.run.id / "scores.json").exists():
            return test_result | {"reason": f"{side.run.id} has no scores.json: `fab eval.report`"}
    try:
        scores = [
            scoring.score_run_answers(subject.resolve_subject(project, side.run.id, "test", None))
            for side in (before, after)
        ]
    except SemError as error:  # its answers are older than its adapter, say
        return test_result | {"reason": error.message}
    difference = paired_stats.paired_differences(*scores, "accuracy")
    return test_result | {"reason": None, "difference": difference.as_json()}


def describe_test_result(test_result: Json) -> str:
    """Return what `on_test` found, as a person reads it."""
    pair = f"{test_result['after']} against {test_result['before']} on test"
    difference = test_result["difference"]
    if difference is None:
        return f"{pair}: not compared: {test_result['reason']}"
    interval = (
        f"{difference['points']:+.1f} points [{difference['low']:+.1f}, {difference['high']:+.1f}]"
    )
    of = f"{difference['pairs']} examples of {difference['domains']} domains"
    shows = "" if difference["low"] > 0 or difference["high"] < 0 else ": no difference shown"
    return f"{pair}: slot accuracy {interval}, {of}{shows}"


def list_comparison_notes(comparison: Json) -> list[str]:
    """Return what cannot be compared and why, a sentence each."""
    by_reason: dict[str, list[str]] = {}
    for row in comparison["figures"]:
        if row["differs"]:
            by_reason.setdefault(" and ".join(row["differs"]), []).append(row["figure"])
    return [
        f"Not comparable (different {reason}): {', '.join(figures)}."
        for reason, figures in by_reason.items()
    ]


def compare_table(comparison: Json) -> list[list[str]]:
    """Return rows for a terminal: the recipe's differences, then the figures.

    * is not comparable.
    """
    rows = [
        [row["key"], *map(jsonio.canonical_json, row["values"])] for row in comparison["recipe"]
    ]
    return rows + [
        [row["figure"] + ("*" if row["differs"] else ""), *row["shown"]]
        for row in comparison["figures"]
    ]


def write_run_comparison(project: Project, comparison: Json, sides: Sequence[ComparedRun]) -> Path:
    """Write compare.{json,md,html} of `comparison` below reports/SEM/compare/; the folder."""
    name = files.sha256_json(comparison["runs"])[:10]
    folder = project.reports / "compare" / name
    files.write_file(folder / "compare.json", jsonio.pretty_json(comparison))
    files.write_file(folder / "compare.md", compare_markdown(comparison))
    files.write_file(folder / "compare.html", compare_html(comparison, sides))
    return folder


def compare_markdown(comparison: Json) -> str:
    """Return the table and its notes in Markdown."""
    columns = ["what", *comparison["runs"]]
    inert = ([_inert(cell) for cell in row] for row in compare_table(comparison))
    lines = [f"# {comparison['sem']}: {len(comparison['runs'])} runs", ""]
    lines += [format_markdown_table([*map(_inert, columns)], inert), ""]
    lines += [
        f"- {line}"
        for line in (
            *list_comparison_notes(comparison),
            *map(describe_test_result, comparison["test"]),
        )
    ]
    return "\n".join(lines) + "\n"


def _inert(cell: str) -> str:
    return console.replace_control_characters(cell).replace("|", "\\|")


def compare_html(comparison: Json, sides: Sequence[ComparedRun]) -> str:
    """Return one page with the table and the curves of every run; no script, no request."""
    titles = {"loss": "Train loss", "eval_loss": "Val loss", "eval_slot_f1": "Val slot F1"}
    lines = {label: {s.run.id: s.line(key) for s in sides} for key, label in titles.items()}
    return pages.render_page(
        TEMPLATE,
        comparison=comparison,
        rows=compare_table(comparison),
        notes=[*list_comparison_notes(comparison), *map(describe_test_result, comparison["test"])],
        plots={
            label: plots.build_line_plot(line)
            for label, line in lines.items()
            if any(line.values())
        },
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

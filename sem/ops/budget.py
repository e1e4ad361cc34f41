"""Daily tokens against a budget: what the traffic costs, measured where it was measured.

    tokens a day = requests x (1 - cache hits) x (prompt, cut at the truncation, + completion)

A row of answers that failed still cost its tokens, so every row counts.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sem.core import files, settings
from sem.core.errors import SemError
from sem.core.project import Project
from sem.eval.answers.answers import file_name
from sem.eval.config import EvalSettings


@dataclass(frozen=True)
class TokenBudget:
    """What may be spent."""

    daily_tokens: int
    # Share of daily_tokens from which to alert.
    alert_threshold: float = 0.85

    def __post_init__(self) -> None:
        if self.daily_tokens < 1 or not 0 < self.alert_threshold <= 1:
            raise SemError(
                f"budget of {self.daily_tokens} tokens, alert at {self.alert_threshold}",
                "set daily_tokens to 1 or more, alert_threshold above 0 and at most 1",
            )


@dataclass(frozen=True)
class Traffic:
    """One kind of page: how often, and how many tokens where nothing was measured."""

    requests_per_day: int
    avg_prompt_tokens: float
    avg_completion_tokens: float
    task: str = (
        # The TaskSpec that measures it; empty: the task whose name begins like the page.
        ""
    )

    def __post_init__(self) -> None:
        if min(self.requests_per_day, self.avg_prompt_tokens, self.avg_completion_tokens) < 0:
            raise SemError(f"traffic below zero: {self}", "write counts of 0 or more")


@dataclass(frozen=True)
class Mitigations:
    """What lowers the tokens."""

    html_truncation_tokens: int | None = None
    caching_hit_rate: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.caching_hit_rate <= 1 or (self.html_truncation_tokens or 1) < 1:
            raise SemError(
                f"mitigations out of range: {self}",
                "set caching_hit_rate from 0 to 1, html_truncation_tokens to 1 or more",
            )


@dataclass(frozen=True)
class BudgetSettings:
    """configs/budget.yaml; `notes` is free text that older files carry."""

    budget: TokenBudget
    traffic_profile: dict[str, Traffic]
    mitigations: Mitigations = field(default_factory=Mitigations)
    notes: str = ""


@dataclass(frozen=True)
class MeanTokens:
    """Mean tokens of one task over `rows` answers."""

    rows: int
    tokens_in: float
    tokens_out: float


@dataclass(frozen=True)
class BudgetLine:
    """The projection of one kind of page."""

    page: str
    requests: int
    prompt_tokens: float
    completion_tokens: float
    daily_tokens: float
    source: str


@dataclass(frozen=True)
class Projection:
    """Every line, and what their sum means for the budget."""

    lines: tuple[BudgetLine, ...]
    budget: TokenBudget

    @property
    def daily_tokens(self) -> float:
        return sum(line.daily_tokens for line in self.lines)

    @property
    def share(self) -> float:
        """Return the share of the budget: 1.0 spends all of it."""
        return self.daily_tokens / self.budget.daily_tokens

    @property
    def is_alert(self) -> bool:
        return self.share >= self.budget.alert_threshold


def load_budget(path: Path) -> BudgetSettings:
    """Return the budget in the YAML file `path`; the older `usage.yaml` has the same keys."""
    if not path.is_file():
        raise SemError(f"{path}: no such file", "name a budget file with --config")
    budget = settings.load_settings(BudgetSettings, path)
    if not budget.traffic_profile:
        raise SemError(f"{path}: traffic_profile is empty", "add one entry per kind of page")
    return budget


def find_answers(sem: Project, run: str | None, split: str) -> Path | None:
    """Return the answers of `run`, or the newest of any run; None when there are none.

    Of free and constrained answers those count that eval.yaml asks for, else the other ones.
    """
    decoding = sem.settings("eval", EvalSettings).decoding
    kinds = sorted(("free", "constrained"), key=lambda kind: kind != decoding)
    names = [file_name(split, kind) for kind in kinds]
    for name in names:
        paths = [sem.reports / run / name] if run else sem.reports.glob(f"*/{name}")
        present = [path for path in paths if path.is_file()]
        if present:
            return max(present, key=lambda path: path.stat().st_mtime)
    if run:
        path = sem.reports / run / names[0]
        raise SemError(f"{path}: no such file", "make it with `fab eval.generate`")
    return None


def measure_tokens(answers: Path) -> dict[str, MeanTokens]:
    """Return mean tokens by task over the rows of the file `answers`."""
    sums: dict[str, list[float]] = {}
    for number, row in enumerate(files.read_values(answers), 1):
        tokens = [row.get(key) if isinstance(row, dict) else None for key in COUNTS]
        if any(not isinstance(count, int) or count < 0 for count in tokens):
            raise SemError(
                f"{answers}:{number}: no usable {' and '.join(COUNTS)}",
                "make the answers again with `fab eval.generate`",
            )
        total = sums.setdefault(str(row.get("task")), [0, 0, 0])
        for place, count in enumerate((1, *tokens)):
            total[place] += count
    return {task: MeanTokens(int(n), a / n, b / n) for task, (n, a, b) in sums.items()}


COUNTS = ("tokens_in", "tokens_out")


def project_daily_tokens(config: BudgetSettings, measured: Mapping[str, MeanTokens]) -> Projection:
    """Return the daily tokens of `config`'s traffic, with `measured` tokens where a task has
    them.
    """
    lines = []
    for page, traffic in config.traffic_profile.items():
        measurement = measured.get(traffic.task or _task_like(page, measured))
        prompt = measurement.tokens_in if measurement else traffic.avg_prompt_tokens
        completion = measurement.tokens_out if measurement else traffic.avg_completion_tokens
        prompt = min(prompt, config.mitigations.html_truncation_tokens or prompt)
        requests = traffic.requests_per_day * (1 - config.mitigations.caching_hit_rate)
        source = f"measured, n={measurement.rows:,}" if measurement else "profile"
        daily = requests * (prompt + completion)
        lines.append(BudgetLine(page, traffic.requests_per_day, prompt, completion, daily, source))
    return Projection(tuple(lines), config.budget)


def _task_like(page: str, tasks: Iterable[str]) -> str:
    # Older files name no task: `navpage` is measured by `navpage_classifier`.
    return next((task for task in sorted(tasks) if task.startswith(f"{page}_")), page)


def projection_rows(projection: Projection) -> list[tuple[Any, ...]]:
    """Return the projection as table rows, the sum last."""
    rows: list[tuple[Any, ...]] = [
        (
            line.page,
            f"{line.requests:,}",
            f"{line.prompt_tokens:,.0f}",
            f"{line.completion_tokens:,.0f}",
            f"{line.daily_tokens / 1e6:,.1f} M",
            line.source,
        )
        for line in projection.lines
    ]
    total = f"{projection.daily_tokens / 1e6:,.1f} M"
    limit = f"{projection.budget.daily_tokens / 1e6:,.1f} M"
    return [*rows, ("all", "", "", "", total, f"{projection.share:,.1f} x the budget of {limit}")]

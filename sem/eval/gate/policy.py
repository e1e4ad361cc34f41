"""gate.yaml: what a run must show before it may replace another."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sem.core import settings
from sem.core.errors import SemError
from sem.core.project import Project


@dataclass(frozen=True)
class DifferenceRule:
    """What a difference, run minus baseline in points, must show."""

    test: Literal["non_inferiority", "superiority"] = "non_inferiority"
    # Loss that is tolerated, or gain that must be exceeded.
    margin_points: float = 2.0
    # Superiority fails once a gain this large is ruled out.
    worth_points: float = 2.0
    # point: the estimate alone decides.
    by: Literal["interval", "point"] = "interval"

    def __post_init__(self) -> None:
        if self.margin_points < 0 or self.worth_points < 0:
            raise SemError(
                f"margin_points {self.margin_points:g} or "
                f"worth_points {self.worth_points:g} is negative",
                "give it as points, 2.0 and not -2.0",
            )
        if self.test == "non_inferiority" and self.margin_points == 0:
            raise SemError(
                "a non-inferiority margin of 0 cannot be shown", "tolerate some loss, e.g. 1.0"
            )
        if self.test == "superiority" and self.worth_points <= self.margin_points:
            raise SemError(
                f"worth_points {self.worth_points:g} is not above margin_points "
                f"{self.margin_points:g}",
                "name a gain worth having that is larger than the margin",
            )

    @property
    def target(self) -> float:
        """Return the difference that must be exceeded, as a fraction."""
        sign = -1 if self.test == "non_inferiority" else 1
        return sign * self.margin_points / 100

    @property
    def fails_below(self) -> float:
        """Return the difference that, once ruled out from above, fails the rule."""
        return 0.0 if self.test == "non_inferiority" else self.worth_points / 100

    @property
    def planned(self) -> float:
        """Distance from the target to the difference one plans for."""
        return self.fails_below - self.target


@dataclass(frozen=True)
class Overall(DifferenceRule):
    """The one measure that must improve."""

    test: Literal["non_inferiority", "superiority"] = "superiority"
    margin_points: float = 0.0
    measure: Literal["accuracy", "row_exact"] = "accuracy"


@dataclass(frozen=True)
class Validity:
    """The share of answers that are valid."""

    measure: Literal["json_valid", "schema_valid"] = "json_valid"
    at_least: float = 0.99
    # 99 % by bound: 299 rows, no failure.
    by: Literal["lower_bound", "point"] = "lower_bound"
    # Of the one-sided Clopper-Pearson bound.
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if self.by == "lower_bound" and not 0 < self.at_least < 1:
            raise SemError(
                f"validity.at_least {self.at_least:g} cannot be shown by a lower bound",
                "ask for a share below 1, or set `by: point`",
            )


@dataclass(frozen=True)
class CleanShares:
    """The least share of answers, by the estimate, without each fault; null is not looked at.

    A share below fails where the exact interval refutes the least one, and else needs more rows.
    """

    # What the EvalReport asks, too.
    schema_valid: float | None = 0.98
    no_extra_keys: float | None = 0.99
    no_unknown_labels: float | None = 0.99
    # Values that neither the input nor the reference holds.
    no_inventions: float | None = 0.9

    def __post_init__(self) -> None:
        for name, least in vars(self).items():
            if least is not None and not 0 < least <= 1:
                raise SemError(f"clean.{name} {least:g} is not a share", "use 0.01 to 1, or null")


@dataclass(frozen=True)
class Limit:
    """Upper limits of a cost; null asks nothing."""

    at_most: float | None = None
    ratio: float | None = None  # of the baseline's


@dataclass(frozen=True)
class Strong:
    """The model being replaced, on critical slots, where references are independent of it."""

    test: Literal["auto", "off"] = "auto"
    margin_points: float = 2.0
    # meta.reference_source of such references.
    independent: tuple[str, ...] = ("human",)


@dataclass(frozen=True)
class WornSplit:
    """A test set that many gates have used is learnt by selection."""

    # Gates on one split file.
    after: int = 20
    then: Literal["warn", "insufficient", "fail"] = "warn"


@dataclass(frozen=True)
class Policy:
    """The promotion policy of one sem."""

    # one-sided level of every claim: the lower end of a 95 % interval.
    side: float = 0.025
    # With which the rows still needed would show the claim.
    power: float = 0.8
    # Below it no interval is believed.
    min_domains: int = 10
    overall: Overall = field(default_factory=Overall)
    critical: DifferenceRule = field(default_factory=DifferenceRule)
    non_critical: DifferenceRule = field(
        default_factory=lambda: DifferenceRule(margin_points=5.0, by="point")
    )
    validity: Validity = field(default_factory=Validity)
    clean: CleanShares = field(default_factory=CleanShares)
    # Better than constant and constrained base.
    rivals: Literal["required", "off"] = "required"
    strong: Strong = field(default_factory=Strong)
    latency_ms: Limit = field(default_factory=Limit)  # p95
    # Mean of input and output together.
    tokens: Limit = field(default_factory=Limit)
    # Of train and this split; null: not looked at.
    shared_domains: int | None = 0
    takedown: Literal["required", "off"] = "required"
    # required: a whole package of this very run.
    parity: Literal["required", "off"] = "off"
    judge: Literal["calibrated", "any"] = "calibrated"
    worn: WornSplit = field(default_factory=WornSplit)

    def __post_init__(self) -> None:
        if not 0 < self.side < 0.5 or not 0.5 <= self.power < 1:
            raise SemError(
                f"side {self.side:g} or power {self.power:g} is out of range",
                "use side below 0.5 (0.025 is usual) and power from 0.5 to below 1",
            )


def path_of(project: Project) -> Path:
    """Return the sem's own gate.yaml where it has one, else the one for all sems."""
    own = project.configs / "gate.yaml"
    return own if own.exists() else project.root / "configs" / "gate.yaml"


def load_gate_policy(project: Project) -> Policy:
    """Return the policy of `project`, with `--set gate.key=value` applied."""
    mine = project.overrides_of("gate")
    return settings.load_settings(Policy, path_of(project), mine)

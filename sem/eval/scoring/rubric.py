"""The rubric's own checks of one answer: validity, keys, and arithmetic in Decimal.

`totals_equation`: total = subtotal + tax_total + shipping - discount; `line_items_sum`:
subtotal = sum of the line totals. Names are read in snake_case and camelCase, at the root or in
an object such as `amounts`; an absent or null addend is 0.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sem.core.slotspec import SlotSpec
from sem.core.taskspec import TaskSpec
from sem.eval.scoring import values

_NUMBER = SlotSpec("numeric_tol")


@dataclass(frozen=True)
class RubricCheck:
    """One check of one answer; `reference` is whether the reference itself passes it."""

    id: str
    passed: bool
    # None: the reference holds nothing to check.
    reference: bool | None
    evidence: str


@dataclass(frozen=True)
class EquationSides:
    """Two sides of an equation as found in a value."""

    left: Decimal
    right: Decimal
    shown: str

    def holds(self, tolerance: float) -> bool:
        return abs(self.left - self.right) <= Decimal(str(tolerance))


def totals_equation(value: Any) -> EquationSides | None:
    """Return the total and what it should be; None where there is no total or no subtotal."""
    for amounts in _objects(value):
        total, subtotal = _number(amounts, "total"), _number(amounts, "subtotal")
        if total is None or subtotal is None:
            continue
        tax, shipping, discount = (
            _number(amounts, name) or Decimal(0) for name in ("taxtotal", "shipping", "discount")
        )
        equation = f"{subtotal} + {tax} + {shipping} - {discount}"
        return EquationSides(total, subtotal + tax + shipping - discount, equation)
    return None


def line_items_sum(value: Any) -> EquationSides | None:
    """Return the subtotal and the sum of the line totals; None where one of them is not there."""
    subtotals = [n for o in _objects(value) if (n := _number(o, "subtotal")) is not None]
    lists = [_get(o, "lineitems") for o in _objects(value)]
    items = next((entries for entries in lists if isinstance(entries, list) and entries), None)
    if not subtotals or items is None:
        return None
    lines = [_number(item, "linetotal") for item in items if isinstance(item, dict)]
    if len(lines) != len(items) or None in lines:
        return None
    amounts = [line for line in lines if line is not None]
    return EquationSides(subtotals[0], sum(amounts, Decimal(0)), " + ".join(map(str, amounts)))


EQUATIONS: dict[str, Callable[[Any], EquationSides | None]] = {
    "totals_equation": totals_equation,
    "line_items_sum": line_items_sum,
}


def check_arithmetic(candidate: Any, reference: Any, spec: TaskSpec) -> list[RubricCheck]:
    """Return the rubric's equations on the answer `candidate`.

    A check applies where the answer or the reference can be computed: an answer that leaves the
    total out does not escape it. A reference that fails is reported, not corrected.
    """
    checks = []
    for name, tolerance in _equations(spec):
        ours, theirs = EQUATIONS[name](candidate), EQUATIONS[name](reference)
        if ours is None and theirs is None:
            continue
        checks.append(
            RubricCheck(
                id=f"arith.{name}",
                passed=ours is not None and ours.holds(tolerance),
                reference=None if theirs is None else theirs.holds(tolerance),
                evidence=_evidence(ours, tolerance),
            )
        )
    return checks


def compute_rubric_score(
    fem: float,
    schema_valid: bool,
    checks: list[RubricCheck],
    spec: TaskSpec,
    clean: tuple[bool, bool] = (True, True),
    shared: Mapping[str, float] | None = None,
) -> float | None:
    """Return the rubric's `scoring`.

    Weights of exact fields, validity, arithmetic and what is made up.

    `clean`: no extra key, no invented value. `shared` are the weights of judge_slots.yaml, for a
    TaskSpec without its own; None without either. The weight of arithmetic falls away where no
    check applies.
    """
    weights = spec.rubric.get("scoring", shared)
    if not isinstance(weights, Mapping):
        return None
    parts = [
        (weights.get("field_exact_match_weight", 0), fem),
        (weights.get("schema_validity_weight", 0), float(schema_valid)),
        (weights.get("no_extra_keys_weight", 0), float(clean[0])),
        (weights.get("no_inventions_weight", 0), float(clean[1])),
    ]
    if checks:
        share = sum(check.passed for check in checks) / len(checks)
        parts.append((weights.get("arithmetic_checks_weight", 0), share))
    whole = sum(weight for weight, _ in parts)
    return sum(weight * value for weight, value in parts) / whole if whole else None


def _equations(spec: TaskSpec) -> Iterator[tuple[str, float]]:
    for name, check in _named(spec).items():
        if name in EQUATIONS:
            yield name, check.get("tolerance", 0)


def _named(spec: TaskSpec) -> dict[str, dict[str, Any]]:
    checks = spec.rubric.get("checks")
    entries = [c for c in checks if isinstance(c, dict)] if isinstance(checks, list) else []
    return {str(check.get("id")): check for check in entries}


def _evidence(equation: EquationSides | None, tolerance: float) -> str:
    if equation is None:
        return "not computable from the answer"
    sign = "=" if equation.left == equation.right else "is not"
    computed = f"{equation.shown} = {equation.right}"
    return f"{computed}; said {equation.left} ({sign}; tolerance {tolerance})"


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Yield `value` and the objects directly in it: where an invoice keeps its amounts."""
    if isinstance(value, dict):
        yield value
        yield from (inner for inner in value.values() if isinstance(inner, dict))


def _get(value: dict[str, Any], name: str) -> Any:
    return next((v for k, v in value.items() if k.replace("_", "").casefold() == name), None)


def _number(value: dict[str, Any], name: str) -> Decimal | None:
    raw_number = _get(value, name)
    amount = (
        values.parse_amount(raw_number, _NUMBER) if isinstance(raw_number, int | float) else None
    )
    return amount.number if amount else None

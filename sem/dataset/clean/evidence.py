"""What happens to reference values that the cleaned input, or even the page, does not hold.

A small model can only copy what it reads. A value whose evidence was pruned is `lost`; one that
not even the page holds is `ungrounded`, and teaches to invent. Policy says keep, null or reject.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sem.core import shape
from sem.core.errors import SemError, suggest_nearest_name
from sem.dataset.clean import grounding
from sem.dataset.config import TaskOptions

COUNTS = ("values", "in_page", "kept", "in_input")


@dataclass
class EvidenceResult:
    """A reference after the policy, what was counted by slot, and what was done."""

    reference: Any
    survival: dict[str, list[int]] = field(default_factory=dict)  # slot -> COUNTS
    # Slots with a value that the page held.
    lost: list[str] = field(default_factory=list)
    ungrounded: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    reason: str | None = None
    detail: str = ""


def find_evidence(
    reference: Any, page: str, text: str, options: TaskOptions, closed: frozenset[str]
) -> EvidenceResult:
    """Return `reference` looked up in `page` and in the `text` made of it.

    Labels (`closed`) are not.
    """
    before, after = grounding.groundable_text(page), grounding.SearchableText(text)
    verdict = EvidenceResult(reference)
    is_object = isinstance(reference, dict)
    slots = reference if is_object else {"answer": reference}
    values = {
        name: value if name in closed else _slot(name, value, before, after, options, verdict)
        for name, value in slots.items()
    }
    if verdict.reason is None and values != slots:
        verdict.reference = values if is_object else values["answer"]
    return verdict


def check_evidence_options(
    options: TaskOptions, schemas: Iterable[dict[str, Any]], where: str
) -> None:
    """Raise SemError at `where` when `options` name a field that is in none of `schemas`."""
    slots: set[str] = {"answer"}
    for io_schema in schemas:
        held = shape.resolve_shape(io_schema, io_schema) or {}
        if "object" in shape.schema_types(held) and not held.get("properties"):
            # Objects of any shape: any field may be there.
            return
        slots.update(held.get("properties", {}))
    for name in options.slots:
        if name not in slots:
            raise SemError(f"{where}.slots: no slot {name!r}", suggest_nearest_name(name, slots))


def _slot(
    name: str, value: Any, before: Any, after: Any, options: TaskOptions, verdict: EvidenceResult
) -> Any:
    """Return `value` of slot `name`, or what the policy leaves of it."""
    if isinstance(value, list) and not any(isinstance(inner, dict | list) for inner in value):
        fates = [_fate(name, [inner], before, after, options, verdict) for inner in value]
        return [inner for inner, fate in zip(value, fates, strict=True) if fate != "null"]
    scalars = [scalar for _, scalar in grounding.scalar_leaves({name: value})]
    return None if _fate(name, scalars, before, after, options, verdict) == "null" else value


def _fate(
    name: str,
    scalars: list[Any],
    before: Any,
    after: Any,
    options: TaskOptions,
    verdict: EvidenceResult,
) -> str:
    """Return what happens to `scalars` of slot `name`, all together; counted in `verdict`."""
    fate = "keep"
    for scalar in (value for _, value in grounding.scalar_leaves({name: scalars})):
        is_in_page, is_in_text = (
            grounding.is_grounded(scalar, before),
            grounding.is_grounded(scalar, after),
        )
        counts = verdict.survival.setdefault(name, [0, 0, 0, 0])
        for number, holds in enumerate((True, is_in_page, is_in_page and is_in_text, is_in_text)):
            counts[number] += holds
        if is_in_text:
            continue
        of = "lost" if is_in_page else "ungrounded"
        listed = getattr(verdict, of)
        if name not in listed:
            listed.append(name)
        fate = max(fate, options.fate(name, of), key=("keep", "null", "reject").index)
        if fate == "reject" and verdict.reason is None:
            verdict.reason = f"evidence_{of}"
            verdict.detail = f"{name}: {str(scalar)[:80]!r}"
        elif fate == "null":
            verdict.notes.append(f"{of}_nulled: {name}")
    return fate

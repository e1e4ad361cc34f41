"""One answer to one example: every field compared, and what the rubric and the input say to it.

An answer that is missing, cut or not JSON has all its slots wrong. A slot nobody could score is
`None` and counted apart.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sem.core import schema, slotspec
from sem.core.example import Example
from sem.core.slotspec import SlotFile, SlotSpec
from sem.core.taskspec import TaskSpec
from sem.dataset.store import rows
from sem.eval.answers import answers
from sem.eval.answers.answers import Answer
from sem.eval.scoring import align, proxies, rubric, slots, taxonomy
from sem.eval.scoring.align import ABSENT, NOTHING, AlignedField, AlignedValue, Alignment, Items
from sem.eval.scoring.proxies import Proxies
from sem.eval.scoring.rubric import RubricCheck
from sem.eval.scoring.slots import Similarity
from sem.eval.scoring.values import canonical_text, is_empty_value

NULL, NO_ANSWER, OTHER = "(null)", "(no answer)", "(other)"
# The one slot of a task whose output is not an object.
WHOLE = "(answer)"


@dataclass(frozen=True)
class SlotCounts:
    """The decisions in one slot: one, or of a field of a list of objects one an item."""

    right: int
    said: int
    wanted: int
    missing: int
    spurious: int


@dataclass(frozen=True)
class SlotScore:
    """One compared field: score 0..1 or None, whether it passes, and which sides have a value.

    A field of a list of objects passes when every item's does and none is missing or extra;
    its score is the mean over items of either side.
    """

    score: float | None
    passed: bool | None
    said: bool
    wanted: bool
    # The same but for case, width, number and date spelling (FEM).
    exact: bool = False
    # Exact, or passes, or within the default tolerance (FWT).
    within: bool = False
    # Why, one word a failed decision (taxonomy.KINDS).
    errors: tuple[str, ...] = ()
    # Of a field of a list of objects.
    counts: SlotCounts | None = None


@dataclass(frozen=True)
class Score:
    """What one answer is worth."""

    id: str
    task: str
    domain: str
    stratum: str
    # The raw text is one strict JSON value.
    json_valid: bool
    schema_valid: bool  # and fits io_schema
    # No valid JSON, but an object could be cut out of the text and was scored.
    recovered: bool
    slots: dict[str, SlotScore]
    tokens_in: int
    tokens_out: int
    latency_ms: int
    finish: str
    # Every field of the task, also those nobody writes.
    expected: tuple[str, ...] = ()
    # The compared fields that the gate looks at first.
    critical: tuple[str, ...] = ()
    labels: dict[str, tuple[str, str]] = field(default_factory=dict)  # (reference, answer)
    items: dict[str, Items] = field(default_factory=dict)  # of lists of objects
    # The rubric's arithmetic, where it applies.
    checks: tuple[RubricCheck, ...] = ()
    proxies: Proxies = field(default_factory=Proxies)
    # The rubric's own weighted score.
    rubric: float | None = None

    @property
    def accuracy(self) -> float:
        """Return the share of scored slots that pass.

        Unscored slots are left out and counted apart.
        """
        scored = [slot.passed for slot in self.slots.values() if slot.passed is not None]
        return sum(scored) / len(scored) if scored else 0.0

    @property
    def row_exact(self) -> bool:
        """Return whether every slot passes, and nothing is said beyond the input and the
        reference.
        """
        passed = all(slot.passed for slot in self.slots.values() if slot.passed is not None)
        return passed and self.no_extra_keys and self.no_inventions

    @property
    def no_extra_keys(self) -> bool:
        """Return whether every key beside the schema's own is as the reference has it."""
        return not self.proxies.extra_keys

    @property
    def no_unknown_labels(self) -> bool:
        """Return whether every label is on its list."""
        return not self.proxies.out_of_enum

    @property
    def no_inventions(self) -> bool:
        """Return whether every value said stands in the input, in the reference or on a list."""
        return not self.proxies.invented

    @property
    def critical_ok(self) -> bool | None:
        """Return whether every critical slot passes; None where the task has none here."""
        passes = [self.slots[name].passed for name in self.critical if name in self.slots]
        return all(passes) if passes else None

    @property
    def page_type(self) -> str:
        return self.stratum.partition("|")[0]

    @property
    def language(self) -> str:
        return self.stratum.partition("|")[2]


def score_answer(
    example: Example,
    answer: Answer | None,
    spec: TaskSpec,
    similarity: Similarity | None,
    shared: SlotFile | None = None,
) -> Score:
    """Return `answer` to `example`, compared field by field; no answer is a wrong one.

    `shared` are the levels of judge_slots.yaml, below the TaskSpec's own.
    """
    text = answer.text if answer else ""
    candidate, json_valid, recovered = answers.parse_answer_text(text)
    levels = levels_of(spec, example, shared)
    example = _beside_its_nearest(example, candidate, levels, similarity)
    aligned = _aligned(candidate, example.output_json, levels)
    compared = _compared(aligned, example, spec, similarity)
    checks = rubric.check_arithmetic(candidate, example.output_json, spec)
    evidence = taxonomy.index_input_text(example.input_text)
    proxy_counts = proxies.measure_proxies(candidate, spec, evidence, aligned, example.output_json)
    schema_valid = json_valid and not schema.schema_problems(candidate, spec.io_schema, limit=1)
    return Score(
        id=example.id,
        task=example.task,
        domain=example.unit,
        stratum=example.stratum,
        json_valid=json_valid,
        schema_valid=schema_valid,
        recovered=recovered,
        slots=compared,
        tokens_in=answer.tokens_in if answer else 0,
        tokens_out=answer.tokens_out if answer else 0,
        latency_ms=answer.latency_ms if answer else 0,
        finish=answer.finish if answer else "missing",
        expected=tuple(levels),
        critical=tuple(pair.name for pair in aligned.pairs if pair.spec.critical),
        labels=_labels(aligned, spec),
        items=dict(aligned.items),
        checks=tuple(checks),
        proxies=proxy_counts,
        rubric=rubric.compute_rubric_score(
            _exact_share(compared),
            schema_valid,
            checks,
            spec,
            clean=(not proxy_counts.extra_keys, not proxy_counts.invented),
            shared=(shared or SlotFile()).scoring,
        ),
    )


def levels_of(
    spec: TaskSpec, example: Example, shared: SlotFile | None = None
) -> dict[str, SlotSpec]:
    """Return the level of every field of `example`'s task.

    One for the whole answer where it has none.
    """
    levels = spec.slots(example.slot_specs, shared=shared, language=example.language)
    return levels or {WHOLE: SlotSpec(language=example.language)}


def _aligned(candidate: Any, reference: Any, levels: Mapping[str, SlotSpec]) -> Alignment:
    if WHOLE not in levels:
        return align.align_answer(candidate, reference, levels)
    whole = Alignment()
    whole.specs[WHOLE] = levels[WHOLE]
    whole.parts[WHOLE].append(AlignedValue(candidate, reference))
    return whole


def _beside_its_nearest(
    example: Example, candidate: Any, levels: Mapping[str, SlotSpec], similarity: Similarity | None
) -> Example:
    """Return `example` with the right answer of each slot that `candidate` comes nearest to."""
    if not example.alternatives or candidate is NOTHING:
        return example

    def worth(reference: Any, names: Collection[str]) -> float:
        pairs = [
            pair for pair in _aligned(candidate, reference, levels).pairs if pair.name in names
        ]
        scores = [
            _score(part, pair.spec, similarity) or 0.0 for pair in pairs for part in pair.parts
        ]
        return sum(scores) / len(scores) if scores else 1.0

    others = rows.clean_strings(example.alternatives)
    return replace(
        example, output_json=align.best_reference(example.output_json, others, levels, worth)
    )


def _compared(
    aligned: Alignment, example: Example, spec: TaskSpec, similarity: Similarity | None
) -> dict[str, SlotScore]:
    shapes = slotspec.schema_leaves(spec.io_schema, aligned.specs) | {WHOLE: spec.io_schema}
    return {
        pair.name: _slot(pair, shapes.get(pair.name), example, spec, similarity)
        for pair in aligned.pairs
    }


def _slot(
    pair: AlignedField, shape: Any, example: Example, spec: TaskSpec, similarity: Similarity | None
) -> SlotScore:
    worth = [_score(part, pair.spec, similarity) for part in pair.parts]
    passes = [None if w is None else w >= pair.spec.passes_from for w in worth]
    is_closed = proxies.labels_of(shape, pair.name, spec) is not None
    text = taxonomy.index_input_text(example.input_text)
    exact = [_is_exact(part, pair.spec) for part in pair.parts]
    within = [
        e or bool(passed) or _is_near(part, pair.spec)
        for part, e, passed in zip(pair.parts, exact, passes, strict=True)
    ]
    return SlotScore(
        score=None if None in worth else sum(w or 0.0 for w in worth) / len(worth),
        passed=None if None in passes else all(passes),
        said=any(part.is_said for part in pair.parts),
        wanted=any(part.is_wanted for part in pair.parts),
        exact=all(exact),
        within=all(within),
        errors=tuple(
            taxonomy.failure_kind(part, shape, is_closed, text, spec.io_schema)
            for part, passed in zip(pair.parts, passes, strict=True)
            if passed is False
        ),
        counts=_counts(pair, passes) if "[]" in pair.name else None,
    )


def _score(part: AlignedValue, spec: SlotSpec, similarity: Similarity | None) -> float | None:
    if part.said is NOTHING:
        return 0.0
    return slots.score_slot(part.said, _value(part), spec, similarity)


def _value(part: AlignedValue) -> Any:
    return None if part.wanted is ABSENT else part.wanted


def _is_exact(part: AlignedValue, spec: SlotSpec) -> bool:
    if part.said is NOTHING:
        return False
    if not (part.is_said and part.is_wanted):
        return part.is_said == part.is_wanted
    return taxonomy.says_the_same(part.said, part.wanted, spec)


def _is_near(part: AlignedValue, spec: SlotSpec) -> bool:
    is_both = part.is_said and part.is_wanted
    return is_both and taxonomy.is_within(part.said, part.wanted, spec)


def _counts(pair: AlignedField, passes: list[bool | None]) -> SlotCounts:
    rated = [p for p, passed in zip(pair.parts, passes, strict=True) if passed is not None]
    return SlotCounts(
        right=sum(
            passed is True and part.is_wanted
            for part, passed in zip(pair.parts, passes, strict=True)
        ),
        said=sum(part.is_said for part in rated),
        wanted=sum(part.is_wanted for part in rated),
        missing=sum(part.is_wanted and not part.is_said for part in rated),
        spurious=sum(part.is_said and not part.is_wanted for part in rated),
    )


def _labels(aligned: Alignment, spec: TaskSpec) -> dict[str, tuple[str, str]]:
    """(reference, answer) of every field with a closed list of values, lists of objects apart."""
    shapes = slotspec.schema_leaves(spec.io_schema, aligned.specs) | {WHOLE: spec.io_schema}
    labels_by_field = {}
    for pair in aligned.pairs:
        labels = proxies.labels_of(shapes.get(pair.name), pair.name, spec)
        if labels is not None and "[]" not in pair.name:
            labels_by_field[pair.name] = confusion_labels(pair.parts[0], labels)
    return labels_by_field


def _exact_share(compared: dict[str, SlotScore]) -> float:
    exact_scores = [slot.exact for slot in compared.values() if slot.wanted]
    return sum(exact_scores) / len(exact_scores) if exact_scores else 0.0


def confusion_labels(part: AlignedValue, labels: frozenset[str]) -> tuple[str, str]:
    """(reference, answer) as labels; an answer outside `labels` is `(other)`."""
    reference = (
        NULL if part.wanted is ABSENT or is_empty_value(part.wanted) else _label(part.wanted)
    )
    if part.said is NOTHING:
        return reference, NO_ANSWER
    if is_empty_value(part.said):
        return reference, NULL
    return reference, _label(part.said) if canonical_text(part.said) in labels else OTHER


def _label(value: Any) -> str:
    return value if isinstance(value, str) else canonical_text(value)

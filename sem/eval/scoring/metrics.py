"""From scores to totals: rates over answers, per field, and by task, page type, domain and so on.

Every test example is in every denominator, also where there is no answer. The names FEM, FWT,
MISS and HALL and their denominators are those of docs/formats.md.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from sem.eval.config import Prices
from sem.eval.scoring.align import Items
from sem.eval.scoring.scoring import NULL, Score, SlotCounts, SlotScore
from sem.eval.scoring.taxonomy import KINDS

# Confusion matrices of fields whose values come from a list: which label is taken for which.


def confusion_matrix(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Counts by reference and answer, and per label n, precision, recall and F1.

    The macro F1 is the mean over labels that occur in references, null left out.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for reference, answer in pairs:
        counts[reference][answer] += 1
    names = sorted(set(counts) - {NULL})
    rates = {name: _rates(name, counts) for name in names}
    f1s = [rate["f1"] for rate in rates.values()]
    return {
        "counts": {name: dict(sorted(row.items())) for name, row in sorted(counts.items())},
        "labels": rates,
        "macro_f1": sum(f1s) / len(f1s) if f1s else None,
    }


def _rates(name: str, counts: dict[str, Counter[str]]) -> dict[str, Any]:
    right, reference_count = counts[name][name], counts[name].total()
    answer_count = sum(row[name] for row in counts.values())
    precision = right / answer_count if answer_count else None
    return {
        "n": reference_count,
        "precision": precision,
        "recall": right / reference_count,
        "f1": 2 * right / (answer_count + reference_count),
    }


def compute_totals(scores: Sequence[Score], prices: Prices | None = None) -> dict[str, Any]:
    """Rates over `scores`; `n` and `unscored_slots` are counts."""
    count = len(scores)
    latency = sorted(s.latency_ms for s in scores)
    return {
        "n": count,
        "domains": len({s.domain for s in scores}),
        "accuracy": _mean(s.accuracy for s in scores),
        "row_exact": _mean(s.row_exact for s in scores),
        "json_valid": _mean(s.json_valid for s in scores),
        "schema_valid": _mean(s.schema_valid for s in scores),
        "recovered": sum(s.recovered for s in scores),
        "cut": sum(s.finish == "length" for s in scores),
        "refused": sum(s.finish == "refused" for s in scores),
        "missing": sum(s.finish == "missing" for s in scores),
        "unscored_slots": sum(slot.passed is None for s in scores for slot in s.slots.values()),
        "tokens_in": _mean(s.tokens_in for s in scores),
        "tokens_out": _mean(s.tokens_out for s in scores),
        "batch_latency_ms_p50": _quantile(latency, 0.50),
        "batch_latency_ms_p95": _quantile(latency, 0.95),
        "cost_usd_per_1000": _cost(scores, prices),
        **micro_average_slots(
            [slot for s in scores for slot in s.slots.values()],
            sum(s.proxies.extra_keys for s in scores),
        ),
        "errors": _errors(slot for s in scores for slot in s.slots.values()),
        "doc_crit_ok": _share(s.critical_ok for s in scores),
        "total_consist": _arithmetic(scores),
        "li_align": _items(scores),
        "rubric_score": _share(s.rubric for s in scores),
        "proxies": _proxies(scores),
        "fields": compute_field_rates(scores),
    }


def compute_field_rates(scores: Sequence[Score]) -> dict[str, dict[str, Any]]:
    """Per `task.field`: pass rate, precision, recall, F1, how often missing or spurious."""
    slots_by_field: dict[str, list[SlotScore]] = defaultdict(list)
    expected: Counter[str] = Counter()
    for score in scores:
        expected.update(f"{score.task}.{name}" for name in {*score.expected, *score.slots})
        for name, slot in score.slots.items():
            slots_by_field[f"{score.task}.{name}"].append(slot)
    return {
        name: _field_totals(slots_by_field[name], expected[name])
        for name in sorted(slots_by_field)
    }


def group_scores(scores: Sequence[Score], key: str) -> dict[str, list[Score]]:
    """Return `scores` grouped by one of their attributes: task, stratum, page_type or language."""
    groups: dict[str, list[Score]] = defaultdict(list)
    for score in scores:
        groups[getattr(score, key)].append(score)
    return dict(sorted(groups.items()))


def build_confusion_matrices(scores: Sequence[Score]) -> dict[str, dict[str, Any]]:
    """Per `task.field` with a closed list of values: its confusion matrix."""
    labels_by_field: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for score in scores:
        for name, labels in score.labels.items():
            labels_by_field[f"{score.task}.{name}"].append(labels)
    return {name: confusion_matrix(labels_by_field[name]) for name in sorted(labels_by_field)}


def _field_totals(slots: list[SlotScore], documents: int) -> dict[str, Any]:
    scored = [slot for slot in slots if slot.passed is not None]
    eligible = [slot for slot in slots if slot.wanted]
    ineligible = documents - len(eligible)
    rates = micro_average_slots(scored)
    return {
        "n": len(slots),
        "unscored": len(slots) - len(scored),
        "pass": _mean(bool(s.passed) for s in scored),
        "score": _mean(s.score or 0.0 for s in scored),
        **{name: rates[name] for name in ("precision", "recall", "f1")},
        "missing": rates["missing_values"],
        "spurious": rates["spurious_values"],
        "eligible": len(eligible),
        "ineligible": ineligible,
        "fem": _share(slot.exact for slot in eligible),
        "fwt": _share(slot.within or bool(slot.passed) for slot in eligible),
        "miss": _share(not slot.said for slot in eligible),
        "hall": sum(s.said and not s.wanted for s in slots) / ineligible if ineligible else None,
        "errors": _errors(slots),
    }


def micro_average_slots(slots: Iterable[SlotScore], extra_keys: int = 0) -> dict[str, Any]:
    """Precision over what was said, recall over what was wanted; items of lists count singly.

    A key that no slot compares was said and is spurious.
    """
    counts = [slot.counts or _single(slot) for slot in slots if slot.passed is not None]
    right, said_count = sum(c.right for c in counts), sum(c.said for c in counts) + extra_keys
    wanted_count = sum(c.wanted for c in counts)
    return {
        "precision": right / said_count if said_count else None,
        "recall": right / wanted_count if wanted_count else None,
        "f1": 2 * right / (said_count + wanted_count) if wanted_count else None,
        "missing_values": sum(c.missing for c in counts),
        "spurious_values": sum(c.spurious for c in counts) + extra_keys,
    }


def _single(slot: SlotScore) -> SlotCounts:
    return SlotCounts(
        right=bool(slot.passed) and slot.wanted,
        said=slot.said,
        wanted=slot.wanted,
        missing=slot.wanted and not slot.said,
        spurious=slot.said and not slot.wanted,
    )


def _errors(slots: Iterable[SlotScore]) -> dict[str, int]:
    # A judge may have passed what the rule failed: its errors are none.
    failed = (slot for slot in slots if slot.passed is False)
    counted = Counter(error for slot in failed for error in slot.errors)
    return {kind: counted[kind] for kind in KINDS if counted[kind]}


def _arithmetic(scores: Sequence[Score]) -> dict[str, dict[str, Any]]:
    """Per rubric check: documents it applies to, share that pass, references that fail it."""
    checks_by_name: dict[str, list[Any]] = defaultdict(list)
    for score in scores:
        for check in score.checks:
            checks_by_name[check.id].append(check)
    return {
        name: {
            "n": len(checks),
            "pass": _mean(check.passed for check in checks),
            "reference_fails": sum(check.reference is False for check in checks),
        }
        for name, checks in sorted(checks_by_name.items())
    }


def _items(scores: Sequence[Score]) -> dict[str, float | None]:
    """Per list of objects: items with a partner over the items of either side."""
    items_by_list: dict[str, Items] = {}
    for score in scores:
        for name, items in score.items.items():
            if name.endswith("[]"):
                key = f"{score.task}.{name}"
                items_by_list[key] = items_by_list.get(key, Items(0, 0, 0)) + items
    return {name: _overlap(items) for name, items in sorted(items_by_list.items())}


def _overlap(items: Items) -> float | None:
    either = items.said + items.wanted - items.paired
    return items.paired / either if either else None


def _proxies(scores: Sequence[Score]) -> dict[str, Any]:
    """Sums of the hallucination proxies, and the share of looked-up values not in the input."""
    names = (
        "forbidden_keys",
        "out_of_enum",
        "ungrounded",
        "looked_up",
        "extra_entities",
        "extra_keys",
        "invented",
    )
    sums = {name: sum(getattr(s.proxies, name) for s in scores) for name in names}
    looked_up = sums["looked_up"]
    return {**sums, "ungrounded_share": sums["ungrounded"] / looked_up if looked_up else None}


def _cost(scores: Sequence[Score], prices: Prices | None) -> float | None:
    if prices is None or not scores:
        return None
    spent = sum(s.tokens_in for s in scores) * prices.tokens_in
    spent += sum(s.tokens_out for s in scores) * prices.tokens_out
    return spent / 1e6 / len(scores) * 1000


def _mean(values: Iterable[float]) -> float:
    numbers = [float(value) for value in values]
    return sum(numbers) / len(numbers) if numbers else 0.0


def _share(values: Iterable[float | None]) -> float | None:
    numbers = [float(value) for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers else None


def _quantile(ordered: Sequence[int], share: float) -> int:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0

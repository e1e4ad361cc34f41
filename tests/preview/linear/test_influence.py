"""Values add up and follow their definition; planted wrong labels are doubted; gaps are named."""

from itertools import permutations

import numpy as np
import pytest

from sem.preview.contribution.columns import ColumnShape
from sem.preview.contribution.contribution import Sample
from sem.preview.contribution.overlap import Overlap
from sem.preview.linear import influence
from sem.preview.linear.estimate import EstimateRows
from sem.preview.linear.learners import FitBudget

TABLE = ColumnShape("table", "label", features=("a", "b"), width=2)
NONE: frozenset[int] = frozenset()


def blobs(seed: int, count: int, apart: float = 3.0) -> tuple[Sample, ...]:
    """Return `count` points around two centres, labelled by their centre."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        side = number % 2
        a, b = rng.normal(side * apart, 1, 2)
        made.append(Sample(f"row {number}", str(side), features=(float(a), float(b))))
    return tuple(made)


def wrong(samples: tuple[Sample, ...], rows: set[int]) -> tuple[Sample, ...]:
    return tuple(
        Sample(s.where, str(1 - int(s.label)), features=s.features) if n in rows else s
        for n, s in enumerate(samples)
    )


def share_of_neighbours(
    order: list[int], labels: list[str], wanted: str, members: set[int]
) -> float:
    """Return what a nearest-neighbour model over `members` gives the right class."""
    near = [n for n in order if n in members][: influence.NEIGHBOURS]
    return sum(labels[n] == wanted for n in near) / influence.NEIGHBOURS


@pytest.mark.parametrize("count", [3, 6])
def test_values_are_shapley_values(count) -> None:
    given, benchmark = blobs(1, count, 1.0), blobs(2, 2, 1.0)
    rows = EstimateRows(TABLE, (), given, benchmark)
    found = influence.shapley_values(rows)
    encoder = rows.features.encoder(given)
    left, right = (encoder.encode(part) for part in (given, benchmark))
    labels = [s.label for s in given]
    expected = np.zeros(count)
    for column, tested in enumerate(benchmark):
        order = list(np.argsort(((left - right[column]) ** 2).sum(axis=1), kind="stable"))
        for turn in permutations(range(count)):
            members: set[int] = set()
            for row in turn:
                before = share_of_neighbours(order, labels, tested.label, members)
                members.add(row)
                after = share_of_neighbours(order, labels, tested.label, members)
                expected[row] += after - before
    turns = len(list(permutations(range(count))))
    assert found == pytest.approx(expected / turns / len(benchmark))


def test_wrong_labels_are_worth_least_and_are_doubted() -> None:
    planted = set(range(0, 120, 10))
    given = wrong(blobs(3, 120), planted)
    rows = EstimateRows(TABLE, blobs(4, 60), given, blobs(5, 100))
    shares = influence.shapley_values(rows)
    lowest = set(np.argsort(shares)[: len(planted)])
    assert len(lowest & planted) >= 10
    doubted = influence.doubtful_labels(rows, FitBudget())
    # Two of them lie between both centres.
    assert len(planted & set(doubted)) >= 8
    assert len(set(doubted) - planted) <= 2
    assert all(doubted[n] != given[n].label for n in doubted)


def test_advice_names_the_first_reason() -> None:
    given = blobs(6, 6)
    overlap = Overlap(frozenset({0}), NONE, frozenset({1}), frozenset({2}))
    found = influence.advise_rows(given, [0.1, 0.1, -0.2, -0.05], {1: "x"}, overlap)
    assert [(one.advice, one.reason) for one in found] == [
        ("drop", "in_benchmark"),
        ("drop", "known_already"),
        ("inspect", "contradicts_base"),
        ("inspect", "label_doubtful"),
        ("inspect", "hurts_neighbours"),
        ("keep", ""),
    ]
    assert found[3].better == "x"


def test_a_class_that_the_base_lacks_is_a_gap() -> None:
    text = ColumnShape("text", "label", text="text")
    base = tuple(Sample(f"b{n}", "pay", f"pay the bill {n}") for n in range(5))
    given = tuple(Sample(f"g{n}", "fly", f"book a flight number {n}") for n in range(5))
    benchmark = (Sample("t0", "fly", "book a flight"), Sample("t1", "pay", "pay the bill"))
    found = influence.find_coverage_gaps(EstimateRows(text, base, given, benchmark))
    assert (found.classes, found.benchmark_rows, found.share) == ({"fly": 5}, 1, 0.5)

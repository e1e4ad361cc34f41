"""The ladder is fair: its rungs are nested, and a file that repeats itself fools none of them."""

from collections import Counter

from sem.preview.contribution.contribution import Sample
from sem.preview.linear import estimate


def rows(count: int) -> tuple[Sample, ...]:
    return tuple(Sample(f"row {n}", str(n % 2), features=(float(n),)) for n in range(count))


def test_rungs_are_nested_and_in_the_order_of_the_file() -> None:
    quarter, half, whole = (
        estimate.draw_nested_sample(rows(400), share) for share in estimate.LADDER
    )
    assert (len(quarter), len(half), len(whole)) == (100, 200, 400)
    assert set(quarter) < set(half) < set(whole)
    assert list(half) == sorted(half, key=lambda sample: sample.features)


def test_classes_that_take_turns_are_in_every_rung() -> None:
    counts = Counter(sample.label for sample in estimate.draw_nested_sample(rows(400), 0.5))
    assert min(counts.values()) > 70

"""Which rows help: a value for each contributed row, doubtful labels, gaps that are filled.

The value is the row's exact Shapley share of a nearest-neighbour model's accuracy on the
benchmark (Jia et al. 2019), over base and contributed rows together. Labels are doubted where a
model that did not see the row prefers another class with confidence (confident learning,
Northcutt et al. 2021).
"""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sem.preview.contribution.contribution import Sample
from sem.preview.contribution.overlap import Overlap
from sem.preview.linear import kept_fits
from sem.preview.linear.estimate import EstimateRows
from sem.preview.linear.learners import FitBudget

if TYPE_CHECKING:
    import numpy as np

NEIGHBOURS = 5
# a fit of all rows each: more would double the time of a preview.
FOLDS = 2
DOUBTED = 0.5
# Benchmark rows compared at once.
BLOCK = 128
# Base rows of a class below which it is a gap.
FEW = 3
# Cosine below which the nearest row says nothing about another.
FAR = 0.3
Advice = Literal["keep", "drop", "inspect"]


@dataclass(frozen=True)
class JudgedRow:
    """One contributed row: its share of the gain, what its label is doubted for, what to do."""

    where: str
    label: str
    value: float
    advice: Advice
    reason: str
    # The class that a model without this row prefers.
    better: str | None = None


@dataclass(frozen=True)
class CoverageGaps:
    """What the contribution adds that the base data lack."""

    # Class -> contributed rows, where the base has fewer than FEW.
    classes: dict[str, int]
    # Near no base row, and near a contributed one of the same class.
    benchmark_rows: int
    share: float  # of the benchmark


def shapley_values(rows: EstimateRows) -> "np.ndarray[Any, Any]":
    """Return the Shapley value of every row of `rows.given`, shape (rows,).

    They sum over the benchmark.

    Values of base and contributed rows together add up to the model's accuracy.
    """
    import numpy as np

    samples = (*rows.base, *rows.given)
    encoder = rows.features.encoder(samples)
    vectors, count = encoder.encode(samples), len(samples)
    labels, targets = _numbered(samples, rows.benchmark)
    total = np.zeros(count)
    for start in range(0, len(rows.benchmark), BLOCK):
        queries = encoder.encode(rows.benchmark[start : start + BLOCK])
        order = np.argsort(_apart(queries, vectors), axis=1, kind="stable")
        agrees = labels[order] == targets[start : start + BLOCK, None]
        total += np.bincount(order.ravel(), _shares(agrees).ravel(), count)
    return total[len(rows.base) :] / len(rows.benchmark)


def _shares(agrees: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Return the share of each row, nearest first, in the model's vote.

    (tested rows, rows learnt).
    """
    import numpy as np

    count = agrees.shape[1]
    share = np.zeros(agrees.shape)
    share[:, -1] = agrees[:, -1] * min(NEIGHBOURS, count) / (NEIGHBOURS * count)
    ranks = np.arange(1, count)
    steps = (agrees[:, :-1].astype(float) - agrees[:, 1:]) / NEIGHBOURS
    steps *= np.minimum(NEIGHBOURS, ranks) / ranks
    share[:, :-1] = share[:, -1:] + np.cumsum(steps[:, ::-1], axis=1)[:, ::-1]
    return share


def _numbered(*parts: Sequence[Sample]) -> "list[np.ndarray[Any, Any]]":
    """Return the labels of `parts` as numbers, the same label the same number."""
    import numpy as np

    place: dict[str, int] = {}
    return [np.array([place.setdefault(s.label, len(place)) for s in part]) for part in parts]


def doubtful_labels(rows: EstimateRows, budget: FitBudget) -> dict[int, str]:
    """Row number of `rows.given` -> the class that a model without its fold is confident of.

    Folds hold whole groups of equal content, or a duplicate would vouch for its twin's label.
    """
    import numpy as np

    samples = [*rows.base, *rows.given]
    classes = tuple(sorted({sample.label for sample in samples}))
    place = {name: number for number, name in enumerate(classes)}
    own = np.array([place[sample.label] for sample in samples])
    chances = np.zeros((len(samples), len(classes)))
    folds = _folds(samples)
    for fold in range(FOLDS):
        train = [s for s, at in zip(samples, folds, strict=True) if at != fold]
        held = [n for n, at in enumerate(folds) if at == fold]
        if not train or not held:
            continue
        model = kept_fits.kept_fit(rows.features, train, budget)
        fold_chances = model.probabilities([samples[n] for n in held])
        for column, name in enumerate(model.classes):
            chances[held, place[name]] = fold_chances[:, column]
    return _preferred(chances, own, classes, len(rows.base))


def _preferred(
    chances: "np.ndarray[Any, Any]", own: Any, classes: Sequence[str], base: int
) -> dict[int, str]:
    """Return rows from `base` on that a model calls otherwise with confidence, and hardly their
    own class.

    With confidence: what it gives the other class's members on average; hardly: less than DOUBTED
    of that for their own.
    """
    import numpy as np

    rows, best = np.arange(len(own)), chances.argmax(axis=1)
    mean = np.array(
        [chances[own == n, n].mean() if (own == n).any() else 1.0 for n in range(len(classes))]
    )
    sure = chances[rows, best] >= mean[best]
    is_doubtful = (best != own) & sure & (chances[rows, own] < DOUBTED * mean[own])
    return {int(n) - base: classes[best[n]] for n in np.flatnonzero(is_doubtful) if n >= base}


def _folds(samples: Sequence[Sample]) -> list[int]:
    """Return the fold of each sample, the same for equal content, classes spread over folds."""
    folds: dict[str, int] = {}
    counts: Counter[str] = Counter()
    for sample in samples:
        content = sample.content()
        if content not in folds:
            folds[content] = counts[sample.label] % FOLDS
            counts[sample.label] += 1
    return [folds[sample.content()] for sample in samples]


def advise_rows(
    samples: Sequence[Sample],
    shares: Sequence[float],
    doubts: dict[int, str],
    overlap: Overlap,
) -> list[JudgedRow]:
    """Return what to do with each of `samples`, the rows of the file before any was left out.

    `shares` and `doubts` are numbered as the rows that were learnt from.
    """
    judged_rows, number, worst = [], 0, -_typical(shares)
    for row, sample in enumerate(samples):
        if row in overlap.left_out:
            reason = "in_benchmark" if row in overlap.benchmark else "known_already"
            judged_rows.append(JudgedRow(sample.where, sample.label, 0.0, "drop", reason))
            continue
        advice, reason = _advice(row, number, doubts, overlap)
        if advice == "keep" and shares[number] < worst:
            advice, reason = "inspect", "hurts_neighbours"
        better = doubts.get(number)
        judged_rows.append(
            JudgedRow(sample.where, sample.label, float(shares[number]), advice, reason, better)
        )
        number += 1
    return judged_rows


def _typical(shares: Sequence[float]) -> float:
    """Return what a helpful row is worth: a row that takes as much away is worth a look."""
    helpful = [share for share in shares if share > 0]
    return statistics.median(helpful) if helpful else 0.0


def _advice(row: int, number: int, doubts: dict[int, str], overlap: Overlap) -> tuple[Advice, str]:
    if row in overlap.contradicts:
        return "inspect", "contradicts_base"
    if number in doubts:
        return "inspect", "label_doubtful"
    return "keep", ""


def find_coverage_gaps(rows: EstimateRows) -> CoverageGaps:
    """Classes and benchmark rows that only the contribution covers."""

    base = Counter(sample.label for sample in rows.base)
    contribution = Counter(sample.label for sample in rows.given)
    classes = {name: count for name, count in sorted(contribution.items()) if base[name] < FEW}
    if not rows.given:
        return CoverageGaps({}, 0, 0.0)
    encoder = rows.features.encoder((*rows.base, *rows.given))
    targets, *labels = _numbered(rows.benchmark, rows.base, rows.given)
    matrices = [_unit(encoder.encode(part)) for part in (rows.base, rows.given)]
    filled = 0
    for start in range(0, len(rows.benchmark), BLOCK):
        queries = _unit(encoder.encode(rows.benchmark[start : start + BLOCK]))
        was, now = (
            _nearest(vectors, queries, own, targets[start : start + BLOCK])
            for vectors, own in zip(matrices, labels, strict=True)
        )
        filled += int(((was < FAR) & (now >= FAR)).sum())
    return CoverageGaps(classes, filled, filled / len(rows.benchmark))


def _nearest(vectors: Any, queries: Any, labels: Any, targets: Any) -> Any:
    """For each of `queries` the cosine to the nearest of `vectors` that is of its class."""
    import numpy as np

    near = _dense(queries @ vectors.T)
    return np.where(labels[None, :] == targets[:, None], near, -1.0).max(axis=1)


def _apart(queries: Any, vectors: Any) -> Any:
    """Squared distances less what each row of `queries` has in common, (rows `queries`, rows
    `vectors`).
    """
    import numpy as np

    # TF-IDF rows are of length 1.
    if hasattr(queries, "toarray"):
        return -_dense(queries @ vectors.T)
    return (vectors**2).sum(axis=1) - 2 * np.asarray(queries @ vectors.T)


def _unit(matrix: Any) -> Any:
    """Return rows of length 1, so that products are cosines."""
    from sklearn.preprocessing import normalize

    return normalize(matrix)


def _dense(matrix: Any) -> Any:
    return matrix.toarray() if hasattr(matrix, "toarray") else matrix

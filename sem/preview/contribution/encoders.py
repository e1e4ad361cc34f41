"""Samples as numbers: terms counted once for every model of a preview, numbers scaled.

A model's encoder knows its own rows only: its vocabulary, document frequencies, medians and
scales. What is shared between models is the counting of words, which takes the time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sem.core.errors import SemError
from sem.preview.contribution.columns import ColumnShape
from sem.preview.contribution.contribution import Sample

if TYPE_CHECKING:
    import numpy as np

# Words and pairs, the most frequent.
MOST_TERMS = 30_000
# Words, and pairs of words.
PAIRS = (1, 2)


class Features:
    """What `samples` of `shape` are as numbers; encoders are cut from it for any part of them."""

    def __init__(self, shape: ColumnShape, samples: Sequence[Sample]) -> None:
        self.shape = shape
        self._place: dict[str, int] = {}
        self._counts: Any = None
        self._terms: Any = None
        if shape.kind == "text":
            self._count({sample.text: None for sample in samples})

    def _count(self, texts: Mapping[str, None]) -> None:
        import numpy as np
        from sklearn.feature_extraction.text import CountVectorizer

        counter = CountVectorizer(ngram_range=PAIRS)
        try:
            self._counts = counter.fit_transform(texts).astype(np.float64)
        except ValueError as error:
            raise _wordless() from error
        self._terms = counter.get_feature_names_out()
        self._place = {text: row for row, text in enumerate(texts)}

    def counted(self, samples: Sequence[Sample]) -> Any:
        """Return how often each of `samples` holds each term, (samples, terms).

        All are known texts.
        """
        return self._counts[[self._place[sample.text] for sample in samples]]

    def knows(self, samples: Sequence[Sample]) -> bool:
        """Return whether all texts of `samples` were counted."""
        return all(sample.text in self._place for sample in samples)

    def encoder(self, samples: Sequence[Sample]) -> "Encoder":
        """Return what a model of `samples` sees of any row."""
        if self.shape.kind == "table":
            return _scaled(samples)
        counts = self.counted(samples)
        columns = _columns(counts)
        if not len(columns):
            raise _wordless()
        weights = _rarity(counts[:, columns])
        return WordEncoder(tuple(self._terms[columns]), weights, columns, self)


def _wordless() -> SemError:
    return SemError(
        "the texts hold no words to learn from", "check that the text column is the right one"
    )


def _columns(counts: Any) -> Any:
    """Return the terms that occur, the MOST_TERMS most frequent ones, in their order."""
    import numpy as np

    total = np.asarray(counts.sum(axis=0)).ravel()
    columns = np.flatnonzero(total)
    if len(columns) <= MOST_TERMS:
        return columns
    return np.sort(columns[np.argsort(-total[columns], kind="stable")[:MOST_TERMS]])


def _rarity(counts: Any) -> Any:
    """Return the smooth inverse document frequency of each column, as scikit-learn has it."""
    import numpy as np

    rows = np.bincount(counts.indices, minlength=counts.shape[1])
    return np.log((1 + counts.shape[0]) / (1 + rows)) + 1


@dataclass(frozen=True)
class WordEncoder:
    """TF-IDF over terms: 1 + log of the count, by rarity, rows of length 1."""

    terms: tuple[str, ...]
    rarity: "np.ndarray[Any, Any]"
    # The terms' places in FEATURES.
    columns: "np.ndarray[Any, Any] | None" = None
    # Where the counts are; None: counted when asked.
    features: Features | None = None

    def encode(self, samples: Sequence[Sample]) -> Any:
        """(samples, terms), sparse."""
        import numpy as np
        from sklearn.preprocessing import normalize

        counts = self._counted(samples).tocsr()
        counts.data = (np.log(counts.data) + 1) * self.rarity[counts.indices]
        return normalize(counts, copy=False)

    def _counted(self, samples: Sequence[Sample]) -> Any:
        if self.features is not None and self.features.knows(samples):
            return self.features.counted(samples)[:, self.columns]
        import numpy as np
        from sklearn.feature_extraction.text import CountVectorizer

        counter = CountVectorizer(ngram_range=PAIRS, vocabulary=list(self.terms))
        return counter.transform([sample.text for sample in samples]).astype(np.float64)


@dataclass(frozen=True)
class NumberEncoder:
    """Numbers: the median where one is missing, then mean 0 and spread 1; arrays are (width,)."""

    medians: "np.ndarray[Any, Any]"
    means: "np.ndarray[Any, Any]"
    spreads: "np.ndarray[Any, Any]"

    def encode(self, samples: Sequence[Sample]) -> Any:
        """(samples, width), dense."""
        import numpy as np

        values = np.array([sample.features for sample in samples], float)
        values = values.reshape(len(samples), len(self.medians))
        return (np.where(np.isnan(values), self.medians, values) - self.means) / self.spreads


Encoder = WordEncoder | NumberEncoder


def _scaled(samples: Sequence[Sample]) -> NumberEncoder:
    import numpy as np

    values = np.array([sample.features for sample in samples], float)
    has_values = ~np.isnan(values).all(axis=0)
    medians = np.zeros(values.shape[1])
    medians[has_values] = np.nanmedian(values[:, has_values], axis=0)
    filled = np.where(np.isnan(values), medians, values)
    # Halves first: the sum of 1e308 and 1e308 is not a number.
    means = (filled / 2 / len(filled)).sum(axis=0) * 2
    size = np.maximum(np.abs(filled - means).max(axis=0), np.finfo(float).tiny)
    spreads = size * np.sqrt((((filled - means) / size) ** 2).mean(axis=0))
    flat = ~(spreads > np.abs(means) * np.finfo(float).eps * len(filled))
    return NumberEncoder(medians, means, np.where(flat, 1.0, spreads))

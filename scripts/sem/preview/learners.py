"""Small models that stand in for the pipeline on a CPU: linear over words, linear over numbers.

`text`: words and pairs of words by TF-IDF; `table`: numbers imputed by their median and scaled.
Both end in scikit-learn's logistic regression.
"""

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sem.core.errors import SemError
from sem.preview.columns import Shape
from sem.preview.contribution import Sample

if TYPE_CHECKING:
    import numpy as np

NAMES = {"text": "tfidf-logistic.v1", "table": "impute-scale-logistic.v1"}
MOST_TERMS = 30_000  # words and pairs, the most frequent
STRENGTH = {"text": 10.0, "table": 1.0}  # inverse of the L2 penalty: texts are few and sparse
TOLERANCE = 1e-3
PASSES = 25  # steps of the optimiser between two looks at the clock


@dataclass(frozen=True)
class Budget:
    """How hard to try: steps of the optimiser, and the time.monotonic() at which none begins."""

    steps: int = 300
    deadline: float | None = None


@dataclass(frozen=True)
class Model:
    """A fitted model over an encoder."""

    kind: str
    encoder: Any
    linear: Any  # LogisticRegression, None where the rows had one class only
    classes: tuple[str, ...]
    converged: bool = True

    def probabilities(self, samples: Sequence[Sample]) -> "np.ndarray[Any, Any]":
        """(samples, classes), each row adding up to 1."""
        import numpy as np

        if self.linear is None:
            return np.ones((len(samples), 1))
        return self.linear.predict_proba(encoded(self.encoder, self.kind, samples))

    def labels(self, samples: Sequence[Sample]) -> list[str]:
        """The likeliest class of each sample."""
        return [self.classes[place] for place in self.probabilities(samples).argmax(axis=1)]


def encoder_of(shape: Shape, samples: Sequence[Sample]) -> Any:
    """What turns samples into numbers, fitted on SAMPLES."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if shape.kind == "table":
        imputer = SimpleImputer(strategy="median", keep_empty_features=True)
        pipeline = make_pipeline(imputer, StandardScaler())
        return pipeline.fit([sample.features for sample in samples])
    terms = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=MOST_TERMS)
    try:
        return terms.fit([sample.text for sample in samples])
    except ValueError as error:
        raise SemError(
            "the texts hold no words to learn from", "is the text column the right one?"
        ) from error


def encoded(encoder: Any, kind: str, samples: Sequence[Sample]) -> Any:
    """SAMPLES as a matrix of (samples, terms): sparse for texts."""
    given = [s.text for s in samples] if kind == "text" else [s.features for s in samples]
    return encoder.transform(given)


def fit(shape: Shape, encoder: Any, samples: Sequence[Sample], budget: Budget) -> Model:
    """A model of SAMPLES over ENCODER."""
    from sklearn.linear_model import LogisticRegression

    if not samples:
        raise SemError("no rows to learn from", "give base data, or a contribution with rows")
    labels = [sample.label for sample in samples]
    classes = tuple(sorted(set(labels)))
    if len(classes) == 1:
        return Model(shape.kind, encoder, None, classes)
    linear = LogisticRegression(
        C=STRENGTH[shape.kind], tol=TOLERANCE, max_iter=PASSES, warm_start=True
    )
    matrix, spent = encoded(encoder, shape.kind, samples), 0
    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ends of PASSES: looked at below
            linear.fit(matrix, labels)
        steps = int(linear.n_iter_.max())
        spent += steps
        late = budget.deadline is not None and time.monotonic() > budget.deadline
        if steps < PASSES or spent >= budget.steps or late:
            return Model(shape.kind, encoder, linear, classes, converged=steps < PASSES)

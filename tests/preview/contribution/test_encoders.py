"""Counted once, and yet each model's own: encoders and models agree with scikit-learn's."""

import math

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sem.core.errors import SemError
from sem.preview.contribution.columns import ColumnShape
from sem.preview.contribution.contribution import Sample
from sem.preview.contribution.encoders import Features
from sem.preview.linear import learners
from sem.preview.linear.learners import FitBudget

TEXT = ColumnShape("text", "label", text="text")
WORDS = ("pay", "bill", "card", "lost", "fly", "seat", "late", "a", "the", "refund")


def texts(count: int, classes: int = 3, seed: int = 1) -> tuple[Sample, ...]:
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        label = number % classes
        words = [*rng.choice(WORDS, 4), WORDS[label], WORDS[label]]
        made.append(Sample(f"row {number}", str(label), " ".join(words)))
    return tuple(made)


def table(count: int, seed: int = 1) -> tuple[Sample, ...]:
    rng = np.random.default_rng(seed)
    rows = rng.normal(5, [1, 1e4, 1e-3, 0], (count, 4))
    rows[rng.random((count, 4)) < 0.1] = math.nan
    return tuple(
        Sample(f"row {n}", "yes" if row[0] > 5 else "no", features=tuple(map(float, row)))
        for n, row in enumerate(rows)
    )


def shape_of(samples: tuple[Sample, ...]) -> ColumnShape:
    return TEXT if samples[0].text else ColumnShape("table", "y", features=tuple("abcd"), width=4)


def test_words_counted_once_are_tfidf_of_the_part() -> None:
    samples = texts(40)
    part, others = samples[:25], samples[25:]
    found = Features(TEXT, samples).encoder(part)
    peer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit([s.text for s in part])
    assert found.terms == tuple(peer.get_feature_names_out())
    for asked in (part, others):
        theirs = peer.transform([s.text for s in asked]).toarray()
        assert found.encode(asked).toarray() == pytest.approx(theirs)


def test_texts_that_were_not_counted_are_counted_when_asked() -> None:
    samples = texts(40)
    found = Features(TEXT, samples[:30]).encoder(samples[:20])
    known = Features(TEXT, samples).encoder(samples[:20])
    assert found.encode(samples[25:]).toarray() == pytest.approx(
        known.encode(samples[25:]).toarray()
    )


def test_numbers_are_imputed_and_scaled_as_by_the_pipeline() -> None:
    samples = table(60)
    part, others = samples[:40], samples[40:]
    pipeline = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    peer = pipeline.fit([s.features for s in part])
    found = Features(shape_of(samples), samples).encoder(part)
    assert found.encode(others) == pytest.approx(peer.transform([s.features for s in others]))


@pytest.mark.filterwarnings("error")
def test_numbers_without_a_spread_or_a_value_or_near_the_largest_do_no_harm() -> None:
    rows = [(3.0, math.nan, 1.7e308), (3.0, math.nan, -1.7e308), (3.0, math.nan, 1.0)]
    samples = tuple(Sample(str(n), "x", features=row) for n, row in enumerate(rows))
    found = Features(ColumnShape("table", "y", features=tuple("abc"), width=3), samples)
    made = found.encoder(samples).encode(samples)
    assert made[:, :2] == pytest.approx(np.zeros((3, 2)))
    assert np.isfinite(made).all()


@pytest.mark.parametrize("samples", [texts(60), texts(60, 2), table(60)])
def test_a_model_gives_the_chances_of_the_logistic_regression_it_is(samples) -> None:
    features = Features(shape_of(samples), samples)
    model = learners.fit_classifier(features, samples, FitBudget())
    matrix = features.encoder(samples).encode(samples)
    peer = LogisticRegression(C=learners.STRENGTH[features.shape.kind], max_iter=1_000)
    peer.fit(matrix, [s.label for s in samples])
    assert model.probabilities(samples) == pytest.approx(peer.predict_proba(matrix), abs=0.05)
    assert model.classes == tuple(peer.classes_)


def test_rows_of_one_class_make_a_model_that_says_it_always() -> None:
    samples = texts(5, 1)
    model = learners.fit_classifier(Features(TEXT, samples), samples, FitBudget())
    assert model.classes == ("0",)
    assert model.probabilities(samples).tolist() == [[1.0]] * 5


def test_texts_without_words_are_refused() -> None:
    samples = (Sample("row 1", "x", "!"), Sample("row 2", "y", "?"))
    with pytest.raises(SemError, match="no words to learn from"):
        Features(TEXT, samples)

"""What does not fit the time is cut, the contribution first, and said."""

from sem.preview.contribution.columns import ColumnShape
from sem.preview.linear.estimate import EstimateRows
from sem.preview.linear.learners import FitBudget
from sem.preview.result import preview_run
from sem.preview.result.preview_run import FitPace
from tests.preview.contribution.test_encoders import table, texts

TABLE = ColumnShape("table", "y", features=tuple("abcd"), width=4)


def rows(base: int = 1_000, given: int = 4_000) -> EstimateRows:
    samples = table(base + given + 10)
    return EstimateRows(TABLE, samples[:base], samples[base : base + given], samples[-10:])


def test_what_fits_is_left_as_it_is() -> None:
    whole = rows()
    assert preview_run.cut_to_seconds(whole, FitPace(1e-9), FitBudget(), 60) == (whole, ())


def test_the_contribution_is_cut_first_and_the_features_are_kept() -> None:
    whole = rows()
    speed = FitPace(60 / (preview_run.FitPace(1).of(1_000, 2_000, 2, 300)))
    found, notes = preview_run.cut_to_seconds(whole, speed, FitBudget(), 60)
    assert len(found.base) == 1_000
    assert 1_400 < len(found.given) <= 2_000
    assert notes == (f"time_box: {len(found.given):,} of 4,000 contributed rows are learnt from",)
    assert set(found.given) < set(whole.given)
    assert found.features is whole.features


def test_then_the_base_rows_and_never_all() -> None:
    found, notes = preview_run.cut_to_seconds(rows(), FitPace(1.0), FitBudget(), 1)
    assert (len(found.base), len(found.given)) == (200, 400)
    assert notes[1] == "time_box: 200 of 1,000 base rows are learnt from"


def test_the_pace_is_measured() -> None:
    samples = texts(400)
    text = EstimateRows(
        ColumnShape("text", "label", text="text"), samples[:300], samples[300:390], samples[390:]
    )
    assert 0 < preview_run.measure_fit_pace(text, FitBudget()).seconds < 0.1

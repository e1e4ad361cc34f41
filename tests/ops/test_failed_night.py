"""A night that failed is not a night that ran: tried again, rung once."""

import json

import pytest

from sem.core import files, provenance
from sem.core.errors import SemError
from sem.core.project import Project
from sem.jobs import load_jobs
from sem.ops import nightly


@pytest.fixture
def desk(toy):
    return nightly.load_nightly_folder(Project.load("toy"))


@pytest.fixture
def rings(monkeypatch):
    """The nights that the webhook was told of."""
    told = []
    monkeypatch.setattr(
        nightly, "send_alert", lambda path, night: told.append(night) or "webhook: sent"
    )
    return told


def fail(message, monkeypatch):
    def of(project):
        raise SemError(message, "")

    monkeypatch.setattr(nightly.run, "promoted_run_id", of)


def test_a_failed_night_is_tried_again_at_the_next_call_and_rings_once(desk, rings, monkeypatch):
    # An hour later it was "has run already", exit 0, for the rest of the UTC day.
    at = provenance.utc_now()
    fail("no promoted run", monkeypatch)
    for _ in range(3):
        assert nightly.status_of_night(desk, at) is None
        assert nightly.run_night(desk, at)["status"] == "failed"
    fail("the base weights are gone", monkeypatch)
    nightly.run_night(desk, at)

    assert [night["error"] for night in rings] == ["no promoted run", "the base weights are gone"]
    rows = [json.loads(line) for line in desk.history.read_text("utf-8").splitlines()]
    assert [row["status"] for row in rows] == ["failed"] * 4


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([], None),
        (["failed"], None),
        (["failed", "ok"], "ok"),
        (["ok", "failed"], "ok"),
        (["regressed"], "regressed"),
        (["ok", "regressed"], "regressed"),
    ],
)
def test_only_a_night_that_compared_answers_has_run(desk, statuses, expected):
    at = provenance.utc_now()
    day = f"{at:%Y-%m-%d}"
    rows = [{"date": day, "status": status} for status in statuses]
    files.write_rows(desk.history, [{"date": "2020-01-01", "status": "ok"}, *rows])

    assert nightly.status_of_night(desk, at) == expected


def test_the_job_of_a_failed_night_ends_with_an_error_however_often_it_is_called(desk):
    # The second call of the day said "has run already" and ended with exit 0.
    for _ in range(2):
        with pytest.raises(SemError, match="nightly failed: ") as caught:
            load_jobs()["ops.nightly"].call(["--sem", "toy"])
        assert caught.value.exit_code == 1

    assert len(desk.history.read_text("utf-8").splitlines()) == 2

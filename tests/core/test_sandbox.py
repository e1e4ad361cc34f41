"""A job that does harm costs its worker at most, and the next one is done."""

import os
import time

import pytest
import sandbox_jobs
from paths import ROOT

from sem.core import sandbox

PATHS = os.pathsep.join((str(ROOT), str(ROOT / "tests" / "support")))
LIMITS = sandbox.JobLimits(deadline_s=0.3, memory_mib=100)


@pytest.fixture
def worker(monkeypatch, tmp_path):
    monkeypatch.setattr(sandbox, "ROOT", PATHS)
    setup = {"folder": str(tmp_path)}
    worker = sandbox.Worker(sandbox_jobs.prepare_deeds, setup, LIMITS, "job")
    yield worker
    worker.stop()


def answer(worker: sandbox.Worker, deed: str, **more: int) -> dict:
    worker.send({"deed": deed, **more})
    return worker.receive()


def forbidden(event: str) -> dict:
    return {"raised": "ForbiddenError", "detail": event}


@pytest.mark.parametrize(
    ("deed", "outcome"),
    [
        ("loop", {"reason": "job_timeout"}),
        ("die", {"reason": "job_crash"}),
        ("swell", {"raised": "MemoryError", "detail": ""}),
        ("write", {"raised": "OSError", "detail": "[Errno 27] File too large"}),
        ("socket", forbidden("socket.__new__")),
        ("process", forbidden("subprocess.Popen")),
        ("fork", forbidden("os.fork")),
        ("shell", forbidden("os.system")),
    ],
)
def test_harm_is_named_and_the_next_job_is_done(worker, deed, outcome):
    assert answer(worker, deed) == outcome
    assert answer(worker, "pid")["returned"] > 0


def test_a_worker_sees_no_key_of_the_environment(worker, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-" + "k" * 40)
    monkeypatch.setenv("SEM_SERVE_KEYS", "s" * 24)
    names = answer(worker, "environment")["returned"]

    assert "PATH" in names
    assert not [name for name in names if "KEY" in name or "SEM" in name]


def test_a_worker_that_a_job_left_bloated_is_started_anew(worker):
    small = answer(worker, "pid")
    assert answer(worker, "pid") == small

    assert answer(worker, "pid", hold=70 << 20) == small
    assert answer(worker, "pid") != small


def test_a_worker_that_cannot_start_says_what_to_try(monkeypatch):
    monkeypatch.setattr(sandbox, "ROOT", ROOT / "nowhere")
    worker = sandbox.Worker(sandbox_jobs.prepare_deeds, {}, LIMITS, "job")

    with pytest.raises(RuntimeError, match=r"job worker does not start: sandbox_jobs\.prepare"):
        worker.send({"deed": "pid"})


@pytest.mark.parametrize(
    ("deed", "result"),
    [
        (sandbox_jobs.loop, None),
        (lambda: bytearray(1 << 30), None),
        (lambda: 1 / 0, None),
        (lambda: {"a": 1}, {"a": 1}),
    ],
    ids=["loop", "swell", "raise", "answer"],
)
def test_a_fork_answers_or_does_not_come_back(deed, result):
    began = time.monotonic()

    assert sandbox.run_forked(deed, deadline_s=0.5, extra_bytes=256 << 20) == result
    assert time.monotonic() - began < 15

"""Ray gives the local engine's bytes, also when one of its workers is killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from paths import SCRIPTS
from rowmaker import fill, project, row, shops

from sem.core import files
from sem.core.errors import SemError
from sem.dataset.clean import clean, engine

# Not importorskip: importing Ray puts packages of its own on the path of every later test.
needs_ray = pytest.mark.skipif(
    find_spec("ray") is None, reason="the extra `cluster` is not installed"
)
RESULT = (clean.NAME, clean.REJECTS, clean.FACTS)


@pytest.fixture
def shop(tmp_path):
    bad = row("z1", reference=None), row("z2", input_text="<p>" + "<div>" * 9_000)
    return fill(project(tmp_path), *shops(20, 10), *bad)


def hashes(made) -> dict[str, str]:
    return {name: files.sha256_file(made.processed / name) for name in RESULT}


def script(made, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(SCRIPTS / "dataset_clean.py"), "--sem", made.sem, *words]
    env = {**os.environ, "SEM_ROOT": str(made.root)}
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def descendants(pid: int) -> list[int]:
    found, pending = [], [pid]
    while pending:
        for path in Path(f"/proc/{pending.pop()}/task").glob("*/children"):
            try:
                children = [int(child) for child in path.read_text().split()]
            except OSError:  # a thread that ended meanwhile has none
                continue
            found += children
            pending += children
    return found


def kill_one_worker(pid: int, killed: list[int], done: threading.Event) -> None:
    """Wait until a Ray worker under `pid` has work, and end it."""
    while not done.wait(0.02) and not killed:
        for child in descendants(pid):
            try:
                if Path(f"/proc/{child}/cmdline").read_bytes().startswith(b"ray::Map"):
                    os.kill(child, signal.SIGKILL)
                    killed.append(child)
                    return
            except OSError:
                continue


@pytest.mark.slow
@needs_ray
def test_ray_gives_the_same_bytes_also_with_a_worker_killed(shop):
    clean.clean_store(shop)
    local = hashes(shop)
    for name in RESULT:
        (shop.processed / name).unlink()

    process = script(shop, "--engine", "ray", "--set", "dataset.clean.workers=2")
    killed: list[int] = []
    done = threading.Event()
    killer = threading.Thread(target=kill_one_worker, args=(process.pid, killed, done))
    killer.start()
    _, said = process.communicate(timeout=240)
    done.set()
    killer.join()

    assert process.returncode == 0, said.decode()
    assert killed
    assert hashes(shop) == local


@needs_ray
def test_a_cluster_that_is_not_there_is_one_clear_line(shop):

    process = script(shop, "--engine", "ray", "--ray-address", "127.0.0.1:9")
    _, said = process.communicate(timeout=120)

    assert process.returncode == 1
    assert b"--engine ray: no cluster at 127.0.0.1:9" in said
    assert b"Traceback" not in said
    assert not (shop.processed / clean.NAME).exists()


@pytest.mark.parametrize(
    ("lengths", "sizes"),
    [
        ([10] * 5, [5]),
        ([90, 90, 90], [1, 1, 1]),
        ([500, 10, 10], [1, 2]),
        ([], []),
        ([10] * 40, [10] * 4),
    ],
)
def test_small_rows_travel_together_and_large_ones_alone(lengths, sizes):
    rows = [row(f"a{n}", input_text="x" * length) for n, length in enumerate(lengths)]

    made = list(engine.row_batches(rows, chars=100, rows=32))

    assert [len(batch) for batch in made] == sizes
    assert [one for batch in made for one in batch] == rows


def test_a_batch_that_kills_its_worker_costs_the_row_that_did_it_alone(tmp_path):
    # A page that takes longer than its time, among innocent ones of one batch.
    slow = row("m1", input_text="<p>" + "<div>" * 60_000 + "x")
    made = fill(project(tmp_path, "clean: {deadline_s: 3, max_depth: 1000000}\n"), *shops(3, 2))
    fill(made, slow)

    began = time.monotonic()
    done = clean.clean_store(made)

    assert done.tally.kept == 6
    assert sum(done.tally.reasons.values()) == 1
    assert set(done.tally.reasons) <= {"page_timeout", "page_memory", "page_crash"}
    assert time.monotonic() - began < 120


def test_a_setting_that_counts_tokens_needs_the_tokenizer(tmp_path):
    made = fill(project(tmp_path, "clean: {default: {max_tokens: 100}}\n"), *shops(2))

    with pytest.raises(SemError, match="max_tokens needs the base model's tokenizer"):
        clean.clean_store(made)

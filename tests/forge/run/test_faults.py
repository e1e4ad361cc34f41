"""A teacher that fails in every way: each chunk is found under its reason, no key anywhere."""

import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime

import handbook
import pytest
import teachers
import warm
from chatserver import ChatServer
from paths import SCRIPTS

from sem.core import files
from sem.core.errors import SemError
from sem.core.project import Project
from sem.forge.run import forge_job, forge_run
from sem.lm.api import client as client_module

SCRIPT = SCRIPTS / "forge_run.py"
AT = datetime(2026, 11, 21, tzinfo=UTC)
# 60 MB within a second is no promise of a busy machine; benchmarks/faults/forge.py sends them.
LEFT_OUT = ("huge",)
FAILED = ("429", "500", "503", "hang", "reset", "half", "html")  # nothing was answered
KEY = "sk-canary-0123456789abcdef"


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setenv("SEM_ROOT", str(tmp_path))
    monkeypatch.setenv("STUB_KEY", KEY)
    monkeypatch.setattr(client_module, "FIRST_BACKOFF_S", 0.01)
    # Unlike a real outage, these faults come ten in a row by chance.
    monkeypatch.setattr(client_module.Breaker, "is_open", lambda self, lane: False)
    with ChatServer(teachers.faulty(KEY, LEFT_OUT)) as server:
        server.hang_s = 1.5
        handbook.make(tmp_path, server.url, documents=8, sections=5, timeout_s=1.0, workers=8)
        made = Project.load("handbook")
        yield made, server


def stored(project):
    return forge_run.run_forge(forge_run.prepare_forge(project, forge_job.ForgeOptions(), AT))


def reasons(project):
    """chunk -> the reasons it is found under, pairs that were kept being one of them."""
    folder, found = project.processed / "forge", {}
    for name in ("pairs", "dropped"):
        for row in files.read_rows(folder / f"{name}.jsonl"):
            told = row["provenance"]
            where = f"{row['source']} {told['document_sha256'][:12]}:" + "-".join(
                map(str, told["span"])
            )
            found.setdefault(where, set()).add(told["reason"] or "kept")
    for row in files.read_rows(folder / "skipped.jsonl"):
        found.setdefault(row["where"], set()).add(row["reason"])
    return found


def test_every_fault_is_typed_counted_and_costs_no_other_chunk(project):
    project, server = project
    stored(project)

    found = reasons(project)
    expected = Counter()
    for body in {str(b["messages"]): b for b in server.seen}.values():
        kind = teachers.kind_of(body, LEFT_OUT)
        expected.update([*teachers.KINDS[kind]] if kind else ["kept"])
    counted = Counter(reason for told in found.values() for reason in told)
    assert len(found) == 40
    assert counted == expected
    # The seed gives most kinds.
    assert len(set(counted)) >= 12


def test_answered_is_answered_and_the_others_are_asked_again(project):
    project, server = project
    stored(project)
    settled = [b for b in server.seen if teachers.kind_of(b, LEFT_OUT) not in FAILED]
    server.script, before = teachers.honest, len(server.seen)

    stored(project)

    again = server.seen[before:]
    assert again
    assert not {str(b["messages"]) for b in again} & {str(b["messages"]) for b in settled}
    # What failed in transit came right now, what was answered badly is still counted.
    left = {reason for told in reasons(project).values() for reason in told}
    assert {"invalid_json", "wrong_schema"} & left
    assert not {"server_error", "rate_limited", "timeout", "cut_off"} & left


def test_a_key_that_is_echoed_is_in_no_file(project):
    project, _ = project
    stored(project)

    written = [path for path in project.root.rglob("*") if path.is_file()]
    assert len(written) > 20
    assert not [path for path in written if KEY.encode() in path.read_bytes()]
    assert "secret" in {reason for told in reasons(project).values() for reason in told}


def test_eight_workers_never_pass_the_cap(project):
    project, server = project
    server.script = teachers.honest
    handbook.make(project.root, server.url, documents=8, sections=5, workers=8, max_requests=20)

    for _ in range(2):
        with pytest.raises(SemError, match="the teacher stopped: budget"):
            stored(project)

    assert len(server.seen) == 20


@pytest.mark.slow
def test_a_killed_run_repeats_only_what_was_in_flight(project):
    project, server = project
    server.script, server.delay_s = teachers.honest, 0.05
    words = [sys.executable, str(SCRIPT), "--sem", "handbook", "--yes"]
    for enough in (8, 28, 10_000):
        with warm.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as ran:
            while len(server.seen) < enough and ran.poll() is None:
                time.sleep(0.005)
            if enough < 10_000:
                assert ran.poll() is None
                ran.kill()

    assert ran.returncode == 0
    asked = Counter(str(body["messages"]) for body in server.seen)
    assert len(asked) == 40
    assert sum(asked.values()) - 40 <= 2 * 8
    assert set.union(*reasons(project).values()) == {"kept"}

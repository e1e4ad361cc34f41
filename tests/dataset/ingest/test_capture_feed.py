"""Chunks are taken once, in order; a bad one stops nothing and is named at the end."""

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from chunks import CAPTURE, chunk
from rowmaker import project, read, row

from sem.core.errors import SemError
from sem.dataset.ingest import capture_feed
from sem.dataset.ingest.importers import ImportOptions
from sem.dataset.store import store

AT = datetime(2026, 11, 20, 8, 30, tzinfo=UTC)


def stored(made) -> dict[str, store.RawRow]:
    with store.open_store(made.store) as opened:
        return {one.id: one for one in opened.rows()}


def test_a_folder_is_taken_in_order_and_only_once(tmp_path):
    made = project(tmp_path)
    for stamp, names in (("10", "ef"), ("9", "cd"), ("8", "ab")):
        chunk(tmp_path / "in", stamp, names)

    first = capture_feed.import_feed(made, [tmp_path / "in"], ImportOptions(), AT)
    chunk(tmp_path / "in", "11", "g")
    second = capture_feed.import_feed(made, [tmp_path / "in"], ImportOptions(), AT)

    assert [one.path.stem.rpartition("_")[2] for one in first.items] == ["8", "9", "10"]
    assert [one.outcome for one in second.items] == ["before", "before", "before", "taken"]
    assert sorted(stored(made)) == ["a1", "b1", "c1", "d1", "e1", "f1", "g1"]
    assert [one["added"] for one in capture_feed.read_feed_ledger(made)] == [2, 2, 2, 1]
    assert capture_feed.read_feed_ledger(made)[0]["at"] == "2026-11-20T08:30:00Z"


def test_all_fifteen_columns_survive(tmp_path):
    made = project(tmp_path)

    capture_feed.import_feed(made, [chunk(tmp_path / "in", "1", "a")], ImportOptions(), AT)

    meta = json.loads(stored(made)["a1"].metadata)
    assert meta["capture"] == CAPTURE
    assert meta["page_type"] == "product"


def test_a_prompt_hash_is_compared_where_its_rule_is_known(tmp_path):
    import hashlib

    made = project(tmp_path)
    right = hashlib.sha256(row("a1").input_text.encode()).hexdigest()

    done = capture_feed.import_feed(
        made, [chunk(tmp_path / "in", "1", "ab", [right, "0" * 64])], ImportOptions(), AT
    )

    assert sorted(stored(made)) == ["a1"]
    assert dict(done.counts()) == {"rejected: prompt_hash_differs": 1}
    assert "prompt_hash agrees with the prompt: 1 rows" in done.notes


def test_a_prompt_hash_of_an_unknown_rule_is_kept_and_said(tmp_path):
    made = project(tmp_path)

    done = capture_feed.import_feed(
        made, [chunk(tmp_path / "in", "1", "ab", ["0" * 64, "x"])], ImportOptions(), AT
    )

    assert sorted(stored(made)) == ["a1", "b1"]
    assert "prompt_hash kept unchecked, its rule is not known: 2 rows" in done.notes


def test_a_bad_chunk_is_named_at_the_end_and_the_rest_is_in(tmp_path):
    made = project(tmp_path)
    chunk(tmp_path / "in", "1", "a")
    chunk(tmp_path / "in", "2", "b", count=7)
    chunk(tmp_path / "in", "3", "c")

    done = capture_feed.import_feed(made, [tmp_path / "in"], ImportOptions(), AT)

    assert sorted(stored(made)) == ["a1", "c1"]
    with pytest.raises(SemError) as caught:
        done.check()
    assert caught.value.message.startswith(
        "1 of 3 files were not imported: llm_training_chunk_2.zip: "
    )
    assert "holds 1 rows, its sidecar says 7" in caught.value.message


def test_a_repaired_chunk_of_the_same_name_is_taken(tmp_path):
    made = project(tmp_path)
    chunk(tmp_path / "in", "1", "a", count=9)
    capture_feed.import_feed(made, [tmp_path / "in"], ImportOptions(), AT)
    chunk(tmp_path / "in", "1", "a")

    done = capture_feed.import_feed(made, [tmp_path / "in"], ImportOptions(), AT)

    assert [one.outcome for one in done.items] == ["taken"]


def test_other_options_take_a_chunk_again_and_a_limit_is_no_whole_chunk(tmp_path):
    made = project(tmp_path)
    path = chunk(tmp_path / "in", "1", "abc")

    first = capture_feed.import_feed(made, [path], ImportOptions(limit=1), AT)
    second = capture_feed.import_feed(made, [path], ImportOptions(), AT)
    third = capture_feed.import_feed(
        made, [path], ImportOptions(rename={"x": "y"}, on_conflict="skip"), AT
    )

    assert [one.items[0].outcome for one in (first, second, third)] == ["taken"] * 3
    assert len(capture_feed.read_feed_ledger(made)) == 2


def test_a_new_store_takes_everything_again(tmp_path):
    made = project(tmp_path)
    path = chunk(tmp_path / "in", "1", "a")
    capture_feed.import_feed(made, [path], ImportOptions(), AT)
    made.store.unlink()

    done = capture_feed.import_feed(made, [path], ImportOptions(), AT)

    assert done.notes["the store is new: chunks taken before are taken again"] == 1
    assert sorted(stored(made)) == ["a1"]


def test_what_is_no_chunk_in_a_folder_is_said(tmp_path):
    made = project(tmp_path)
    chunk(tmp_path / "in", "1", "a")
    (tmp_path / "in" / "notes.txt").write_text("x")
    (tmp_path / "in" / "llm_training_chunk_0.zip").symlink_to("/etc/hostname")

    done = capture_feed.import_feed(made, [tmp_path / "in"], ImportOptions(), AT)

    assert set(done.notes) >= {
        "not a chunk: 'notes.txt'",
        "not a chunk: 'llm_training_chunk_0.zip'",
    }
    assert len(done.items) == 1


def test_a_folder_without_chunks_is_refused(tmp_path):
    (tmp_path / "in").mkdir()

    with pytest.raises(SemError, match="no chunk in this folder"):
        capture_feed.import_feed(project(tmp_path), [tmp_path / "in"], ImportOptions(), AT)


KILLED = """
import os, signal, sys
from datetime import datetime, UTC
from pathlib import Path
from sem.core.project import Project
from sem.dataset.ingest import capture_feed
from sem.dataset.ingest.importers import Options
capture_feed._remember = lambda *a: os.kill(os.getpid(), signal.SIGKILL)
project = Project("shop", Path(sys.argv[1]))
capture_feed.import_feed(project, [Path(sys.argv[2])], Options(), datetime.now(UTC))
"""


def test_killed_between_the_rows_and_the_ledger_it_is_repeated_harmlessly(tmp_path):
    made = project(tmp_path)
    path = chunk(tmp_path / "in", "1", "ab")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "-c", KILLED, str(tmp_path), str(path)]

    assert subprocess.run(argv, env=environment, check=False).returncode == -signal.SIGKILL
    assert sorted(stored(made)) == ["a1", "b1"]
    assert capture_feed.read_feed_ledger(made) == []
    done = capture_feed.import_feed(made, [path], ImportOptions(), AT)

    assert done.items[0].result.stored.already_there == 2
    assert len(capture_feed.read_feed_ledger(made)) == 1


def test_every_refusal_of_a_call_is_in_one_report(tmp_path):
    made = project(tmp_path)
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text('{"task": "product", "input_text": "x"}\n{\n')

    done = capture_feed.import_feed(
        made, [tmp_path / "a.jsonl", tmp_path / "b.jsonl"], ImportOptions(), AT
    )

    assert [one["file"] for one in read(done.report)] == ["a.jsonl", "b.jsonl"]

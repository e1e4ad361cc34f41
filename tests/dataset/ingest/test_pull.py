"""Pulls are whole or refused: a live writer, cut lines, wrong keys, over a real sshd."""

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from chunks import chunk
from rowmaker import fill, project, row, shops
from sshd import SSHD, Line, serving

from sem.core.errors import SemError
from sem.core.net import ssh
from sem.dataset.ingest import capture_feed, pull
from sem.dataset.ingest.importers import ImportOptions
from sem.dataset.ingest.pull import SourceFile
from sem.dataset.store import store

AT = datetime(2026, 11, 20, tzinfo=UTC)
NEEDS_SSHD = pytest.mark.skipif(SSHD is None, reason="no sshd on this machine")


def pulled(made, source, server=None, **options):
    config = str(server.config) if server else None
    return pull.pull_source(
        made, str(source), ImportOptions(), AT, config, sleep=lambda _: None, **options
    )


def ids(path: Path) -> list[str]:
    with store.open_store(path) as opened:
        return sorted(opened.ids())


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("sshd")) as made:
        yield made


@pytest.fixture
def far(tmp_path):
    """A store of nine rows that stands elsewhere."""
    path = tmp_path / "it's far" / "dataset.duckdb"
    store.append_store_rows(path, shops(3))
    return path


def left_of(made) -> list[str]:
    return sorted(one.name for one in (made.store.parent / "incoming").iterdir())


def test_a_store_at_a_path_is_imported_and_no_copy_stays(tmp_path, far):
    made = project(tmp_path)

    done = pulled(made, far)

    assert ids(made.store) == ids(far)
    assert done.feed.items[0].result.stored.added == 9
    assert left_of(made) == [".pull.lock"]


@NEEDS_SSHD
def test_a_store_on_a_host_is_imported(tmp_path, far, server):
    made = project(tmp_path)

    pulled(made, f"far:{far}", server)
    again = pulled(made, f"far:{far}", server)

    assert ids(made.store) == ids(far)
    assert again.feed.items[0].result.stored.already_there == 9


@NEEDS_SSHD
def test_chunks_on_a_host_are_taken_once_and_not_fetched_again(tmp_path, server):
    made = project(tmp_path)
    for stamp, name in (("9", "a"), ("10", "b")):
        chunk(tmp_path / "there", stamp, name)

    first = pulled(made, f"far:{tmp_path}/there", server)
    second = pulled(made, f"far:{tmp_path}/there/", server)

    assert [one.path.name for one in first.feed.items] == [
        "llm_training_chunk_9.zip",
        "llm_training_chunk_10.zip",
    ]
    assert (second.feed.items, dict(second.left)) == ([], {"taken before": 2})
    assert ids(made.store) == ["a1", "b1"]


def test_a_bad_chunk_is_named_and_waits_for_a_person(tmp_path):
    made = project(tmp_path)
    chunk(tmp_path / "there", "1", "a", count=4)
    chunk(tmp_path / "there", "2", "b")

    done = pulled(made, tmp_path / "there")

    with pytest.raises(SemError, match="1 of 2 files were not imported"):
        done.feed.check()
    assert ids(made.store) == ["b1"]
    assert "llm_training_chunk_1.zip" in left_of(made)


WRITER = """
import sys, duckdb
path, every = sys.argv[1:]
connection = duckdb.connect(path)
connection.execute(f"PRAGMA wal_autocheckpoint='{every}'")
for number in range(100_000):
    connection.execute("INSERT INTO examples(id, task, prompt_text, response_strong) "
                       "VALUES (?, 'product', ?, '1')", [f"w{number:06}", "x" * 300])
    print(number, flush=True)
connection.close()
"""


# 16 MB is DuckDB's own; at 64 kB it merges many times a second, and refusing is right.
@pytest.mark.parametrize(
    ("over_ssh", "every"),
    [(False, "64KB"), pytest.param(True, "16MB", marks=[NEEDS_SSHD, pytest.mark.slow])],
)
def test_what_a_live_writer_committed_before_a_pull_is_there_or_it_is_refused(
    tmp_path, far, request, over_ssh, every
):
    server = request.getfixturevalue("server") if over_ssh else None
    argv = [sys.executable, "-c", WRITER, str(far), every]
    outcomes = []
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as writer:
        try:
            assert writer.stdout is not None
            os.set_blocking(writer.stdout.fileno(), True)
            acked = int(writer.stdout.readline())
            for number in range(3):
                acked = _drain(writer.stdout, acked)
                made = project(tmp_path / str(number))
                source = f"far:{far}" if over_ssh else str(far)
                outcomes.append(_complete(made, source, server, acked))
        finally:
            writer.kill()

    assert set(outcomes) <= {"complete", "refused"}
    assert every == "64KB" or "complete" in outcomes


def _drain(stream, acked: int) -> int:
    """Return the last number in `stream` so far."""
    os.set_blocking(stream.fileno(), False)
    time.sleep(0.1)
    try:
        data = os.read(stream.fileno(), 1 << 20).decode().split("\n")
    except BlockingIOError:  # not a line since the last call
        return acked
    whole = [line for line in data[:-1] if line.isdecimal()]
    return int(whole[-1]) if whole else acked


def _complete(made, source, server, acked: int) -> str:
    try:
        pulled(made, source, server)
    except SemError as error:
        return "refused" if "changed during each of" in error.message else error.message
    found = [name for name in ids(made.store) if name.startswith("w")]
    wanted = [f"w{number:06}" for number in range(len(found))]
    return "complete" if found == wanted and len(found) > acked else f"{len(found)} of {acked}"


@NEEDS_SSHD
def test_a_cut_line_goes_on_from_where_it_was(tmp_path, server, monkeypatch):
    path = tmp_path / "rows.jsonl"
    line = json.dumps({"id": "n", "task": "product", "input_text": "x" * 1_000, "answer": 1})
    path.write_text("".join(line.replace('"n"', f'"n{i}"') + "\n" for i in range(4_000)))
    made = project(tmp_path)
    seen = []
    real = pull.RemoteFiles.blocks

    def counted(self, name, offset, length):
        seen.append(offset)
        yield from real(self, name, offset, length)

    monkeypatch.setattr(pull.RemoteFiles, "blocks", counted)
    with Line(server.port, [2_000_000, 800_000, 500_000]) as between:
        server.reach(between.at)
        done = pulled(made, f"far:{path}", server)
        server.reach(server.port)

    assert between.made == 3
    assert len(seen) == 4
    assert seen == sorted(seen)
    assert 0 < seen[1] < 2_000_000
    assert done.feed.items[0].result.stored.added == 4_000


@NEEDS_SSHD
def test_a_line_that_stays_cut_leaves_a_part_that_the_next_call_continues(tmp_path, far, server):
    made = project(tmp_path)
    facts = pull.LocalFiles().facts(str(far))
    with Line(server.port, [90_000, *[0] * 40]) as between:
        server.reach(between.at)
        with pytest.raises(ssh.ConnectionCutError, match="the connection was lost"):
            pulled(made, f"far:{far}", server)
        server.reach(server.port)

    assert not made.store.exists()
    state = json.loads((made.store.parent / "incoming" / "dataset.duckdb.part.json").read_text())
    assert (state["sha256"], state["size"]) == (facts.sha256, facts.size)
    pulled(made, f"far:{far}", server)
    assert ids(made.store) == ids(far)


@NEEDS_SSHD
@pytest.mark.parametrize(
    ("known", "said"),
    [
        ("", "far: its host key is not known here"),
        ("other", "far: its host key differs from the known one"),
    ],
)
def test_a_host_with_an_unknown_or_another_key_is_refused(tmp_path, far, server, known, said):
    made = project(tmp_path)
    try:
        if known:
            server.known(server.key(known))
        else:
            (server.folder / "known_hosts").write_text("")
        with pytest.raises(SemError) as caught:
            pulled(made, f"far:{far}", server)
    finally:
        server.known(server.key())

    shown = server.fingerprint("host")
    assert caught.value.message == f"{said}: [127.0.0.1]:{server.port} shows {shown}"
    assert not isinstance(caught.value, ssh.ConnectionCutError)
    assert not made.store.exists()


@NEEDS_SSHD
def test_a_host_that_does_not_answer_is_said(tmp_path, far, server):
    try:
        server.reach(1)
        with pytest.raises(ssh.ConnectionCutError) as caught:
            pulled(project(tmp_path), f"far:{far}", server)
    finally:
        server.reach(server.port)

    assert caught.value.message == "far: cannot be reached: Connection refused"


@NEEDS_SSHD
def test_a_host_that_sends_more_than_asked_for_is_refused(far, server, monkeypatch):
    # Whatever came was written: a host could fill the disk past the size it had named.
    monkeypatch.setattr(pull, "BLOCKS", 'cat <"$1"')
    place = pull.RemoteFiles("far", str(server.config))

    with pytest.raises(SemError, match="far: it sent more than asked for"):
        list(place.blocks(str(far), 0, 1_000))


@NEEDS_SSHD
def test_a_file_that_is_not_there_is_said(tmp_path, server):
    with pytest.raises(SemError, match="no such file or folder"):
        pulled(project(tmp_path), f"far:{tmp_path}/none.duckdb", server)


@NEEDS_SSHD
def test_a_hostile_path_stays_a_word(tmp_path, server):
    folder = tmp_path / "$(touch canary); `touch canary` 'x' \"y\" & *"
    store.append_store_rows(folder / "-n.duckdb", [row("a1")])
    made = project(tmp_path)

    pulled(made, f"far:{folder}/-n.duckdb", server)

    assert ids(made.store) == ["a1"]
    assert not list(tmp_path.rglob("canary"))
    assert not (Path.home() / "canary").exists()


@pytest.mark.parametrize(
    "source", ["-oProxyCommand=touch x:/a", "a b:/x", "host:", "u@-h:/x", "h\n:/x", "h:/a\nb"]
)
def test_what_is_no_host_is_refused_before_ssh_starts(source):
    with pytest.raises(SemError, match="is no"):
        pull.parse_source(source, None)


def test_a_file_with_a_colon_that_is_there_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a:b").write_text("")

    assert pull.parse_source("a:b", None) == (pull.LocalFiles(), "a:b")


def test_replacing_says_how_many_rows_are_lost_and_forgets_the_chunks(tmp_path, far):
    made = fill(project(tmp_path), row("z1"), row("z2"), row("a0"))
    capture_feed.import_feed(made, [chunk(tmp_path / "in", "1", "y")], ImportOptions(), AT)

    done = pulled(made, far, replaces=True)

    assert done.lost == 3
    assert ids(made.store) == ids(far)
    assert capture_feed.read_feed_ledger(made) == []


def test_rows_here_stay_unless_replacing_is_asked_for(tmp_path, far):
    made = fill(project(tmp_path), row("z1"))

    pulled(made, far)

    assert ids(made.store) == sorted([*ids(far), "z1"])


def test_a_damaged_source_changes_nothing_here(tmp_path, far):
    made = fill(project(tmp_path), row("z1"))
    before = made.store.read_bytes()
    far.write_bytes(far.read_bytes()[:5_000])

    with pytest.raises(SemError):
        pulled(made, far, replaces=True)

    assert made.store.read_bytes() == before


def test_a_copy_from_between_two_checkpoints_is_tried_again(tmp_path, far, monkeypatch):
    real, written = ssh.fetch_file, []

    def during(source, facts, path, sleep):
        real(source, facts, path, sleep)
        if len(written) < 2:
            written.append(path)
            with duckdb.connect(str(far)) as connection:
                connection.execute("UPDATE examples SET task = 'other' || task")

    monkeypatch.setattr(ssh, "fetch_file", during)
    copied = pull.copy_source(SourceFile(pull.LocalFiles(), str(far)), tmp_path, lambda _: None)

    assert len(written) == 2
    assert copied.read_bytes() == far.read_bytes()


def test_a_file_that_never_stands_still_is_refused(tmp_path, far, monkeypatch):
    real = ssh.fetch_file

    def during(source, facts, path, sleep):
        real(source, facts, path, sleep)
        far.write_bytes(far.read_bytes() + b"x")

    monkeypatch.setattr(ssh, "fetch_file", during)
    with pytest.raises(SemError) as caught:
        pull.copy_source(SourceFile(pull.LocalFiles(), str(far)), tmp_path, lambda _: None)

    assert caught.value.message == (
        f"{far}: changed during each of 6 copies: {far} was written meanwhile"
    )

"""The store is read without trust and written in one transaction."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest
from paths import ROOT
from rowmaker import row, shops

from sem.core.errors import SemError
from sem.dataset.store import store, store_writer

SEVEN = "id VARCHAR, task VARCHAR, prompt_text VARCHAR, response_strong JSON, metadata JSON"


def make(path: Path, *statements: str) -> Path:
    with duckdb.connect(str(path)) as connection:
        for statement in statements:
            connection.execute(statement)
    return path


def read(path: Path) -> list[store.RawRow]:
    with store.open_store(path) as opened:
        return sorted(opened.rows(), key=lambda one: one.id)


def test_real_rows_are_read(shared):
    with store.open_store(shared / "data" / "html" / "examples.duckdb") as opened:
        names = {one.id for one in opened.rows()}

    assert len(names) == opened.count == 962


def test_what_is_written_is_read_back(tmp_path):
    rows = [row("b1", slot_specs='{"title":{"level":"exact"}}'), row("a1", system_prompt="Hm")]

    done = store.append_store_rows(tmp_path / "d.duckdb", rows)

    assert done == store.Appended(added=2)
    assert read(tmp_path / "d.duckdb") == sorted(rows, key=lambda one: one.id)


def test_production_columns_are_kept_as_capture(tmp_path):
    path = make(
        tmp_path / "d.duckdb",
        f"CREATE TABLE examples ({SEVEN}, slot_specs JSON, system_prompt VARCHAR, "
        "llm_signature VARCHAR, provider VARCHAR, model_name VARCHAR, input_tokens INT, "
        "output_tokens INT, latency_ms BIGINT, created_at TIMESTAMP, prompt_hash VARCHAR)",
        "INSERT INTO examples VALUES ('a', 't', 'in', '{\"x\":1}', NULL, NULL, NULL, 's', 'p', "
        "'m', 10, 2, 300, '2026-01-02', 'h')",
    )

    found = read(path)[0]

    assert (found.id, found.input_text, found.reference) == ("a", "in", '{"x":1}')
    assert '"latency_ms":300' in found.capture


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("prompt", "response_payload"),
        ("input_text", "response"),
        ("user_prompt", "target"),
        ("prompt", "expected"),
        ("input_text", "answer"),
    ],
)
def test_older_column_names_are_read(tmp_path, prompt, answer):
    path = make(
        tmp_path / "d.duckdb",
        f"CREATE TABLE examples (id INT, {prompt} VARCHAR, {answer} VARCHAR, page_type VARCHAR)",
        "INSERT INTO examples VALUES (7, 'in', '{}', 'product')",
    )

    assert read(path) == [store.RawRow("7", input_text="in", reference="{}", page_type="product")]


def test_structs_are_read_as_json(tmp_path):
    path = make(
        tmp_path / "d.duckdb",
        "CREATE TABLE examples AS SELECT 'a' AS id, 'in' AS prompt, {'price': 4.5} AS response",
    )

    assert read(path)[0].reference == '{"price":4.5}'


MISSING = "CREATE TABLE examples (id VARCHAR, prompt_text VARCHAR)"
UNREADABLE = {
    "no rows": ([f"CREATE TABLE examples ({SEVEN})"], "has no rows"),
    "missing column": ([MISSING, "INSERT INTO examples VALUES ('a','b')"], "no column"),
    "no table": (["CREATE TABLE other (id INT)"], "is missing"),
    "view": (["CREATE VIEW examples AS SELECT * FROM read_text('/etc/hostname')"], "is a VIEW"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_store_that_cannot_be_used_gives_one_clear_error(tmp_path, case):
    statements, said = UNREADABLE[case]
    path = make(tmp_path / "d.duckdb", *statements)

    with pytest.raises(SemError) as caught:
        read(path)

    assert said in caught.value.message
    assert str(path) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("content", [b"", b"id,task\n1,2\n", b"\x00" * 9000])
def test_a_file_that_is_no_store_gives_one_clear_error(tmp_path, content):
    path = tmp_path / "d.duckdb"
    path.write_bytes(content)

    with pytest.raises(SemError, match="DuckDB|missing|no such"):
        read(path)


def test_a_store_being_written_names_the_process(tmp_path):
    path = tmp_path / "d.duckdb"
    store.append_store_rows(path, [row("a1")])
    code = (
        f"import duckdb,time; c=duckdb.connect({str(path)!r}); print(1,flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()

        with pytest.raises(SemError, match=f"process {holder.pid} is writing"):
            read(path)

        holder.kill()


def test_a_table_name_from_the_environment_is_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("DATASET_DB_TABLE", "examples; DROP TABLE examples")

    with pytest.raises(SemError, match="not a table name"):
        read(tmp_path / "d.duckdb")


def test_importing_twice_adds_nothing(tmp_path):
    store.append_store_rows(tmp_path / "d.duckdb", shops(30))

    assert store.append_store_rows(tmp_path / "d.duckdb", shops(30)) == store.Appended(
        already_there=90
    )


@pytest.mark.parametrize(("choice", "title"), [("skip", "Mug a1"), ("replace", "new")])
def test_another_content_for_an_id_follows_the_choice(tmp_path, choice, title):
    path = tmp_path / "d.duckdb"
    store.append_store_rows(path, [row("a1"), row("a2")])

    store.append_store_rows(path, [row("a1", reference=f'{{"title":"{title}"}}')], choice)

    assert title in read(path)[0].reference
    assert len(read(path)) == 2


@pytest.mark.parametrize("first", [[row("a1")], []])
def test_another_content_for_an_id_stops_the_import(tmp_path, first):
    path = tmp_path / "d.duckdb"
    store.append_store_rows(path, [row("z1"), *first])

    with pytest.raises(SemError, match="'a1' already exists with different content"):
        store.append_store_rows(path, [row("b1"), row("a1"), row("a1", reference="{}")])

    assert [one.id for one in read(path)] == [one.id for one in [*first, row("z1")]]


def test_files_are_written_for_older_readers(tmp_path):
    store.append_store_rows(tmp_path / "d.duckdb", [row("a1")])

    with duckdb.connect(str(tmp_path / "d.duckdb"), read_only=True) as connection:
        tags = connection.execute(
            "SELECT tags['storage_version'] FROM duckdb_databases() WHERE NOT internal"
        ).fetchone()

    assert "v1.2.0" in str(tags[0])


SLOW_IMPORT = """
import sys; sys.path[:0] = [{scripts!r}, {tests!r}]
from pathlib import Path
from rowmaker import row
from sem.dataset.store import store
def rows():
    for number in range(100000):
        yield row(f"n{{number:06}}", input_text="x" * 4000)
        if number == 200: print("going", flush=True)
store.append_store_rows(Path({path!r}), rows())
"""


@pytest.mark.parametrize("pause", [0.0, 0.4])
def test_a_killed_import_leaves_the_old_rows(tmp_path, pause):
    path = tmp_path / "d.duckdb"
    store.append_store_rows(path, shops(3))
    code = SLOW_IMPORT.format(
        scripts=str(ROOT), tests=str(ROOT / "tests" / "support"), path=str(path)
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as running:
        running.stdout.readline()
        time.sleep(pause)
        os.kill(running.pid, signal.SIGKILL)

    assert read(path) == shops(3)


def test_a_full_disk_leaves_the_old_rows(tmp_path):
    path = tmp_path / "d.duckdb"
    store.append_store_rows(path, shops(3))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    big = (row(f"n{number}", input_text=os.urandom(8000).hex()) for number in range(2000))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, limits[1]))
    try:
        with pytest.raises((SemError, OSError)) as caught:
            store.append_store_rows(path, big)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert str(path) in str(caught.value)
    assert read(path) == shops(3)
    assert store.append_store_rows(path, [row("y1")]).added == 1


def test_a_new_store_appears_whole_whatever_a_killed_writer_left(tmp_path):
    path = tmp_path / "s.duckdb"
    # a header that was never written.
    (tmp_path / "s.duckdb.new").write_bytes(b"\0" * 4096)
    (tmp_path / "s.duckdb.new.wal").write_bytes(b"torn")

    store.append_store_rows(path, [row("1")])

    with store.open_store(path) as opened:
        assert opened.count == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.duckdb", "s.duckdb.lock"]


def forged(name: str, answer: str = "a") -> store.RawRow:
    origin = '{"reference_source":"forge"}'
    return store.RawRow(name, "qa", f"What is {name}?", f'{{"answer":"{answer}"}}', origin)


def mine(name: str) -> store.RawRow:
    return store.RawRow(name, "qa", f"What is {name}?", '{"answer":"m"}', "{}")


def test_rows_of_one_origin_are_exchanged_and_others_stay(tmp_path):
    path = tmp_path / "d.duckdb"
    store.append_store_rows(path, [mine("m")])
    first = store_writer.replace_origin_rows(
        path, [forged("a"), forged("b"), forged("c")], "forge"
    )
    second = store_writer.replace_origin_rows(
        path, [forged("b"), forged("c", "new"), forged("d")], "forge"
    )

    assert first == store_writer.OriginCounts(added=3)
    assert second == store_writer.OriginCounts(added=1, unchanged=1, replaced=1, removed=1)
    assert [one.id for one in read(path)] == ["b", "c", "d", "m"]
    assert '"new"' in read(path)[1].reference


def test_an_exchange_that_changes_nothing_leaves_the_bytes(tmp_path):
    path = tmp_path / "d.duckdb"
    store_writer.replace_origin_rows(path, [forged("a")], "forge")
    before = path.read_bytes()

    assert store_writer.replace_origin_rows(path, [forged("a")], "forge").unchanged == 1
    assert path.read_bytes() == before


def test_an_exchange_never_takes_the_id_of_a_row_of_other_origin(tmp_path):
    path = tmp_path / "d.duckdb"
    store.append_store_rows(path, [mine("m")])
    store_writer.replace_origin_rows(path, [forged("a")], "forge")

    with pytest.raises(SemError, match="id 'm' already exists with different content"):
        store_writer.replace_origin_rows(path, [forged("b"), forged("m")], "forge")

    assert [one.id for one in read(path)] == ["a", "m"]

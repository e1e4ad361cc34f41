"""Every kind of file becomes the same rows; what cannot be one is counted or refused."""

import csv
import gzip
import json
import zipfile
from pathlib import Path

import duckdb
import pytest
from rowmaker import SPEC, fill, project, read, row, shops

from sem.core import files, jsonio
from sem.core.errors import SemError
from sem.dataset.ingest import importers, parquet_files
from sem.dataset.ingest.importers import ImportOptions
from sem.dataset.store import store
from sem.dataset.store.examples_table import RawRow

ROWS = shops(3)


def stored(made) -> list[store.RawRow]:
    with store.open_store(made.store) as opened:
        return list(opened.rows())


def records(short: bool = False) -> list[dict]:
    names = ("input_text", "output_json", "meta") if short else store.COLUMNS[1:5]
    found = []
    for one in ROWS:
        values = dict(zip(store.COLUMNS, one.columns(), strict=True))
        task, prompt, answer, meta = (values[name] for name in store.COLUMNS[1:5])
        cells = (prompt, json.loads(answer), json.loads(meta))
        cells = cells if short else (task, *cells)
        found.append({"id": one.id, **dict(zip(names, cells, strict=True))})
    return found


def as_jsonl(path: Path) -> None:
    path.write_text("".join(json.dumps(one) + "\n" for one in records()), "utf-8")


def as_jsonl_short(path: Path) -> None:
    path.write_text("".join(json.dumps(one) + "\n" for one in records(short=True)), "utf-8")


def as_jsonl_gz(path: Path) -> None:
    path.write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in records()).encode()))


def as_json(path: Path) -> None:
    path.write_text(json.dumps({"examples": records()}), "utf-8")


def as_csv(path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(store.COLUMNS)
        writer.writerows(["" if cell is None else cell for cell in r.columns()] for r in ROWS)


def as_duckdb(path: Path) -> None:
    store.append_store_rows(path, ROWS)


def as_parquet(path: Path) -> None:
    as_duckdb(path.with_suffix(".duckdb"))
    with duckdb.connect(str(path.with_suffix(".duckdb"))) as connection:
        connection.execute(f"COPY examples TO '{path}' (FORMAT parquet)")


def as_zip(path: Path, count: int = len(ROWS), name: str = "llm_training_chunk_1.duckdb") -> None:
    as_duckdb(path.with_suffix(".duckdb"))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path.with_suffix(".duckdb"), name)
        archive.writestr("llm_training_chunk_1.json", json.dumps({"row_count": count}))


KINDS = {
    "a.jsonl": as_jsonl,
    "a.jsonl.gz": as_jsonl_gz,
    "a.json": as_json,
    "a.csv": as_csv,
    "a.duckdb": as_duckdb,
    "a.parquet": as_parquet,
    "a.zip": as_zip,
}


def without_order(rows: list[store.RawRow]) -> list[tuple]:
    return [
        (r.id, r.task, r.input_text, json.loads(r.reference), json.loads(r.metadata)) for r in rows
    ]


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_gives_the_same_rows(tmp_path, name):
    made = project(tmp_path)
    KINDS[name](tmp_path / name)

    result = importers.import_file(made, tmp_path / name, ImportOptions())

    assert (result.read, result.stored.added) == (9, 9)
    assert without_order(stored(made)) == without_order(ROWS)


def test_rows_without_ids_get_the_hash_of_their_content(tmp_path):
    made = project(tmp_path)
    lines = [{k: v for k, v in one.items() if k != "id"} for one in records(short=True)]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))

    first = importers.import_file(made, path, ImportOptions(task="product"))
    again = importers.import_file(made, path, ImportOptions(task="product"))

    assert (first.stored.added, again.stored.already_there) == (9, 9)
    assert {one.task for one in stored(made)} == {"product"}


def test_rows_are_chosen_and_renamed(tmp_path):
    made = project(tmp_path)
    source = tmp_path / "a.duckdb"
    store.append_store_rows(
        source, [row("a1", task="old"), row("b1", task="old"), row("c1", task="other")]
    )

    result = importers.import_file(
        made, source, ImportOptions(only=("old",), rename={"old": "product"}, limit=1)
    )

    assert [(one.id, one.task) for one in stored(made)] == [("a1", "product")]
    assert result.stored.added == 1


def test_rows_that_name_no_task_are_of_the_only_one(tmp_path):
    # A sem of one task wanted --task all the same, and its hint named --map.
    made = project(tmp_path)
    as_jsonl_short(tmp_path / "rows.jsonl")
    result = importers.import_file(made, tmp_path / "rows.jsonl", ImportOptions())

    assert {one.task for one in stored(made)} == {"product"}
    assert result.notes["rows that name no task are of 'product', the only one"] == 1


def test_where_there_are_two_tasks_the_hint_names_the_flag(tmp_path):
    made = project(tmp_path)
    other = jsonio.pretty_json(SPEC | {"task_id": "other"})
    files.write_file(tmp_path / "configs" / "shop" / "tasks" / "other.json", other)
    as_jsonl_short(tmp_path / "rows.jsonl")

    with pytest.raises(SemError, match="times no_task") as error:
        importers.import_file(made, tmp_path / "rows.jsonl", ImportOptions())
    assert error.value.hint.startswith("name their task with --task, one of: other, product;")


def test_rows_that_cannot_be_one_are_counted_with_their_line(tmp_path):
    made = fill(project(tmp_path), row("z9"))
    path = tmp_path / "a.jsonl"
    good = json.dumps(records()[0]).encode()
    nan = b'{"id": "n", "task": "product", "input_text": "x", "output_json": NaN}'
    path.write_bytes(b"\n".join([good, b"{", b"[1]", b"\xff", nan, b'{"id": "e", "task": "t"}']))

    result = importers.import_file(made, path, ImportOptions())

    reasons = [(one["row"], one["reason"].split(":")[0]) for one in read(result.report)]
    assert result.stored.added == 1
    assert reasons == [
        ("line 2", "not_json"),
        ("line 3", "not_an_object"),
        ("line 4", "not_utf8"),
        ("line 5", "not_json"),
        ("e", "no_input"),
    ]


def test_a_truncated_answer_is_imported_for_cleaning_to_reject(tmp_path):
    made = project(tmp_path)
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"task": "product", "prompt": "x", "response": '{"a": 1'}))

    importers.import_file(made, path, ImportOptions())

    assert stored(made)[0].reference == '"{\\"a\\": 1"'


def test_raw_pages_as_bytes_are_decoded(tmp_path):
    made = project(tmp_path)
    path = tmp_path / "a.parquet"
    page = '<meta charset="iso-8859-1"><p>Café</p>'.encode("cp1252")
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE t AS SELECT 'a' AS id, 'product' AS task, 'http://x.org/1' AS url, "
            "?::BLOB AS html, '{}' AS reference",
            [page],
        )
        connection.execute(f"COPY t TO '{path}' (FORMAT parquet)")

    importers.import_file(made, path, ImportOptions())

    assert "Café" in stored(made)[0].input_text
    assert stored(made)[0].input_text.startswith("URL: http://x.org/1\n\n<meta")


def refused(made, path: Path, **options) -> str:
    before = made.store.read_bytes() if made.store.exists() else b""
    with pytest.raises(SemError) as caught:
        importers.import_file(made, path, ImportOptions(**options))
    after = made.store.read_bytes() if made.store.exists() else b""
    assert after == before
    assert caught.value.hint
    return caught.value.message


def test_a_chunk_with_another_count_than_its_sidecar_is_refused(tmp_path):
    made = fill(project(tmp_path), row("z9"))
    as_zip(tmp_path / "a.zip", count=10)

    assert "holds 9 rows, its sidecar says 10" in refused(made, tmp_path / "a.zip")


@pytest.mark.parametrize(
    "name", ["../llm_training_chunk_1.duckdb", "/etc/llm.duckdb", "x\\..\\y.duckdb", "d/a.duckdb"]
)
def test_a_chunk_that_leaves_its_folder_is_refused(tmp_path, name):
    made = fill(project(tmp_path), row("z9"))
    as_zip(tmp_path / "a.zip", name=name)

    assert "is in a folder" in refused(made, tmp_path / "a.zip")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("llm_training_chunk_1.duckdb", bytes(80_000_000))
        archive.writestr("llm_training_chunk_1.json", '{"row_count": 1}')

    assert "unpacks to 80,000,000 bytes" in refused(project(tmp_path), path)


def test_a_gzip_bomb_stops(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b"x" * 80_000_000))

    assert "unpacks to more than" in refused(project(tmp_path), path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"x", "unknown kind"),
        ("a.json", b'{"a": 1}', "no list of rows"),
        ("a.json", b"[" * 100_000, "not JSON"),
        ("a.csv", b"id,id\n1,2\n", "names the column 'id' twice"),
        ("a.parquet", b"PAR1 nothing PAR1", "not usable Parquet"),
        ("a.zip", b"PK\x03\x04", "not a usable ZIP"),
        ("a.jsonl.gz", b"\x1f\x8bnothing", "cannot be read"),
        ("a.duckdb", b"hello", "DuckDB"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)

    assert said in refused(fill(project(tmp_path), row("z9")), tmp_path / name)


def test_an_unknown_task_is_refused_with_the_nearest(tmp_path):
    as_json(tmp_path / "a.json")

    assert "'prodct' has no TaskSpec" in refused(
        project(tmp_path), tmp_path / "a.json", task="prodct"
    )


def test_hostile_files_of_others_are_imported_or_refused_never_worse(tmp_path, shared):
    made = project(tmp_path, **{"task_id": SPEC["task_id"]})
    with parquet_files.open_parquet(shared / "data" / "hostile" / "files.parquet") as found:
        cases = [one for one in found if str(one["kind"]) in ("parquet", "csv", "zip", "json")]
    cases = cases[::5]  # all 188 take 15 s
    outcomes = {"imported": 0, "refused": 0}
    for number, case in enumerate(cases):
        path = tmp_path / f"{number}.{case['kind']}"
        path.write_bytes(case["bytes"])
        try:
            importers.import_file(made, path, ImportOptions(task="product", on_conflict="skip"))
            outcomes["imported"] += 1
        except SemError:
            outcomes["refused"] += 1

    assert sum(outcomes.values()) == len(cases) > 20


def test_an_empty_file_is_refused_and_makes_no_store(tmp_path):
    made = project(tmp_path)
    path = tmp_path / "rows.jsonl"
    path.touch()

    with pytest.raises(SemError, match=r"rows\.jsonl: the file is empty"):
        importers.import_file(made, path, importers.ImportOptions())

    assert not made.store.exists()


CUT = '{"page_type": "oth'
ODD = {
    "cut": CUT,
    "plain text": "other",
    "NaN": '{"price": NaN}',
    "twice": '{"a": 1, "a": 2}',
    "empty": "",
    "number": "5",
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
@pytest.mark.parametrize("column", ["response_strong", "metadata", "slot_specs"])
def test_a_store_of_text_columns_reads_as_the_same_rows_in_any_other_file(tmp_path, odd, column):
    # One answer that was no JSON refused the whole file for ever: no id, and "free space".
    def rows_of(number: int) -> dict:
        made = {
            "id": f"r{number:02}",
            "task": "product",
            "prompt_text": f"page {number}",
            "response_strong": json.dumps({"title": "a", "price": number}),
            "metadata": "{}",
            "slot_specs": None,
        }
        return made | ({column: odd} if number == 7 else {})

    given = [rows_of(number) for number in range(12)]
    source, other = tmp_path / "text.duckdb", tmp_path / "rows.parquet"
    with duckdb.connect(str(source)) as connection:
        names = ", ".join(f"{name} VARCHAR" for name in given[0])
        connection.execute(f"CREATE TABLE examples ({names})")
        marks = ", ".join("?" for _ in given[0])
        connection.executemany(
            f"INSERT INTO examples VALUES ({marks})", [list(one.values()) for one in given]
        )
        connection.execute(f"COPY examples TO '{other}' (FORMAT parquet)")
    one, two = project(tmp_path / "one"), project(tmp_path / "two")

    first = importers.import_file(one, source, ImportOptions())
    second = importers.import_file(two, other, ImportOptions())

    assert first.stored == second.stored
    assert (first.rejects, first.stored.added) == (second.rejects, 12)
    with store.open_store(one.store) as a, store.open_store(two.store) as b:
        assert sorted(map(repr, a.rows())) == sorted(map(repr, b.rows()))


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.zip"])
def test_an_answer_that_is_not_json_costs_no_other_row_of_any_file(tmp_path, name):
    rows = [(f"r{n}", "product", f"page {n}", CUT if n == 7 else '{"n": 1}') for n in range(12)]
    columns = ("id", "task", "prompt_text", "response_strong")
    records = [dict(zip(columns, cells, strict=True)) for cells in rows]
    path, made = tmp_path / name, project(tmp_path)
    if name == "rows.zip":
        inner = tmp_path / "chunk.duckdb"
        with duckdb.connect(str(inner)) as connection:
            names = ", ".join(f"{column} VARCHAR" for column in columns)
            connection.execute(f"CREATE TABLE examples ({names})")
            connection.executemany("INSERT INTO examples VALUES (?, ?, ?, ?)", rows)
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(inner, "llm_training_chunk_1.duckdb")
            archive.writestr("llm_training_chunk_1.json", json.dumps({"row_count": len(rows)}))
    elif name == "rows.json":
        path.write_text(json.dumps(records))
    else:
        path.write_text("".join(json.dumps(record) + "\n" for record in records))

    result = importers.import_file(made, path, ImportOptions())

    assert (result.stored.added, dict(result.rejects)) == (12, {})
    references = {one.id: json.loads(one.reference) for one in stored(made)}
    assert references.pop("r7") == CUT
    assert set(map(str, references.values())) == {"{'n': 1}"}


def test_a_row_that_the_store_cannot_hold_is_named(tmp_path):
    made = project(tmp_path)
    rows = [RawRow(f"r{n}", "product", "x", CUT if n == 3 else "{}") for n in range(5)]

    with pytest.raises(SemError, match=r"not written: row 'r3'") as caught:
        store.append_store_rows(made.store, rows)

    assert caught.value.hint == "the earlier rows are all still there; correct that row"

"""A data set of the hub: its rows at one commit, by our readers, once, and nothing left behind."""

import gzip
import json
import os
import subprocess
import sys

import duckdb
import pytest
from hubserver import HubServer
from paths import ROOT

from sem.core.project import Project
from sem.dataset.ingest.capture_feed import read_feed_ledger
from sem.dataset.store import store

NAME = "datasets/org/prices"


def rows_of(split: str, count: int) -> list[dict]:
    return [
        {"id": f"{split}-{number}", "task": "price", "input_text": f"<p>{number} EUR</p>"}
        | {"output_json": {"price": str(number), "title": None}}
        for number in range(count)
    ]


def lines(rows: list[dict]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def parquet(rows: list[dict], folder) -> bytes:
    (folder / "rows.jsonl").write_bytes(lines(rows))
    path = folder / "rows.parquet"
    source = f"read_json('{folder / 'rows.jsonl'}')"
    duckdb.sql(f"COPY (SELECT * FROM {source}) TO '{path}' (FORMAT parquet)")
    return path.read_bytes()


@pytest.fixture
def hub(monkeypatch, tmp_path_factory):
    # As every script sets it.
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path_factory.mktemp("parquet")
    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        server.add_commit(
            NAME,
            {
                ".gitattributes": b"x",
                "README.md": b"---\nlicense: mit\n---\n",
                "prices.py": b"import os\nos.system('touch /tmp/evil')\n",
                "data/train.parquet": parquet(rows_of("train", 6), folder),
                "data/test.jsonl.gz": gzip.compress(lines(rows_of("test", 4))),
                "more.csv": b"id,task,input_text,output_json\nc1,price,one EUR,{}\n",
            },
        )
        yield server


def run_import(*words: str) -> subprocess.CompletedProcess[str]:
    script = str(ROOT / "scripts" / "dataset_import.py")
    return subprocess.run(
        [sys.executable, "-P", script, "--sem", "toy", *words],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT / "scripts")},
    )


def count_rows(project: Project) -> int:
    with store.open_store(project.store) as opened:
        return opened.count


def test_every_file_of_a_data_set_is_imported_at_a_commit_that_is_written_down(hub, toy):
    project = Project.load("toy")
    before = count_rows(project)

    done = run_import("hf://datasets/org/prices")

    assert done.returncode == 0, done.stderr
    assert count_rows(project) == before + 11
    commit = hub.repositories[NAME].resolve("main")
    names = [entry["name"] for entry in read_feed_ledger(project)]
    files_read = ("data/test.jsonl.gz", "data/train.parquet", "more.csv")
    assert names == [f"hf://datasets/org/prices@{commit}/{name}" for name in files_read]
    assert f"hf://datasets/org/prices is at commit {commit}" in done.stderr
    assert "not read: file 'prices.py'" in done.stderr
    assert not [path for _, path in hub.asked if "prices.py" in path]
    # Rows live in the store: copies would outlive a takedown.
    assert not list((project.store.parent / "incoming").glob("hub-*"))


def test_a_file_is_imported_once_and_another_revision_by_its_commit(hub, toy):
    project = Project.load("toy")
    before = count_rows(project)
    first = hub.repositories[NAME].resolve("main")
    hub.add_commit(NAME, {"more.csv": b"id,task,input_text,output_json\nc2,price,two EUR,{}\n"})

    older = run_import(f"hf://datasets/org/prices@{first}/more.csv")
    again = run_import(f"hf://datasets/org/prices@{first}/more.csv")
    newest = run_import("hf://datasets/org/prices/more.csv")

    assert [done.returncode for done in (older, again, newest)] == [0, 0, 0], again.stderr
    assert "before" in again.stdout
    assert count_rows(project) == before + 2


def test_a_folder_of_a_data_set_is_imported_alone(hub, toy):
    project = Project.load("toy")
    before = count_rows(project)

    assert run_import("hf://datasets/org/prices/data").returncode == 0
    assert count_rows(project) == before + 10


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("hf://datasets/org/none", "cannot fetch hf://datasets/org/none: "),
        ("hf://datasets/org/prices@nope", "cannot fetch hf://datasets/org/prices@nope: "),
        ("hf://datasets/org/prices/none.csv", "no such file"),
        ("hf://datasets/org/prices/prices.py", "no file of a kind that is read"),
        ("hf://datasets/org/prices/../../x.csv", "is not an address of the hub"),
        ("hf://org/prices", "not a data set"),
        ("hf://datasets/org", "not a data set"),
    ],
)
def test_an_address_that_names_nothing_to_import_is_one_clear_line(hub, toy, address, words):
    done = run_import(address)

    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_repository_that_leads_out_of_its_folder_is_refused(hub, toy):
    hub.add_commit(NAME, {"../../../evil.csv": b"id\n1\n"})

    done = run_import("hf://datasets/org/prices")

    assert done.returncode == 1
    assert "which leads out of it" in done.stderr


def test_a_fetch_that_was_cut_goes_on(hub, toy):
    hub.before = lambda method, path: "cut" if path.endswith("train.parquet") else None
    cut = run_import("hf://datasets/org/prices")
    assert cut.returncode == 1
    assert "cannot fetch hf://datasets/org/prices" in cut.stderr
    hub.before = lambda method, path: None
    hub.asked.clear()

    assert run_import("hf://datasets/org/prices").returncode == 0
    gets = [path for method, path in hub.asked if method == "GET" and "/resolve/" in path]
    assert not [path for path in gets if path.endswith("test.jsonl.gz")]

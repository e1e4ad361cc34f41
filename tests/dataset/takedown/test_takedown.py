"""A takedown leaves no trace of a row, keeps it out, blocks what rests on it, survives kills."""

import gzip
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import damage
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from paths import SCRIPTS
from rowmaker import copied, fill, project, read, row, shops

from sem.core import files, jsonio, run
from sem.core.errors import SemError
from sem.core.project import Project
from sem.dataset.augment import augment
from sem.dataset.clean import clean
from sem.dataset.ingest import importers
from sem.dataset.split import snapshot
from sem.dataset.store import store, tombstones
from sem.dataset.takedown import byte_scan, erase, purge, requested_rows, takedown, withdraw
from sem.dataset.takedown.requested_rows import TakedownRequest
from sem.ops import promote

AT = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
SECRET = "handmade by Ada Lovelace in a workshop beside the river Ouse"
SCRIPT = SCRIPTS / "dataset_takedown.py"


def page(name: str, more: str = "") -> str:
    shop, text = f"shop{name[0]}.example", more or f"Fired in kiln {name * 9}"
    title = f"Mug {name} number {sum(map(ord, name)) * 7919}"
    return (
        f"URL: https://www.{shop}/p/{name}\n\n"
        f"<html lang=en><body><h1>{title}</h1><p>{text}</p></body></html>"
    )


def frozen(root: Path, *more: object, count: int = 6) -> Project:
    """Return a sem of `count` shops and `more` rows, cleaned and cut into v1."""
    made = fill(project(root, "clean:\n  pii: {email: keep, phone: keep, name: keep}\n"))
    rows = [row(one.id, input_text=page(one.id)) for one in shops(count)]
    store.append_store_rows(made.store, [*rows, *more])
    clean.clean_store(made)
    snapshot.freeze_snapshot(made, AT)
    return made


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("master")
    return frozen(root, row("amber9", input_text=page("amber9", SECRET)))


@pytest.fixture
def shop(master: Project, tmp_path: Path) -> Project:
    return copied(master, tmp_path)


def take(made: Project, **ask: object) -> takedown.TakedownResult:
    """Return one takedown, to its end."""
    (done,) = takedown.run_takedowns(made, TakedownRequest(**ask), AT, lambda text: None)
    return done


def ids(made: Project) -> set[str]:
    with store.open_store(made.store) as opened:
        return {str(one.id) for one in opened.rows()}


def traces(made: Project, *needles: str) -> list[str]:
    """Return files under the root that hold one of `needles`, read here by other means than the
    scan.
    """
    found = []
    for path in sorted(made.root.rglob("*")):
        if path.is_file() and any(needle.encode() in path.read_bytes() for needle in needles):
            found.append(path.relative_to(made.root).as_posix())
    return found


def test_a_row_leaves_every_file_and_the_others_stay_as_they_are(shop: Project) -> None:
    before = {
        line
        for part in ("train", "val", "test")
        for line in (shop.processed / f"{part}.v1.jsonl").read_bytes().splitlines()
    }

    done = take(shop, ids=("amber9",), reason="request 17")

    after = {
        line
        for part in ("train", "val", "test")
        for line in (shop.processed / f"{part}.v2.jsonl").read_bytes().splitlines()
    }
    assert traces(shop, "Lovelace", "river Ouse", "amber9") == []
    assert ids(shop) == {one.id for one in shops(6)}
    assert after == {line for line in before if b'"id":"amber9"' not in line}
    assert done.hits == []
    assert done.receipt["snapshot_made"] == "v2"
    assert sum(done.receipt["snapshots_withdrawn"]["v1"].values()) == 1
    assert snapshot.load_snapshot(shop).name == "v2"
    assert snapshot.freeze_snapshot(shop, AT)[1] is False
    assert clean.read_clean_facts(shop)["rows"] == 18


def test_the_ledger_says_withdrawn_and_the_stub_holds_numbers_only(shop: Project) -> None:
    done = take(shop, ids=("amber9",), reason="request 17")

    entry = snapshot.read_ledger(shop)["v1"]
    assert entry["status"] == "withdrawn"
    assert entry["takedown"] == done.receipt["takedown"]
    assert entry["reason"] == "request 17"
    assert not list(shop.processed.glob("*.v1.jsonl"))
    assert set(files.read_json(shop.processed / "v1.json")) == {*withdraw.STUB, "withdrawn"}
    with pytest.raises(SemError) as caught:
        snapshot.load_snapshot(shop, 1)
    assert caught.value.message == f"snapshot v1 was withdrawn by takedown {entry['takedown']}"
    assert caught.value.hint == "the newest is v2"


WAYS = [
    ({"ids": ("amber9",)}, {"amber9"}),
    ({"sources": ("doc 7",)}, {"b9", "c9"}),
    ({"domains": ("shopa.example",)}, {"a0", "a1", "a2", "amber9"}),
]


@pytest.mark.parametrize(("ask", "gone"), WAYS)
def test_rows_are_chosen_by_id_source_and_registered_domain(
    tmp_path: Path, ask: dict[str, object], gone: set[str]
) -> None:
    more = [row(n, input_text=page(n), source_id="doc 7") for n in ("b9", "c9")]
    more = [row(n.id, input_text=n.input_text, metadata='{"source_id": "doc 7"}') for n in more]
    made = frozen(tmp_path, row("amber9", input_text=page("amber9")), *more)
    everyone = ids(made)

    take(made, **ask)

    assert everyone - ids(made) == gone


PEOPLE = [
    ("ada@example.com", "Write to <a href='mailto:ADA%40example.com'>us</a>", True),
    ("ada@example.com", "Write to ada@example.com.au", False),
    ("+49 30 1234567", "Call 030 / 123 45 67 now", True),
    ("+49 30 1234567", "Article 301234568", False),
    ("Ada Lovelace", "by LOVELACE, Ada; edited", True),
    ("José Núñez", "by <b>Jose</b> <i>Nuñez</i>", True),
    ("Ada Lovelace", "Ada said that Lovelace came", False),
]


@pytest.mark.parametrize(("person", "text", "is_named"), PEOPLE)
def test_a_person_is_found_however_it_is_spelled(person: str, text: str, is_named: bool) -> None:
    ask = requested_rows.parse_request([], [], [], [person], "")
    found = requested_rows.row_marks.of_raw(row("a1", input_text=f"<p>{text}</p>"))

    assert ask.wants(found) == ("person" if is_named else None)


BAD = [
    (
        ("", "", "", "Ada"),
        "--person 'Ada' is not an e-mail address, a phone number or a full name",
    ),
    (("", "", "", "12345"), "--person '12345': only 5 digits"),
    (("", "", "a b", ""), "--domain 'a b' is not a domain"),
]


@pytest.mark.parametrize(("words", "message"), BAD)
def test_what_cannot_be_looked_for_is_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(SemError) as caught:
        requested_rows.parse_request(*([word] if word else [] for word in words), "")

    assert caught.value.message == message


def test_a_reason_that_names_the_person_is_refused() -> None:
    with pytest.raises(SemError, match="the reason names the person, and reasons are kept"):
        requested_rows.parse_request(
            [], [], [], ["ada@example.com"], "ada@example.com wrote to us"
        )


def test_a_twin_under_another_id_goes_too_and_cannot_come_back(shop: Project) -> None:
    twin = page("amber9", SECRET).replace("<p>", "\n<P  class='x'>").replace("www.", "m.")
    plain = page("amber9", SECRET).upper().replace("\n", " \n")
    store.append_store_rows(shop.store, [row("z1", input_text=plain.replace("URL:", "URL:"))])

    done = take(shop, ids=("amber9",))

    assert done.receipt["rows"] == {"id": 1, "total": 2, "twin": 1}
    assert ids(shop) == {one.id for one in shops(6)}
    back = shop.root / "back.jsonl"
    again = [
        {
            "id": "q1",
            "task": "product",
            "input_text": plain,
            "output_json": {"title": "x", "price": 1},
        }
    ]
    files.write_rows(back, [*again, {**again[0], "id": "q2", "input_text": twin}])
    result = importers.import_file(shop, back, importers.ImportOptions())
    assert (result.rejects, result.stored.added) == ({"taken_down": 1}, 1)  # markup differs


def test_what_comes_back_is_refused_by_id_in_every_way(shop: Project) -> None:
    take(shop, ids=("amber9",), domains=("shopb.example",))
    rows = [
        {"id": "amber9", "task": "product", "input_text": "other", "output_json": {}},
        {
            "id": "n1",
            "task": "product",
            "input_text": "URL: https://eu.shopb.example/x\n\nhi",
            "output_json": {},
        },
        {"id": "n2", "task": "product", "input_text": "something new", "output_json": {}},
    ]
    files.write_rows(shop.root / "in.jsonl", rows)

    result = importers.import_file(shop, shop.root / "in.jsonl", importers.ImportOptions())

    assert result.rejects == {"taken_down": 2}
    refused = read(shop.reports / importers.REJECTS)
    assert [(one["row"], one["reason"]) for one in refused] == [
        ("amber9", "taken_down"),
        ("n1", "taken_down"),
    ]
    # By hand, past the importer.
    store.append_store_rows(shop.store, [row("amber9")])
    done = clean.clean_store(shop)
    assert done.tally.reasons["taken_down"] == 1
    snapshot.hold_out_examples(shop, ["amber9", "c1"], "corrected")
    assert {"amber9"} & snapshot.list_held_out_ids(shop) == set()
    assert "c1" in snapshot.list_held_out_ids(shop)


def test_a_person_cannot_come_back_on_another_page(tmp_path: Path) -> None:
    made = frozen(tmp_path, row("amber9", input_text=page("amber9", SECRET)))
    takes = TakedownRequest(people=(requested_rows.person.parse_person("Ada Lovelace"),))
    list(takedown.run_takedowns(made, takes, AT, lambda text: None))
    new = row("z5", input_text=page("z5", "A talk with Ms. Lovelace, Ada, on looms"))

    stones = tombstones.load_tombstones(made)

    assert stones.holds(requested_rows.row_marks.of_raw(new)) == "person"
    assert stones.holds(requested_rows.row_marks.of_raw(row("z6", input_text=page("z6")))) is None
    assert traces(made, "Lovelace", "lovelace") == []


def test_without_the_salt_nothing_is_imported(shop: Project) -> None:
    take(shop, ids=("amber9",))
    (tombstones.governance_folder(shop) / "salt").unlink()
    files.write_rows(
        shop.root / "in.jsonl",
        [{"id": "x", "task": "product", "input_text": "y", "output_json": {}}],
    )

    with pytest.raises(SemError, match="Sem can no longer tell what was taken down"):
        importers.import_file(shop, shop.root / "in.jsonl", importers.ImportOptions())


def test_tombstones_and_receipt_spell_nothing(shop: Project) -> None:
    done = take(shop, ids=("amber9",), domains=("shopa.example",), reason="request 17")

    kept = (
        tombstones.governance_folder(shop) / "tombstones.jsonl"
    ).read_text() + done.path.read_text()
    assert "amber9" not in kept
    assert "shopa" not in kept
    kinds = {one["kind"] for one in read(tombstones.governance_folder(shop) / "tombstones.jsonl")}
    assert kinds == {"id", "content", "page", "domain"}


# --- artefacts ----------------------------------------------------------------------------


def artefacts(made: Project) -> dict[str, Path]:
    """Return a file of every kind that holds the row amber9, beside rows that stay."""
    reports, about = made.reports / "r1", {"id": "amber9", "text": f"it is {SECRET}"}
    other = {"id": "b1", "text": "another answer altogether"}
    found = {
        "answers": reports / "answers.test.jsonl",
        "sheet": reports / "spotcheck.test.csv",
        "page": reports / "report.html",
        "ledger": made.root / "data" / ".lm" / "calls.sqlite",
        "golden": made.golden.with_name("golden_set.json"),
        "night": made.reports / "nightly" / "2026-01-01.zip",
        "packed": made.processed / "augmented.train.jsonl.gz",
    }
    files.write_rows(found["answers"], [about, other])
    files.write_file(found["sheet"], f'id,slot,input\nb1,title,x\na9,title,"{SECRET}"\n')
    files.write_file(found["page"], f"<td>b1</td><td>{SECRET.replace(' ', '&#32;')}</td>")
    files.write_file(
        found["golden"],
        jsonio.pretty_json(
            {
                "examples": [
                    {"id": "g1", "question": SECRET, "answer": "x"},
                    {"id": "g2", "question": "and?", "answer": "y"},
                ]
            }
        ),
    )
    found["ledger"].parent.mkdir(parents=True)
    db = sqlite3.connect(found["ledger"])
    with db:
        db.execute("CREATE TABLE replies (key TEXT PRIMARY KEY, body TEXT)")
        db.executemany(
            "INSERT INTO replies VALUES (?, ?)",
            [("k1", json.dumps(about)), ("k2", json.dumps(other))],
        )
    db.close()
    found["night"].parent.mkdir(parents=True)
    with zipfile.ZipFile(found["night"], "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("r1/answers.test.jsonl", f"{json.dumps(about)}\n{json.dumps(other)}\n")
        archive.writestr("r1/report.md", SECRET)
    packed = f"{json.dumps(about)}\n{json.dumps(other)}\n".encode()
    files.write_file(found["packed"], gzip.compress(packed))
    return found


def test_every_kind_of_artefact_is_rewritten_or_removed(shop: Project) -> None:
    found = artefacts(shop)

    done = take(shop, ids=("amber9",))

    assert done.hits == []
    assert traces(shop, "Lovelace") == []
    assert [one["id"] for one in read(found["answers"])] == ["b1"]
    assert found["sheet"].read_text() == "id,slot,input\nb1,title,x\n"
    assert not found["page"].exists()
    assert [one["id"] for one in files.read_json(found["golden"])["examples"]] == ["g2"]
    assert gzip.decompress(found["packed"].read_bytes()).count(b"\n") == 1
    with sqlite3.connect(found["ledger"]) as db:
        assert [key for (key,) in db.execute("SELECT key FROM replies")] == ["k2"]
    with zipfile.ZipFile(found["night"]) as archive:
        assert archive.namelist() == ["r1/", "r1/answers.test.jsonl"]
        assert archive.read("r1/answers.test.jsonl").count(b"\n") == 1
    assert done.receipt["purged"]["documents"] == ["reports/shop/r1/report.html"]
    assert set(done.receipt["purged"]["rows"].values()) == {1, 2}


def test_variants_of_other_rows_that_quote_it_go_too(shop: Project) -> None:
    quoting = {
        "id": "b1~distractor",
        "task": "product",
        "input_text": f"Mug b1. {SECRET}",
        "output_json": {},
        "meta": {"augmented": {"of": "b1"}},
    }
    files.write_rows(shop.processed / "augmented.v1.jsonl", [quoting])
    files.write_rows(shop.processed / "preferences.v7.jsonl", [quoting, {"id": "b1"}])

    done = take(shop, ids=("amber9",))

    assert done.hits == []
    assert traces(shop, "Lovelace") == []
    assert not (shop.processed / "augmented.v1.jsonl").exists()
    assert read(shop.processed / "preferences.v7.jsonl") == [{"id": "b1"}]


def test_a_trace_in_a_file_of_others_is_listed_and_left(shop: Project) -> None:
    theirs = shop.root / "data" / "other" / "notes.txt"
    files.write_file(theirs, f"As I said: {SECRET}.")

    first = take(shop, ids=("amber9",))
    theirs.unlink()
    (again,) = takedown.run_takedowns(shop, TakedownRequest(), AT, lambda text: None)

    assert first.hits == ["data/other/notes.txt"]
    assert again.hits == []
    assert again.receipt["takedown"] == first.receipt["takedown"]
    assert takedown.unfinished_takedowns(shop) == []


def test_deleted_rows_in_free_pages_are_seen(tmp_path: Path) -> None:
    path, text = tmp_path / "x.sqlite", "handmade by Ada Lovelace in a workshop beside the Ouse"
    db = sqlite3.connect(path)
    with db:
        db.execute("PRAGMA secure_delete = OFF")
        db.execute("CREATE TABLE t (a TEXT)")
        db.executemany("INSERT INTO t VALUES (?)", [(text,)] * 50)
        db.execute("DELETE FROM t")
    db.close()
    sought = byte_scan.ScanTarget(byte_scan.ShingleSet.of([text]))

    assert list(byte_scan.file_blocks(path)) == []
    assert byte_scan.holds_trace(path, sought)


def test_a_damaged_database_is_named_and_no_traceback(shop: Project) -> None:
    whole = artefacts(shop)["ledger"]
    with sqlite3.connect(whole) as db:
        rows = [(f"x{n}", "of no interest " * 40) for n in range(40)]
        db.executemany("INSERT INTO replies VALUES (?, ?)", rows)
    db.close()
    copies = [whole.with_name(f"copy{seed}.sqlite") for seed in range(60)]
    for seed, path in enumerate(copies):
        shutil.copyfile(whole, path)
        damage.damage_file(path, seed)
    sought = byte_scan.ScanTarget(byte_scan.ShingleSet.of([SECRET]))

    found = byte_scan.scan_tree(shop, sought)
    refused = []
    for path in copies:
        try:
            purge.WAYS[".sqlite"](path, sought)
        except SemError as error:
            refused.append(error)

    names = {str(path.relative_to(shop.root)) for path in copies}
    assert len(names & found.unreadable.keys()) >= 10
    assert len(refused) >= 10
    assert all("copy" in error.message and "same command" in error.hint for error in refused)


def test_a_dry_run_writes_nothing_but_the_salt(shop: Project) -> None:
    before = {path: path.read_bytes() for path in shop.root.rglob("*") if path.is_file()}

    said = dict(takedown.preview_takedown(shop, TakedownRequest(ids=("amber9",))))

    after = {path: path.read_bytes() for path in shop.root.rglob("*") if path.is_file()}
    assert {path.name for path in set(after) - set(before)} == {"salt"}
    assert all(after[path] == before[path] for path in before)
    assert (said["rows"], said["first ids"]) == (1, "amber9")
    assert "snapshot v1 withdrawn" in said


# --- taint --------------------------------------------------------------------------------


def trained(made: Project, version: int) -> run.Run:
    """Return a finished run on snapshot `version`, its package beside it."""
    frozen_at = snapshot.load_snapshot(made, version)
    plan = {"snapshot": {"version": version, "sha256": frozen_at.sha256}, "tasks": {}}
    found = run.create_run(made, plan, AT)
    files.write_file(found.folder / "manifest.json", jsonio.pretty_json({"run_id": found.id}))
    lineage = {"lineage": {"snapshot": plan["snapshot"]}, "files": {}}
    files.write_file(made.packages / found.id / "manifest.json", jsonio.pretty_json(lineage))
    return found


def test_runs_and_packages_of_a_withdrawn_snapshot_are_blocked_by_name(shop: Project) -> None:
    from sem.package.export import bundle
    from sem.package.verify import verify

    made = trained(shop, 1)
    promote.promote_tested_run(shop, made.id, "it serves", AT)

    done = take(shop, ids=("amber9",))

    name = done.receipt["takedown"]
    assert done.receipt["runs_tainted"] == [made.id]
    assert done.receipt["packages_tainted"] == [made.id]
    assert done.receipt["promoted_and_tainted"] == made.id
    calls = {
        f"run {made.id}": lambda: promote.promote_tested_run(shop, made.id, "please", AT),
        f"promoted run {made.id}": lambda: run.promoted_run_id(shop),
        f"package {made.id}": lambda: verify.package_faults(shop.packages / made.id),
        f"run {made.id} ": lambda: bundle.build_package(shop, made, ["vllm"]),
    }
    for what, call in calls.items():
        with pytest.raises(SemError) as caught:
            call()
        assert caught.value.message == (
            f"{what.strip()} is tainted: takedown {name} removed rows it rests on"
        )
    fresh = trained(shop, 2)
    assert run.read_taints(fresh.folder) == []


def test_the_gate_names_the_takedown(shop: Project) -> None:
    from sem.eval.gate import gate_inputs

    made = trained(shop, 1)
    done = take(shop, ids=("amber9",))

    case = gate_inputs.decide_request(gate_inputs.GateRequest(shop, made.id, "base", "test", None))

    name = done.receipt["takedown"]
    assert case.verdict.checks[0].found == f"withdrawn: v1, run tainted by {name}"
    assert case.verdict.exit_code == 1


# --- again, and after a kill ----------------------------------------------------------------


def test_the_same_takedown_twice_does_nothing_the_second_time(shop: Project) -> None:
    take(shop, ids=("amber9",))
    said: list[str] = []

    assert (
        list(takedown.run_takedowns(shop, TakedownRequest(ids=("amber9",)), AT, said.append)) == []
    )
    assert said == ["it was taken down before, and none of its rows has come back"]


@pytest.mark.parametrize("content", ["null", "[]", "{}", '{"takedown": 5}', "{"])
def test_a_damaged_plan_of_a_takedown_is_one_error_that_names_it(
    shop: Project, content: str
) -> None:
    files.write_file(tombstones.governance_folder(shop) / f"{byte_scan.WORKING}td-1.json", content)

    with pytest.raises(SemError, match=r"td-1\.json"):
        takedown.unfinished_takedowns(shop)


def test_an_id_nobody_has_gets_its_stone(shop: Project) -> None:
    done = take(shop, ids=("nobody",))

    assert done.receipt["rows"] == {"total": 0}
    assert done.receipt["snapshot_made"] is None
    assert snapshot.snapshot_versions(shop) == [1]
    assert tombstones.load_tombstones(shop).has("id", "nobody")


@pytest.mark.parametrize(
    "name", ["models/shop/x.safetensors", "models/shop/tokenizer.json", "models/shop/vocab.txt"]
)
def test_weights_and_vocabularies_are_left_out_and_counted_in_the_receipt(
    shop: Project, name: str
) -> None:
    # Every project that was ever trained crashed here, without a receipt, and no later takedown
    # could begin.
    files.write_file(shop.root / name, b"")
    left_out = {"weights and vocabularies": 1} if "vocab" not in name else {}

    done = take(shop, ids=("amber9",))

    assert done.receipt["scan"]["left_out"] == left_out
    assert takedown.unfinished_takedowns(shop) == []
    assert take(shop, ids=("birch1",)).receipt["scan"]["left_out"] == left_out


@pytest.mark.parametrize("name", [".clean.lock", ".snapshot.lock", ".augment.lock"])
def test_a_takedown_waits_for_who_has_read_the_rows_and_changes_nothing(
    shop: Project, name: str
) -> None:
    before = {path: path.read_bytes() for path in shop.root.rglob("*") if path.is_file()}
    with (
        files.lock_file(shop.processed / name, "rows"),
        pytest.raises(SemError, match="being written"),
    ):
        take(shop, ids=("amber9",))

    after = {p: p.read_bytes() for p in shop.root.rglob("*") if p.is_file()}
    assert {p for p in before if after.get(p) != before[p]} == set()
    assert takedown.unfinished_takedowns(shop) == []
    assert traces(shop, "Lovelace") != []
    assert take(shop, ids=("amber9",)).receipt["snapshot_made"] == "v2"


def test_what_was_made_of_a_snapshot_that_went_meanwhile_is_removed(shop: Project) -> None:
    # An augmentation that a takedown overtook wrote the row into augmented.v1.jsonl again.
    before = snapshot.load_snapshot(shop)
    take(shop, ids=("amber9",))
    path = files.write_file(shop.processed / "augmented.v1.jsonl", SECRET)

    with pytest.raises(SemError, match="snapshot v1 was withdrawn by takedown"):
        augment.write_facts(shop, before, path, {})

    assert traces(shop, "Lovelace") == []


def test_a_takedown_leaves_the_files_of_a_live_export_and_takes_those_of_a_dead_one(
    shop: Project,
) -> None:
    # It deleted the files of a running export, which then published a package without an adapter.
    live, dead = (shop.packages / f".building-{name}" / "adapter" / "x.json" for name in "ab")
    for path in (live, dead):
        files.write_file(path, "{}")
    with files.lock_file(shop.packages / ".a.lock", "package a"):
        take(shop, ids=("amber9",))

    assert (live.exists(), dead.exists()) == (True, False)


def test_a_sweep_takes_what_its_own_lock_guards_and_nothing_of_a_live_writer(
    shop: Project,
) -> None:
    # A split removed the spill of a running cleaning.
    folder = shop.processed
    names = [".tmp-spill", ".tmp-index", ".tmp-train.v9.jsonl", ".tmp-clean.jsonl-x1"]
    for name in names:
        files.write_file(folder / name, "")
    snapshot.recover_freeze(shop, AT)
    assert [n for n in names if (folder / n).exists()] == [n for n in names if "train" not in n]

    with files.open_atomic_file(folder / "clean.jsonl.copy") as file:
        (writing,) = folder.glob(".tmp-clean.jsonl.copy-*")
        files.remove_temporary_files(folder, (".tmp-*",))
        assert writing.exists()
        file.write(b"x")
    assert [n for n in names if (folder / n).exists()] == []
    assert (folder / "clean.jsonl.copy").read_bytes() == b"x"


def test_nothing_named_is_an_error(shop: Project) -> None:
    with pytest.raises(SemError, match="no rows to take down are named"):
        list(takedown.run_takedowns(shop, TakedownRequest(), AT, lambda text: None))


@pytest.mark.parametrize("step", takedown.STEPS)
def test_killed_before_any_step_the_next_run_finishes(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = frozen(tmp_path, row("amber9", input_text=page("amber9", SECRET)))

    class Killed(BaseException):
        """As final as a signal: nothing in between catches it."""

    def stop(text: str) -> None:
        if text == step:
            raise Killed

    with pytest.raises(Killed):
        list(takedown.run_takedowns(made, TakedownRequest(ids=("amber9",)), AT, stop))
    (done,) = takedown.run_takedowns(made, TakedownRequest(), AT, lambda text: None)

    assert traces(made, "Lovelace", "amber9") == []
    assert list(tombstones.governance_folder(made).glob(".takedown-*")) == []
    assert done.receipt["snapshot_made"] == "v2"
    assert sorted(snapshot.snapshot_versions(made)) == [2]
    assert snapshot.freeze_snapshot(made, AT)[1] is False
    assert takedown.unfinished_takedowns(made) == []


def test_the_script_prints_the_receipt_and_exits_1_on_a_trace(shop: Project) -> None:
    files.write_file(shop.root / "data" / "other" / "notes.txt", SECRET)
    env = {**os.environ, "SEM_ROOT": str(shop.root)}
    words = [
        sys.executable,
        str(SCRIPT),
        "--sem",
        "shop",
        "--id",
        "amber9",
        "--reason",
        "request 17",
    ]

    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=120)

    assert done.returncode == 1
    assert "snapshot v1 withdrawn" in done.stdout
    assert done.stderr.splitlines()[-2:] == [
        "error: 1 files still hold a trace: data/other/notes.txt",
        "       remove them or run the takedown in the sem they belong to, then run this again",
    ]


@pytest.mark.slow
def test_no_copy_of_the_store_carries_erased_bytes_along(tmp_path: Path) -> None:
    # Written by the process that had read them, 2 of 60 files held them in the ends of blocks.
    made = fill(
        project(tmp_path),
        *(row(f"r{n}", input_text=page(f"r{n}", f"x{n}y" * 9_000)) for n in range(40)),
    )
    whole = made.store.read_bytes()
    for number in range(40):
        made.store.write_bytes(whole)
        assert erase.erase_rows(made.store, {f"r{number}"}) == 1
        assert f"x{number}y".encode() * 3 not in made.store.read_bytes()


# --- properties -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return frozen(tmp_path_factory.mktemp("cut"))


@pytest.mark.slow
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_row_leaves_no_trace_in_new_snapshots_and_stays_out(
    cut: Project, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("copy") / "sem"
    shutil.copytree(cut.root, root)
    made = Project("shop", root)
    with store.open_store(made.store) as opened:
        there = {str(one.id): one for one in opened.rows()}
    name = data.draw(st.sampled_from(sorted(there)))

    take(made, ids=(name,))
    store.append_store_rows(made.store, [row("zz", input_text=page("zz"))])
    clean.clean_store(made)
    newest, _ = snapshot.freeze_snapshot(made, AT)

    seen = [e for part in newest.counts for e in newest.examples(part)]
    assert name not in {e.id for e in seen}
    assert all(name * 9 not in e.input_text for e in seen)
    files.write_rows(root / "back.jsonl", [_record(there[name]), _record(there[name], "fresh")])
    result = importers.import_file(made, root / "back.jsonl", importers.ImportOptions())
    assert (result.rejects["taken_down"], result.stored.added) == (2, 0)


def _record(one: object, name: str | None = None) -> dict[str, object]:
    return {
        "id": name or one.id,
        "task": one.task,
        "input_text": one.input_text,
        "output_json": json.loads(one.reference),
    }


def test_the_scan_reads_escapes_and_entities(tmp_path: Path) -> None:
    trace = byte_scan.ShingleSet.of([SECRET + " für 3 € — “ganz” neu"])
    sought = byte_scan.ScanTarget(trace)

    assert sought.inside(json.dumps({"a": SECRET.replace(" ", "\n")}).encode())
    assert sought.inside(b"HANDMADE by Ada&nbsp;Lovelace&#32;in a workshop")
    assert not sought.inside(b"handmade by Ada Byron in another place, at the sea")

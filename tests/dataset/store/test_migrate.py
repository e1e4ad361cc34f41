"""Stores and references are brought to their version by steps that say what they did."""

import json
from pathlib import Path

import pytest
from rowmaker import SPEC, fill, project, row

from sem.core import files
from sem.core.errors import SemError
from sem.core.project import Project
from sem.dataset.store import migrate, store, store_writer

STEPS = """task: product
to: 2
steps:
  - rename: {slot: cost, to: price}
  - drop: {slot: vat}
  - add: {slot: stock, default: null}
"""
MAPPED = """task: product
to: 3
steps:
  - map: {slot: stock, values: {"yes": InStock, "no": OutOfStock}}
"""
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["title", "price", "stock"],
    "properties": {
        "title": {"type": "string"},
        "price": {"type": "number"},
        "stock": {"enum": ["InStock", "OutOfStock", None]},
    },
}


def made(root: Path, *references: object, **files_: str) -> Project:
    """Return a sem whose rows r0, r1, … have `references`, with migrations called as `files_`
    are.
    """
    found = project(root, io_schema=SCHEMA)
    for name, text in files_.items():
        files.write_file(found.configs / "migrations" / f"{name}.yaml", text)
    rows = [row(f"r{n}", reference=json.dumps(value)) for n, value in enumerate(references)]
    return fill(found, *rows)


def references(found: Project) -> dict[str, tuple[object, object]]:
    with store.open_store(found.store) as opened:
        return {
            str(one.id): (
                json.loads(one.reference),
                json.loads(one.metadata).get("schema_version"),
            )
            for one in opened.rows()
        }


OLD = {"title": "Mug", "cost": 4.5, "vat": 7}


def test_steps_apply_in_order_and_the_row_says_its_version(tmp_path: Path) -> None:
    found = made(tmp_path, OLD, {**OLD, "stock": "yes"}, a=STEPS, b=MAPPED)

    done, _ = migrate.run_migration(found)

    new = {"title": "Mug", "price": 4.5, "stock": None}
    assert references(found) == {"r0": (new, 3), "r1": ({**new, "stock": "InStock"}, 3)}
    assert done.steps == {
        "product: rename cost": 2,
        "product: drop vat": 2,
        "product: add stock": 2,
        "product: map stock": 2,
    }


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    found = made(tmp_path, OLD, a=STEPS)
    migrate.run_migration(found)
    before = references(found)

    done, _ = migrate.run_migration(found)

    assert (done.changes, done.already, done.steps) == ([], 1, {})
    assert references(found) == before


def test_a_later_migration_takes_up_where_the_row_is(tmp_path: Path) -> None:
    found = made(tmp_path, {**OLD, "stock": "no"}, a=STEPS.replace("to: 2", "to: 2"))
    files.write_file(
        found.configs / "tasks" / "product.json",
        json.dumps(SPEC | {"io_schema": {"type": "object"}}),
    )
    found = Project("shop", tmp_path)
    migrate.run_migration(found)
    files.write_file(found.configs / "migrations" / "b.yaml", MAPPED)

    done, _ = migrate.run_migration(found)

    assert done.steps == {"product: map stock": 1}
    assert references(found)["r0"] == ({"title": "Mug", "price": 4.5, "stock": "OutOfStock"}, 3)


STUCK = [
    ({**OLD, "price": 9}, "a.yaml: rename cost: price is there already"),
    ({**OLD, "stock": "maybe"}, 'b.yaml: map stock: "maybe" is none of its values'),
    ("text", "a.yaml: the reference is no object"),
    ({"title": 3, "cost": 1}, "breaks io_schema afterwards: title: 3 is not of type 'string'"),
]


@pytest.mark.parametrize(("reference", "reason"), STUCK)
def test_a_row_that_does_not_fit_is_listed_and_left(
    tmp_path: Path, reference: object, reason: str
) -> None:
    found = made(tmp_path, OLD, reference, a=STEPS, b=MAPPED)

    done, path = migrate.run_migration(found)

    assert references(found)["r1"] == (reference, None)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"id": "r1", "reason": reason, "task": "product"}
    ]
    assert len(done.changes) == 1


BAD = [
    ({"a": STEPS, "c": MAPPED.replace("to: 3", "to: 4")}, "migrations of product lead to [2, 4]"),
    ({"a": STEPS.replace("task: product", "task: prodct")}, "task 'prodct' has no TaskSpec"),
    ({"a": STEPS + "  - {drop: {slot: a}, add: {slot: b}}\n"}, "a step must be exactly one"),
    ({"a": STEPS.replace("to: 2", "to: 1")}, "to: 1"),
    ({"a": STEPS.replace("rename", "renam")}, "unknown key"),
]


@pytest.mark.parametrize(("written", "message"), BAD)
def test_a_wrong_migration_is_refused(
    tmp_path: Path, written: dict[str, str], message: str
) -> None:
    with pytest.raises(SemError) as caught:
        migrate.load_migrations(made(tmp_path, OLD, **written))

    assert message in caught.value.message


def test_an_older_store_is_read_and_migrated_on_request(tmp_path: Path) -> None:
    import duckdb

    found = made(tmp_path, OLD)
    with duckdb.connect(str(found.store)) as connection:
        connection.execute("DROP TABLE IF EXISTS schema_meta")
    rows = references(found)

    assert store_writer.store_version(found.store) == 1
    assert store_writer.upgrade_store(found.store) == [
        "1 to 2: the store says of which version it is."
    ]
    assert store_writer.store_version(found.store) == store_writer.CURRENT == 2
    assert store_writer.upgrade_store(found.store) == []
    assert references(found) == rows


def test_a_new_store_is_of_the_current_version(tmp_path: Path) -> None:
    assert store_writer.store_version(made(tmp_path, OLD).store) == store_writer.CURRENT


def test_a_store_of_a_newer_sem_is_not_touched(tmp_path: Path) -> None:
    import duckdb

    found = made(tmp_path, OLD)
    store_writer.upgrade_store(found.store)
    with duckdb.connect(str(found.store)) as connection:
        connection.execute("UPDATE schema_meta SET version = 9")

    with pytest.raises(SemError) as caught:
        migrate.run_migration(found)

    assert caught.value.message == (f"{found.store}: the store has version 9, this Sem supports 2")
    assert caught.value.hint == "use the Sem that wrote it, or a newer one"

"""A damaged SQLite file is one error that names it and says what is lost with it."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import damage
import pytest

from sem.core.errors import Busy, SemError
from sem.core.files import SqliteHolds, sqlite_faults
from sem.lm.api.ledger import Ledger, RequestBid, SpendingCap
from sem.lm.api.rate_limits import Limits
from sem.ops.backfill.work_queue import Queue, RowWork

LIMITS = Limits(requests=1_000, tokens=10**9)


def fill_ledger(folder: Path) -> Path:
    ledger = Ledger(folder)
    ledger._connection().execute("PRAGMA synchronous = OFF")
    for n in range(40):
        number = ledger.reserve(
            RequestBid("lane", f"key{n}", 9, 10**9), SpendingCap(f"judge {n % 3}"), LIMITS
        )
        if n % 4:
            ledger.settle(number, 7, 10**8, None, f'{{"reply": "{"a long answer " * (9 + n)}"}}')
    ledger._connection().close()
    return ledger.path


def use_ledger(path: Path) -> list[Callable[[], object]]:
    ledger = Ledger(path.parent)
    bid, cap = RequestBid("lane", "a new key", 9, 10**9), SpendingCap("judge 1", pico_usd=10**15)
    return [
        lambda: ledger.salt,
        lambda: ledger.spent("judge 1"),
        lambda: [ledger.reply(f"key{n}") for n in range(40)],
        lambda: ledger.reserve(bid, cap, LIMITS),
        lambda: ledger.sent(3),
        lambda: [ledger.settle(n, 1, 1, None, "{}") for n in (4, 8, 12)],
        ledger.damage,
        ledger._connection().close,
    ]


def fill_queue(folder: Path) -> Path:
    folder.mkdir()
    queue = Queue(folder / "backfill.sqlite")
    queue.add(RowWork("relabel", f"row {n}", "product", ("title",), "v2 " * 9) for n in range(60))
    for item in queue.lease("relabel", "a", 1.0, 60.0, 30):
        queue.done(item, "a", 2.0, "before", "after", '{"title": "a mug of some size"}')
    queue.close()
    return queue.path


def use_queue(path: Path) -> list[Callable[[], object]]:
    queue = Queue(path)
    return [
        lambda: queue.counts(3.0),
        lambda: queue.results(50),
        queue.reasons,
        lambda: queue.add([RowWork("relabel", "a new row", "product", (), "v2")]),
        lambda: [
            queue.failed(item, "b", 4.0, "why", 3)
            for item in queue.lease("relabel", "b", 3.0, 60.0, 20, 90)
        ],
        lambda: queue.placed(range(1, 20)),
        queue.close,
    ]


@pytest.mark.parametrize(
    ("fill", "use", "copies", "loss"),
    [
        (fill_ledger, use_ledger, 200, "what was spent and the answers that were paid for"),
        (fill_queue, use_queue, 60, "work on rows and results"),
    ],
    ids=["ledger", "queue"],
)
def test_a_damaged_file_is_one_error_that_names_it_and_what_it_holds(
    tmp_path, fill, use, copies, loss
):
    whole, faults = fill(tmp_path / "whole"), []

    for seed in range(copies):
        path = Path(shutil.copytree(whole.parent, tmp_path / str(seed))) / whole.name
        damage.damage_file(path, seed)
        try:
            acts = use(path)
        except SemError as error:
            faults.append(error)
            continue
        for act in acts:
            try:
                act()
            except SemError as error:
                faults.append(error)

    # Anything but a SemError would have ended the test.
    assert all((tmp_path / str(seed) / whole.name).is_file() for seed in range(copies))
    assert len(faults) > copies // 4
    assert all(str(tmp_path) in fault.message for fault in faults)
    assert all(loss in fault.hint for fault in faults)


def test_a_file_that_another_process_writes_is_busy_and_not_damaged(tmp_path):
    path = tmp_path / "a.sqlite"
    with closing(sqlite3.connect(path)) as writer, closing(sqlite3.connect(path, 0)) as other:
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Busy, match="another process is writing this list"):
            read(path, other)


def test_a_full_disk_is_not_taken_for_damage(tmp_path):
    path = tmp_path / "a.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t (x)")
        db.execute("PRAGMA max_page_count = 2")
        with pytest.raises(SemError, match="cannot be read or written") as caught:
            read(path, db, "INSERT INTO t VALUES (zeroblob(99999))")

    assert "free space" in caught.value.hint


def read(path: Path, db: sqlite3.Connection, query: str = "CREATE TABLE t (x)") -> None:
    with sqlite_faults(path, SqliteHolds("list", "make it anew")):
        db.execute(query)

"""A queue of exactly the touched rows: leased, resumed, shared, paced; each item done once."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import warm
from chatserver import ChatServer
from paths import SCRIPTS
from rowmaker import SPEC, fill, project, read, row, shops

from sem.core import files, jsonio
from sem.core.errors import SemError
from sem.core.project import Project
from sem.dataset.clean import clean
from sem.dataset.html import markup
from sem.dataset.split import snapshot
from sem.dataset.store import store
from sem.lm.api.provider import Calls, Price, Provider
from sem.ops.backfill import backfill, relabel, touched
from sem.ops.backfill.work_queue import Queue, RowWork
from sem.ops.config import Backfill

AT = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
SCRIPT = SCRIPTS / "ops_backfill.py"
WIDER = SPEC["io_schema"] | {
    "required": ["title", "price", "stock"],
    "properties": SPEC["io_schema"]["properties"] | {"stock": {"enum": ["yes", "no", None]}},
}
STEPS = "task: product\nto: 2\nsteps:\n  - add: {slot: stock, default: null}\n"


@pytest.fixture
def shop(tmp_path: Path) -> Project:
    """v1 of 12 rows in 4 shops, one of them written by a person."""
    person = json.dumps({"reference_source": "human"})
    made = fill(project(tmp_path), *shops(4), row("a8", metadata=person))
    clean.clean_store(made)
    snapshot.freeze_snapshot(made, AT)
    return made


def spelled(made: Project, **changes: Any) -> Project:
    """Return `made` with its TaskSpec changed."""
    files.write_file(made.configs / "tasks" / "product.json", jsonio.pretty_json(SPEC | changes))
    return Project(made.sem, made.root)


def desk(made: Project, **more: Any) -> backfill.BackfillWorker:
    return backfill.BackfillWorker(made, Queue(backfill.queue_path(made)), "w1", AT, **more)


def queued(made: Project) -> list[RowWork]:
    return list(touched.plan_backfill_work(made, touched.change_since(made, "v1")))


# --- what is touched ------------------------------------------------------------------------


def test_nothing_changed_touches_nothing(shop: Project) -> None:
    assert queued(shop) == []


UNTOUCHING = [{"rubric": {"slots": {"title": {"level": "exact"}}}}, {"task_version": "2.0.0"}]


@pytest.mark.parametrize("changes", UNTOUCHING)
def test_what_no_reference_depends_on_touches_no_row(
    shop: Project, changes: dict[str, Any]
) -> None:
    assert queued(spelled(shop, **changes)) == []


def test_a_schema_change_touches_its_slots_alone(shop: Project) -> None:
    made = spelled(shop, io_schema=WIDER)
    change = touched.change_since(made, "v1")

    found = list(touched.plan_backfill_work(made, change))

    assert {(work.kind, work.slots) for work in found} == {("relabel", ("stock",))}
    assert len(found) == 12
    assert change.left_out == {"a person wrote the reference": 1}


def test_a_prompt_change_touches_every_slot(shop: Project) -> None:
    found = queued(spelled(shop, system_prompt="Answer otherwise."))

    assert {work.slots for work in found} == {("price", "title")}


def test_an_older_taskspec_that_was_not_kept_touches_every_slot(shop: Project) -> None:
    for path in (shop.root / "data" / "shop" / "specs").iterdir():
        path.unlink()

    found = queued(spelled(shop, io_schema=WIDER))

    assert {work.slots for work in found} == {("price", "stock", "title")}


def test_a_migration_takes_its_slots_from_relabelling(shop: Project) -> None:
    files.write_file(shop.configs / "migrations" / "2.yaml", STEPS)

    found = queued(spelled(shop, io_schema=WIDER))

    assert {(work.kind, work.slots) for work in found} == {("migrate", ("stock",))}
    assert len(found) == 13


def test_another_cleaner_touches_every_row(shop: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markup, "FINGERPRINT", "another")

    assert [(work.kind, work.slots) for work in queued(shop)] == [("reclean", ())] * 13


def test_since_is_a_version_or_a_day(shop: Project) -> None:
    assert touched.resolve_since_snapshot(shop, "1")[0] == "v1"
    assert touched.resolve_since_snapshot(shop, "2026-05-04")[0] == "v1"
    with pytest.raises(SemError, match="no snapshot was frozen on or before 2026-05-03"):
        touched.resolve_since_snapshot(shop, "2026-05-03")
    with pytest.raises(SemError, match="--since 'soon' is neither a snapshot nor a day"):
        touched.resolve_since_snapshot(shop, "soon")


# --- the queue ------------------------------------------------------------------------------


def works(count: int) -> list[RowWork]:
    return [RowWork("reclean", f"r{n:02}", "product", (), "t") for n in range(count)]


def test_the_same_work_is_queued_once(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "q.sqlite")

    assert (queue.add(works(3)), queue.add(works(5))) == (3, 2)


def test_a_lease_is_exclusive_until_it_expires(tmp_path: Path) -> None:
    queue, other = Queue(tmp_path / "q.sqlite"), Queue(tmp_path / "q.sqlite")
    queue.add(works(2))

    mine = queue.lease("reclean", "w1", 100.0, 10.0, 5)

    assert len(mine) == 2
    assert other.lease("reclean", "w2", 105.0, 10.0, 5) == []
    theirs = other.lease("reclean", "w2", 110.0, 10.0, 5)
    assert [(item.work.row, item.tries) for item in theirs] == [("r00", 2), ("r01", 2)]
    assert queue.done(mine[0], "w1", 111.0, "a", "b") is False
    assert other.done(theirs[0], "w2", 111.0, "a", "b") is True
    assert queue.counts(112.0) == {("reclean", "done"): 1, ("reclean", "leased"): 1}


def test_poison_ends_as_failed_with_its_reason(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "q.sqlite")
    queue.add(works(1))

    for now in (0.0, 1.0, 2.0):
        (item,) = queue.lease("reclean", "w1", now, 10.0, 1)
        queue.failed(item, "w1", now, "it bites", 3)

    assert queue.lease("reclean", "w1", 3.0, 10.0, 1) == []
    assert queue.reasons() == {"it bites": 1}


def test_the_pace_is_kept_by_all_workers_together(tmp_path: Path) -> None:
    queue, other = Queue(tmp_path / "q.sqlite"), Queue(tmp_path / "q.sqlite")
    queue.add(works(20))

    taken = [
        len(q.lease("reclean", "w", t, 99.0, 8, 10))
        for t, q in ((0.0, queue), (1.0, other), (30.0, queue), (60.5, other))
    ]

    assert taken == [8, 2, 0, 8]


def test_a_paced_worker_waits_and_ends(shop: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write_file(shop.configs / "migrations" / "2.yaml", STEPS)
    made = spelled(shop, io_schema=WIDER)
    now, slept = [0.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    found = desk(made, per_minute=13, clock=lambda: now[0], sleep=sleep)
    found.queue.add(queued(made))
    done = backfill.run_backfill(found)

    assert done["migrate: changed"] == 13
    assert done["reclean: changed"] == 13
    assert 59 <= sum(slept) <= 61


# --- the work -------------------------------------------------------------------------------


def test_migrated_rows_reach_store_and_clean_set(shop: Project) -> None:
    files.write_file(shop.configs / "migrations" / "2.yaml", STEPS)
    made = spelled(shop, io_schema=WIDER)
    found = desk(made)
    found.queue.add(queued(made))

    done = backfill.run_backfill(found)

    assert done["put into clean.jsonl"] == 13
    assert {one["output_json"]["stock"] for one in read(made.processed / "clean.jsonl")} == {None}
    assert [one["id"] for one in read(made.processed / "clean.jsonl")] == sorted(
        {one.id for one in shops(4)} | {"a8"}
    )
    assert clean.read_clean_facts(made)["rows"] == 13
    # Nothing more was done.
    assert backfill.run_backfill(found)["migrate: changed"] == 13
    assert queued(made) == []


def test_recleaned_rows_are_what_a_whole_cleaning_makes(
    shop: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (shop.processed / "clean.jsonl").read_bytes()
    facts = files.read_json(shop.processed / "clean.json")
    rows = [
        {**one, "input_text": "made by an older cleaner"}
        for one in read(shop.processed / "clean.jsonl")
        if one["id"] != "a1"
    ]
    files.write_rows(shop.processed / "clean.jsonl", rows)
    old = {"cleaner": "older", "sha256": files.sha256_file(shop.processed / "clean.jsonl")}
    files.write_file(shop.processed / "clean.json", jsonio.pretty_json(facts | old))
    entries = snapshot.read_ledger(shop)
    snapshot.write_ledger(shop, {"v1": {**entries["v1"], "cleaner": "older"}})
    found = desk(shop)
    found.queue.add(queued(shop))

    done = backfill.run_backfill(found)

    assert done["reclean: changed"] == 13
    assert (shop.processed / "clean.jsonl").read_bytes() == whole
    assert clean.read_clean_facts(shop)["cleaner"] == markup.FINGERPRINT
    assert queued(shop) == []


def test_a_row_that_no_migration_fits_fails_and_is_named(shop: Project) -> None:
    files.write_file(shop.configs / "migrations" / "2.yaml", STEPS)
    made = spelled(shop, io_schema=WIDER)
    store.append_store_rows(made.store, [row("b1", reference='"text"')], "replace")
    found = desk(made)
    found.queue.add(queued(made))

    done = backfill.run_backfill(found)

    assert done["migrate: not done"] == 1
    assert found.queue.reasons() == {"2.yaml: the reference is no object": 1}


def answers(reply: dict[str, Any]) -> ChatServer:
    return ChatServer(lambda body, number: json.dumps(reply))


def strong(url: str, **more: Any) -> Backfill:
    model = Provider("openai/strong", api_base=url, price=Price(0, 0))
    return Backfill(calls=replace(Calls(), models=(model,), **more))


def test_only_the_touched_slots_are_taken_from_the_strong_model(shop: Project) -> None:
    made = spelled(shop, io_schema=WIDER)
    with answers({"title": "other", "price": 1, "stock": "yes"}) as server:
        settings = strong(server.url)
        found = desk(made, settings=settings, model=relabel.relabel_client(made, settings, AT))
        found.queue.add(queued(made))
        done = backfill.run_backfill(found)
        asked = [body["messages"][1]["content"] for body in server.seen]

    assert done["relabel: changed"] == 12
    assert len(asked) == 12
    assert not any("<html" in text for text in asked)
    rows = {one["id"]: one for one in read(made.processed / "clean.jsonl")}
    assert rows["b1"]["output_json"] == {"title": "Mug b1", "price": 4.5, "stock": "yes"}
    (note,) = rows["b1"]["meta"]["backfill"]
    assert (note["slots"], note["model"]) == (["stock"], "openai/strong")
    assert queued(made) == []


def test_an_answer_that_breaks_the_schema_changes_nothing(shop: Project) -> None:
    made = spelled(shop, io_schema=WIDER)
    with answers({"title": "x", "price": 1, "stock": "perhaps"}) as server:
        settings = replace(strong(server.url, tries=1), tries=1)
        found = desk(made, settings=settings, model=relabel.relabel_client(made, settings, AT))
        found.queue.add(queued(made)[:2])
        done = backfill.run_backfill(found)

    assert done["relabel: not done"] == 2
    assert all(reason.startswith("wrong_schema") for reason in found.queue.reasons())


def test_without_a_strong_model_relabelling_waits(shop: Project) -> None:
    made = spelled(shop, io_schema=WIDER)
    found = desk(made)
    found.queue.add(queued(made))

    backfill.run_backfill(found)

    assert found.queue.counts(0.0) == {("relabel", "queued"): 12}


def test_the_script_says_what_is_touched_and_what_waits(shop: Project) -> None:
    spelled(shop, io_schema=WIDER)
    env = {**os.environ, "SEM_ROOT": str(shop.root)}
    words = [sys.executable, str(SCRIPT), "--sem", "shop", "--since", "v1"]

    dry = warm.run([*words, "--dry-run"], env=env, capture_output=True, text=True)
    done = warm.run(words, env=env, capture_output=True, text=True)

    assert "relabel" in dry.stdout
    assert (dry.returncode, done.returncode) == (0, 0), done.stderr
    assert "relabelling waits: no strong model is configured" in done.stderr
    assert "12 items are new in the queue" in done.stderr


def test_killed_and_shared_by_two_every_item_is_done_once(shop: Project) -> None:
    files.write_file(shop.configs / "migrations" / "2.yaml", STEPS)
    made = spelled(shop, io_schema=WIDER)
    store.append_store_rows(made.store, [row(f"k{n:03}") for n in range(300)])
    queue = Queue(backfill.queue_path(made))
    queue.add(queued(made))
    env = {**os.environ, "SEM_ROOT": str(shop.root)}
    words = [sys.executable, str(SCRIPT), "--sem", "shop", "--set", "backfill.lease_s=2"]

    killed = warm.Popen(words, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not queue.counts(time.time()).get(("migrate", "leased")):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    time.sleep(2.1)
    two = [
        warm.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(2)
    ]
    ends = [process.communicate(timeout=240)[0].decode() for process in two]

    assert [process.returncode for process in two] == [0, 0], ends
    backfill.run_backfill(desk(made))
    counts = queue.counts(time.time())
    assert counts == {("migrate", "done"): 313, ("reclean", "done"): counts[("reclean", "done")]}
    with store.open_store(made.store) as opened:
        metas = [json.loads(one.metadata) for one in opened.rows()]
    assert {meta["schema_version"] for meta in metas} == {2}

"""A snapshot is frozen, verified before use, and complete or absent after a kill."""

import os
import signal
from datetime import UTC, datetime

import pytest
from rowmaker import copied, fill, project, row, shops

from sem.core.errors import Insufficient, SemError
from sem.dataset.clean import clean
from sem.dataset.split import snapshot
from sem.dataset.store import store

AT = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def master(tmp_path_factory):
    made = fill(project(tmp_path_factory.mktemp("master")), *shops(10, 4))
    clean.clean_store(made)
    return made


@pytest.fixture
def shop(master, tmp_path):
    return copied(master, tmp_path)


def files_of(made) -> dict[str, bytes]:
    found = {path.name: path.read_bytes() for path in made.processed.glob("*v[0-9]*")}
    return found | {"ledger": made.ledger.read_bytes() if made.ledger.exists() else b""}


def test_a_snapshot_freezes_all_rows_on_disjoint_domains(shop):
    frozen, is_new = snapshot.freeze_snapshot(shop, AT)

    domains = {part: {e.domain for e in frozen.examples(part)} for part in frozen.counts}
    assert is_new
    assert frozen.counts == {"train": 32, "val": 4, "test": 4}
    assert not domains["train"] & domains["test"] | domains["train"] & domains["val"]
    assert set(frozen.facts["shared"]["domains"].values()) == {0}
    assert set(frozen.facts["shared"]["ids"].values()) == {0}
    assert [e.id for e in frozen.examples("test")] == sorted(e.id for e in frozen.examples("test"))


def test_the_ledger_lists_what_the_snapshot_came_from(shop):
    frozen, _ = snapshot.freeze_snapshot(shop, AT)

    entry = snapshot.read_ledger(shop)["v1"]
    assert entry["frozen_at"] == "2026-05-04T03:02:01Z"
    assert entry["sha256"] == frozen.facts["sha256"]
    assert entry["store_sha256"] == clean.read_clean_facts(shop)["store_sha256"]
    assert entry["tasks"] == {"product": shop.tasks["product"].fingerprint()}
    assert entry["eval_split"]["seed"] == 7


def test_files_are_read_only(shop):
    frozen, _ = snapshot.freeze_snapshot(shop, AT)

    modes = {path.stat().st_mode & 0o777 for path in shop.processed.glob("*v1*")}
    assert modes == {0o444}
    assert len(frozen.sha256) == 64


def test_an_identical_cut_makes_no_new_version(shop):
    first, _ = snapshot.freeze_snapshot(shop, AT)
    before = files_of(shop)

    again, is_new = snapshot.freeze_snapshot(shop, datetime.now(UTC))

    assert (again, is_new) == (first, False)
    assert files_of(shop) == before


def test_more_rows_make_the_next_version_and_leave_the_old_one(shop):
    first, _ = snapshot.freeze_snapshot(shop, AT)
    store.append_store_rows(shop.store, [row("z1"), row("z2")])
    clean.clean_store(shop)

    second, is_new = snapshot.freeze_snapshot(shop, AT)

    assert (second.name, is_new, sum(second.counts.values())) == ("v2", True, 42)
    assert snapshot.load_snapshot(shop, "v1") == first
    assert snapshot.load_snapshot(shop).name == "v2"


def test_a_part_that_changed_is_not_used(shop):
    snapshot.freeze_snapshot(shop, AT)
    path = shop.processed / "test.v1.jsonl"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"Mug", b"Jug"))

    with pytest.raises(SemError) as caught:
        snapshot.load_snapshot(shop, 1)

    assert caught.value.message.startswith("snapshot v1 changed on disk: test.v1.jsonl is ")
    assert "the ledger says" in caught.value.message
    assert caught.value.hint == "restore it, or cut a new one with `fab dataset.split`"


@pytest.mark.parametrize("version", ["0", "v1.2", "latest", "-1", "v", ""])
def test_a_version_is_a_number(shop, version):
    snapshot.freeze_snapshot(shop, AT)

    with pytest.raises(SemError, match="is not a version"):
        snapshot.load_snapshot(shop, version)


def test_a_version_that_is_not_there_names_the_nearest(shop):
    snapshot.freeze_snapshot(shop, AT)

    with pytest.raises(SemError, match="no snapshot v7") as caught:
        snapshot.load_snapshot(shop, 7)

    assert "v1" in caught.value.hint


def test_without_a_snapshot_the_error_says_how_to_cut_one(shop):
    with pytest.raises(SemError, match="no snapshot") as caught:
        snapshot.load_snapshot(shop)

    assert "fab dataset.split" in caught.value.hint


def test_three_rows_of_one_domain_cannot_be_cut(tmp_path):
    made = fill(project(tmp_path), row("a1"), row("a2"), row("a3"))
    clean.clean_store(made)

    with pytest.raises(Insufficient, match="3 rows in 1 groups"):
        snapshot.freeze_snapshot(made, AT)

    assert not list(made.processed.glob("*v1*"))
    assert not made.ledger.exists()


def test_uncleaned_rows_cannot_be_cut(tmp_path):
    with pytest.raises(SemError, match="no such file"):
        snapshot.freeze_snapshot(fill(project(tmp_path), row("a1")), AT)


STEPS = ("rename", "fsync", "replace", "chmod", "link")


@pytest.mark.parametrize("count", range(1, 19, 2))
def test_a_freeze_killed_at_any_step_is_completed_by_the_next(tmp_path, count):
    made = fill(project(tmp_path), *shops(5, 2))
    clean.clean_store(made)
    child = os.fork()
    if child == 0:
        _die_at(count)
        snapshot.freeze_snapshot(made, AT)
        os._exit(0)
    os.waitpid(child, 0)

    frozen, _ = snapshot.freeze_snapshot(made, AT)

    assert frozen.name == "v1"
    assert sorted(path.name for path in made.processed.glob("*v*")) == [
        "test.v1.jsonl",
        "train.v1.jsonl",
        "v1.json",
        "val.v1.jsonl",
    ]
    assert snapshot.load_snapshot(made, 1).counts == frozen.counts
    assert not list(made.processed.glob(".tmp-*"))


def _die_at(count: int) -> None:
    """Kill this process at its `count`-th call that changes the disk."""
    left = [count]

    def dying(call):
        def wrapped(*args, **kwargs):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return wrapped

    for name in STEPS:
        setattr(os, name, dying(getattr(os, name)))


def test_a_withdrawn_version_is_neither_loaded_nor_numbered_again(shop):
    snapshot.freeze_snapshot(shop, AT)
    text = shop.ledger.read_text().replace('status: "frozen"', 'status: "withdrawn"')
    shop.ledger.write_text(text)

    second, is_new = snapshot.freeze_snapshot(shop, AT)

    assert (second.name, is_new) == ("v2", True)
    with pytest.raises(SemError, match="no snapshot v1"):
        snapshot.load_snapshot(shop, 1)


def facts_of(**parts) -> dict:
    rows = {part: sum(domains.values()) for part, domains in parts.items()}
    groups = {part: sum(n if not d else 1 for d, n in ds.items()) for part, ds in parts.items()}
    return {"rows": rows, "groups": groups, "domains": parts}


@pytest.mark.parametrize(
    ("train", "doubt"),
    [
        ({"a.de": 3, "b.de": 2}, None),
        # One domain for all rows made one group, and nobody said so.
        ({"acme": 90}, "all 90 rows of train are one group"),
        ({"": 90}, "90 of 90 rows of train have no domain"),
        ({"a.de": 2, "": 3}, "3 of 5 rows of train have no domain"),
    ],
)
def test_what_the_parts_cannot_show_is_said(train, doubt):
    found = snapshot.snapshot_doubts(facts_of(train=train, val={"v.de": 1}, test={"t.de": 1}))

    assert [text.startswith(doubt) for text in found] == ([True] if doubt else [])

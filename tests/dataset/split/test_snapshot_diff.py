"""Two snapshots compared by row and slot; nobody trains on a difference nobody looked at."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rowmaker import copied, fill, project, read, row, shops

from sem.core import files, jsonio, run
from sem.core.errors import SemError
from sem.core.project import Project
from sem.dataset.clean import clean
from sem.dataset.split import acknowledge, diff_report, snapshot, snapshot_diff
from sem.dataset.store import store
from sem.dataset.takedown import takedown
from sem.dataset.takedown.requested_rows import TakedownRequest
from sem.ops import promote

AT = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


@pytest.fixture
def shop(master: Project, tmp_path: Path) -> Project:
    """v1 of 30 rows; v2 has one title changed, one row more and one less."""
    return copied(master, tmp_path)


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """What every `shop` is a copy of."""
    made = fill(project(tmp_path_factory.mktemp("master")), *shops(10), row("c8"))
    clean.clean_store(made)
    snapshot.freeze_snapshot(made, AT)
    changed = json.dumps({"title": "Cup a1", "price": 4.5})
    store.append_store_rows(made.store, [row("a1", reference=changed), row("b9")], "replace")
    clean.clean_store(made)
    rows = [one for one in read(made.processed / "clean.jsonl") if one["id"] != "c8"]
    files.write_rows(made.processed / "clean.jsonl", rows)
    facts = files.read_json(made.processed / "clean.json")
    facts["sha256"] = files.sha256_file(made.processed / "clean.jsonl")
    files.write_file(made.processed / "clean.json", jsonio.pretty_json(facts))
    snapshot.freeze_snapshot(made, AT)
    return made


def test_rows_and_slots_are_told_apart(shop: Project) -> None:
    found = snapshot_diff.compare_snapshots(shop, "v1", "v2")

    said = found.as_json()
    task = said["tasks"]["product"]
    assert (said["rows"]["added"], said["rows"]["removed"], said["rows"]["changed"]) == (1, 1, 1)
    assert sum(said["rows"].values()) == 32
    assert said["first_ids"]["added"] == ["b9"]
    assert said["first_ids"]["removed"] == ["c8"]
    assert task["slots"] == {
        "title": {
            "changed": 1,
            "added": 0,
            "removed": 0,
            "examples": [{"id": "a1", "before": '"Mug a1"', "after": '"Cup a1"'}],
        }
    }
    assert task["fields"] == {"output_json": 1}
    assert (task["output_delta"], said["unit"]) == (0, "characters")


def test_tokens_are_counted_where_a_tokenizer_is_given(shop: Project) -> None:
    found = snapshot_diff.compare_snapshots(shop, "v1", "v2", lambda text: 7 * len(text.split()))

    assert found.unit == "tokens"
    assert found.tasks["product"].input_delta % 7 == 0


def test_a_snapshot_does_not_differ_from_itself(shop: Project) -> None:
    said = snapshot_diff.compare_snapshots(shop, 2, 2).as_json()

    assert {kind: n for kind, n in said["rows"].items() if n} == {"same": 31}
    assert said["tasks"]["product"]["slots"] == {}


def test_the_report_names_everything_and_holds_no_markup(shop: Project) -> None:
    path = diff_report.write_diff_report(shop, snapshot_diff.compare_snapshots(shop, "v1", "v2"))

    text = path.read_text()
    assert path.name == "dataset_diff_v1_v2.md"
    assert "| product.title | 1 | 0 | 0 |" in text
    assert '| product.title | a1 | "Mug a1" | "Cup a1" |' in text
    assert files.read_json(path.with_suffix(".json"))["format"] == "dataset_diff.v1"


def test_parts_out_of_order_are_refused(shop: Project) -> None:
    frozen = snapshot.load_snapshot(shop, 2)
    path = frozen.path("train")
    lines = path.read_bytes().splitlines(keepends=True)
    path.chmod(0o644)
    path.write_bytes(b"".join(reversed(lines)))

    with pytest.raises(SemError, match="comes after"):
        list(snapshot_diff.snapshot_rows(frozen))


IDS = st.lists(st.text("abc", min_size=1, max_size=3), unique=True).map(sorted)


@given(IDS, IDS)
def test_a_join_meets_every_id_once(before: list[str], after: list[str]) -> None:
    sides = [iter([(name, "train", {}) for name in names]) for names in (before, after)]

    pairs = [(old and old[0], new and new[0]) for old, new in snapshot_diff.join_rows(*sides)]

    assert pairs == [
        (n if n in before else None, n if n in after else None) for n in sorted({*before, *after})
    ]


# --- acknowledgement ------------------------------------------------------------------------


def promoted(made: Project, version: int) -> str:
    """Return the id of a promoted run on snapshot `version`."""
    rests = {"version": version, "sha256": snapshot.load_snapshot(made, version).sha256}
    found = run.create_run(made, {"snapshot": rests, "tasks": {}}, AT)
    files.write_file(found.folder / "manifest.json", "{}")
    return promote.promote_tested_run(made, found.id, "it serves", AT)


def test_training_on_a_difference_nobody_looked_at_is_refused(shop: Project) -> None:
    name = promoted(shop, 1)

    with pytest.raises(SemError) as caught:
        acknowledge.require_acknowledgement(shop, snapshot.load_snapshot(shop, 2))

    assert caught.value.message == (
        f"snapshot v2 differs from v1, which the promoted run {name} was trained on"
    )
    assert caught.value.hint == (
        'look at `fab dataset.diff v1 v2`, then `fab dataset.diff v1 v2 --acknowledge "why"`'
    )


def test_an_acknowledged_difference_is_trained_on(shop: Project) -> None:
    promoted(shop, 1)
    found = snapshot_diff.compare_snapshots(shop, 1, 2)

    for _ in range(2):
        acknowledge.write_acknowledgement(shop, found, "a cup is no mug", AT)

    acknowledge.require_acknowledgement(shop, snapshot.load_snapshot(shop, 2))
    (line,) = read(acknowledge.acknowledgements_path(shop))
    assert line["reason"] == "a cup is no mug"
    assert line["diff_sha256"] == found.sha256
    assert line["to"]["sha256"] == snapshot.load_snapshot(shop, 2).sha256


def test_the_promoted_snapshot_itself_and_no_promotion_need_nothing(shop: Project) -> None:
    acknowledge.require_acknowledgement(shop, snapshot.load_snapshot(shop, 2))
    promoted(shop, 2)

    acknowledge.require_acknowledgement(shop, snapshot.load_snapshot(shop, 2))
    with pytest.raises(SemError, match="snapshot v1 differs from v2"):
        acknowledge.require_acknowledgement(shop, snapshot.load_snapshot(shop, 1))


def test_a_withdrawn_snapshot_cannot_be_compared_and_that_is_said(
    shop: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    name = promoted(shop, 2)
    list(takedown.run_takedowns(shop, TakedownRequest(ids=("a1",)), AT, lambda text: None))

    acknowledge.require_acknowledgement(shop, snapshot.load_snapshot(shop))

    assert f"v2, which run {name} was trained on, was withdrawn" in capsys.readouterr().err
    with pytest.raises(SemError, match="snapshot v1 was withdrawn by takedown td-"):
        snapshot_diff.compare_snapshots(shop, 1, 3)


def test_a_reason_is_needed(shop: Project) -> None:
    with pytest.raises(SemError, match="--acknowledge without a reason"):
        acknowledge.write_acknowledgement(
            shop, snapshot_diff.compare_snapshots(shop, 1, 2), " ", AT
        )

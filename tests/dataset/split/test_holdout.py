"""What was tested on is never trained on, however often the store grows and is cut again."""

import random
from datetime import UTC, datetime

import pytest
from rowmaker import fill, project, row, shops

from sem.core import files
from sem.core.errors import SemError
from sem.core.taskspec import EvalSplit
from sem.dataset.clean import clean
from sem.dataset.split import snapshot, splits
from sem.dataset.split.splits import SplitItem
from sem.dataset.store import store

AT = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


@pytest.mark.parametrize("seed", range(20))
def test_no_test_row_is_trained_on_in_ten_cuts_of_a_growing_store(seed):
    dice = random.Random(seed)
    items: list[SplitItem] = []
    tested: set[str] = set()
    for turn in range(10):
        for _ in range(dice.randint(3, 60)):
            shop, kind = dice.randint(0, 6 + 4 * turn), dice.choice(["a", "b"])
            items.append(SplitItem(f"{len(items):05}", kind, f"domain:s{shop}", f"{kind}|de"))
        made = splits.cut_splits(items, EvalSplit(seed=dice.randint(0, 99)), tested)
        ids = {part: {name for g in made[part] for name in g.ids} for part in made}
        assert not tested & (ids["train"] | ids["val"])
        assert all(ids.values())
        assert sum(map(len, ids.values())) == len(items)
        tested |= ids["test"]


@pytest.fixture
def shop(tmp_path):
    made = fill(project(tmp_path), *shops(10, 4))
    clean.clean_store(made)
    return made


def test_a_new_snapshot_keeps_the_old_test_rows_in_test(shop):
    first, _ = snapshot.freeze_snapshot(shop, AT)
    store.append_store_rows(shop.store, [row(f"{'klmnopqrs'[n % 9]}{n}") for n in range(60)])
    clean.clean_store(shop)

    second, _ = snapshot.freeze_snapshot(shop, AT)

    old, new = ({e.id for e in cut.examples("test")} for cut in (first, second))
    assert old < new
    assert second.facts["held_groups"] == 1


def test_a_corrected_row_is_never_trained_on(shop):
    first, _ = snapshot.freeze_snapshot(shop, AT)
    trained = next(first.examples("train"))
    snapshot.hold_out_examples(shop, [trained.id], "corrected by hand")
    store.append_store_rows(shop.store, [row("z1")])
    clean.clean_store(shop)

    second, _ = snapshot.freeze_snapshot(shop, AT)

    assert trained.id in {e.id for e in second.examples("test")}
    assert trained.domain not in {e.domain for e in second.examples("train")}


def test_the_golden_set_is_held_out(shop):
    files.write_rows(shop.golden, [{"id": "g1"}])

    assert snapshot.list_held_out_ids(shop) == {"g1"}


def test_a_store_without_new_domains_cannot_train(shop):
    items = [
        SplitItem(f"r{n}", "t", "domain:one" if n < 9 else "domain:two", "-") for n in range(18)
    ]

    with pytest.raises(SemError, match="2 groups, 1 of them tested on before cannot fill 3"):
        splits.cut_splits(items, EvalSplit(), {"r0"})
    with pytest.raises(SemError, match="test_ratio is 0, but earlier test rows must stay in test"):
        splits.cut_splits(items, EvalSplit(train_ratio=0.5, val_ratio=0.5, test_ratio=0.0), {"r0"})

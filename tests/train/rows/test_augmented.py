"""A run that asks for variants trains on them, says so, and refuses any but its own."""

import json
from pathlib import Path

import pytest

from sem.core.errors import SemError
from sem.core.project import Project
from sem.dataset.augment import augment
from sem.dataset.clean import clean
from sem.dataset.split import snapshot
from sem.train.run import plan

ASKED = ("train.augmented=true",)


@pytest.fixture
def cut(toy: Path) -> Project:
    project = Project.load("toy", ASKED)
    clean.clean_store(project)
    snapshot.freeze_snapshot(project, plan.provenance.utc_now())
    return project


def test_without_variants_preparing_says_how_to_make_them(cut) -> None:
    with pytest.raises(SemError, match=r"augmented\.v1\.jsonl: no variants of v1") as caught:
        plan.prepare_training(cut, None)

    assert "fab dataset.augment" in caught.value.hint


def test_variants_are_trained_on_and_named_in_the_run(cut) -> None:
    made = augment.write_variants(cut, None, augment.VariantOptions(each=4, seed=1)).facts
    assert made["rows"] > 0
    plain = plan.prepare_training(Project.load("toy"), None)

    target = plan.prepare_training(cut, None)

    found = target.plan()
    assert "augmented" not in plain.plan()
    assert found["augmented"] == {"rows": made["rows"], "sha256": made["sha256"]}
    train = plan.load_training_job(cut, target).stages[0].rows
    assert sum("~" in row.id for row in train.kept) == made["rows"]
    assert (
        len(train.kept)
        == len(plan.load_training_job(cut, plain).stages[0].rows.kept) + made["rows"]
    )


def test_a_run_refuses_variants_that_are_not_its_own(cut) -> None:
    augment.write_variants(cut, None, augment.VariantOptions(each=4, seed=1))
    target = plan.prepare_training(cut, None)
    path = cut.processed / "augmented.v1.json"
    facts = json.loads(path.read_text()) | {"rows": 1}
    path.chmod(0o644)
    path.write_text(json.dumps(facts))

    with pytest.raises(SemError, match="the variants of snapshot v1 have changed"):
        plan.load_training_job(cut, target)

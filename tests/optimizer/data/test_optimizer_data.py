"""The optimizer's data as a whole: split by family, without leaks, the same from one seed."""

import json
import shutil
from pathlib import Path

import pytest
from paths import ROOT

from sem.core.errors import SemError
from sem.dataset.clean import near_duplicates
from sem.optimizer.data import optimizer_data
from tests.optimizer.test_layout import changed


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, optimizer_data.OptimizerData]:
    root = tmp_path_factory.mktemp("tree")
    shutil.copytree(ROOT / "configs" / "optimizer", root / "configs" / "optimizer")
    return root, optimizer_data.build_pairs(root, optimizer_data.pair_settings(root))


def test_there_are_500_distinct_pairs_and_2000_with_variation(made):
    counts = made[1].counts()

    assert sum(part["distinct"] for part in counts.values()) >= 500
    assert sum(part["pairs"] for part in counts.values()) >= 2_000
    assert counts["test"]["categories"] >= 12


def test_no_family_and_no_prompt_is_in_two_parts(made):
    parts = made[1].parts
    families = {name: {p.family for p in found} for name, found in parts.items()}
    prompts = [optimizer_data._key(pair) for found in parts.values() for pair in found]

    assert not families["train"] & families["test"]
    assert not families["train"] & families["val"]
    assert not families["val"] & families["test"]
    assert len(prompts) == len(set(prompts))


def test_no_test_prompt_is_nearly_a_train_prompt(made):
    train, test = ([p.input for p in made[1].parts[name]] for name in ("train", "test"))
    found = near_duplicates.of_texts([*train, *test], 0.8)
    sides = {
        row >= len(train)
        for members in found.members().values()
        for row in members
        if {n >= len(train) for n in members} == {True, False}
    }

    assert sides == set()


def test_the_same_seed_writes_the_same_bytes(made, tmp_path):
    root, built = made
    again = optimizer_data.build_pairs(root, optimizer_data.pair_settings(root))
    other = optimizer_data.build_pairs(root, optimizer_data.pair_settings(root, ["data.seed=7"]))

    assert again.parts == built.parts
    assert other.parts != built.parts


def test_feedback_and_imports_reach_train_and_never_what_is_held_out(made, tmp_path):
    root = shutil.copytree(made[0], tmp_path / "tree")
    held = made[1].parts["test"][0].input
    rows = [
        {"raw_prompt": prompt, "edited_prompt": changed(task=prompt), "success_score": 1}
        for prompt in (held, "invent a new board game about bees")
    ]
    folder = root / optimizer_data.FOLDER
    folder.mkdir(parents=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / optimizer_data.FEEDBACK).write_text(lines)

    built = optimizer_data.build_pairs(root, optimizer_data.pair_settings(root))

    assert [p.input for p in built.parts["train"] if p.family == "feedback"] == [
        "invent a new board game about bees"
    ]
    assert built.left_out["held_out"] == 1
    assert built.parts["test"] == made[1].parts["test"]


def test_an_edit_replaces_what_the_families_say(made, tmp_path):
    root = shutil.copytree(made[0], tmp_path / "tree")
    known = made[1].parts["train"][0]
    mine = changed(task=known.input)
    also = tmp_path / "mine.json"
    also.write_text(json.dumps({"distillation_pairs": [{"raw": known.input, "teacher": mine}]}))

    built = optimizer_data.build_pairs(root, optimizer_data.pair_settings(root), [also])

    assert [p.target for p in built.parts["train"] if p.input == known.input] == [mine]


def test_a_part_that_changed_on_disk_is_refused(made, tmp_path):
    root = shutil.copytree(made[0], tmp_path / "tree")
    optimizer_data.save_pairs(root, made[1], optimizer_data.pair_settings(root))
    assert optimizer_data.load_pairs(root, "val") == made[1].parts["val"]
    with (root / optimizer_data.FOLDER / "val.json").open("a") as file:
        file.write(" ")

    with pytest.raises(SemError, match=r"val\.json is not what data\.json says"):
        optimizer_data.load_pairs(root, "val")


def test_settings_of_another_file_are_refused(made):
    with pytest.raises(SemError, match=r"--set 'train\.x=1': not a key of data\.yaml"):
        optimizer_data.pair_settings(made[0], ["train.x=1"])
    with pytest.raises(SemError, match="vague 9 of 4 phrasings"):
        optimizer_data.pair_settings(made[0], ["data.vague=9"])

"""A base model in a folder of the tree: every job finds it there, and nothing is fetched."""

import json
import shutil

import pytest
from paths import ROOT

from sem.core.project import Project
from sem.forge.kinds import text
from sem.jobs import load_jobs

MOVES = {
    "dataset.stats": [],
    "dataset.clean": ["--tokens"],
    "dataset.diff": ["--tokens", "v1", "v1"],
    "dataset.augment": ["--set", "dataset.clean.default.max_tokens=400"],
    "ops.backfill": ["--since", "v1", "--set", "dataset.clean.default.max_tokens=400"],
    "train.show": ["--rows", "1"],
    "train.prepare": [],
}


@pytest.fixture
def toy_with_a_folder(cut_toy, toy, tiny_model, monkeypatch):
    """The cut toy sem on `weights/tiny`, a folder below its root; the hub cannot be reached."""
    shutil.copytree(tiny_model, toy / "weights" / "tiny")
    path = toy / "configs/toy/tasks/price.json"
    spec = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(spec | {"base_model_id": "weights/tiny"}), "utf-8")
    monkeypatch.setenv("SEM_OFFLINE", "1")
    return toy


@pytest.mark.parametrize("job", MOVES)
def test_a_base_model_in_a_folder_lies_below_the_root_for_every_job(
    toy_with_a_folder, job, capsys
):
    # Six jobs looked below models/base: they failed with the weights there, or fetched a copy.
    load_jobs()[job].call(["--sem", "toy", *MOVES[job]])

    assert not (toy_with_a_folder / "models" / "base").exists()


def test_the_forge_counts_by_a_base_model_that_lies_below_the_root(toy_with_a_folder):
    count = text.counter_of(Project.load("toy"))

    assert count("a mug and a pot") > 0
    assert not (toy_with_a_folder / "models" / "base").exists()


def test_no_module_joins_a_base_model_to_another_folder_than_the_root():
    paths = [*(ROOT / "scripts").glob("*.py"), *(ROOT / "sem").rglob("*.py")]

    assert not [path.name for path in paths if "base_models)" in path.read_text("utf-8")]

"""Overrides: a `--set` that nothing would read is refused or said, never dropped."""

import dataclasses

import pytest

from sem.core import project
from sem.core.errors import SemError
from sem.core.project import Project
from sem.dataset.config import Dataset
from sem.forge.run.config import ForgeSettings
from sem.train.recipe import Recipe


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        # Exit 0, and every address of the pages was redacted all the same.
        ("clean.pii.email=keep", "did you mean dataset.clean.pii.email=keep"),
        ("nosuch.x=1", "one of: backfill, dataset"),
        ("datset.clean.workers=2", "did you mean 'dataset'"),
        ("lora.rank=8", "did you mean train.lora.rank=8"),
        ("teacher.max_usd=1", "did you mean forge.teacher.max_usd=1"),
        ("hosts.x=1", "did you mean|one of"),
        ("dataset=1", "FILE is one of dataset"),
        ("dataset.=1", "FILE is one of dataset"),
        ("dataset.clean.workers", "FILE is one of dataset"),
    ],
)
def test_an_override_of_no_settings_file_is_refused_with_the_nearest(toy, text, hint):
    with pytest.raises(SemError) as caught:
        Project.load("toy", [text])

    assert repr(text) in caught.value.message
    assert any(part in caught.value.hint for part in hint.split("|"))


@pytest.mark.parametrize("name", project.SETTINGS_FILES)
def test_every_settings_file_can_be_overridden(toy, name):
    assert Project.load("toy", [f"{name}.a.b=1"]).overrides_of(name) == ["a.b=1"]


@pytest.mark.parametrize(
    ("name", "cls"), [("dataset", Dataset), ("train", Recipe), ("forge", ForgeSettings)]
)
def test_the_sections_of_hints_are_keys_of_their_file(name, cls):
    assert set(project.SECTIONS[name]) <= {field.name for field in dataclasses.fields(cls)}


def test_an_override_that_no_part_of_the_job_asks_for_is_named(toy, monkeypatch):
    monkeypatch.setattr(project, "_given_overrides", {})
    monkeypatch.setattr(project, "_read_overrides", set())
    loaded = Project.load("toy", ["dataset.clean.workers=1", "train.epochs=5"])

    loaded.settings("dataset", Dataset)

    assert project.unread_overrides() == ["train.epochs=5"]

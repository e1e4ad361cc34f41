"""What differs between two packages, in the order in which a person asks."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import hostilepackages
import pytest
from paths import ROOT
from signers import pass_gate

from sem.core import files, jsonio
from sem.core.errors import SemError
from sem.package.publish import diff
from sem.package.publish.diff import Difference

MODEL, ADAPTER = hostilepackages.MODEL, hostilepackages.ADAPTER


@pytest.fixture
def pair(package, tmp_path):
    """Two packages that hold the same; the second is for changing."""
    return package, shutil.copytree(package, tmp_path / "other" / package.name)


def changed(folder: Path, *changes) -> Path:
    for change in changes:
        change(folder)
    hostilepackages.seal(folder, knowing=False)
    return folder


def test_equal_packages_differ_in_nothing(pair):
    assert diff.diff_packages(*pair) == []


CHANGES = {
    "the run": (
        hostilepackages.facts(lambda facts: facts.update(run_id="20990101-000000-abcd")),
        ("run", "run_id"),
    ),
    "the base model": (
        hostilepackages.facts(
            lambda facts: facts["lineage"]["base_model"].update(revision="another")
        ),
        ("base model", "revision"),
    ),
    "a prompt": (
        hostilepackages.json_keys("task_spec.json", system_prompt="Other."),
        ("tasks", "price.system_prompt"),
    ),
    "a schema": (
        hostilepackages.json_keys("task_spec.json", io_schema__properties__more={}),
        ("tasks", "price.io_schema.properties.more"),
    ),
    "the snapshot": (
        hostilepackages.facts(lambda facts: facts["lineage"]["snapshot"].update(version=9)),
        ("snapshot", "version"),
    ),
    "the figure of a slot": (
        hostilepackages.json_keys(
            "scores.json", **{"tuned__fields": {"price.price": {"pass": 0.5}}}
        ),
        ("proof", "slot price.price"),
    ),
    "the recipe": (
        hostilepackages.json_keys("run.json", recipe__seed=77),
        ("training", "seed"),
    ),
    "the cleaner": (
        hostilepackages.json_keys("cleaner.json", clean__default__max_chars=7),
        ("cleaner", "clean.default.max_chars"),
    ),
    "the generation": (
        hostilepackages.json_keys("generation.json", max_new_tokens=7),
        ("generation", "generation.max_new_tokens"),
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_difference_stands_in_its_section_before_the_files(pair, name):
    change, place = CHANGES[name]
    changed(pair[1], change)

    differences = diff.diff_packages(*pair)

    assert place in [(each.section, each.name) for each in differences]
    sections = [each.section for each in differences]
    assert sections == sorted(sections, key=lambda each: each == "files")


def test_sections_come_in_the_order_in_which_a_person_asks(pair):
    changed(pair[1], *(change for change, _ in CHANGES.values()))
    changed(pair[1], hostilepackages.tensors(MODEL, hostilepackages.nudged))

    sections = [name for name, _ in diff.by_section(diff.diff_packages(*pair))]

    assert sections == [
        *("run", "base model", "tasks", "snapshot", "proof", "training", "cleaner"),
        *("generation", "weights", "files"),
    ]


def test_a_gate_and_a_file_that_only_one_has_are_named(pair):
    pass_gate(pair[1])
    files.write_file(pair[1] / "model.sig", "{}")

    differences = diff.diff_packages(*pair)

    assert Difference("proof", "gate", None, "PASS") in differences
    added = [each.name for each in differences if each.section == "files" and not each.before]
    assert added == ["gate.json", "model.sig"]


def test_changed_tensors_are_named_with_how_far_they_moved(pair):
    def change(held):
        names = sorted(held)
        held[names[0]].mul_(1.5)
        held["new"] = held.pop(names[1])

    changed(pair[1], hostilepackages.tensors(ADAPTER, change))
    weights = [each for each in diff.diff_packages(*pair) if each.section == "weights"]

    moved = {each.name: each.moved for each in weights}
    assert len(weights) == 3
    assert sorted(value is None for value in moved.values()) == [False, True, True]
    assert next(value for value in moved.values() if value) == pytest.approx(0.5, rel=0.01)
    only_new = next(each for each in weights if each.name.endswith(": new"))
    assert (only_new.before, only_new.after is None) == (None, False)


def test_of_many_tensors_a_table_shows_those_that_moved_most():
    many = [Difference("weights", str(n), "F32 1", "F32 1", n / 100) for n in range(30)]

    [(_, shown)] = diff.by_section(many)

    assert [each.name for each in shown[:2]] == ["29", "28"]
    assert shown[-1].name == "10 more"
    assert shown[0].shown_after == "F32 1, moved by 29.00%"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: files.write_file(folder / "README.md", "x"), r"README\.md: "),
        (lambda folder: (folder / "manifest.json").unlink(), "unfinished"),
        (lambda folder: (folder / "x.json").symlink_to("/etc/passwd"), "a link"),
        (lambda folder: os.mkfifo(folder / "x.json"), "not a plain file"),
    ],
)
def test_a_package_that_is_not_what_its_manifest_says_is_not_compared(pair, damage, words):
    damage(pair[1])

    with pytest.raises(SemError, match=words):
        diff.diff_packages(*pair)


def run_diff(*words: str) -> subprocess.CompletedProcess[str]:
    script = str(ROOT / "scripts" / "package_diff.py")
    return subprocess.run(
        [sys.executable, "-P", script, *words],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT / "scripts")},
    )


def test_the_job_shows_tables_and_json(pair):
    changed(pair[1], hostilepackages.json_keys("task_spec.json", system_prompt="\x1b[2JOther."))
    names = [str(folder) for folder in pair]

    table, document = run_diff(*names), run_diff(*names, "--json")

    assert "price.system_prompt" in table.stdout
    assert "\x1b[2J" not in table.stdout
    value = jsonio.parse_json(document.stdout)
    assert value["format"] == "package_diff.v1"
    assert value["differences"][0]["section"] == "tasks"
    assert json.dumps(value)
    assert run_diff(names[0]).returncode == 2
    assert "the packages hold the same" in run_diff(names[0], names[0]).stderr

"""The conformance kit: what was proven, asked again without the project."""

import pytest

from sem.core import files
from sem.core.errors import SemError
from sem.jobs import package as jobs
from sem.package import contract, kit


def test_the_kit_holds_the_shortest_proven_prompts(package, package_master) -> None:
    rows = kit.read_kit(package)
    reports = package_master.parents[3] / "reports" / "toy" / package_master.name
    proven = {
        row["id"]: row for row in files.read_rows(reports / "answers.test.constrained.jsonl")
    }
    assert len(rows) == kit.MAX_ROWS
    for row in rows:
        assert (row.answer, row.finish) == (proven[row.id]["text"], proven[row.id]["finish"])
        assert len(row.ids) == proven[row.id]["tokens_in"]
        assert row.decoding == "constrained"
        assert row.page in row.prompt


def test_the_packaged_model_answers_its_kit_without_a_project(package, tmp_path, monkeypatch):
    monkeypatch.setenv("SEM_ROOT", str(tmp_path / "nothing"))
    monkeypatch.setenv("SEM_DEVICE", "cpu")
    assert kit.replay_kit(package, contract.read_tasks(package)) == []


def test_an_answer_that_does_not_come_back_is_named(package, monkeypatch) -> None:
    monkeypatch.setenv("SEM_DEVICE", "cpu")
    rows = list(files.read_rows(package / "kit.jsonl"))
    rows[2]["answer"] = "evil"
    files.write_rows(package / "kit.jsonl", rows)
    with pytest.raises(SemError, match=f"1 of 8 answers differ from the kit's: {rows[2]['id']}"):
        jobs._replay_kit(package)


def test_a_kit_is_replayed_as_it_was_decoded(package, monkeypatch) -> None:
    monkeypatch.setenv("SEM_DEVICE", "cpu")
    rows = list(files.read_rows(package / "kit.jsonl"))
    files.write_rows(package / "kit.jsonl", [row | {"decoding": "free"} for row in rows])
    # Free answers of this model are noise, held ones are JSON: none can be the same.
    assert kit.replay_kit(package, contract.read_tasks(package)) == [row["id"] for row in rows]


def test_a_package_without_a_kit_says_how_to_get_one(package) -> None:
    (package / "kit.jsonl").unlink()
    with pytest.raises(SemError, match=r"no kit\.jsonl") as error:
        kit.read_kit(package)
    assert "fab eval.generate" in str(error.value.hint)

"""What a project has is told also where a file of it is damaged."""

import handbook
import pytest

from sem.core import files
from sem.core.errors import SemError
from sem.core.project import Project
from sem.projects import status


@pytest.fixture
def project(tmp_path):
    handbook.make(tmp_path, "http://127.0.0.1:9/v1", documents=3)
    return Project("handbook", tmp_path)


def test_a_sound_project_tells_its_next_step(project):
    found = status.project_status(project)

    assert (found.documents, found.damaged) == (3, ())
    assert found.next == "opensem-cli run-forge"


def test_imported_examples_are_cleaned_and_split_next(toy_master):
    # Without a document in it, the project was sent to `run-forge`.
    found = status.project_status(Project("toy", toy_master))

    assert found.next == "fab dataset.clean dataset.split --sem toy"


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("configs/handbook/tasks/qa.json", "{", "not JSON"),
        ("configs/handbook/datasets.yaml", "x", "no key 'snapshots'"),
        ("data/handbook/raw/dataset.duckdb", "x", "cannot be used as a DuckDB store"),
        ("data/handbook/golden/golden_set.json", "7", "holds no list of examples"),
        ("data/handbook/golden/golden_set.json", "{", "not JSON"),
        (
            "reports/handbook/r1/scores.json",
            "{}",
            "scores.json: damaged: key 'baseline' is missing",
        ),
        ("models/handbook/promoted.json", "{", "not JSON"),
    ],
)
def test_a_damaged_file_is_named_and_hides_nothing_else(path, content, message, project):
    files.write_file(project.root / path, content)

    found = status.project_status(project)

    assert [message in fault.message for fault in found.damaged] == [True]
    assert dict(found.rows)["documents"] == "3"


def test_golden_questions_are_counted_as_the_golden_set_reads_them(project):
    path = project.golden.with_name("golden_set.json")
    files.write_file(path, '{"questions": [{"question": "a?", "answer": "b"}]}')

    assert status.project_status(project).golden == 1


def test_scores_that_are_none_are_refused_by_name(tmp_path):
    path = tmp_path / "scores.json"
    files.write_file(path, "[]")

    with pytest.raises(SemError) as found:
        status.scores_in(path)
    wanted = "damaged: the whole file: Input should be a valid dictionary, not []"
    assert found.value.message == f"{path}: {wanted}"

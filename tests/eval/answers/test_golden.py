"""Golden sets in the spellings people use."""

import json

import pytest
from toy import SPEC

from sem.core.errors import SemError
from sem.core.project import Project
from sem.eval.answers import golden

REFERENCE = {"title": "Mug", "price": 9.5}


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "configs" / "toy" / "tasks"
    folder.mkdir(parents=True)
    (folder / "price.json").write_text(json.dumps(SPEC | {"base_model_id": "x"}))
    return Project("toy", tmp_path)


def put(project, value, flat: bool = False) -> None:
    own = project.golden.with_name("golden_set.json")
    path = project.root / "evals" / "golden_set.json" if flat else own
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(
    "value",
    [
        [{"input_text": "a mug", "output_json": REFERENCE}],
        {"examples": [{"question": "a mug", "answer": json.dumps(REFERENCE)}]},
        [{"instruction": "a", "input": "mug", "output": REFERENCE, "task": "price"}],
        [{"prompt": "a mug", "expected": REFERENCE, "metadata": {"language": "en"}}],
    ],
    ids=["ours", "question and answer", "alpaca", "older"],
)
@pytest.mark.parametrize("flat", [False, True])
def test_a_golden_set_is_read(project, value, flat):
    put(project, value, flat)

    (one,) = golden.golden_examples(project)

    assert (one.id, one.task, one.output_json) == ("golden-0001", "price", REFERENCE)
    assert "mug" in one.input_text
    assert one.meta["reference_source"] == "human"
    assert json.loads(project.golden.read_text())["id"] == "golden-0001"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "holds no list of examples"),
        ({"rows": []}, "holds no list of examples"),
        ([1], "entry 1 is not an object"),
        ([{"output_json": REFERENCE}], "entry 1: input_text is missing"),
        ([{"input_text": "x", "answr": 1}], "entry 1: unknown key 'answr'"),
        ([{"input_text": "x", "answer": {"title": 3}}], "entry 1: the answer breaks io_schema"),
        (
            [{"input_text": "x", "answer": REFERENCE, "task": "prise"}],
            "this sem has no task 'prise'",
        ),
        ([{"input_text": "x", "answer": REFERENCE, "task": ["price"]}], "this sem has no task "),
        (
            [{"input_text": "x", "answer": REFERENCE, "meta": [1]}],
            "entry 1: meta is not an object",
        ),
        ([{"id": "a", "input_text": "x", "answer": REFERENCE}] * 2, "id 'a' appears twice"),
    ],
)
def test_a_golden_set_that_cannot_be_used_says_where(project, value, message):
    put(project, value)

    with pytest.raises(SemError, match=message):
        golden.golden_examples(project)
    assert not project.golden.exists()


def test_without_a_golden_set_the_place_is_named(project):
    with pytest.raises(SemError, match="toy has no golden set"):
        golden.golden_examples(project)


def another(project, sem: str, **changes) -> Project:
    folder = project.root / "configs" / sem / "tasks"
    folder.mkdir(parents=True)
    (folder / "price.json").write_text(json.dumps(SPEC | {"base_model_id": "x"} | changes))
    return Project(sem, project.root)


@pytest.mark.parametrize(
    ("value", "current", "owner"),
    [
        ([{"question": "a mug", "answer": REFERENCE}], "toy", "toy"),
        ([{"question": "a mug", "answer": REFERENCE}], "other", "other"),
        ([{"question": "a mug", "answer": REFERENCE}], None, None),
        ([{"question": "a mug", "answer": REFERENCE, "task": "price"}], "other", "toy"),
        ([{"question": "a mug", "answer": REFERENCE, "task_id": "cost"}], "toy", "other"),
        ({"sem": "other", "examples": [{"question": "a", "answer": REFERENCE}]}, "toy", "other"),
        ({"sem": "third", "examples": [{"question": "a", "answer": REFERENCE}]}, "toy", None),
    ],
)
def test_a_flat_golden_set_is_of_one_project(project, value, current, owner):
    # One project's questions stopped `--split golden` of every other.
    other = another(project, "other", task_id="cost")
    put(project, value, flat=True)
    if current:
        (project.root / ".opensem_project").write_text(f"{current}\n")

    owners = [one.sem for one in (project, other) if golden.find_golden_set(one)]

    assert owners == ([owner] if owner else [])


def test_a_flat_golden_set_does_not_hide_the_rows_a_project_has(project):
    other = another(project, "other", task_id="cost")
    put(project, [{"question": "a mug", "answer": REFERENCE, "task": "price"}], flat=True)
    row = {"id": "1", "task": "cost", "input_text": "x", "output_json": REFERENCE, "meta": {}}
    other.golden.parent.mkdir(parents=True)
    other.golden.write_text(json.dumps(row) + "\n")

    assert [one.id for one in golden.golden_examples(other)] == ["1"]
    assert [one.id for one in golden.golden_examples(project)] == ["golden-0001"]

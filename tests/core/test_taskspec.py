"""TaskSpec v1: read strictly, its own schema checked, the example checked against it."""

import json
from pathlib import Path

import pytest
from toy import SPEC

from sem.core import schema, taskspec
from sem.core.errors import SemError


def load(tmp_path: Path, **changes: object) -> taskspec.TaskSpec:
    values = {**SPEC, "base_model_id": "x", **changes}
    path = tmp_path / "spec.json"
    path.write_text(json.dumps({k: v for k, v in values.items() if v is not None}))
    return taskspec.load_taskspec(path)


def split(**keys: object) -> dict[str, object]:
    return {"strategy": "random", **keys}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task_idd": "x"}, "unknown key 'task_idd'"),
        ({"rubric": None}, "key 'rubric' is missing"),
        ({"task_version": "1.0.0\n"}, "is not MAJOR.MINOR.PATCH"),
        ({"task_version": "1.0"}, "is not MAJOR.MINOR.PATCH"),
        ({"system_prompt": " "}, "system_prompt is empty"),
        ({"instruction_template": "no placeholder"}, "holds {{input_text}} 0 times"),
        ({"io_schema": {"type": "nonsense"}}, "not a valid JSON Schema"),
        ({"io_schema": {"$schema": "http://x.example/y"}}, "unknown draft"),
        ({"io_schema": {"$ref": "http://x.example/y"}}, "leaves the document"),
        ({"io_schema": {"$ref": "file:///etc/passwd"}}, "leaves the document"),
        ({"label_enums": {"colour": ["red"]}}, "label_enums names 'colour'"),
        ({"rubric": {"slots": {"prise": {}}}}, "did you mean 'price'?"),
        ({"rubric": {"slots": {"price": {"level": "numeric"}}}}, "did you mean 'numeric_tol'?"),
        ({"eval_split": split(train_ratio=0.8)}, "names 1 of 3 ratios"),
        ({"eval_split": split(train_ratio=0.8, val_ratio=0.1, test_ratio=0.2)}, "do not add up"),
        ({"eval_split": {"strategy": "domain"}}, "write 'random'"),
        ({"example": {"input_text": "x", "output_json": {"title": 1, "price": 2}}}, "breaks io"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(SemError) as error:
        load(tmp_path, **changes)
    assert message in str(error.value)
    assert "spec.json" in str(error.value)


def test_the_prompt_takes_the_input_once_and_literally(tmp_path: Path) -> None:
    spec = load(tmp_path)
    assert spec.prompt("{{input_text}} $1") == "Title and price?\n{{input_text}} $1"


def test_levels_come_from_the_example_then_the_rubric_then_the_type(tmp_path: Path) -> None:
    slots = load(tmp_path, rubric={}).slots({"title": {"level": "substring"}})
    assert slots["title"].level == "substring"
    assert slots["price"].level == "numeric_tol"
    assert slots["price"].passes_from == 0.9


@pytest.mark.parametrize("name", ["invoice-mvp.taskspec.json"])
def test_the_shipped_v1_example_loads(shared: Path, name: str) -> None:
    spec = taskspec.load_taskspec(shared / "compat/promptprecision/specs/examples" / name)
    assert spec.task_id == "invoice_mvp_extract_v1"


def test_the_v1_minimal_file_lacks_required_keys(shared: Path) -> None:
    folder = shared / "compat/promptprecision/specs/examples"
    with pytest.raises(SemError, match="is missing"):
        taskspec.load_taskspec(folder / "invoice-mvp.taskspec.min.json")


INTEGER = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0}}}


@pytest.mark.parametrize(
    ("value", "found"),
    [({"n": 1}, 0), ({"n": 1.0}, 1), ({"n": True}, 1), ({"n": -1}, 1), ({"n": float("nan")}, 1)],
)
def test_the_validator_is_stricter_than_the_stock_one(value: object, found: int) -> None:
    assert len(schema.schema_problems(value, INTEGER)) == found


def test_formats_are_checked() -> None:
    dated = {"type": "string", "format": "date"}
    assert schema.schema_problems("2024-13-01", dated)
    assert not schema.schema_problems("2024-12-01", dated)


def test_a_pattern_that_never_ends_is_a_problem_not_a_hang() -> None:
    evil = {"type": "string", "pattern": "^(a|aa)+$"}
    assert "takes longer than" in schema.schema_problems("a" * 60 + "!", evil)[0]

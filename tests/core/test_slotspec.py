"""SlotSpec: paths into nested objects, older spellings, and who wins over whom."""

import json
from pathlib import Path

import pytest
from toy import SPEC

from sem.core import settings, slotspec, taskspec
from sem.core.errors import SemError
from sem.core.slotspec import SlotSpec
from sem.core.taskspec import TaskSpec

PARTY = {"type": "object", "properties": {"name": {"type": "string"}, "vat": {"type": "number"}}}
INVOICE = {
    "type": "object",
    "$defs": {"party": PARTY},
    "properties": {
        "total": {"type": ["number", "null"]},
        "seller": {"$ref": "#/$defs/party"},
        "buyer": {"anyOf": [{"$ref": "#/$defs/party"}, {"type": "null"}]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "free": {"type": "object"},
        "either": {"oneOf": [{"type": "string"}, {"type": "number"}]},
        "line_items": {
            "type": "array",
            "items": {"type": "object", "properties": {"price": {"type": "number"}, "of": PARTY}},
        },
    },
}
LEAVES = {
    *("total", "seller.name", "seller.vat", "buyer.name", "buyer.vat", "tags", "free", "either"),
    *("line_items[].price", "line_items[].of.name", "line_items[].of.vat"),
}


def test_objects_and_lists_of_objects_are_opened() -> None:
    assert set(slotspec.schema_leaves(INVOICE)) == LEAVES


def test_a_named_object_is_compared_whole() -> None:
    found = set(slotspec.schema_leaves(INVOICE, {"line_items": {}, "seller": {}}))
    assert {"line_items", "seller"} <= found
    assert not {name for name in found if name.startswith(("line_items[", "seller."))}


def test_the_level_of_a_leaf_follows_its_type() -> None:
    found = slotspec.slotspecs_of_schema(
        INVOICE, {"buyer.vat": {"tolerance": 0.5, "level": "numeric_tol"}}, "x"
    )
    levels = {name: spec.level for name, spec in found.items()}
    assert levels["line_items[].price"] == levels["seller.vat"] == levels["total"] == "numeric_tol"
    assert (levels["tags"], levels["free"], levels["either"]) == ("set_match", "exact", "exact")
    assert (found["buyer.vat"].tolerance, found["seller.vat"].tolerance) == (0.5, 0.0)


def test_a_schema_that_holds_itself_ends() -> None:
    node = {"type": "object", "properties": {"name": {"type": "string"}, "child": {"$ref": "#"}}}
    found = slotspec.schema_leaves(node)
    assert max(name.count(".") for name in found) == slotspec.MAX_DEPTH
    assert slotspec.schema_leaves({"properties": {"a": {"$ref": "#/nowhere"}}}) == {"a": None}
    assert slotspec.schema_leaves({"properties": {"a": {"$ref": "#/properties/a"}}})


def test_a_key_with_a_point_is_no_path() -> None:
    odd = {"properties": {"a.b": PARTY, "c[d": PARTY}}
    assert set(slotspec.schema_leaves(odd)) == {"a.b", "c[d"}


@pytest.mark.parametrize(
    ("values", "made"),
    [
        ("numeric_tol", SlotSpec("numeric_tol")),
        ({}, SlotSpec()),
        ({"similarity": "numeric_tol", "tolerance": 0.01}, SlotSpec("numeric_tol", 0.01)),
        ({"similarity": "exact", "level": "exact"}, SlotSpec()),
        ({"relative": 0.1, "unit": "kg"}, SlotSpec("exact", 0, 0.1, "kg")),
    ],
)
def test_older_spellings_are_read(values: object, made: SlotSpec) -> None:
    assert slotspec.read_slotspec(values, "x") == made


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"similarity": "exact", "level": "substring"},
            "level 'substring' and similarity 'exact' differ",
        ),
        ({"level": "numeric"}, "did you mean 'numeric_tol'?"),
        ({"tolerance": -1}, "slot tolerance -1.0 is negative"),
        ({"relative": -0.1}, "slot relative -0.1 is negative"),
        ({"threshold": 0}, "slot threshold 0.0 is not in (0, 1]"),
        ({"threshold": 1.1}, "slot threshold 1.1 is not in (0, 1]"),
        ({"unit": "Kilo gram"}, "slot unit 'Kilo gram' is unknown"),
        ({"unit": "eur"}, "slot unit 'eur' is unknown"),
        ({"decimal_mark": "'"}, 'slot decimal_mark "\'"'),
        ({"day_first": "maybe"}, "day_first"),
        ({"tolerence": 1}, "did you mean 'tolerance'?"),
    ],
)
def test_what_is_wrong_is_named(values: object, message: str) -> None:
    with pytest.raises(SemError) as error:
        slotspec.read_slotspec(values, "slot 'price'")
    assert message in str(error.value)
    assert str(error.value).startswith("slot 'price'")


def write(folder: Path, text: str) -> Path:
    path = folder / "judge_slots.yaml"
    path.write_text(text)
    return path


def test_the_file_of_shared_levels_stands_below_rubric_and_example(tmp_path: Path) -> None:
    shared = slotspec.load_slot_levels(
        write(
            tmp_path,
            "defaults: {judge_model: x}\n"
            "slots: {title: {similarity: llm_similarity}, price: numeric_tol, other: exact}\n"
            "levels: {substring: {threshold: 0.5}, llm_similarity: {threshold: 0.7}}",
        )
    )
    spec = settings.build_settings(TaskSpec, SPEC | {"base_model_id": "x", "rubric": {}}, "spec")
    found = spec.slots(shared=shared)
    assert set(found) == {"title", "price"}
    assert (found["title"].level, found["title"].passes_from) == ("llm_similarity", 0.7)
    own = spec.slots({"title": "substring", "price": {"threshold": 0.2}}, shared=shared)
    assert (own["title"].level, own["title"].passes_from) == ("substring", 0.5)
    assert (own["price"].level, own["price"].passes_from) == ("exact", 0.2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("levels: {exactly: {}}", "did you mean 'exact'?"),
        ("levels: {exact: {threshold: 2}}", "level 'exact': slot threshold 2.0"),
        ("slots: {a: {similarity: near}}", "slot 'a': slot level 'near' is unknown"),
        ("slot: {}", "unknown key 'slot'"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SemError) as error:
        slotspec.load_slot_levels(write(tmp_path, text))
    assert message in str(error.value)


def test_an_older_file_is_read(shared: Path, tmp_path: Path) -> None:
    found = slotspec.load_slot_levels(shared / "compat/curvedinf/judge_slots.yaml")
    assert slotspec.read_slotspec(found.slots["price"], "x") == SlotSpec("numeric_tol", 0.01)
    assert set(found.levels) == set(slotspec.LEVELS)
    assert slotspec.load_slot_levels(tmp_path / "none.yaml") == slotspec.SlotFile()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("seller.name", ""),
        ("seller", ""),
        ("line_items[].price", ""),
        ("name", "did you mean 'buyer.name'?"),
        ("line_items.price", "did you mean 'line_items[].price'?"),
        ("seller.nam", "did you mean 'seller.name'?"),
    ],
)
def test_the_rubric_names_fields_by_path(tmp_path: Path, name: str, message: str) -> None:
    values = SPEC | {"base_model_id": "x", "io_schema": INVOICE, "rubric": {"slots": {name: {}}}}
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(values))
    if not message:
        assert name in taskspec.load_taskspec(path).slots()
        return
    with pytest.raises(SemError) as error:
        taskspec.load_taskspec(path)
    assert message in str(error.value)

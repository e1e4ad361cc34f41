"""Schemas are read by resolving them: one contract in many spellings is one contract."""

from typing import Any, Literal

import pytest
from pydantic import BaseModel

from sem.core import schema, shape, slotspec
from sem.core.errors import SemError
from sem.core.taskspec import TaskSpec
from sem.dataset.clean import tally
from sem.dataset.store import spec_archive

TEXT, NULL = {"type": "string"}, {"type": "null"}
SELLER = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "city"],
    "properties": {"name": TEXT, "city": {"anyOf": [TEXT, NULL]}},
}

DEFINITIONS = {
    "Seller": SELLER,
    "Code": {"enum": ["a", "b"]},
    "Loop": {"$ref": "#/$defs/Loop"},
}


def contract(**fields: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": sorted(fields),
        "properties": fields,
        "$defs": {
            "Seller": SELLER,
            "Code": {"enum": ["a", "b"]},
            "Loop": {"$ref": "#/$defs/Loop"},
        },
    }


@pytest.mark.parametrize(
    ("kind", "types", "is_nullable"),
    [
        ({"type": ["string", "null"]}, {"string", "null"}, True),
        ({"anyOf": [TEXT, NULL]}, {"string", "null"}, True),
        ({"oneOf": [NULL, TEXT]}, {"string", "null"}, True),
        ({"anyOf": [{"$ref": "#/$defs/Seller"}, NULL]}, {"object", "null"}, True),
        ({"anyOf": [TEXT, {"type": "number"}, NULL]}, {"string", "number", "null"}, True),
        ({"enum": ["a", None]}, set(), True),
        ({"const": None}, set(), True),
        ({"type": "null"}, {"null"}, True),
        ({"anyOf": [{}, NULL]}, set(), True),
        ({"allOf": [{"type": ["string", "null"]}, {"type": "string"}]}, {"string"}, False),
        ({"type": ["string", "null"], "enum": ["a"]}, {"string", "null"}, False),
        (TEXT, {"string"}, False),
        ({}, set(), False),
        (True, set(), False),
        ({"$ref": "#/$defs/Loop"}, set(), False),
    ],
)
def test_null_is_allowed_in_every_spelling(kind, types, is_nullable):
    held = shape.resolve_shape(kind, contract())

    assert (shape.schema_types(held), shape.is_nullable(held)) == (types, is_nullable)


def test_every_spelling_of_a_label_is_closed():
    fields = {
        "plain": {"enum": ["a"]},
        "constant": {"const": "a"},
        "named": {"$ref": "#/$defs/Code"},
        "optional": {"anyOf": [{"$ref": "#/$defs/Code"}, NULL]},
        "either": {"oneOf": [{"const": "a"}, {"const": "b"}]},
        "both": {"allOf": [{"$ref": "#/$defs/Code"}, {"type": "string"}]},
        "list": {"type": "array", "items": {"$ref": "#/$defs/Code"}},
        "tuple": {"prefixItems": [{"const": "a"}, {"$ref": "#/$defs/Code"}], "items": False},
    }
    free = {"text": TEXT, "or a text": {"anyOf": [{"const": "a"}, TEXT]}}

    assert tally.closed_slots(contract(**fields, **free)) == set(fields)


def test_objects_are_opened_however_they_are_referred_to():
    found = slotspec.schema_leaves(
        contract(
            ref={"$ref": "#/$defs/Seller"},
            optional={"oneOf": [{"$ref": "#/$defs/Seller"}, NULL]},
            merged={"allOf": [{"$ref": "#/$defs/Seller"}, {"properties": {"vat": TEXT}}]},
            union={"anyOf": [{"$ref": "#/$defs/Seller"}, {"properties": {"vat": TEXT}}]},
            lines={"type": "array", "items": {"anyOf": [{"$ref": "#/$defs/Seller"}, NULL]}},
            text_or_object={"anyOf": [TEXT, {"$ref": "#/$defs/Seller"}]},
            pair={"prefixItems": [TEXT, {"$ref": "#/$defs/Seller"}], "type": "array"},
        )
    )

    assert set(found) == {
        *(
            "ref.name",
            "ref.city",
            "optional.name",
            "optional.city",
            "lines[].name",
            "lines[].city",
        ),
        *("merged.name", "merged.city", "merged.vat", "union.name", "union.city", "union.vat"),
        *("text_or_object", "pair"),
    }
    assert slotspec.default_level(found["ref.city"]) == "exact"


class Leaf(BaseModel):
    kind: Literal["leaf"]
    value: float | None


class Branch(BaseModel):
    kind: Literal["branch"]
    left: "Branch | Leaf"
    note: str | None


@pytest.mark.parametrize(
    ("kind", "value", "filled"),
    [
        # Three of six rows of a pydantic contract were rejected: `anyOf [X, null]` was not read.
        (contract(price={"anyOf": [{"type": "number"}, NULL]}), {}, {"price": None}),
        (contract(price={"type": ["number", "null"]}), {}, {"price": None}),
        (contract(code={"enum": ["a", None]}), {}, {"code": None}),
        (contract(price={"type": "number"}), {}, {}),
        (
            contract(seller={"anyOf": [{"$ref": "#/$defs/Seller"}, NULL]}),
            {"seller": {"name": "A"}},
            {"seller": {"name": "A", "city": None}},
        ),
        (
            contract(sellers={"type": "array", "items": {"$ref": "#/$defs/Seller"}}),
            {"sellers": [{"name": "A"}, {"name": "B", "city": "C"}]},
            {"sellers": [{"name": "A", "city": None}, {"name": "B", "city": "C"}]},
        ),
        (
            Branch.model_json_schema(),
            {"kind": "branch", "left": {"kind": "branch", "left": {"kind": "leaf"}}},
            {
                "kind": "branch",
                "note": None,
                "left": {"kind": "branch", "note": None, "left": {"kind": "leaf", "value": None}},
            },
        ),
        ({"type": "array", "items": SELLER}, [{"name": "A"}], [{"name": "A", "city": None}]),
    ],
)
def test_a_key_that_may_be_null_is_filled_at_every_depth(kind, value, filled):
    assert shape.fill_nulls(value, kind, kind) == filled


def test_a_deep_union_is_filled_without_trying_every_combination():
    value: Any = {"kind": "leaf"}
    for _ in range(60):
        value = {"kind": "branch", "left": value}
    kind = Branch.model_json_schema()

    assert schema.schema_problems(shape.fill_nulls(value, kind, kind), kind) == []


def test_a_reference_that_points_nowhere_is_refused_with_the_nearest():
    with pytest.raises(SemError, match=r"'#/\$defs/Seler' points nowhere") as error:
        schema.check_schema(contract(seller={"$ref": "#/$defs/Seler"}), "io_schema")

    assert "Seller" in error.value.hint


@pytest.mark.parametrize(
    "kind",
    [
        {"$ref": "#/$defs/a%20b", "$defs": {"a b": TEXT}},
        {"$ref": "#/$defs/a~1b", "$defs": {"a/b": TEXT}},
        {"$ref": "#name", "$defs": {"x": {"$anchor": "name", **TEXT}}},
        {"$ref": "#/$defs/x/anyOf/0", "$defs": {"x": {"anyOf": [TEXT]}}},
        {"$ref": "#/definitions/x", "definitions": {"x": {"$ref": "#/definitions/y"}, "y": TEXT}},
    ],
)
def test_a_reference_is_followed_in_every_spelling(kind):
    schema.check_schema(kind, "io_schema")

    assert shape.schema_types(shape.resolve_shape(kind, kind)) == {"string"}


def test_a_change_behind_a_reference_touches_the_slots_that_refer_to_it():
    # The text of both fields stays `{"$ref": …}`, so no row was labelled anew.
    fields = {"seller": {"$ref": "#/$defs/Seller"}, "title": TEXT}
    old, new = contract(**fields), contract(**fields)
    new["$defs"] = {**new["$defs"], "Seller": SELLER | {"required": ["name"]}}

    found = spec_archive.find_touched_slots(spec_of(old).as_json(), spec_of(new))

    assert (found.slots, found.why) == (("seller",), "schema")


def spec_of(io_schema: dict[str, Any]) -> TaskSpec:
    from toy import SPEC

    from sem.core import settings

    return settings.build_settings(
        TaskSpec, SPEC | {"base_model_id": "x", "io_schema": io_schema, "rubric": {}}, "spec"
    )

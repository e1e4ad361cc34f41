"""Constrained decoding: a random model, whatever it prefers, says what fits its schema."""

import re
from datetime import date, datetime
from enum import StrEnum
from typing import Literal
from uuid import UUID

import numpy as np
import pytest
from pydantic import BaseModel, Field
from toy import SPEC, make_model

from sem.core import files, jsonio, schema
from sem.core.errors import SemError
from sem.lm.local import chat, constrain, model
from sem.lm.local.generator import Prompt
from sem.lm.local.hf import HfGenerator

NESTED = {
    "type": "object",
    "additionalProperties": False,
    "required": ["lines", "kind"],
    "properties": {
        "kind": {"enum": ["invoice", "order"]},
        "lines": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["name", "qty"],
                "properties": {"qty": {"type": "integer"}, "name": {"type": "string"}},
            },
        },
        "code": {"type": "string", "pattern": "^[A-Z]{3}$"},
    },
}
SCHEMAS = {"flat": SPEC["io_schema"], "nested": NESTED, "one word": {"enum": ["YES", "NO"]}}


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    folder = make_model(tmp_path_factory.mktemp("model"))
    return HfGenerator(model.load_model(folder, "float32"), chat.load_chat(folder))


def prompts(generator, text: str, room: int) -> list[Prompt]:
    pages = ("a mug", '{"title": "x"', "<p>1,5 €</p>", "]]]}}", 'say "no"', "naïve 日本")
    return [Prompt(tuple(generator.chat.prompt_ids("s", p)), room, text) for p in pages]


@pytest.mark.parametrize("room", [40, 160])
@pytest.mark.parametrize("name", SCHEMAS)
def test_every_answer_fits_its_schema_however_little_room_there_is(generator, name, room):
    text = jsonio.canonical_json(SCHEMAS[name])

    said = generator.generate(prompts(generator, text, room + reserved(generator, text)))

    assert {one.finish for one in said} <= {"stop", "closed"}
    for one in said:
        assert schema.schema_problems(jsonio.parse_json(one.text), SCHEMAS[name]) == []


def reserved(generator, text: str) -> int:
    return len(constrain.shortest_answer(generator.vocabulary, text))


def test_an_answer_that_runs_out_of_room_says_that_it_was_closed(generator):
    text = jsonio.canonical_json(SPEC["io_schema"])
    free = [Prompt(p.ids, 40) for p in prompts(generator, text, 40)]

    held = generator.generate(prompts(generator, text, reserved(generator, text)))

    assert {one.finish for one in generator.generate(free)} == {"length"}
    assert "closed" in {one.finish for one in held}


def test_what_was_said_needs_no_room_any_more(generator):
    text = jsonio.canonical_json(SPEC["io_schema"])
    row = constrain._ConstrainedRow(generator.vocabulary, text)
    whole = len(row.plan)
    said = '{"price":9.5,"title":"Mu'

    row.follow(generator.chat.tokenizer(said, add_special_tokens=False)["input_ids"])

    # The title is all that is left, however long the price was.
    assert generator.chat.tokenizer.decode(row.plan[:-1]) == '"}'
    assert len(row.plan) < whole


def test_keys_come_in_the_order_that_training_taught(generator):
    text = jsonio.canonical_json(NESTED)

    said = generator.generate(prompts(generator, text, 160))

    for one in said:
        keys = re.findall(r'"(code|kind|lines)":', one.text)
        assert keys == sorted(keys)
        assert keys[-2:] == ["kind", "lines"]


def test_tasks_share_a_batch(generator):
    texts = [jsonio.canonical_json(SCHEMAS[name]) for name in ("flat", "one word")]
    ids = tuple(generator.chat.prompt_ids("s", "x"))

    flat, word = generator.generate([Prompt(ids, 120, text) for text in texts])

    assert set(jsonio.parse_json(flat.text)) == {"price", "title"}
    assert jsonio.parse_json(word.text) in ("YES", "NO")


def test_what_the_mask_cannot_hold_to_is_said():
    text = jsonio.canonical_json({"type": "array", "uniqueItems": True})

    assert any("uniqueItems" in line for line in constrain.unenforced_constraints(text))


def test_a_schema_that_nothing_fits_is_refused():
    with pytest.raises(SemError, match="io_schema cannot constrain decoding"):
        constrain.compile_grammar(jsonio.canonical_json({"type": "string", "pattern": "(?=a)b"}))


def test_a_row_that_has_ended_only_stops_again(generator):
    text = jsonio.canonical_json({"enum": ["YES"]})
    mask = constrain.Mask(generator.vocabulary, [text], 40)
    said = generator.chat.tokenizer('"YES"', add_special_tokens=False)["input_ids"]
    ids = [0]

    for token in [*said, None]:
        scores = step(mask, generator, ids)
        ids = [*ids, token]

    assert np.flatnonzero(np.isfinite(scores[0].numpy())).tolist() == generator.chat.stop_ids


def step(mask, generator, ids):
    import torch

    return mask(torch.tensor([ids]), torch.zeros(1, generator.vocabulary.size))


def test_a_draft_that_is_thrown_away_is_taken_back(generator):
    # Prompt lookup asks about drafts; what the mask had consumed of them stayed consumed.
    mask = constrain.Mask(
        generator.vocabulary, [jsonio.canonical_json({"enum": ["ab", "cd"]})], 40
    )
    draft = generator.chat.tokenizer('"cd', add_special_tokens=False)["input_ids"]
    step(mask, generator, [0])
    step(mask, generator, [0, *draft])

    scores = step(mask, generator, [0, draft[0]])

    texts = {generator.vocabulary.texts[n] for n in np.flatnonzero(np.isfinite(scores[0].numpy()))}
    assert {"a", "c"} <= texts


def test_too_little_room_for_any_answer_is_an_error_and_no_cut_answer(generator):
    text = jsonio.canonical_json(SPEC["io_schema"])

    with pytest.raises(SemError, match="too few for an answer: the shortest that fits io_schema"):
        generator.generate(prompts(generator, text, 3))


class Address(BaseModel):
    street: str
    city: str
    country: str | None


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


class Node(BaseModel):
    name: str
    children: list["Node"]


class Number(BaseModel):
    value: date


class Sum(BaseModel):
    sign: Literal["+", "-"]
    left: "Sum | Number"
    right: "Sum | Number"


class Tree(BaseModel):
    # Going deeper is the shorter way at first: a text ends sooner than a date.
    label: str
    sub: "Tree | Number"


class Invoice(BaseModel):
    buyer: Address
    seller: Address
    payment: Address | None
    colour: Colour
    tags: list[str] = Field(min_length=2)
    pair: tuple[str, int]
    rates: dict[str, float]
    lines: list[Address]


class Optional5(BaseModel):
    name: str
    # Nothing asks for it; once begun it needs more room than all the rest.
    many: list[Address] = Field(default_factory=list, min_length=5)


class Texts(BaseModel):
    code: str = Field(pattern=r"^[A-Z]{3}-[0-9]{4}$")
    longer: str = Field(min_length=30)
    word: str = Field(pattern="^[a-w]+x$")
    id: UUID
    at: datetime
    count: int = Field(ge=1000)


MODELS = (Address, Node, Sum, Tree, Invoice, Optional5, Texts)
REFERENCE = {"$defs": {"B": {"required": ["z"], "properties": {"z": {"type": "string"}}}}}
TREES = {model.__name__: model.model_json_schema() for model in MODELS} | {
    "anything": {},
    "allOf": REFERENCE
    | {
        "type": "object",
        "allOf": [{"$ref": "#/$defs/B"}, {"required": ["a"], "properties": {"a": {}}}],
    },
    "closed by what was evaluated": REFERENCE
    | {
        "type": "object",
        "allOf": [{"$ref": "#/$defs/B"}],
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "unevaluatedProperties": False,
    },
    "oneOf": {"oneOf": [{"type": "string", "minLength": 9}, {"const": {"x": [1, 2]}}]},
    "prefixItems": {"prefixItems": [{"type": "string"}, {"const": 7}], "minItems": 2},
    "keys by pattern": {
        "type": "object",
        "patternProperties": {"^x[0-9]$": {"type": "string"}},
        "additionalProperties": False,
        "minProperties": 2,
    },
    "keys of its own": {
        "type": "object",
        "additionalProperties": {"type": "number"},
        "minProperties": 3,
    },
    "a list that must be long": {
        "type": "array",
        "minItems": 3,
        "items": {"anyOf": [{"$ref": "#/$defs/L"}, {"type": "string", "pattern": "^[0-9]{9}$"}]},
        "$defs": {"L": {"properties": {"n": {"$ref": "#/$defs/L"}}, "required": ["t"]}},
    },
    "Cyrillic": {"enum": ["привет", "прощай", "да"]},
}


@pytest.mark.parametrize("room", [0, 1, 9])
@pytest.mark.parametrize("name", TREES)
def test_no_answer_is_cut_whatever_the_schema_is_built_of(generator, name, room):
    # Five of five answers to `$ref` into `$defs` were cut: the reserve was read off the schema.
    text = jsonio.canonical_json(TREES[name])

    said = generator.generate(prompts(generator, text, reserved(generator, text) + room)[:3])

    assert {one.finish for one in said} <= {"stop", "closed"}
    for one in said:
        assert schema.schema_problems(jsonio.parse_json(one.text), TREES[name]) == []


@pytest.mark.parametrize("name", ["task_ref.json", "task_inline.json"])
def test_a_contract_of_references_is_answered_like_the_same_one_written_out(
    generator, name, shared
):
    io_schema = files.read_json(shared / "findings/constrained-ref" / name)["io_schema"]
    text = jsonio.canonical_json(io_schema)

    said = generator.generate(prompts(generator, text, reserved(generator, text) + 9)[:2])

    for one in said:
        assert schema.schema_problems(jsonio.parse_json(one.text), io_schema) == []


def test_keys_of_merged_parts_come_sorted_too(generator):
    text = jsonio.canonical_json(TREES["allOf"])

    plan = constrain.shortest_answer(generator.vocabulary, text)

    assert list(jsonio.parse_json(generator.chat.tokenizer.decode(plan[:-1]))) == ["a", "z"]


def allowed(mask, generator, *answers: list[int]) -> list[list[int]]:
    """Return the tokens that `mask` lets follow the last of `answers`, shown one after the
    other.
    """
    import torch

    for answer in answers:
        size = (1, generator.vocabulary.size)
        scores = mask(torch.tensor([[0, *answer]]), torch.zeros(size))
    return np.flatnonzero(np.isfinite(scores[0].numpy())).tolist()


@pytest.mark.parametrize(
    "draft",
    [
        # a draft that does not fit, thrown away whole.
        '"tit',
        # Right at first, wrong in the end.
        '"price":1,"title":"Mug 1',
        # One that ends the answer.
        '"price":null,"title":"x"}',
        "",
    ],
)
def test_a_draft_that_is_thrown_away_leaves_nothing_behind(generator, draft):
    # Before: every call consumed a token, so a draft of prompt lookup was taken for the answer.
    text, encode = jsonio.canonical_json(SPEC["io_schema"]), generator.chat.tokenizer.encode
    plain, drafted = (constrain.Mask(generator.vocabulary, [text], 200) for _ in range(2))
    begun, kept = encode("{"), encode('{"price":1.5')
    drafts = [begun + encode(draft)[:n] for n in range(len(encode(draft)) + 1)]
    whole = [kept[:n] for n in range(len(begun), len(kept) + 1)]

    first = allowed(plain, generator, [], *whole)
    assert allowed(drafted, generator, [], begun, *drafts, *whole) == first
    assert [row.spoken for row in drafted.rows] == [kept]


def test_an_end_in_a_draft_that_is_thrown_away_is_no_end(generator):
    text, tokenizer = jsonio.canonical_json({"enum": ["YES", "NO"]}), generator.chat.tokenizer
    mask = constrain.Mask(generator.vocabulary, [text], 40)
    yes, no = (tokenizer.encode(word) for word in ('"YES"', '"NO"'))
    ended = [*yes, generator.chat.end_of_turn, 0, 0]

    stops = allowed(mask, generator, [], *[ended[:n] for n in range(1, len(ended) + 1)])
    assert stops == generator.chat.stop_ids
    after = allowed(mask, generator, no[:2])
    assert after == allowed(
        constrain.Mask(generator.vocabulary, [text], 40), generator, [], no[:2]
    )


def test_a_row_that_was_closed_in_a_draft_alone_was_not_closed(generator):
    text, encode = jsonio.canonical_json(SPEC["io_schema"]), generator.chat.tokenizer.encode
    needed = len(constrain.shortest_answer(generator.vocabulary, text))
    begun = encode('{"price":1.5,"title":"')
    draft = begun + encode("a" * needed)
    mask = constrain.Mask(generator.vocabulary, [text], len(begun) + needed)

    allowed(mask, generator, [], begun, *[draft[:n] for n in range(len(begun), len(draft) + 1)])
    assert mask.closed == {0}
    allowed(mask, generator, begun[:3])
    assert mask.closed == set()


@pytest.mark.parametrize("name", SCHEMAS)
def test_prompt_lookup_says_what_plain_decoding_does(generator, name):
    import torch

    text = jsonio.canonical_json(SCHEMAS[name])
    answers = []
    for lookup in ({}, {"prompt_lookup_num_tokens": 6}):
        page = generator.chat.prompt_ids("s", '{"price":12.5,"title":"Mug 1"} {"kind":"order"}')
        ids = torch.tensor([page])
        mask = constrain.Mask(generator.vocabulary, [text], 100)
        with torch.inference_mode():
            out = generator.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=100,
                do_sample=False,
                eos_token_id=generator.chat.stop_ids,
                pad_token_id=0,
                logits_processor=[mask],
                **lookup,
            )
        answers.append(generator.chat.decode(out[0, len(page) :].tolist()))
    assert answers[0] == answers[1]

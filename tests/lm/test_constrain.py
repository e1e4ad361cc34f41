"""Constrained decoding: a random model, whatever it prefers, says what fits its schema."""

import re

import numpy as np
import pytest

from sem.core import jsonio, schema
from sem.core.errors import SemError
from sem.lm import chat, constrain, model
from sem.lm.generator import Prompt
from sem.lm.hf import HfGenerator
from toy import SPEC, make_model

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
    return HfGenerator(model.load(folder, "float32"), chat.load(folder))


def prompts(generator, text: str, room: int) -> list[Prompt]:
    pages = ("a mug", '{"title": "x"', "<p>1,5 €</p>", "]]]}}", 'say "no"', "naïve 日本")
    return [Prompt(tuple(generator.chat.prompt_ids("s", p)), room, text) for p in pages]


@pytest.mark.parametrize("room", [40, 160])
@pytest.mark.parametrize("name", SCHEMAS)
def test_every_answer_fits_its_schema_however_little_room_there_is(generator, name, room):
    text = jsonio.dumps(SCHEMAS[name])

    said = generator.generate(prompts(generator, text, room + reserved(generator, text)))

    assert {one.finish for one in said} <= {"stop", "closed"}
    for one in said:
        assert schema.problems(jsonio.loads(one.text), SCHEMAS[name]) == []


def reserved(generator, text: str) -> int:
    return constrain.Reserve.of(generator.chat.tokenizer, text).total


def test_an_answer_that_runs_out_of_room_says_that_it_was_closed(generator):
    text = jsonio.dumps(SPEC["io_schema"])
    free = [Prompt(p.ids, 40) for p in prompts(generator, text, 40)]

    held = generator.generate(prompts(generator, text, reserved(generator, text)))

    assert {one.finish for one in generator.generate(free)} == {"length"}
    assert "closed" in {one.finish for one in held}


def test_what_was_said_needs_no_room_any_more(generator):
    needed = constrain.Reserve.of(generator.chat.tokenizer, jsonio.dumps(SPEC["io_schema"]))

    assert needed.after("") == needed.after('{"pri') == needed.total
    # The title is all that is left, however long the price was.
    costs = dict(needed.costs)
    assert needed.after('{"price":9.5,"title":"Mu') == costs["title"] + constrain.SLACK
    assert needed.total >= sum(costs.values()) + constrain.SLACK


def test_keys_come_in_the_order_that_training_taught(generator):
    text = jsonio.dumps(NESTED)

    said = generator.generate(prompts(generator, text, 160))

    for one in said:
        keys = re.findall(r'"(code|kind|lines)":', one.text)
        assert keys == sorted(keys)
        assert keys[-2:] == ["kind", "lines"]


def test_tasks_share_a_batch(generator):
    texts = [jsonio.dumps(SCHEMAS[name]) for name in ("flat", "one word")]
    ids = tuple(generator.chat.prompt_ids("s", "x"))

    flat, word = generator.generate([Prompt(ids, 120, text) for text in texts])

    assert set(jsonio.loads(flat.text)) == {"price", "title"}
    assert jsonio.loads(word.text) in ("YES", "NO")


def test_what_the_mask_cannot_hold_to_is_said():
    text = jsonio.dumps({"type": "array", "uniqueItems": True})

    assert any("uniqueItems" in line for line in constrain.unenforced(text))


def test_a_schema_that_nothing_fits_is_refused():
    with pytest.raises(SemError, match="io_schema cannot constrain decoding"):
        constrain.grammar(jsonio.dumps({"type": "string", "pattern": "(?=a)b"}))


def test_a_row_that_has_ended_only_stops_again(generator):
    text = jsonio.dumps({"enum": ["YES"]})
    mask = constrain.Mask(generator.vocabulary, [text], 40)
    said = generator.chat.tokenizer('"YES"', add_special_tokens=False)["input_ids"]
    import torch

    for end in range(len(said) + 1):  # as generate shows them: the prompt and all that was said
        scores = mask(torch.tensor([[0, *said[:end]]]), torch.zeros(1, generator.vocabulary.size))

    assert np.flatnonzero(np.isfinite(scores[0].numpy())).tolist() == generator.chat.stop_ids


def allowed(mask, generator, *answers: list[int]) -> list[list[int]]:
    """The tokens that MASK lets follow the last of ANSWERS, shown one after the other."""
    import torch

    for answer in answers:
        size = (1, generator.vocabulary.size)
        scores = mask(torch.tensor([[0, *answer]]), torch.zeros(size))
    return np.flatnonzero(np.isfinite(scores[0].numpy())).tolist()


@pytest.mark.parametrize(
    "draft",
    [
        '"tit',  # a draft that does not fit, thrown away whole
        '"price":1,"title":"Mug 1',  # right at first, wrong in the end
        '"price":null,"title":"x"}',  # one that ends the answer
        "",
    ],
)
def test_a_draft_that_is_thrown_away_leaves_nothing_behind(generator, draft):
    # Before: every call consumed a token, so a draft of prompt lookup was taken for the answer.
    text, encode = jsonio.dumps(SPEC["io_schema"]), generator.chat.tokenizer.encode
    plain, drafted = (constrain.Mask(generator.vocabulary, [text], 200) for _ in range(2))
    begun, kept = encode("{"), encode('{"price":1.5')
    drafts = [begun + encode(draft)[:n] for n in range(len(encode(draft)) + 1)]
    whole = [kept[:n] for n in range(len(begun), len(kept) + 1)]

    first = allowed(plain, generator, [], *whole)
    assert allowed(drafted, generator, [], begun, *drafts, *whole) == first
    assert drafted.consumed == [kept]


def test_an_end_in_a_draft_that_is_thrown_away_is_no_end(generator):
    text, tokenizer = jsonio.dumps({"enum": ["YES", "NO"]}), generator.chat.tokenizer
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
    text, encode = jsonio.dumps(SPEC["io_schema"]), generator.chat.tokenizer.encode
    needed = reserved(generator, text)
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

    text = jsonio.dumps(SCHEMAS[name])
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

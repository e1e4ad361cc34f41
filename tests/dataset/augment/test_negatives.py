"""Wrong answers: each is wrong, none is a target, and only train rows have any."""

import json
import random
from collections import Counter

import kettles
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from rowmaker import copied, project, shops

from sem.core import files, jsonio, provenance
from sem.core.errors import SemError
from sem.core.example import Example
from sem.core.project import Project
from sem.core.taskspec import taught_text
from sem.dataset.augment import negatives
from sem.dataset.augment.negatives import NegativeCase
from sem.dataset.clean import clean
from sem.dataset.ingest import importers
from sem.dataset.ingest.importers import ImportOptions
from sem.dataset.split import snapshot


@pytest.fixture(scope="module")
def master(tmp_path_factory) -> Project:
    """What every `shop` is a copy of."""
    return kettles.make(tmp_path_factory.mktemp("master"))


@pytest.fixture
def shop(master, tmp_path) -> Project:
    """A cleaned and cut project of 36 product pages of 12 shops."""
    return copied(master, tmp_path)


ANSWER = {"price": 12.5, "sku": "A-17", "tags": ["red", "blue"], "seller": {"name": "Acme"}}
SHORT = {"price": 12.5, "sku": "A"}
BROKEN = {
    *("truncated", "trailing_comma", "single_quotes", "unquoted_keys", "prose_before"),
    *("code_fence", "not_a_number", "duplicate_key"),
}


def case(answer=ANSWER, others=(), text="A-17 by Acme, 12.5, red, blue") -> NegativeCase:
    examples = [Example("a", "t", text, answer)]
    examples += [Example(f"b{n}", "t", "", other) for n, other in enumerate(others)]
    return NegativeCase(examples[0], negatives.collect_reference_corpus(iter(examples)))


def made(kind: str, one: NegativeCase, seed: int = 0):
    return negatives.KINDS[kind](one, random.Random(seed))


TEXTS = [
    ("trailing_comma", '{"price":12.5,"sku":"A",}'),
    ("unquoted_keys", '{price:12.5,sku:"A"}'),
    ("single_quotes", "{'price':12.5,'sku':'A'}"),
    ("not_a_number", '{"price":NaN,"sku":"A"}'),
    ("code_fence", '```json\n{"price":12.5,"sku":"A"}\n```'),
]


@pytest.mark.parametrize(("kind", "wanted"), TEXTS)
def test_broken_json_looks_as_models_break_it(kind, wanted):
    assert made(kind, case(SHORT)) == ((), wanted)


def test_wrong_slots_differ_in_the_slot_they_name():
    one = case(others=[{"price": 99.0, "sku": "Z-9", "tags": ["x"], "seller": {"name": "Bolt"}}])

    for kind in sorted(set(negatives.KINDS) - BROKEN):
        found = made(kind, one, 3)
        assert found is not None, kind
        slot, text = found
        value = jsonio.parse_json(text)
        assert not negatives.is_same_answer(
            negatives.slot_value(value, slot), negatives.slot_value(ANSWER, slot)
        ), kind


def test_an_invented_value_is_not_in_the_input():
    one = case({"sku": "A-17"}, [{"sku": "blue"}, {"sku": "Q-1"}])

    assert {made("invented", one, seed)[1] for seed in range(9)} == {'{"sku":"Q-1"}'}


def test_what_may_be_right_after_all_is_refused_and_counted():
    # `red` is inside `red wine`: a slot of level substring would pass it.
    one = case({"sku": "red wine"}, [{"sku": "red"}, {"sku": "green"}])
    refused = Counter()

    found = list(negatives.wrong_answers_of(one, 99, 0, refused))

    assert '{"sku":"red"}' not in {negative.text for negative in found}
    assert refused["other_row:is_a_reference"] == 1
    assert refused["factor_ten:not_applicable"] == 1


@pytest.mark.parametrize(
    ("one", "other", "wanted"),
    [
        (12, 12.0, True),
        (True, 1, False),
        ("Red Wine", "red-wine", True),
        ("red", "red wine", True),
        ("red", "blue", False),
        (["a"], ["a"], True),
        (["a", "b"], ["b"], False),
        (None, "x", False),
    ],
)
def test_values_count_as_the_same_when_only_spelling_differs(one, other, wanted):
    assert negatives.is_same_answer(one, other) is wanted


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.floats(0, 99) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@hypothesis_settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=4), VALUES, max_size=4), st.integers(0, 9))
def test_every_wrong_answer_of_any_reference_is_wrong(answer, seed):
    one = case(answer, [{"a": 1, "b": "x"}])

    for negative in negatives.wrong_answers_of(one, 99, seed, Counter()):
        assert negative.text != taught_text(answer)
        try:
            value = jsonio.parse_json(negative.text)
        except ValueError:
            continue
        assert jsonio.canonical_json(value) != taught_text(answer)


def test_pairs_come_from_train_and_no_rejected_text_is_a_target(shop):
    done = negatives.write_negative_pairs(shop, None, 4, 0)
    found = list(negatives.read_negative_pairs(shop, snapshot.load_snapshot(shop, None)))
    train = kettles.rows(shop, "train")
    targets = {
        taught_text(row["output_json"])
        for part in ("train", "val", "test")
        for row in kettles.rows(shop, part).values()
    }

    assert done.facts["rows"] == len(found) == 4 * len(train)
    assert {row["id"] for row in found} == set(train)
    assert not {row["rejected"] for row in found} & targets
    assert all(row["chosen"] == taught_text(train[row["id"]]["output_json"]) for row in found)
    assert all(row["input_text"] == train[row["id"]]["input_text"] for row in found)
    assert set(found[0]) == {"id", "task", "input_text", "chosen", "rejected", "kind", "slot"}


def test_the_same_seed_writes_the_same_bytes(shop):
    first = negatives.write_negative_pairs(shop, "v1", 2, 7).facts["sha256"]

    assert negatives.write_negative_pairs(shop, "v1", 2, 7).facts["sha256"] == first
    assert negatives.write_negative_pairs(shop, "v1", 2, 8).facts["sha256"] != first


def test_pairs_that_were_touched_are_refused(shop):
    path = negatives.write_negative_pairs(shop, None, 1, 0).path
    path.chmod(0o644)
    files.write_file(path, "{}\n")

    with pytest.raises(SemError) as caught:
        list(negatives.read_negative_pairs(shop, snapshot.load_snapshot(shop, None)))
    assert caught.value.message.startswith("preferences.v1.jsonl is ca3d")
    assert caught.value.hint == "make it again with `fab dataset.augment --negatives 2`"


WRONG = {"price": 99.0, "sku": "A-17", "tags": ["red"], "seller": {"name": "Acme"}}


@pytest.mark.parametrize(
    ("given", "texts", "refused"),
    [
        # They were imported, carried along and used by nothing.
        ([WRONG, "no JSON at all"], [taught_text(WRONG), "no JSON at all"], {}),
        ([taught_text(WRONG)], [taught_text(WRONG)], {}),
        ([ANSWER], [], {"given:is_a_reference": 1}),
        ([ANSWER | {"sku": "a 17"}], [], {"given:is_equal": 1}),
        (["", "  "], [], {"given:is_empty": 2}),
        ([WRONG, WRONG], [taught_text(WRONG)], {}),
        (["a", "b", "c", "d"], ["a", "b", "c"], {"given:beyond_each": 1}),
        (None, [], {}),
    ],
)
def test_the_wrong_answers_of_a_row_become_its_pairs_first(given, texts, refused):
    example = Example("a", "t", "A-17 by Acme", ANSWER, negative_examples=given)
    one = NegativeCase(example, negatives.collect_reference_corpus(iter([example])))
    counted = Counter()

    found = list(negatives.wrong_answers_of(one, 3, 0, counted))

    assert [each.text for each in found if each.kind == "given"] == texts
    assert len(found) == 3
    assert {key: n for key, n in counted.items() if key.startswith("given")} == refused


def test_wrong_answers_that_were_imported_are_rejected_sides_of_the_written_pairs(shop):
    path = next(shop.processed.glob("train.v*.jsonl"))
    rows = [jsonio.parse_json(line) for line in path.read_text("utf-8").splitlines()]
    example = Example(**(rows[0] | {"negative_examples": ["I cannot read this page."]}))
    found = list(
        negatives.wrong_answers_of(
            NegativeCase(example, negatives.ReferenceCorpus()), 1, 0, Counter()
        )
    )

    pair = negatives.negative_pair_row(example, found[0], Counter())

    assert (pair["rejected"], pair["kind"]) == ("I cannot read this page.", "given")
    assert pair["chosen"] == taught_text(example.output_json)


def test_wrong_answers_of_a_file_come_to_the_preferences_file(tmp_path):
    made = project(tmp_path)
    lines = [
        {
            "id": one.id,
            "task": one.task,
            "input_text": one.input_text,
            "output_json": json.loads(one.reference),
            "meta": json.loads(one.metadata),
            "negative_examples": [{"title": f"not {one.id}", "price": 9}],
        }
        for one in shops(9, 2)
    ]
    files.write_rows(tmp_path / "rows.jsonl", lines)
    importers.import_file(made, tmp_path / "rows.jsonl", ImportOptions())
    clean.clean_store(made)
    snapshot.freeze_snapshot(made, provenance.utc_now())
    frozen = snapshot.load_snapshot(made)

    negatives.write_negative_pairs(made, None, 2, 0)

    pairs = list(negatives.read_negative_pairs(made, frozen))
    given = {pair["id"]: json.loads(pair["rejected"]) for pair in pairs if pair["kind"] == "given"}
    train = [json.loads(line)["id"] for line in frozen.path("train").read_text().splitlines()]
    assert given == {name: {"title": f"not {name}", "price": 9} for name in train}


ALTERNATIVES = {"sku": ["B-2", "C-3"], "seller": {"name": "Acme Germany"}}


@pytest.mark.parametrize(
    ("given", "is_right"),
    [
        # A further right answer of the row was trained against as a wrong one.
        (ANSWER | {"sku": "b 2"}, True),
        (ANSWER | {"sku": "C-3", "price": 12.50}, True),
        (ANSWER | {"seller": {"name": "ACME Germany"}}, True),
        (ANSWER | {"sku": "B-2", "seller": {"name": "Acme Germany"}}, True),
        (ANSWER | {"sku": "B-2", "price": 13.0}, False),
        (ANSWER | {"sku": "Z-9"}, False),
        # An alternative of one slot is right in that slot alone.
        (ANSWER | {"tags": ["B-2"]}, False),
    ],
)
def test_a_further_right_answer_of_a_row_is_no_rejected_side(given, is_right):
    meta = {"alternatives": ALTERNATIVES}
    example = Example("a", "t", "A-17 by Acme", ANSWER, meta, negative_examples=[given])
    counted = Counter()

    found = list(
        negatives.wrong_answers_of(
            NegativeCase(example, negatives.ReferenceCorpus()), 1, 0, counted
        )
    )

    assert counted["given:is_equal"] == is_right
    assert [each.text == taught_text(given) for each in found] == [not is_right]


def test_a_made_answer_that_an_alternative_makes_right_is_refused_and_counted():
    meta = {"alternatives": {"sku": ["Q-1"]}}
    others = negatives.ReferenceCorpus(values={("t", ("sku",)): ["Q-1"]})
    example = Example("a", "t", "A-17 or Q-1", {"sku": "A-17"}, meta)
    counted = Counter()

    found = list(negatives.wrong_answers_of(NegativeCase(example, others), 99, 0, counted))

    assert '{"sku":"Q-1"}' not in {negative.text for negative in found}
    assert counted["other_row:is_equal"] == 1

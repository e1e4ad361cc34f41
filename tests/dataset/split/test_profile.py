"""Figures of a set: nearest-rank quantiles, coverage, balance."""

from collections import Counter

import pytest

from sem.core import taskspec
from sem.core.example import Example
from sem.dataset.split import dataset_stats

SPEC = taskspec.TaskSpec(
    task_id="t",
    task_version="1.0.0",
    base_model_id="m",
    system_prompt="s",
    instruction_template="i {{input_text}}",
    io_schema={
        "type": "object",
        "properties": {"kind": {"enum": ["a", "b"]}, "price": {"type": ["number", "null"]}},
    },
    rubric={},
    eval_split=taskspec.EvalSplit(),
)
EXAMPLES = [
    Example("1", "t", "x" * 10, {"kind": "a", "price": 1}, {"domain": "a.org", "language": "de"}),
    Example("2", "t", "x" * 20, {"kind": "a", "price": None}, {"domain": "b.org"}),
    Example("3", "t", "x" * 30, {"kind": "b"}, {}),
]


def lengths(texts: list[str]) -> list[int]:
    return [len(text) for text in texts]


@pytest.mark.parametrize(
    ("share", "value"), [(0.5, 50), (0.95, 95), (0.99, 99), (1.0, 100), (0.0, 1)]
)
def test_quantiles_are_values_that_occur(share, value):
    assert dataset_stats.nearest_rank_quantile(list(range(100, 0, -1)), share) == value


def test_the_quantile_of_nothing_is_none():
    assert dataset_stats.nearest_rank_quantile([], 0.5) is None


def test_tokens_are_those_of_the_whole_prompt_and_the_canonical_answer():
    found = dataset_stats.profile_json(
        dataset_stats.describe_parts({"train": EXAMPLES}, {"t": SPEC}, lengths)["t"]
    )

    assert found["prompt_tokens"] == {"p50": 24, "p95": 34, "p99": 34, "max": 34, "sum": 72}
    assert found["answer_tokens"]["max"] == len('{"kind":"a","price":null}')


def test_slots_are_there_null_or_absent():
    slots = dataset_stats.profile_json(
        dataset_stats.describe_parts({"train": EXAMPLES}, {"t": SPEC}, None)["t"]
    )["slots"]

    shares = {name: slots["price"][name] for name in ("coverage", "null", "absent")}
    assert shares == {"coverage": 0.3333, "null": 0.3333, "absent": 0.3333}
    assert slots["kind"]["labels"] == {"a": 2, "b": 1}


def test_strata_and_domains_are_counted():
    found = dataset_stats.profile_json(
        dataset_stats.describe_parts({"train": EXAMPLES}, {"t": SPEC}, None)["t"]
    )

    assert found["strata"] == {"-|und": 2, "-|de": 1}
    assert found["domains"] == {
        "count": 2,
        "rows_without": 1,
        "largest": {"a.org": 1, "b.org": 1, "": 1},
    }


def test_what_rows_say_of_consent_and_licence_is_counted():
    said = [{"consent": "granted", "license": "cc-by-4.0"}, {"consent": "granted"}, {}]
    rows = [Example(str(n), "t", "x", {"kind": "a"}, meta) for n, meta in enumerate(said)]
    found = dataset_stats.profile_json(
        dataset_stats.describe_parts({"train": rows}, {"t": SPEC}, None)["t"]
    )

    assert found["rights"] == {
        "consent: granted": 2,
        "consent: not said": 1,
        "license: cc-by-4.0": 1,
        "license: not said": 2,
    }


@pytest.mark.parametrize(
    ("labels", "share"),
    [({"a": 5, "b": 5}, 1.0), ({"a": 5}, 0.0), ({}, 0.0), ({"a": 9, "b": 1}, 0.469)],
)
def test_balance_is_one_when_labels_are_equally_frequent(labels, share):
    assert dataset_stats.label_balance(Counter(labels)) == pytest.approx(share, abs=1e-3)


def test_values_are_looked_for_in_the_input_and_labels_are_not():
    told = []

    def tell(example, slot, value):
        told.append((example.id, slot, value))

    examples = [
        Example("1", "t", "costs 1,50 today", {"kind": "a", "price": 1.5}),
        Example("2", "t", "costs 1.5 today", {"kind": "b", "price": 1.5}),
        Example("3", "t", "costs 14.5 today", {"kind": "b", "price": 4.5}),
    ]
    found = dataset_stats.describe_parts({"train": examples}, {"t": SPEC}, None, tell)
    slots = dataset_stats.profile_json(found["t"])["slots"]

    third = 0.3333
    assert slots["price"]["grounding"] == {
        "verbatim": third,
        "normalised": third,
        "absent": third,
        "values": 3,
    }
    assert "grounding" not in slots["kind"]
    assert told == [("3", "price", 4.5)]


def test_tokens_are_counted_by_part():
    parts = {"train": EXAMPLES[:2], "test": EXAMPLES[2:]}
    found = dataset_stats.profile_json(
        dataset_stats.describe_parts(parts, {"t": SPEC}, lengths)["t"]
    )["parts"]

    assert {name: one["rows"] for name, one in found.items()} == {"train": 2, "test": 1}
    assert found["test"]["prompt_tokens"]["max"] == 34
    assert found["train"]["histogram"]["prompt"][:4] == [1, 1, 0, 0]


def test_every_length_falls_into_one_column():
    counts = dataset_stats.histogram_counts([0, 16, 17, 99_999])

    assert (counts[0], counts[1], counts[-1], sum(counts)) == (2, 1, 1, 4)

"""ExtractionForge: rollouts that agree, replies that fit, values that the page holds."""

import json
from datetime import UTC, datetime

import pytest
from chatserver import ChatServer
from toy import SPEC

from sem.core.project import Project
from sem.forge.base import ForgeConfig
from sem.forge.kinds import extraction
from sem.forge.kinds.extraction import ExtractionForge
from sem.forge.run import config
from sem.forge.run.config import ForgeSettings
from sem.forge.teacher import teacher as teachers
from sem.forge.teacher.presets import TeacherSettings
from sem.lm.api.provider import Calls, Price, Provider

AT = datetime(2026, 11, 21, tzinfo=UTC)
PAGE = "<html><body><h1>Red mug</h1><p class='price'>12.50 EUR</p><p>In stock</p></body></html>"
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["title", "price", "state"],
    "properties": {
        "title": {"type": ["string", "null"]},
        "price": {"type": "number"},
        "state": {"enum": ["in", "out"]},
    },
}
GOOD = {"title": "Red mug", "price": 12.5, "state": "in"}


@pytest.fixture
def project(tmp_path):
    spec = {**SPEC, "io_schema": SCHEMA, "label_enums": {}, "rubric": {}}
    spec |= {"task_id": "mugs", "base_model_id": "any/model"}
    spec.pop("example", None)
    folder = tmp_path / "configs" / "x" / "tasks"
    folder.mkdir(parents=True)
    (folder / "mugs.json").write_text(json.dumps(spec))
    (tmp_path / "data" / "x" / "raw").mkdir(parents=True)
    (tmp_path / "data" / "x" / "raw" / "a.html").write_text(PAGE)
    return Project("x", tmp_path)


def made(project, server, **params):
    stub = Provider("openai/stub", api_base=server.url, price=Price(0, 0))
    ask = teachers.make_teacher(
        TeacherSettings(calls=Calls((stub,), tries=2, workers=1), reasks=0), project.root, AT
    )
    settings = ForgeSettings(params=params)
    raw = config.raw_folder(project, settings)
    forge = ExtractionForge(
        ForgeConfig(project, raw, project.processed, params, ask, settings=settings)
    )
    return forge, list(forge.synthesize(forge.load()))


def says(*replies):
    return lambda body, number: (
        r if isinstance(r := replies[(number - 1) % len(replies)], str) else json.dumps(r)
    )


def test_replies_that_agree_become_a_reference_with_the_page_as_input(project):
    with ChatServer(says(GOOD, {**GOOD, "title": "red  MUG"}, GOOD)) as server:
        forge, pairs = made(project, server)
        (row,) = forge.format(pairs)

    assert row["input_text"] == PAGE
    assert row["output_json"] == GOOD
    assert (row["task"], row["source_id"]) == ("mugs", "a.html")
    told = row["meta"]["forge"]
    assert (told["rollouts"], told["agreement"]) == (3, {"title": 1.0, "price": 1.0, "state": 1.0})
    assert len(server.seen) == 3
    assert "Red mug" in server.seen[0]["messages"][1]["content"]
    assert "<html>" not in server.seen[0]["messages"][1]["content"]


@pytest.mark.parametrize(
    ("replies", "reason", "detail"),
    [
        ((GOOD, "no json", {"title": 1}), "too_few_valid", "1 invalid_json, 1 wrong_schema"),
        (
            (GOOD, {**GOOD, "price": 3, "title": None}, {**GOOD, "price": 4, "title": "Mug"}),
            "rollouts_disagree",
            "price, title",
        ),
        (({**GOOD, "title": "Blue plate"},), "evidence_ungrounded", "title: 'Blue plate'"),
    ],
)
def test_what_is_no_reference_is_a_counted_skip(replies, reason, detail, project):
    with ChatServer(says(*replies)) as server:
        forge, pairs = made(project, server)

    assert pairs == []
    (skip,) = forge.config.skipped
    assert (skip["where"], skip["reason"], skip["detail"]) == ("a.html", reason, detail)


def test_a_value_that_is_not_there_may_become_null_where_the_schema_allows(project):
    with ChatServer(says({**GOOD, "title": "Blue plate"})) as server:
        _, (pair,) = made(project, server, ungrounded="null")
    assert pair.output == {**GOOD, "title": None}

    with ChatServer(says({**GOOD, "price": 99})) as server:
        forge, pairs = made(project, server, ungrounded="null")
    assert pairs == []
    assert forge.config.skipped[0]["reason"] == "schema_without_it"


def test_a_row_has_the_id_under_which_pairs_jsonl_tells_where_it_is_from(project):
    with ChatServer(says(GOOD)) as server:
        forge, (pair,) = made(project, server)
    (row,) = forge.format([pair])

    assert (row["id"], row["input_text"]) == (pair.id, PAGE)


def test_each_rollout_is_a_call_and_a_second_run_costs_none(project):
    with ChatServer(says(GOOD)) as server:
        made(project, server, rollouts=5)
        first = len(server.seen)
        made(project, server, rollouts=5)

        assert (first, len(server.seen)) == (5, 5)


def test_a_failed_rollout_agrees_with_nothing():
    found = extraction.agreed_value([{"a": 1, "b": [1]}, {"a": 1, "b": [2]}], 3)

    assert found.value == {"a": 1, "b": [1]}
    assert found.by_slot == {"a": 2 / 3, "b": 1 / 3}


def test_the_reply_that_most_agree_with_is_taken_whole():
    values = [{"a": 1, "b": 9}, {"a": 2, "b": 5}, {"a": 2, "b": 5}, {"a": 2, "b": 9}]

    # (2, 9): three share its `a`, two its `b`; nobody else has five votes.
    assert extraction.agreed_value(values[:3], 3).value == {"a": 2, "b": 5}
    assert extraction.agreed_value(values, 4).by_slot == {"a": 0.75, "b": 0.5}

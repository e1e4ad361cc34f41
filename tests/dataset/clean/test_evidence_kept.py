"""Budgets in tokens hold, and values without evidence meet the fate that policy gives them."""

import json

import pytest
from rowmaker import SPEC, fill, project, read, row

from sem.core.errors import SemError
from sem.dataset.clean import clean, evidence, tokens
from sem.dataset.config import TaskOptions

PAGE = "<html><body><h1>Mug</h1><p>Price $4.50</p><p>blue</p><p>round</p></body></html>"


def judged(reference, page=PAGE, made="Mug\nPrice $4.50", closed=(), **options):
    return evidence.find_evidence(reference, page, made, TaskOptions(**options), frozenset(closed))


@pytest.mark.parametrize(
    ("options", "reference", "want"),
    [
        ({}, {"color": "blue", "maker": "Acme"}, {"color": "blue", "maker": "Acme"}),
        ({"lost": "null"}, {"color": "blue", "maker": "Acme"}, {"color": None, "maker": "Acme"}),
        (
            {"ungrounded": "null"},
            {"color": "blue", "maker": "Acme"},
            {"color": "blue", "maker": None},
        ),
        (
            {"slots": {"maker": {"ungrounded": "null"}}},
            {"maker": "Acme", "by": "Bolt"},
            {"maker": None, "by": "Bolt"},
        ),
        ({"lost": "null"}, {"tags": ["Mug", "blue", "round"]}, {"tags": ["Mug"]}),
        ({"lost": "null"}, {"made": {"by": "blue"}}, {"made": None}),
        ({"lost": "null", "ungrounded": "null"}, "Acme", None),
        ({"lost": "null"}, {"is_new": True, "none": None}, {"is_new": True, "none": None}),
    ],
)
def test_each_fate_is_met(options, reference, want):
    made = judged(reference, **options)

    assert made.reference == want
    assert made.reason is None


def test_what_is_lost_and_what_never_was_there_are_told_apart():
    made = judged({"title": "Mug", "color": "blue", "maker": "Acme"})

    assert (made.lost, made.ungrounded) == (["color"], ["maker"])
    assert made.survival == {"title": [1, 1, 1, 1], "color": [1, 1, 0, 0], "maker": [1, 0, 0, 0]}


def test_a_refused_value_names_its_slot():
    made = judged({"title": "Mug", "maker": "Acme"}, slots={"maker": {"ungrounded": "reject"}})

    assert (made.reason, made.detail) == ("evidence_ungrounded", "maker: 'Acme'")
    assert made.reference == {"title": "Mug", "maker": "Acme"}


def test_labels_are_not_looked_for():
    assert judged({"kind": "Acme"}, closed=["kind"], ungrounded="reject").reason is None


def test_a_fate_that_does_not_exist_is_an_error():
    with pytest.raises(SemError, match=r"slots\.maker: \{'ungrounded': 'drop'\}"):
        TaskOptions(slots={"maker": {"ungrounded": "drop"}})


def test_a_required_value_cannot_be_nulled(tmp_path):
    bad = row("b1", reference=json.dumps({"title": "Teapot", "price": 4.5}))
    settings = "clean: {default: {ungrounded: 'null'}}\n"
    made = fill(project(tmp_path, settings), row("a1"), bad)

    done = clean.clean_store(made)

    assert done.tally.reasons == {"evidence_lost": 1}
    assert done.tally.kept == 1


@pytest.fixture(scope="module")
def tokenizer(tiny_model) -> str:
    return (tiny_model / "tokenizer.json").read_text("utf-8")


@pytest.mark.parametrize("limit", [40, 90, 200])
def test_a_budget_in_tokens_holds_and_keeps_what_tells_most(tmp_path, tokenizer, limit):
    filler = "".join(f"<p>some words about delivery and returns {n}</p>" for n in range(60))
    page = f"<html><body><h1>Mug a1</h1><p class=price>$4.50</p>{filler}</body></html>"
    settings = f"clean: {{default: {{max_tokens: {limit}}}}}\n"
    made = fill(project(tmp_path, settings), row("a1", input_text=page))

    clean.clean_store(made, clean.CleaningOptions(tokenizer=tokenizer))

    [one] = read(made.processed / clean.NAME)
    assert tokens.make_token_counter(tokenizer)(one["input_text"]) <= limit
    assert one["meta"]["tokens_after"] == tokens.make_token_counter(tokenizer)(one["input_text"])
    assert one["meta"]["tokens_before"] == tokens.make_token_counter(tokenizer)(page)
    assert "Mug a1" in one["input_text"]
    assert "$4.50" in one["input_text"]


def test_a_page_type_may_have_its_own_budget(tmp_path, tokenizer):
    filler = "".join(f"<p>words about returns {n}</p>" for n in range(60))
    settings = "clean: {default: {max_tokens: 60, page_tokens: {listing: 300}}}\n"
    kinds = {"a1": "product", "b1": "listing"}
    rows = [
        row(
            name,
            input_text=f"<html><body><h1>Mug {name}</h1>{filler}</body></html>",
            metadata=json.dumps({"page_type": kind}),
        )
        for name, kind in kinds.items()
    ]
    made = fill(project(tmp_path, settings, io_schema=SPEC["io_schema"]), *rows)

    clean.clean_store(made, clean.CleaningOptions(tokenizer=tokenizer))

    sizes = {r["id"]: r["meta"]["tokens_after"] for r in read(made.processed / clean.NAME)}
    assert sizes["a1"] <= 60 < sizes["b1"] <= 300


BODY = " ".join(f"Sentence {n} tells how the old harbour was built." for n in range(12))
SUMMARY = " ".join(f"In short, this is point {n} of what the page is about." for n in range(8))
MENU = "".join(f"<p>Read reason {n} to visit, for {n} €</p>" for n in range(60))


@pytest.mark.parametrize(
    ("title", "settings", "advised"),
    [
        (BODY, "max_chars: 900", True),
        (BODY, "max_chars: 900, prose: true", False),
        (BODY, "max_chars: null", False),
        ("Mug", "max_chars: 900", False),
        # A summary is as long, but not a text of the page.
        (SUMMARY, "max_chars: 900", False),
    ],
)
def test_the_report_advises_prose_where_a_budget_cuts_texts_that_are_asked_for(
    tmp_path, title, settings, advised
):
    reference = json.dumps({"title": title, "price": 4.5})
    rows = [
        row(
            f"a{n}",
            input_text=f"<h1>Mug {n}</h1><p>$4.50</p><p>{BODY}</p>{MENU}",
            reference=reference,
        )
        for n in range(3)
    ]

    done = clean.clean_store(fill(project(tmp_path, f"clean: {{default: {{{settings}}}}}"), *rows))

    report = done.report.read_text("utf-8")
    assert ("The answers to 3 of 3 pages of product are mostly long texts" in report) is advised
    assert done.tally.notes == ({"long_answer: product": 3} if advised else {})


def test_a_task_may_ask_for_prose_while_another_asks_for_facts(tmp_path):
    # 42 % of article bodies were whole within 1,500 tokens, and no option could say what counts.
    settings = "clean: {default: {max_chars: 700}, tasks: {product: {prose: %s}}}"
    page = f"<h1>Mug</h1><p class=price>$4.50</p><p>{BODY}</p>{MENU}"
    texts = {}
    for prose in ("true", "false"):
        made = fill(
            project(tmp_path / prose, settings % prose),
            row("a1", input_text=page, reference=json.dumps({"title": BODY, "price": 4.5})),
        )
        clean.clean_store(made)
        [cleaned] = read(made.processed / clean.NAME)
        texts[prose] = cleaned["input_text"]

    assert BODY in texts["true"]
    assert BODY not in texts["false"]
    assert "$4.50" in texts["false"]

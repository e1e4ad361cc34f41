"""Over its budget a page keeps the lines that are worth most for what they take."""

import pytest

from sem.core import jsonio
from sem.dataset import grounding, markup, store
from sem.dataset.config import TaskOptions
from sem.dataset.html import prune, words, worth
from sem.dataset.html.prune import Address, Budget, Line

OPTIONS = TaskOptions()
# The second line of each pair is worth less.
PAIRS = {
    "the page's own heading": (
        Line("heading", ("Blue Mug",), prefix="# "),
        Line("heading", ("Also nice",), prefix="### "),
    ),
    "the main part": (Line("text", ("4 left",), "main"), Line("text", ("4 left",), "nav")),
    "an ingredient": (
        Line("item", ("2 cups milk",), "main", "ingredients"),
        Line("item", ("2 cups milk",), "main", "size"),
    ),
    "a short line": (Line("text", ("4 left",)), Line("text", ("4 left, " * 40,))),
    "text that is no link": (
        Line("text", ("Fresh milk",)),
        Line("text", ("Fresh milk", Address("link", "/milk"))),
    ),
    "a number": (Line("text", ("12 pieces",)), Line("text", ("Twelve pcs",))),
    "money": (Line("text", ("12 €",)), Line("text", ("ab €",))),
    "a contact": (Line("text", ("ab@cd.org",)), Line("text", ("ab-cd.org",))),
    "no small print": (Line("text", ("Read on here",)), Line("text", ("Read cookies",))),
    "a page to turn to": (
        Line("text", ("2", Address("paging", "?p=2"))),
        Line("text", ("2", Address("contact", "?p=2"))),
    ),
}


def fit(lines: list[Line], limit: int, options: TaskOptions = OPTIONS) -> prune.Fitted:
    return prune.fit(lines, (Budget(limit),), options)


@pytest.mark.parametrize("name", PAIRS)
def test_the_better_line_has_more_points(name):
    better, worse = PAIRS[name]

    points = [
        prune.scores([line], [line.without(prune.LINK).render()])[0] for line in (better, worse)
    ]

    assert points[0] > points[1]


def test_cards_that_repeat_without_end_are_worth_less_and_less():
    cards = [Line("text", (f"Card {n:03}",), shape="div.card") for n in range(40)]

    points = prune.scores(cards, [card.render() for card in cards])

    assert points[2] > points[11] > points[29] > points[39]


def test_every_weight_is_of_a_trait_that_lines_have():
    # A misspelt trait would be worth nothing, in silence.
    values = {
        "kind": {"fact", "heading", "row", "field", "item", "text"},
        "section": {"", "hidden", "main", *words.SECTION_OF.values()},
        "hint": {"", "canonical", "image", *words.HINT_OF.values()},
        "image": {"best", "other", "told"},
        "level": {"title", *("#" * n for n in range(1, 7))},
        "repeat": {name.partition(": ")[2] for _, name in prune.REPEATS} | {"endless"},
        "start": {"near", "after", "far after"},
        "title": {"at", "near", "after", "far after", "end", "before", "far before"},
    }
    single = {"contact", "contact address", "digit", "legal", "like the line before", "link"}
    known = single | {"money", "page", "pages"}
    known |= {f"{name}: {value}" for name, found in values.items() for value in found}

    assert set(worth.WEIGHTS) <= known


def test_what_a_kept_line_says_comes_last():
    told = Line("fact", ("description: A mug for every day",), hint="description")
    again = Line("text", ("A mug for every day",), "main")
    other = Line("text", ("It holds half a litre of tea or soup", "."), "aside")

    made = fit([told, again, other], 75)

    assert len({"description: A mug for every day", "A mug for every day"} & {*made.texts}) == 1
    assert "It holds half a litre of tea or soup." in made.texts


def test_it_comes_back_where_there_is_room():
    lines = [
        Line("fact", ("name: A mug for every day",), hint="name"),
        Line("text", ("A mug for every day",), "main"),
        Line("text", ("x" * 200,), "nav"),
    ]

    assert fit(lines, 120).texts == ["name: A mug for every day", "A mug for every day"]


def test_fields_that_say_the_same_all_stay():
    fields = [Line("field", ("[text password Your password]",))] * 2
    lines = [*fields, Line("text", ("x" * 40,), "nav")]

    assert fit(lines, 70).texts == ["[text password Your password]"] * 2


def test_over_its_budget_a_page_keeps_three_images():
    pictures = [Line("text", (Address("image", f"/{n}.jpg", n),)) for n in range(6)]
    long = Line("text", ("word " * 100,), "nav")

    assert fit(pictures, 300).texts == [f"(/{n}.jpg)" for n in range(6)]
    assert fit([*pictures, long], 300).texts == ["(/3.jpg)", "(/4.jpg)", "(/5.jpg)"]
    assert fit([*pictures, long], 300, TaskOptions(images=1)).texts == ["(/5.jpg)"]


def test_two_budgets_hold_at_once():
    lines = [Line("text", (f"line {n:03}",)) for n in range(50)]

    made = prune.fit(lines, (Budget(200), Budget(12, lambda text: len(text.split()))), OPTIONS)

    assert len(made.texts) == 4
    assert made.report == {"over_budget": 1, "pruned_lines": 46}


def test_evidence_of_real_pages_survives_a_small_budget(shared):
    kept = before = 0
    with store.reading(shared / "data" / "html" / "examples.duckdb") as opened:
        for row in list(opened.rows())[::16]:
            page = row.input_text[row.input_text.index("<") :]
            whole = grounding.Text(markup.simplify(page).text)
            left = grounding.Text(markup.simplify(page, budget=3_000).text)
            for _, value in grounding.leaves(jsonio.loads(row.reference)):
                there = grounding.found(value, whole)
                before += there
                kept += there and grounding.found(value, left)

    assert before > 300
    assert kept >= 0.92 * before  # 61 pages; benchmarks/pruning.py measures all

"""Spot-checks: what a person is shown first, and what the person's words do."""

import csv
import io
from dataclasses import dataclass, field

import pytest
from rowmaker import fill, row
from rowmaker import project as make_project
from scores import column, one

from sem.core import files
from sem.core.errors import SemError
from sem.core.example import Example
from sem.dataset.split import snapshot
from sem.dataset.store import store
from sem.eval.answers import answers
from sem.eval.judge import calibration
from sem.eval.judge.verdicts import SlotVerdict
from sem.eval.report import backlog, spotcheck

JUDGE_FAIL = SlotVerdict("judged", False, 0.0, "no")


def test_where_judge_and_rule_disagree_comes_first():
    scores = column("+-+?+")
    verdicts = {("e0002", "title"): JUDGE_FAIL}

    lines = spotcheck.choose_slots(scores, verdicts, 3, 1)

    assert [line.drawn for line in lines] == ["at random", "ranked", "ranked"]
    assert [line.why for line in lines] == ["judge and rule disagree", "nobody decided", "wrong"]
    assert [line.score.id for line in lines] == ["e0002", "e0003", "e0001"]


def test_a_sheet_of_no_slots_is_refused():
    with pytest.raises(SemError, match="a sheet of -5 slots"):
        spotcheck.choose_slots(column("+"), {}, -5, 1)


def test_half_of_the_sheet_is_drawn_at_random_from_what_was_judged():
    scores = column("+" * 40 + "-" * 60)
    verdicts = {
        (score.id, "title"): SlotVerdict("judged", number % 2 == 0, 1.0, "")
        for number, score in enumerate(scores)
    }

    lines = spotcheck.choose_slots(scores, verdicts, 20, 1)

    drawn = [line for line in lines if line.drawn == "at random"]
    assert len(drawn) == 10
    assert len({(line.score.id, line.slot) for line in lines}) == 20
    assert {line.why for line in lines if line.drawn == "ranked"} == {"judge and rule disagree"}


def test_critical_slots_come_before_others_and_strata_take_turns():
    first = one("a", marks={"title": "-", "price": "-"}, critical=("price",))
    other = one("b", marks={"title": "+"}, stratum="-|de")

    lines = spotcheck.choose_slots([first, other], {}, 3, 1)

    assert [(line.score.id, line.slot) for line in lines] == [
        ("b", "title"),
        ("a", "price"),
        ("a", "title"),
    ]


@dataclass
class FakeSubject:
    """A run that answered one example."""

    book: answers.AnswerFile
    examples: list[Example]
    split: str = "test"
    run: object = field(default_factory=lambda: type("Run", (), {"id": "r1"})())


@pytest.fixture
def subject(tmp_path):
    book = answers.answers_book(tmp_path, "test", {"format": "x"})
    book.open()
    text = '{"price":1,"title":"=HYPERLINK()"}'
    said = answers.Answer("b1", "product", text, "stop", 1, 1, 1, 1)
    files.write_rows(book.path, [vars(said)])
    reference = {"title": "Mug b1", "price": 4.5}
    return FakeSubject(book, [Example("b1", "product", "=cmd|page", reference)])


def test_no_cell_of_the_sheet_starts_a_formula(subject):
    lines = spotcheck.choose_slots([one("b1", marks={"title": "-", "price": "-"})], {}, 9, 1)

    rows = list(csv.DictReader(io.StringIO(spotcheck.format_spotcheck_csv(lines, subject))))

    assert [row["slot"] for row in rows] in (["title", "price"], ["price", "title"])
    assert all(row["input"] == "'=cmd|page" for row in rows)
    assert {row["candidate"] for row in rows} == {'"=HYPERLINK()"', "1"}
    assert not any(cell[:1] in "=+-@" for row in rows for cell in row.values() if cell)


@pytest.fixture
def shop(tmp_path):
    return fill(make_project(tmp_path / "work"), row("a1"), row("b1"))


def filled(folder, *lines: str):
    path = folder / "sheet.csv"
    path.write_text("id,slot,human_pass,correction,drawn\n" + "\n".join(lines) + "\n")
    return path


def test_a_filled_in_sheet_labels_and_corrects(shop, subject, tmp_path):
    known = {"b1": subject.examples[0]}
    path = filled(tmp_path, 'b1,title,no,"""Cup""",at random', "b1,price,Yes,,ranked", "b1,sku,,,")

    taken = spotcheck.take_sheet(path, shop.tasks, known)
    changed = spotcheck.keep_labels(shop, subject, taken, "2026-05-04T00:00:00+00:00")

    assert (taken.blank, changed) == (1, 1)
    human = calibration.read_human_labels(calibration.labels_path(shop.reports / "r1"))
    # What was ranked does not measure the judge.
    assert human == {("b1", "title"): False}
    assert taken.labels[("b1", "price")] == (True, "ranked")
    assert snapshot.list_held_out_ids(shop) == {"b1"}
    with store.open_store(shop.store) as opened:
        stored = {r.id: r for r in opened.rows()}
    assert stored["b1"].reference == '{"price":4.5,"title":"Cup"}'
    assert '"before":{"price":4.5,"title":"Mug b1"}' in stored["b1"].metadata
    assert stored["a1"].reference == '{"title": "Mug a1", "price": 4.5}'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("zz,title,yes,", "sheet.csv:2: no example 'zz'"),
        ("b1,title,maybe,", "human_pass 'maybe'"),
        ("b1,title,no,Cup", "correction 'Cup' is not JSON"),
        ("b1,title,no,7", "correction of b1"),
        ('b1,seller.name,no,"""x"""', "'seller.name' lies inside another field"),
    ],
)
def test_a_sheet_that_cannot_be_used_changes_nothing(shop, subject, tmp_path, line, message):
    with pytest.raises(SemError, match=message):
        spotcheck.take_sheet(filled(tmp_path, line), shop.tasks, {"b1": subject.examples[0]})


def test_the_backlog_says_why_and_lists_critical_failures_first(shop):
    scores = [
        one("a", marks={"title": "+"}),
        one("b", marks={"title": "-"}),
        one("c", marks={"title": "+", "price": "-"}, critical=("price",), finish="length"),
        one("d", marks={"title": "?"}),
    ]

    made = backlog.backlog_rows(scores, "r1", "test")
    backlog.update_backlog(shop, [{**made[0], "id": "old"}], "test")
    backlog.update_backlog(shop, [{**made[0], "id": "other", "split": "val"}], "val")
    backlog.update_backlog(shop, made, "test")

    assert [(row["id"], row["critical_failed"]) for row in made] == [("c", 1), ("b", 0), ("d", 0)]
    assert (made[0]["tags"], made[2]["tags"]) == (["length"], ["unscored"])
    assert backlog.count_tags(made)[0] == ("length", 1)
    kept = [row["id"] for row in files.read_rows(shop.reports / "backlog.jsonl")]
    assert kept == ["other", "c", "b", "d"]

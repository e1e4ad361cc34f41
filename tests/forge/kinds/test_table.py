"""TableForge: exact answers, recomputed by other means; windows; rewording."""

import json
from collections import Counter
from datetime import UTC, datetime
from fractions import Fraction

import pytest
from chatserver import ChatServer
from hypothesis import given, settings
from hypothesis import strategies as st

from sem.core.errors import SemError
from sem.core.project import Project
from sem.forge.base import ForgeConfig
from sem.forge.checks.pair_quality import Quality
from sem.forge.kinds import table_questions
from sem.forge.kinds.table import TableForge
from sem.forge.teacher import teacher as teachers
from sem.forge.teacher.presets import TeacherSettings
from sem.lm.api.provider import Calls, Price, Provider

SALES = "month,region,sales,note\n2026-01,north,10.10,a\n2026-02,south,20.20,b\n2026-03,north,5,\n"


def forge(tmp_path, ask=None, **params):
    (tmp_path / "raw").mkdir(exist_ok=True)
    config = ForgeConfig(Project("x", tmp_path), tmp_path / "raw", tmp_path, params, ask)
    return TableForge(config)


def put(tmp_path, **files):
    (tmp_path / "raw").mkdir(exist_ok=True)
    for name, text in files.items():
        (tmp_path / "raw" / name.replace("__", ".")).write_text(text, "utf-8")


def all_of(tmp_path, **params):
    made = forge(tmp_path, questions=50, **params)
    return {p.instruction: p.output["answer"] for p in made.synthesize(made.load())}, made


def test_a_time_series_is_asked_about_and_answered_exactly(tmp_path):
    put(tmp_path, sales__csv=SALES)
    found, made = all_of(tmp_path)

    assert found["What is the sum of `sales` over all rows?"] == "35.3"
    assert found["What is the mean of `sales`, rounded to 2 decimals?"] == "11.77"
    assert found["Which `month` has the greatest `sales`?"] == "2026-02"
    assert found["What is `region` where `month` is `2026-03`?"] == "north"
    assert found["How many rows have `sales` above `10.1`?"] == "1"
    assert found["By how much does `sales` change from `2026-01` to `2026-03`?"] == "-5.1"
    assert found["Is `sales` at `2026-03` higher, lower or the same as at `2026-01`?"] == "lower"
    assert found["At which `month` is the greatest fall of `sales` from row to row?"] == "2026-03"
    assert found["How many times does `sales` rise from one row to the next?"] == "1"
    assert not [q for q in found if "`note` where `month` is `2026-03`" in q]
    assert made.config.skipped == []


def test_a_pair_shows_its_rows_and_knows_them(tmp_path):
    put(tmp_path, sales__csv=SALES)
    made = forge(tmp_path, questions=1, columns={"sales": "in thousand euros"})
    (pair,) = made.synthesize(made.load())

    assert pair.input == (
        "sales: in thousand euros\n\n| month | region | sales | note |\n"
        "| --- | --- | --- | --- |\n"
        "| 2026-01 | north | 10.10 | a |\n| 2026-02 | south | 20.20 | b |\n"
        "| 2026-03 | north | 5 |  |"
    )
    assert pair.source == "sales.csv rows 1-3"
    assert pair.provenance["rows"] == [1, 3]


NUMBERS = st.decimals(-1000, 1000, places=2, allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(NUMBERS, st.sampled_from("ab")), min_size=3, max_size=9))
def test_every_answer_is_what_another_way_of_counting_gives(rows):
    given_rows = [{"k": f"r{n}", "v": str(v), "g": g} for n, (v, g) in enumerate(rows)]
    window = table_questions.make_window("t", "0", 1, given_rows, {})
    values = [Fraction(str(v)) for v, _ in rows]
    found = {a.question: a.answer for kind in table_questions.KINDS.values() for a in kind(window)}

    assert Fraction(found["What is the sum of `v` over all rows?"]) == sum(values)
    assert Fraction(found["What is the greatest `v`?"]) == max(values)
    mean = Fraction(found["What is the mean of `v`, rounded to 2 decimals?"])
    assert abs(mean - sum(values) / len(values)) <= Fraction(1, 200)
    for question, answer in found.items():
        if question.startswith("Which `k` has the greatest"):
            assert values.count(max(values)) == 1
            assert answer == f"r{values.index(max(values))}"
        if question.startswith("What is the sum of `v` where `g`"):
            group = question.split("`")[5]
            assert Fraction(answer) == sum(
                (v for v, (_, g) in zip(values, rows, strict=True) if g == group), Fraction()
            )
        if question.startswith("How many rows have `v` above"):
            assert int(answer) == sum(v > Fraction(question.split("`")[3]) for v in values)


def test_codes_and_ids_are_no_amounts():
    rows = [{"id": str(n), "zip": "01234", "n": v} for n, v in ((7, "3"), (9, "1"), (8, "5"))]
    window = table_questions.make_window("t", "0", 1, rows, {})

    assert list(window.numbers) == [2]
    assert window.key == 0


def test_two_greatest_values_are_not_asked_about():
    rows = [{"k": "a", "v": "2"}, {"k": "b", "v": "2"}, {"k": "c", "v": "1"}]

    assert [
        a.question
        for a in table_questions.extreme_questions(
            table_questions.make_window("t", "0", 1, rows, {})
        )
    ] == ["Which `k` has the smallest `v`?"]


def test_parquet_and_json_lines_are_read_and_faults_are_counted(tmp_path):
    import duckdb

    put(
        tmp_path,
        a__jsonl='{"k": "x", "v": 1.5}\n{"k": "y", "v": 2}\nno json\n[1]\n',
        b__csv="k,v\nonly,1\n",
        c__csv="k,v\n" + "x" * 300 + ",1\ny,2\n",
        d__parquet="not parquet",
        f__txt="x",
    )
    path = tmp_path / "raw" / "e.parquet"
    duckdb.sql(f"COPY (SELECT 'r' || i AS k, i * 0.5 AS v FROM range(4) t(i)) TO '{path}'")
    made = forge(tmp_path)
    windows = list(made.load())

    assert [w.name for w in windows] == ["a.jsonl rows 1-2", "e.parquet rows 1-4"]
    assert windows[1].column(1) == ["0", "0.5", "1", "1.5"]
    assert Counter(s["reason"].split(":")[0] for s in made.config.skipped) == {
        "unknown_kind": 1,
        "unreadable": 3,
        "one_row": 1,
        "long_cell": 1,
    }


def test_windows_follow_each_other_and_rows_beyond_the_limit_are_counted(tmp_path):
    put(tmp_path, t__csv="k,v\n" + "".join(f"r{n},{n}.5\n" for n in range(25)))
    made = forge(tmp_path, rows=10, max_rows=20)

    assert [w.name for w in made.load()] == ["t.csv rows 1-10", "t.csv rows 11-20"]
    assert made.config.skipped == [
        {"where": "t.csv", "what": "rows", "reason": "max_rows", "detail": "5 rows beyond"}
    ]


def test_the_same_seed_draws_the_same_questions_of_several_kinds(tmp_path):
    put(tmp_path, sales__csv=SALES)
    first, again = (
        [p.instruction for p in made.synthesize(made.load())]
        for made in (forge(tmp_path), forge(tmp_path))
    )
    kinds = {p.provenance["kind"] for p in forge(tmp_path).synthesize(forge(tmp_path).load())}

    assert first == again
    assert len(kinds) >= 4


def test_a_cell_cannot_leave_its_cell(tmp_path):
    rows = [{"k": "a|b\n| c", "v": "1"}, {"k": "x`y", "v": "2"}]

    assert table_questions.make_window("t", "0", 1, rows, {}).text.splitlines()[2:] == [
        "| a/b / c | 1 |",
        "| x'y | 2 |",
    ]


def test_a_rewording_that_loses_a_value_is_not_taken(tmp_path):
    put(tmp_path, sales__csv=SALES)

    def reword(body, number):
        asked_ = body["messages"][-1]["content"]
        good = {"question": f"Tell me: {asked_}"}
        return json.dumps(good if "sum" in asked_ else {"question": "What is it, please?"})

    with ChatServer(reword) as server:
        stub = Provider("openai/stub", api_base=server.url, price=Price(0, 0))
        ask = teachers.make_teacher(
            TeacherSettings(calls=Calls((stub,))), tmp_path, datetime(2026, 11, 21, tzinfo=UTC)
        )
        made = forge(tmp_path, ask, paraphrase=True, questions=8)
        pairs = list(made.synthesize(made.load()))

    told = Counter(p.provenance["reworded"] for p in pairs)
    assert told["lost_a_value"] > 0
    assert told[True] > 0
    for pair in pairs:
        assert ("Tell me" in pair.instruction) == (pair.provenance["reworded"] is True)
        assert ("prompt_sha256" in pair.provenance) == (pair.provenance["reworded"] is True)
        assert pair.instruction != "What is it, please?"


def test_the_checks_of_questions_that_fit_no_table_are_off(tmp_path):
    made = forge(tmp_path).checks(Quality())

    assert not made.near
    assert not made.faithful
    assert made.rules


def test_a_kind_that_is_none_is_said(tmp_path):
    put(tmp_path, sales__csv=SALES)
    made = forge(tmp_path, kinds=["sums"])
    with pytest.raises(SemError, match="kinds: sums"):
        list(made.load())

"""A file of pages to a file of answers: every row once, whatever ended the start before."""

import pytest

from sem import Expert
from sem.core import files, jsonio
from sem.core.errors import SemError
from sem.package.serve import predict
from sem.package.serve.predict import PredictOptions


@pytest.fixture(scope="module")
def expert(package_master):
    with Expert.load(package_master, verify=False) as loaded:
        yield loaded


@pytest.fixture
def pages(tmp_path):
    """Return a file of nine pages: one of them empty, one without an id, one twice."""
    rows = [{"id": f"p{n}", "html": f"<p>Mug {n}.50</p>"} for n in range(6)]
    rows += [
        {"id": "empty", "html": ""},
        {"html": "<p>Pot 9.00</p>"},
        {"id": "p0", "html": "<p>x"},
    ]
    path = tmp_path / "pages.jsonl"
    path.write_text("".join(jsonio.canonical_json(row) + "\n" for row in rows))
    return path


def run(expert, package, source, target, **options):
    options = {"batch": 3, **options}
    tallies = predict.predict_file(expert, package, source, target, PredictOptions(**options))
    return list(tallies)[-1]


def test_every_page_has_one_answer_and_the_rest_is_counted(
    expert, package_master, pages, tmp_path
):
    target = tmp_path / "answers.jsonl"
    tally = run(expert, package_master, pages, target)

    rows = list(files.read_rows(target))
    assert [row["id"] for row in rows][:6] == [f"p{n}" for n in range(6)]
    assert len({row["id"] for row in rows}) == len(rows) == 8
    assert (tally.answered, tally.earlier) == (8, 0)
    assert tally.refused == {"no_input": 1}
    assert tally.unread == {"id_twice": 1}
    assert list(files.read_rows(tmp_path / "answers.unread.jsonl")) == [
        {"reason": "id_twice", "row": "p0"}
    ]
    assert tally.tokens == sum(row["tokens_in"] + row["tokens_out"] for row in rows)


@pytest.mark.parametrize("cut", [0, 1, 3, 7])
def test_a_killed_start_is_gone_on_with_and_no_row_is_answered_twice(
    expert, package_master, pages, tmp_path, cut
) -> None:
    whole = tmp_path / "whole.jsonl"
    run(expert, package_master, pages, whole)
    target = tmp_path / "answers.jsonl"
    run(expert, package_master, pages, target, max_tokens=0)
    lines = whole.read_bytes().splitlines(keepends=True)
    # Killed within the line after `cut` whole ones.
    target.write_bytes(b"".join(lines[:cut]) + lines[cut][:20])
    tally = run(expert, package_master, pages, target)

    assert (tally.earlier, tally.answered) == (cut, 8 - cut)
    assert [row["id"] for row in files.read_rows(target)] == [
        row["id"] for row in files.read_rows(whole)
    ]


def test_a_budget_ends_between_batches_and_holds_over_starts(
    expert, package_master, pages, tmp_path
):
    target = tmp_path / "answers.jsonl"
    first = run(expert, package_master, pages, target, batch=1, max_tokens=1)
    second = run(expert, package_master, pages, target, batch=1, max_tokens=1)

    assert (first.answered, first.is_over_budget) == (1, True)
    assert (second.answered, second.earlier, second.is_over_budget) == (0, 1, True)


def test_answers_of_another_package_or_input_are_never_mixed(
    expert, package_master, pages, tmp_path
) -> None:
    target = tmp_path / "answers.jsonl"
    run(expert, package_master, pages, target, max_tokens=0)
    before = target.read_bytes()
    other = tmp_path / "other.jsonl"
    other.write_text('{"id": "q", "html": "<p>q"}\n')

    with pytest.raises(SemError, match="another input"):
        run(expert, package_master, other, target)
    with pytest.raises(SemError, match="another task"):
        run(expert, package_master, pages, target, task="price")
    assert target.read_bytes() == before


def test_a_column_can_be_mapped_and_a_table_be_read(expert, package_master, tmp_path) -> None:
    import duckdb

    source = tmp_path / "pages.parquet"
    duckdb.sql("SELECT 'a' AS name, '<p>Mug 1.50</p>' AS body").write_parquet(str(source))
    target = tmp_path / "answers.jsonl"
    tally = run(
        expert,
        package_master,
        source,
        target,
        columns={"id": "name", "input_text": "body"},
    )

    assert tally.answered == 1
    assert [row["id"] for row in files.read_rows(target)] == ["a"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("absent.jsonl", None, "no such file"),
        ("pages.txt", "x", "unknown kind of file"),
    ],
)
def test_an_input_that_cannot_be_read_leaves_no_answers(
    expert, package_master, tmp_path, name, content, words
) -> None:
    source, target = tmp_path / name, tmp_path / "answers.jsonl"
    if content is not None:
        source.write_text(content)

    with pytest.raises(SemError, match=words):
        run(expert, package_master, source, target)
    assert not target.exists() or not target.read_bytes()

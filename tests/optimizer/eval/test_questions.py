"""Questions and their answers, in whatever form they were written."""

import json
from pathlib import Path

import pytest

from sem.core.errors import SemError
from sem.optimizer.eval import questions
from sem.optimizer.eval.questions import ReferenceQuestion


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_rows_are_read_by_any_of_their_names(tmp_path: Path):
    path = lines(
        tmp_path / "q.jsonl",
        {"id": "a", "prompt": " What is 2 + 2? ", "reference": "4"},
        {"question": "Capital of France?", "answer": "Paris", "category": "maps"},
        {"vague": "list colours", "golden_answer": ["red", "blue"]},
        {"input": "how many", "answer": {"answer": 12}},
    )
    assert sorted(questions.load_questions(path, 9, 1), key=lambda one: one.id) == [
        ReferenceQuestion("a", "What is 2 + 2?", "4", "a"),
        ReferenceQuestion("row-0002", "Capital of France?", "Paris", "maps"),
        ReferenceQuestion("row-0003", "list colours", "red, blue", "row-0003"),
        ReferenceQuestion("row-0004", "how many", "12", "row-0004"),
    ]


def test_a_golden_set_is_read_and_its_files_are_families(shared: Path):
    path = shared / "data" / "forge" / "rust_book" / "golden" / "golden_set.json"
    found = questions.load_questions(path, 1000, 1)

    assert (len(found), len({one.family for one in found})) == (222, 93)
    assert all(one.prompt and one.reference for one in found)


def test_a_draw_is_the_same_for_the_same_seed(tmp_path: Path):
    rows = [{"prompt": f"p {n}", "answer": "a"} for n in range(30)]
    path = lines(tmp_path / "q.jsonl", *rows)
    drawn = [[one.id for one in questions.load_questions(path, 5, seed)] for seed in (1, 1, 2)]

    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 5


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"prompt": "a secret"}], "row 1 has no reference answer"),
        ([{"prompt": "p", "answer": "a"}, {"answer": "a secret"}], "row 2 has no prompt"),
        ([{"prompt": "p", "answer": {"a": "a secret", "b": "y"}}], "row 1 has no reference"),
        ([["a secret"]], "row 1 has no prompt"),
        ([{"id": 1, "prompt": "a secret", "answer": "a"}] * 2, "row 2: its id appears twice"),
        ([], "holds no question"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_and_not_quoted(tmp_path: Path, rows, said):
    with pytest.raises(SemError, match=said) as error:
        questions.load_questions(lines(tmp_path / "q.jsonl", *rows), 9, 1)
    assert "a secret" not in str(error.value)

"""Answers: fixed batches, resumable, never mixed."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from sem.core import files
from sem.core.errors import SemError
from sem.core.example import Example
from sem.eval.answers import answers
from sem.eval.config import EvalSettings
from sem.lm.local.generator import Completion, Prompt

SETTINGS = EvalSettings(batch=4, max_new_tokens=8)
PAIRS = [
    (Example(f"e{i:02}", "t", "x", {}, {"domain": f"d{i % 3}"}), Prompt((i, i), 8))
    for i in range(10)
]


class Counting:
    """A generator that answers with the batch it saw and may be killed."""

    def __init__(self, dies_at: int | None = None) -> None:
        self.calls: list[int] = []
        self.dies_at = dies_at

    def generate(self, prompts: Sequence[Prompt]) -> list[Completion]:
        if len(self.calls) == self.dies_at:
            raise KeyboardInterrupt
        self.calls.append(len(prompts))
        # What padding would do: depends on the batch.
        seen = sum(p.ids[0] for p in prompts)
        return [Completion(f"{p.ids[0]} of {seen}", "stop", 2) for p in prompts]


def finish(book: answers.AnswerFile, generator: Counting) -> dict[str, str]:
    for _ in answers.generate_missing_answers(book, PAIRS, generator, SETTINGS):
        pass
    return {name: row.text for name, row in answers.read_answers(book.path).items()}


def test_an_interrupted_generation_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    whole = finish(answers.answers_book(tmp_path / "a", "test", {"v": 1}), Counting())
    book = answers.answers_book(tmp_path / "b", "test", {"v": 1})
    with pytest.raises(KeyboardInterrupt):
        finish(book, Counting(dies_at=2))
    with book.path.open("ab") as file:
        # Killed in the middle of a row.
        file.write(b'{"id":"e09","te')
    again = Counting()
    assert finish(book, again) == whole
    assert again.calls == [2]


def test_half_a_batch_is_decoded_whole_and_written_once(tmp_path: Path) -> None:
    whole = finish(answers.answers_book(tmp_path / "a", "test", {"v": 1}), Counting())
    lines = (tmp_path / "a" / "answers.test.jsonl").read_bytes().splitlines(keepends=True)
    book = answers.answers_book(tmp_path / "b", "test", {"v": 1})
    book.open()
    book.path.write_bytes(b"".join(lines[:5]))
    again = Counting()
    assert finish(book, again) == whole
    assert again.calls == [4, 2]
    assert len(book.path.read_bytes().splitlines()) == 10


def test_answers_to_something_else_are_set_aside(tmp_path: Path) -> None:
    finish(answers.answers_book(tmp_path, "test", {"v": 1}), Counting())
    book = answers.answers_book(tmp_path, "test", {"v": 2})
    assert book.is_stale()
    assert book.open() == set()
    assert len(list(tmp_path.glob("answers.test.*.jsonl"))) == 1


def test_the_sample_is_even_over_domains_and_depends_on_the_seed_alone() -> None:
    pool = [example for example, _ in PAIRS]
    chosen = answers.sample_examples(pool, 6, seed=1)
    assert [e.domain for e in chosen].count("d0") == 2
    assert chosen == answers.sample_examples(list(reversed(pool)), 6, seed=1)
    assert answers.sample_examples(pool, None, 1) == pool


def taken(folder: Path, *rows: object) -> tuple[int, int, int]:
    path = folder / "strong.jsonl"
    files.write_rows(path, rows)
    return answers.take_answers(path, folder / "out.jsonl", {"a": "t", "b": "t"})


def test_answers_made_elsewhere_are_kept_and_counted(tmp_path):
    found = taken(tmp_path, {"id": "a", "candidate": {"x": 1}}, {"id": "z", "text": "?"})

    assert found == (1, 1, 1)
    assert answers.read_answers(tmp_path / "out.jsonl")["a"].text == '{"x":1}'


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "answers none of the 2 examples here"),
        ([{"id": "z", "text": "x"}], "answers none of the 2 examples here"),
        ([[1]], "strong.jsonl:1: no id or no candidate"),
        (["id candidate"], "strong.jsonl:1: no id or no candidate"),
        ([{"id": "a"}], "strong.jsonl:1: no id or no candidate"),
        ([{"id": "a", "text": "x", "tokens_in": "many"}], "is not a whole number"),
        # `true` was counted as one token.
        ([{"id": "a", "text": "x", "tokens_in": True}], "is not a whole number"),
    ],
)
def test_answers_made_elsewhere_that_cannot_be_used_write_nothing(tmp_path, rows, message):
    with pytest.raises(SemError, match=message):
        taken(tmp_path, *rows)
    assert not (tmp_path / "out.jsonl").exists()

"""Chunks: every character somewhere, limits held, ends where the text ends something."""

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sem.core.errors import SemError
from sem.forge.base import Document
from sem.forge.sources import chunks
from sem.forge.sources.chunks import Sizes

PROSE = ["word", "Ein Satz. ", "文章です。", "汉字没有空格", "...", "e.g. this", "؟ ", '."']
MARKS = ["# Title\n", "```\n", "~~~\n", "- item\n", "| a | b |\n", "---\n", "===\n", "1. one\n"]
SPACE = ["\r\n", "\n", "\n\n", "\r", "\f", "\t", " " * 30, "\u2028", "\x00"]
WORDS = st.sampled_from([*PROSE, *MARKS, *SPACE, "x" * 90, "e\u0301\u0301", "👩\u200d🚀", "["])
TEXTS = st.one_of(st.text(max_size=400), st.lists(WORDS, max_size=120).map("".join))
CUTS = st.builds(
    lambda most, share: Sizes(most, int(most * share)), st.integers(40, 300), st.floats(0, 0.5)
)


def document(text: str) -> Document:
    return Document("a/b.md", "f" * 64, text, "md")


def texts(text: str, most: int = 200, overlap: int = 0) -> list[str]:
    return [chunk.text for chunk in chunks.cut_chunks(document(text), Sizes(most, overlap)).chunks]


def sentences(count: int) -> str:
    return " ".join(f"Sentence number {n} says something." for n in range(count))


@settings(max_examples=400, deadline=None)
@given(TEXTS, CUTS)
def test_every_character_is_in_a_chunk_or_in_a_counted_skip(text, cut):
    made = chunks.cut_chunks(document(text), cut)

    assert made.missing(document(text)) == []
    for chunk in made.chunks:
        assert chunk.text == text[chunk.start : chunk.end]
        assert 0 < len(chunk.text) <= cut.max_chars
        assert chunk.text.strip()
    for skip in made.skips:
        assert not text[slice(*skip.span)].strip()
    starts = [chunk.start for chunk in made.chunks]
    ends = [chunk.end for chunk in made.chunks]
    assert starts == sorted(set(starts))
    assert ends == sorted(set(ends))


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.integers(40, 90))
def test_a_limit_in_tokens_holds_as_well(text, most):
    def tokens(value: str) -> int:
        return len(value.encode("utf-8")) // 2 + 1

    made = chunks.cut_chunks(document(text), Sizes(300, 40, max_tokens=most), tokens)

    assert made.missing(document(text)) == []
    assert all(tokens(chunk.text) <= most for chunk in made.chunks)


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_blocks_follow_each_other_without_a_gap(text):
    found = list(chunks.outline_blocks(text))

    assert [b.start for b in found[1:]] == [b.end for b in found[:-1]]
    assert not text or (found[0].start, found[-1].end) == (0, len(text))


def test_a_piece_that_is_lost_is_found():
    made = chunks.cut_chunks(document(sentences(20)), Sizes(200, 0))
    torn = chunks.DocumentChunks(made.chunks[:1] + made.chunks[2:])

    assert torn.missing(document(sentences(20))) == [(made.chunks[1].start, made.chunks[1].end)]


def test_chunks_end_with_sentences():
    made = texts(sentences(40))

    assert len(made) > 5
    assert all(text.rstrip().endswith("something.") for text in made)


def test_overlap_repeats_whole_sentences():
    made = texts(sentences(40), 300, 80)

    for before, after in pairwise(made):
        first = after[: after.index(".") + 1]
        assert first in before
        assert first.startswith("Sentence number")


def test_a_chunk_begins_with_a_heading_rather_than_ending_with_one():
    text = f"# One\n\n{sentences(4)}\n\n## Two\n\n{sentences(4)}\n\n## Three\n\n{sentences(4)}\n"
    made = chunks.cut_chunks(document(text), Sizes(260, 60)).chunks

    assert [chunk.text.splitlines()[0] for chunk in made] == ["# One", "## Two", "## Three"]
    assert [chunk.headings for chunk in made] == [(), ("One",), ("One",)]


def test_a_chunk_in_the_middle_of_a_section_knows_its_headings():
    text = f"# One\n\n## Two\n\n{sentences(30)}"
    made = chunks.cut_chunks(document(text), Sizes(300, 0)).chunks

    assert made[1].headings == ("One", "Two")


def test_code_that_fits_is_never_cut_and_longer_code_only_between_lines():
    code = "```rust\n" + "".join(f"let x{n} = {n}; // a. b. c\n" for n in range(10)) + "```\n"
    made = texts(f"{sentences(4)}\n\n{code}\n{sentences(4)}", 400)
    assert sum(code in text for text in made) == 1

    cut = texts(code * 1, 120)
    assert len(cut) > 1
    assert all(text.endswith("\n") for text in cut)


def test_a_hash_in_code_is_no_heading():
    text = f"# Real\n\n```sh\n# comment\nls\n```\n\n{sentences(20)}"

    assert chunks.cut_chunks(document(text), Sizes(200, 0)).chunks[-1].headings == ("Real",)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("See e.g. this one. And that one.", 2),
        ("Dr. Who came. He left.", 2),
        ("It costs 3.50 euros. Cheap!", 2),
        ("これは文です。次の文です。", 2),
        ("Wait... what? Yes.", 3),
        ('He said "no." Then he went.', 2),
        ("J. R. R. Tolkien wrote it. It is long.", 2),
    ],
)
def test_sentences_are_those_a_reader_sees(text, count):
    assert len(list(chunks._sentences(text, 0, len(text)))) == count


def test_a_line_of_a_million_letters_is_cut_within_the_limit():
    made = texts("x" * 1_000_000, 2_000)

    assert len(made) == 500
    assert "".join(made) == "x" * 1_000_000


def test_letters_with_marks_and_line_ends_are_not_torn():
    made = texts("e\u0301" * 300 + "\r\n" * 30, 41)

    assert not [text for text in made if re.match("[\u0301\n]", text)]


def test_a_letter_with_200_000_marks_costs_no_more_than_as_many_letters():
    # Looking for the start of such a letter at every cut took 26 s.
    made = texts("a" + "\u0301" * 200_000, 2_000)

    assert "".join(made) == "a" + "\u0301" * 200_000
    assert len(made) == 101


def test_a_long_blank_stretch_is_a_counted_skip():
    made = chunks.cut_chunks(document(f"One.\n{' ' * 500}\nTwo."), Sizes(100, 0))

    assert {skip.reason for skip in made.skips} == {"blank"}
    assert made.skips[0].as_json()["what"] == "span"


def test_the_same_bytes_give_the_same_ids():
    first, again = (chunks.cut_chunks(document(sentences(40))).chunks for _ in range(2))

    assert [chunk.id for chunk in first] == [chunk.id for chunk in again]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_chars": 10}, "max_chars: 10"),
        ({"overlap_chars": 1_001}, "overlap_chars: 1001"),
        ({"max_tokens": 3}, "max_tokens: 3"),
    ],
)
def test_limits_that_cannot_be_are_refused(values, message):
    with pytest.raises(SemError) as found:
        Sizes(**values)

    assert found.value.message == message

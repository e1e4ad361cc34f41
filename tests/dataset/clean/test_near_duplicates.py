"""Near-duplicates are found by their texts alone, exactly, and chains of them are one cluster."""

import random
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sem.dataset.clean import near_duplicates

CHANCE = random.Random(3)
WORDS = ["".join(CHANCE.choices(string.ascii_lowercase, k=6)) for _ in range(400)]


def text(seed: int, words: int = 120) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def edited(value: str, seed: int, share: float) -> str:
    chance = random.Random(seed)
    return " ".join(chance.choice(WORDS) if chance.random() < share else w for w in value.split())


def same_set(a: set[str], b: set[str]) -> float:
    return len(a & b) / len(a | b)


def plain(value: str) -> set[str]:
    folded = " ".join("".join(c if c.isalnum() else " " for c in value.casefold()).split())
    return {folded[n : n + 5] for n in range(max(1, len(folded) - 4))}


@given(st.integers(0, 999), st.floats(0, 0.5))
@settings(max_examples=40, deadline=None)
def test_the_index_is_the_jaccard_index_of_five_grams(seed, share):
    a = text(seed)
    b = edited(a, seed + 1, share)

    assert near_duplicates.text_similarity(a, b) == pytest.approx(same_set(plain(a), plain(b)))


@pytest.mark.parametrize(
    ("a", "b", "alike"),
    [
        ("Café, 12 €", "CAFE\u0301 12 €", 1.0),  # NFKC and case
        ("a b", "a  b!", 1.0),
        # Currency signs are content.
        ("1 €", "1 £", 0.0),
        ("", "", 0.0),
        # Nothing to compare is no likeness.
        ("?!", "?!", 0.0),
        ("abc", "abc", 1.0),  # shorter than a gram
        # a lone surrogate is no letter.
        ("\ud800 abcdef", "abcdef", 1.0),
    ],
)
def test_what_does_not_matter_and_what_does(a, b, alike):
    assert near_duplicates.text_similarity(a, b) == pytest.approx(alike)


def test_variants_are_found_among_many_and_others_are_not():
    base = [text(seed) for seed in range(300)]
    near = [edited(base[n], n, 0.02) for n in range(100)]

    found = near_duplicates.of_texts([*base, *near])

    want = {
        n: [n, 300 + n]
        for n in range(100)
        if near_duplicates.text_similarity(base[n], near[n]) >= 0.8
    }
    assert len(want) > 90
    assert found.members() == want


def test_a_chain_is_one_cluster():
    # Each is near the next one, the ends are not near each other.
    chain = [text(1)]
    while len(chain) < 6:
        chain.append(edited(chain[-1], len(chain), 0.03))

    found = near_duplicates.of_texts([text(2), *chain])

    assert near_duplicates.text_similarity(chain[0], chain[-1]) < 0.8
    assert found.members() == {1: [1, 2, 3, 4, 5, 6]}


def test_texts_without_letters_stay_alone():
    assert near_duplicates.of_texts(["", "  ", "!?", "!?"]).first == [0, 1, 2, 3]


def test_many_equal_texts_are_one_cluster_with_few_comparisons():
    found = near_duplicates.of_texts([text(1)] * 3_000)

    assert set(found.first) == {0}
    assert found.compared < 3_100


@pytest.mark.parametrize("threshold", [0.8, 0.6, 0.5, 0.3])
def test_bands_fit_the_threshold(threshold):
    count, width = near_duplicates.choose_band_shape(threshold)

    assert count * width == near_duplicates.MINIMA
    assert 1 - (1 - threshold**width) ** count >= near_duplicates.SEEN


def test_a_lower_threshold_joins_what_a_higher_one_does_not():
    pair = [text(1), edited(text(1), 5, 0.1)]
    assert 0.5 < near_duplicates.text_similarity(*pair) < 0.8

    assert near_duplicates.of_texts(pair, 0.8).members() == {}
    assert near_duplicates.of_texts(pair, 0.5).members() == {0: [0, 1]}

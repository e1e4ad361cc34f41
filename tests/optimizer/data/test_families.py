"""The families as they are shipped: good English, one meaning a prompt, enough of them."""

import re
from collections import Counter, defaultdict

import pytest
from paths import ROOT

from sem.core.errors import SemError
from sem.optimizer import layout
from sem.optimizer.data import families, pairs
from sem.optimizer.data.families import SubjectPhrase, TaskFamily

SHIPPED = families.load_families(ROOT)
PAIRS = [
    pair
    for family in SHIPPED
    for pair in pairs.pairs_of_family(family, pairs.load_phrasings(ROOT), pairs.PairAmounts())
]
SIX = {"code", "web", "data", "automation", "explanation", "general"}
# Vowels by letter that are none by sound, and the other way round.
SAID_YOU = re.compile(r"(?:u[ns]e|us[ae]|uni|uti|eu|one|once|SWOT|FAQ)", re.I)
# SQL, README and FAQ are words here, not letters.
SPELLED = re.compile(r"(?!SQL|README|FAQ)(?:[AEFHILMNORSX][A-Z]|hour|honest|iOS)")


def test_there_are_enough_of_them():
    assert len({family.category for family in SHIPPED}) >= 12
    assert {family.category for family in SHIPPED} >= SIX
    assert len({(pair.family, pair.subject) for pair in PAIRS}) >= 500
    assert len({pair.input for pair in PAIRS}) >= 2_000


def test_every_target_is_a_sound_layout_around_its_prompt():
    assert {p.id: f for p in PAIRS if (f := layout.find_rewrite_flaws(p.target, p.input))} == {}


def test_no_target_has_two_articles_or_an_unfilled_template():
    # "Act as a a(n) developer" stood in all 500 pairs of the first version.
    wrong = re.compile(r"\b(an?|the) (an?|the) |\(n\)|[{}|]|  | \.", re.I)

    assert [p.id for p in PAIRS if wrong.search(p.target.replace(f"Task: {p.input}\n", ""))] == []


@pytest.mark.parametrize("text", [p.target for p in PAIRS[::7]])
def test_an_article_fits_the_word_after_it(text):
    for article, word in re.findall(r"\b([Aa]n?) ([A-Za-z][\w-]*)", text):
        vowel = word[0].lower() in "aeiou"
        vowel = (vowel and not SAID_YOU.match(word)) or bool(SPELLED.match(word))
        assert article.lower() == ("an" if vowel else "a"), (article, word)


def test_few_prompts_mean_two_things():
    wanted = defaultdict(set)
    for pair in PAIRS:
        wanted[layout.fold_layout_text(pair.input).casefold()].add(pair.family)
    meant = Counter(map(len, wanted.values()))

    assert meant[2] < 20
    assert max(meant) <= 2


def test_a_verb_agrees_with_its_subject():
    one, many = (
        SubjectPhrase.parse("a query | for sales"),
        SubjectPhrase.parse("unit tests | for a cart"),
    )

    assert families.fill_template("{The} is fast and {the} works.", one) == (
        "The query is fast and the query works."
    )
    assert families.fill_template("{The} works. {S} has use.", many) == (
        "The unit tests work. Unit tests for a cart have use."
    )
    # An adverb in -s after "the" is no verb.
    assert (
        families.fill_template("reads {the} afterwards", many) == "reads the unit tests afterwards"
    )


def test_photosynthesis_is_one_thing():
    assert not SubjectPhrase.parse("photosynthesis").is_plural
    assert SubjectPhrase.parse("SQL and NoSQL").is_plural


def test_a_family_that_is_not_whole_is_refused():
    words = {"verbs": ("a",), "context": ("c",), "goal": ("g",), "details": ("d",)}
    parts = {"constraints": ("1", "2", "3"), "steps": ("1", "2", "3")}
    six = tuple("abcdef")

    with pytest.raises(SemError, match="family f: 5 different subjects"):
        TaskFamily("f", "a cook", subjects=(*six[:5], "a"), **words, **parts)
    with pytest.raises(SemError, match="persona 'cook' has no article"):
        TaskFamily("f", "cook", subjects=six, **words, **parts)

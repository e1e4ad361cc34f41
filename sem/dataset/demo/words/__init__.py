"""The words of the invented shops, one module per language, behind `speak`."""

from sem.dataset.demo.words import de, en, es, fr, it, ja, nl, pl, pt, sv
from sem.dataset.demo.words.base import Words

LANGUAGES: dict[str, Words] = {
    module.WORDS.code: module.WORDS for module in (de, en, es, fr, it, ja, nl, pl, pt, sv)
}


def speak(language: str) -> Words:
    """Return the words of `language`, a two-letter code."""
    return LANGUAGES[language]

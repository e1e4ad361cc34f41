"""A person in texts: an e-mail address, a phone number or a name, however it is spelled.

Phone numbers are the same when their last nine digits are, because the country code and the
leading zero are written or left out. A name is its words in either order, accents and case aside,
with nothing but punctuation and markup between them.
"""

import html
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote

from sem.core.errors import SemError

EMAIL = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
PHONE = re.compile(r"\+?\(?\d[\d\s()./\-\u00a0\u2010-\u2015]{5,30}\d")
WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
TAG = re.compile(r"<[^<>]{0,2000}>")
LEAST_DIGITS, SAME_DIGITS = 7, 9
FORMS = ("email", "phone", "name")


@dataclass(frozen=True)
class Person:
    """Whom to look for: the form of what was given, and it in one spelling."""

    form: str  # email | phone | name
    key: str

    @property
    def words(self) -> int:
        """Return how many words a name has; 1 for the other forms."""
        return len(self.key.split())


def parse_person(text: str) -> Person:
    """Return the Person `text` names.

    Raise SemError when it is too short to tell anybody apart.
    """
    text = " ".join(text.split())
    if EMAIL.fullmatch(text):
        return Person("email", _folded(text))
    digits = re.sub(r"\D", "", text)
    if digits and not WORD.search(text):
        if len(digits) >= LEAST_DIGITS:
            return Person("phone", digits[-SAME_DIGITS:])
        raise SemError(f"--person {text!r}: only {len(digits)} digits", "write it in full")
    words = [_folded(word) for word in WORD.findall(text)]
    if len(words) < 2:
        raise SemError(
            f"--person {text!r} is not an e-mail address, a phone number or a full name",
            "write a first and a last name: one word is many people",
        )
    return Person("name", " ".join(sorted(words)))


def readable_text(text: str) -> str:
    """Return `text` as a reader sees it: entities and %-escapes resolved, tags apart."""
    if "%" in text:
        text = unquote(text)
    if "&" in text:
        text = html.unescape(text)
    return TAG.sub(" ", text) if "<" in text else text


def mentions_person(text: str, person: Person) -> bool:
    """Return whether `text` names `person`, in what a reader sees or in an attribute."""
    return person.key in person_keys_in_text(text, person.form, person.words)


def person_keys_in_text(text: str, form: str, words: int = 1) -> Iterator[str]:
    """Yield the keys of everything in `text`, with markup and without, that could be one of
    `form`.
    """
    readable = readable_text(text)
    yield from find_person_keys(readable, form, words)
    if "<" in text:
        yield from find_person_keys(html.unescape(unquote(text)), form, words)


def find_person_keys(text: str, form: str, words: int = 1) -> Iterator[str]:
    """Yield everything in `text` that could be a person of `form`, in the spelling of
    `Person.key`.
    """
    if form == "email":
        yield from (_folded(match[0].strip(".")) for match in EMAIL.finditer(text))
    elif form == "phone":
        numbers = (re.sub(r"\D", "", match[0]) for match in PHONE.finditer(text))
        yield from (digits[-SAME_DIGITS:] for digits in numbers)
    else:
        named = [_folded(match[0]) for match in WORD.finditer(text)]
        runs = (named[start : start + words] for start in range(len(named) - words + 1))
        yield from (" ".join(sorted(run)) for run in runs)


def _folded(text: str) -> str:
    spelled = unicodedata.normalize("NFKD", text).casefold()
    return "".join(c for c in spelled if not unicodedata.combining(c))

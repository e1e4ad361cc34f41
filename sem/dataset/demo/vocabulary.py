"""The words of the invented shops: one file a language in words/, which `speak` reads."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sem.core import settings

Phrases = tuple[str, ...]
FOLDER = Path(__file__).parent / "words"


@dataclass(frozen=True)
class Department:
    """One department of a shop: its label and its product nouns."""

    label: str
    nouns: Phrases


@dataclass(frozen=True)
class ShopWords:
    """One language: product vocabulary, shop phrases, invented people and places."""

    code: str
    departments: dict[str, Department]
    titles: Phrases
    """Patterns over {brand}, {noun}, {model} and {colour}."""
    colours: Phrases
    materials: Phrases
    in_stock: Phrases
    out_of_stock: Phrases
    preorder: Phrases
    add: str
    notify: str
    reserve: str
    price: str
    old: str
    request: str
    vat: str
    shipping: str
    monthly: str
    prices_in: dict[str, str]
    """Currency code to a sentence that names the currency in words."""
    brand: str
    skus: Phrases
    colour: str
    material: str
    weight: str
    stars: str
    votes: str
    no_votes: str
    reviews: str
    related: str
    about: str
    made_by: str
    pitch: Phrases
    opinions: Phrases
    people: Phrases
    home: str
    search: str
    cart: str
    login: str
    help: str
    cookie: str
    accept: str
    news: str
    imprint: str
    terms: str
    privacy: str
    streets: Phrases
    cities: Phrases
    shown: str
    """The range a listing shows, over {a}, {b} and {n}."""
    next: Phrases
    previous: str
    sort: str
    found: str
    nothing: str
    subtotal: str
    checkout: str
    quantity: str
    email: str
    code_word: str
    """What the login form calls the secret."""
    forgot: str
    register: str
    hero: str
    featured: str
    info: tuple[Phrases, ...]
    """Information pages: a title and two paragraphs each."""


@cache
def load_shop_words(language: str) -> ShopWords:
    """Return the words of `language`, a two-letter code; KeyError when no file has them."""
    path = FOLDER / f"{language}.yaml"
    if not path.is_file():
        raise KeyError(language)
    return settings.load_settings(ShopWords, path)

"""What a language must be able to say on a shop's pages."""

from dataclasses import dataclass

Phrases = tuple[str, ...]


@dataclass(frozen=True)
class Words:
    """One language: product vocabulary, shop phrases, invented people and places."""

    code: str
    departments: dict[str, tuple[str, Phrases]]
    """Department key to its label and its product nouns."""
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

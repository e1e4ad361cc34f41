"""Invented products: brands, models and prices combine, so titles rarely repeat."""

from dataclasses import dataclass
from decimal import Decimal
from random import Random

from sem.dataset.demo.money import Market, market_price
from sem.dataset.demo.vocabulary import load_shop_words

FIRST = (
    "Bral",
    "Kesto",
    "Vandu",
    "Ferro",
    "Olmi",
    "Trask",
    "Nuvo",
    "Halde",
    "Quor",
    "Sibri",
    "Tarn",
    "Wexo",
    "Zell",
    "Ilma",
    "Pard",
)
SECOND = (
    "vik",
    "dane",
    "lith",
    "mara",
    "gard",
    "nox",
    "terra",
    "wick",
    "sson",
    "berg",
    "zano",
    "lune",
)
DOUBLE = (
    "Holm & Ravn",
    "Otter Lane",
    "Sette Rive",
    "Grau & Söhne",
    "Maison Aubrac",
    "Três Rios",
    "Blå Mil",
    "Port & Vale",
    "Casa Lunera",
    "Kessel 9",
)
MODELS = (
    "Trail",
    "Kestrel",
    "Aero",
    "Luma",
    "Vento",
    "Ridge",
    "Pico",
    "Nimbus",
    "Atlas",
    "Fjord",
    "Solo",
    "Terra",
    "Onda",
    "Juno",
    "Polar",
    "Cirro",
    "Delta",
    "Mistral",
)
SUFFIXES = (
    "40",
    "Pro",
    "II",
    "X2",
    "Mini",
    "320",
    "S",
    "55L",
    "Plus",
    "7",
    "XT",
    "1.5",
    "12",
    "One",
    "G3",
    "90",
)
BASES = {"outdoor": 120, "kitchen": 90, "audio": 240, "garden": 45, "office": 140, "bike": 70}
ENDINGS = ("0.99", "0.90", "0.95", "0.00", "0.50", "0.49")


@dataclass(frozen=True)
class Product:
    """One invented product; None where it has no such property."""

    department: str
    noun: str
    title: str
    brand: str | None
    price: Decimal | None
    old_price: Decimal | None
    sku: str
    rating: Decimal | None
    votes: int
    availability: str
    colour: str
    material: str
    weight_g: int


def draw_brands(rng: Random, count: int) -> tuple[str, ...]:
    """Return `count` brand names, some of two words."""
    names = [a + b for a in FIRST for b in SECOND] + list(DOUBLE) * 3
    return tuple(sorted(set(rng.sample(names, count))))


def draw_product(rng: Random, market: Market, stocked: "Assortment", title: str) -> Product:
    """Return one product of the shop's assortment, named after the shop's `title` pattern."""
    words = load_shop_words(market.language)
    department = rng.choice(stocked.departments)
    noun = rng.choice(words.departments[department].nouns)
    colour = rng.choice(words.colours)
    brand = rng.choice(stocked.brands) if rng.random() < 0.88 else None
    price = _price(rng, market, department)
    rated = rng.random() < 0.8
    return Product(
        department=department,
        noun=noun,
        title=_title(title, brand, noun, _model(rng), colour),
        brand=brand,
        price=None if rng.random() < 0.035 else price,
        old_price=_old(rng, market, price) if rng.random() < 0.4 else None,
        sku=_sku(rng, stocked.sku),
        rating=Decimal(rng.randint(28, 50)) / 10 if rated else None,
        votes=rng.randint(2, 480),
        availability=rng.choices(("InStock", "OutOfStock", "PreOrder"), (66, 22, 12))[0],
        colour=colour,
        material=rng.choice(words.materials),
        weight_g=rng.randrange(80, 6000, 10),
    )


@dataclass(frozen=True)
class Assortment:
    """What a shop sells, and how it numbers it."""

    departments: tuple[str, ...]
    brands: tuple[str, ...]
    sku: str


def _model(rng: Random) -> str:
    return f"{rng.choice(MODELS)} {rng.choice(SUFFIXES)}"


def _title(pattern: str, brand: str | None, noun: str, model: str, colour: str) -> str:
    title = pattern.format(brand=brand or "", noun=noun, model=model, colour=colour)
    return " ".join(title.split()).strip(" –,").replace(" ,", ",").replace("– –", "–")


def _price(rng: Random, market: Market, department: str) -> Decimal:
    factor = Decimal(str(round(rng.lognormvariate(0, 0.8), 3)))
    whole = max(3, int(BASES[department] * factor * market.rate))
    ending = Decimal("0.00") if market.whole else Decimal(rng.choice(ENDINGS))
    return market_price(Decimal(whole) + ending, market)


def _old(rng: Random, market: Market, price: Decimal) -> Decimal:
    return market_price(price * Decimal(rng.randint(108, 160)) / 100 + 1, market)


def _sku(rng: Random, pattern: str) -> str:
    """Return `pattern` with 9 as a digit and A as a letter, as `AA-9999`."""
    letters = "BCDFGHKLMNPRSTVWX"
    table = {"9": lambda: str(rng.randint(0, 9)), "A": lambda: rng.choice(letters)}
    return "".join(table[c]() if c in table else c for c in pattern)

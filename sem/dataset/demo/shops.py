"""Seventy-two invented shops: each has one template, one market and habits of its own."""

from dataclasses import dataclass

from sem.dataset.demo import catalogue, seeded
from sem.dataset.demo.catalogue import Assortment
from sem.dataset.demo.money import MARKETS, Market, Style
from sem.dataset.demo.vocabulary import ShopWords, load_shop_words

COUNT = 72
NAMES = (
    "alder",
    "brindle",
    "corva",
    "duna",
    "elkhorn",
    "fenwick",
    "gilda",
    "hexa",
    "isola",
    "juniper",
    "kolibri",
    "lumen",
    "mirto",
    "norden",
    "opal",
    "pinna",
    "quill",
    "rovere",
    "sable",
    "tinto",
    "umbra",
    "velo",
    "wren",
    "yarrow",
)
TRADES = ("shop", "store", "markt", "haus", "depot", "casa", "box", "lab", "werk")
SKUS = ("999999", "AA-9999", "A999-99", "99.999.99", "AAA9999", "99-A-999", "AA9999-9", "9999-AA")
NAMING = ("hashed", "bem", "short", "utility", "native", "hashed", "module", "bem", "plain")
# Class names in the shop's own language, as hand-made sites have them.
SPOKEN = {
    "de": {"title": "artikelname", "price": "preis", "stock": "lager", "sku": "artnr"},
    "fr": {"title": "nom-produit", "price": "prix", "stock": "dispo", "sku": "reference"},
    "es": {"title": "nombre", "price": "precio", "stock": "existencias", "sku": "referencia"},
    "it": {"title": "nome", "price": "prezzo", "stock": "disponibilita", "sku": "codice"},
    "pl": {"title": "nazwa", "price": "cena", "stock": "stan", "sku": "symbol"},
    "sv": {"title": "namn", "price": "pris", "stock": "lager", "sku": "artnr"},
    "nl": {"title": "naam", "price": "prijs", "stock": "voorraad", "sku": "artnr"},
    "pt": {"title": "nome", "price": "preco", "stock": "estoque", "sku": "codigo"},
    "ja": {"title": "shohin", "price": "kakaku", "stock": "zaiko", "sku": "hinban"},
    "en": {"title": "ttl", "price": "cost", "stock": "avail", "sku": "code"},
}
UTILITIES = (
    "flex",
    "mt-2",
    "text-sm",
    "font-semibold",
    "leading-6",
    "px-4",
    "text-gray-900",
    "items-center",
    "md:w-1/2",
    "tracking-tight",
    "rounded-lg",
    "mb-3",
)


@dataclass(frozen=True)
class Shop:
    """A shop and its habits; what it never shows is null in every reference."""

    host: str
    name: str
    template: str
    market: Market
    style: Style
    assortment: Assortment
    naming: str
    title: str
    clutter: int
    variant: int
    shows_sku: bool
    shows_rating: bool
    shows_stock: bool
    shows_brand: bool
    charset: str

    @property
    def words(self) -> ShopWords:
        return load_shop_words(self.market.language)

    def css(self, role: str) -> str:
        """Return the class attribute's value for `role`, as this shop names things."""
        code = seeded.seeded_hex(self.host, role)
        if self.naming == "hashed":
            return f"css-{code} e{code[:4]}{len(role) % 4}"
        if self.naming == "bem":
            return f"{self.name[:3].lower()}-page__{role}"
        if self.naming == "short":
            return f"{self.name[:2].lower()}{role[:1]}{code[:2]}"
        if self.naming == "utility":
            start = int(code, 16) % len(UTILITIES)
            return " ".join((UTILITIES * 2)[start : start + 3])
        if self.naming == "module":
            return f"{role.title()}_{role}__{code[:5]}"
        if self.naming == "native":
            return SPOKEN[self.market.language].get(role, f"{self.name[:4].lower()}-{code[:3]}")
        return role


def make_shops(seed: int, templates: tuple[str, ...]) -> tuple[Shop, ...]:
    """Return the shops of `seed`; each of the `templates` is used by several of them."""
    return tuple(_shop(seed, number, templates) for number in range(COUNT))


def _shop(seed: int, number: int, templates: tuple[str, ...]) -> Shop:
    rng = seeded.seeded_random(seed, "shop", number)
    turn = number // len(templates)
    market = MARKETS[(number * 5 + turn * 7) % len(MARKETS)]
    name = NAMES[number % len(NAMES)] + TRADES[(number + number // len(NAMES)) % len(TRADES)]
    title, branded = rng.choice(load_shop_words(market.language).titles), rng.random() < 0.7
    if branded and rng.random() < 0.4:
        title = title.replace("{brand}", "")
    host = f"{name}.example" if number % 3 else f"www.{name}-{market.language}.test"
    return Shop(
        host=host,
        name=name.title(),
        template=templates[number % len(templates)],
        market=market,
        style=Style(market, rng.choice(market.thousands), rng.choice(market.patterns)),
        assortment=Assortment(
            tuple(sorted(rng.sample(sorted(catalogue.BASES), 2))),
            catalogue.draw_brands(rng, 9),
            rng.choice(SKUS),
        ),
        naming=rng.choice(NAMING),
        title=title,
        clutter=1 + (number * 7 + turn) % 5,
        variant=rng.randrange(3),
        shows_sku=rng.random() < 0.8,
        shows_rating=rng.random() < 0.85,
        shows_stock=rng.random() < 0.88,
        shows_brand=branded,
        charset=_charset(rng.random(), market.language),
    )


def _charset(roll: float, language: str) -> str:
    """Return what the page declares; the text itself is Unicode already."""
    if roll < 0.75:
        return "utf-8"
    return {"ja": "Shift_JIS", "pl": "iso-8859-2"}.get(
        language, "windows-1252" if roll < 0.88 else "ISO-8859-1"
    )

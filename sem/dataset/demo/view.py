"""What one product page shows, in the shop's words, and the reference that follows from it."""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from html import escape
from random import Random
from typing import Any

from sem.dataset.demo import seeded
from sem.dataset.demo.catalogue import Product, draw_product
from sem.dataset.demo.money import NBSP
from sem.dataset.demo.shops import Shop
from sem.dataset.demo.vocabulary import ShopWords


@dataclass(frozen=True)
class View:
    """One product page's contents, escaped for HTML; "" stands for what is not shown."""

    shop: Shop
    product: Product
    rng: Random
    title: str
    brand: str
    """The brand where the page has a place for it; the title may name it as well."""
    sku: str
    price: str
    digits: str
    """The price without its currency."""
    amount: str
    """The price as a machine writes it, 1299.99."""
    old: str
    stock: str
    state: str
    """The schema.org name of the availability."""
    rating: str
    related: tuple[tuple[str, str, str], ...]
    """Title, price and link of other products: decoys."""

    @property
    def words(self) -> ShopWords:
        return self.shop.words

    @property
    def currency(self) -> str:
        return self.shop.market.currency

    @property
    def sign(self) -> str:
        return escape(self.shop.style.sign)

    @property
    def stars(self) -> str:
        """Return the rating as a sentence, or ""."""
        return self.words.stars.format(r=self.rating) if self.rating else ""

    @property
    def votes(self) -> str:
        return self.words.votes.format(n=self.product.votes)

    @property
    def button(self) -> str:
        """Return what the main button says.

        The same on every page of a shop that hides its stock.
        """
        if not self.stock:
            return self.words.add
        return {"OutOfStock": self.words.notify, "PreOrder": self.words.reserve}.get(
            self.state, self.words.add
        )

    def css(self, role: str) -> str:
        return self.shop.css(role)

    def money(self, amount: Decimal) -> str:
        """Return `amount` as this shop writes it."""
        return escape(self.shop.style.text(amount))


def product_view(shop: Shop, rng: Random) -> View:
    """Return a page of `shop` about one new product."""
    item = draw_product(rng, shop.market, shop.assortment, shop.title)
    price = item.price
    has_price = price is not None
    return View(
        shop=shop,
        product=item,
        rng=rng,
        title=escape(item.title, quote=False),
        brand=escape(item.brand or "") if shop.shows_brand else "",
        sku=item.sku if shop.shows_sku else "",
        price="" if price is None else escape(shop.style.text(price), quote=False),
        digits="" if price is None else escape(shop.style.digits(price), quote=False),
        amount="" if price is None else f"{price:.2f}",
        old=escape(shop.style.text(item.old_price), quote=False)
        if has_price and item.old_price
        else "",
        stock=_stock(shop, item, rng) if shop.shows_stock else "",
        state=item.availability,
        rating=_rating(shop, item) if shop.shows_rating else "",
        related=tuple(_related(shop, rng) for _ in range(rng.choice((1, 1, 2)))),
    )


def reference_from_view(view: View) -> dict[str, Any]:
    """Return what a careful reader takes from the page: shown values, null for the rest."""
    item, shop = view.product, view.shop
    return {
        "title": item.title,
        "price": float(item.price) if item.price is not None else None,
        "currency": view.currency if item.price is not None else None,
        "availability": item.availability if view.stock else None,
        "brand": item.brand,
        "sku": item.sku if shop.shows_sku else None,
        "rating": float(item.rating) if view.rating and item.rating else None,
    }


def _stock(shop: Shop, item: Product, rng: Random) -> str:
    words = shop.words
    phrases = {
        "InStock": words.in_stock,
        "OutOfStock": words.out_of_stock,
        "PreOrder": words.preorder,
    }[item.availability]
    return rng.choice(phrases).format(n=rng.randint(2, 9), d=rng.randint(2, 6))


def _rating(shop: Shop, item: Product) -> str:
    if item.rating is None:
        return ""
    text = f"{item.rating:.1f}"
    return (
        text if shop.market.decimal == "." or not shop.market.decimal else text.replace(".", ",")
    )


def _related(shop: Shop, rng: Random) -> tuple[str, str, str]:
    other = draw_product(rng, shop.market, shop.assortment, shop.title)
    amount = other.price if other.price is not None else Decimal(rng.randint(9, 400))
    price = escape(shop.style.text(amount), quote=False).replace(NBSP, "&nbsp;")
    return (
        escape(other.title, quote=False),
        price,
        product_link(shop, other.title, rng.randint(0, 9)),
    )


def product_link(shop: Shop, title: str, digit: int) -> str:
    """Return the address of another product.

    Its words in some shops, else a number ending in `digit`.
    """
    if shop.variant == 0:
        return f"/p/{slugify_title(title)}-{digit}"
    return f"/p/{100 + int(seeded.seeded_hex(title), 16) % 900}{digit}"


def slugify_title(title: str) -> str:
    """Return `title` as the last part of an address."""
    plain = unicodedata.normalize("NFKD", title.replace("ł", "l").replace("ß", "ss"))
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    dashed = "".join(c.lower() if c.isascii() and c.isalnum() else "-" for c in plain)
    return "-".join(part for part in dashed.split("-") if part)[:60] or "item"


# What a template returns: markup for the page's body and, for some, for its head.


@dataclass(frozen=True)
class Body:
    """The main part of a page."""

    main: str
    head: str = ""


Template = Callable[[View], Body]

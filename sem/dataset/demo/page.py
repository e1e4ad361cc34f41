"""A whole page: address line, head, header, content, footer, clutter."""

from dataclasses import dataclass
from random import Random
from typing import Any

from sem.dataset.demo import blocks, clutter, listing, seeded, spoil
from sem.dataset.demo.shops import Shop
from sem.dataset.demo.templates import TEMPLATES, Body
from sem.dataset.demo.view import View, product_view, reference, slug

EXTRACTOR, CLASSIFIER = "productpage_extractor", "navpage_classifier"
NAV_SHARES = {
    "listing": 38,
    "search_results": 22,
    "product": 10,
    "home": 9,
    "cart": 7,
    "info": 7,
    "login": 7,
}


@dataclass(frozen=True)
class Page:
    """One page of a shop and what the strong model is to say about it."""

    shop: Shop
    task: str
    kind: str
    path: str
    html: str
    reference: dict[str, Any]

    @property
    def url(self) -> str:
        return f"https://{self.shop.host}{self.path}"

    @property
    def prompt(self) -> str:
        return f"URL: {self.url}\n\n{self.html}"


def make(seed: int, shop: Shop, number: int) -> Page:
    """Page `number` of `shop`: every fourth is for the classifier."""
    rng = seeded.seeded_random(seed, shop.host, number)
    if number % 4 != 3:
        return _product(shop, rng, EXTRACTOR)
    kind = rng.choices(tuple(NAV_SHARES), tuple(NAV_SHARES.values()))[0]
    return _product(shop, rng, CLASSIFIER) if kind == "product" else _nav(shop, rng, kind)


def _product(shop: Shop, rng: Random, task: str) -> Page:
    view = product_view(shop, rng)
    body, own = TEMPLATES[shop.template](view), blocks.heading(shop)
    path = (
        f"/p/{slug(view.product.title)}",
        f"/product/{rng.randint(1000, 99999)}",
        f"/{slug(view.product.noun)}/{slug(view.product.title)}.html",
    )[shop.variant]
    answer = reference(view) if task == EXTRACTOR else listing.listing_reference("product")
    main = body.main.replace("<h1", f"<{own}").replace("</h1>", f"</{own}>")
    html = _whole(shop, rng, _tab(view), Body(main, body.head))
    return Page(shop, task, "product", path, html, answer)


def _tab(view: View) -> str:
    """Return the text for the browser's tab: often, not always, the product's title."""
    label = view.words.departments[view.product.department][0]
    kinds = (view.title, f"{label} – {view.product.noun}", view.title, label, view.title)
    return kinds[(view.shop.clutter + view.shop.variant) % len(kinds)]


def _nav(shop: Shop, rng: Random, kind: str) -> Page:
    nav = listing.listing_page(shop, rng, kind)
    html = _whole(shop, rng, nav.title, Body(nav.main))
    return Page(shop, CLASSIFIER, kind, nav.path, html, nav.reference)


def _whole(shop: Shop, rng: Random, title: str, body: Body) -> str:
    meta = (
        f'<meta charset="{shop.charset}">'
        if shop.variant
        else f'<meta http-equiv="Content-Type" content="text/html; charset={shop.charset}">'
    )
    html = (
        f"{'<!DOCTYPE html>' if shop.clutter != 2 else ''}\n"
        f'<html lang="{shop.market.locale if shop.variant else shop.market.language}">\n<head>\n'
        f"{meta}\n<title>{title} | {shop.name}</title>\n"
        f'<meta name="viewport" content="width=device-width">\n{body.head}'
        f"{clutter.clutter_head(shop, rng)}\n</head>\n<body>\n{clutter.before(shop, rng)}\n"
        f"{blocks.header(shop, rng)}\n{body.main}\n{blocks.footer(shop, rng)}\n"
        f"{clutter.after(shop, rng)}\n</body>\n</html>\n"
    )
    roll = rng.random()
    if roll < 0.08:
        return spoil.spoil(html, rng)
    return spoil.shout(html) if roll < 0.10 else html

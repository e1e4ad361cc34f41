"""Pages that are not about one product: listings, search, home, cart, information, login."""

from dataclasses import dataclass, replace
from decimal import Decimal
from html import escape
from random import Random
from typing import Any

from sem.dataset.demo import seeded
from sem.dataset.demo.catalogue import Product, draw_product
from sem.dataset.demo.shops import Shop
from sem.dataset.demo.view import product_link, slugify_title

KINDS = ("listing", "search_results", "home", "cart", "info", "login")
ADDRESSES = (
    "{base}?page={n}",
    "{base}?sort=new&p={n}",
    "{base}/page/{n}/",
    "{base}/{n}.html",
    "https://{host}{base}?seite={n}",
    "{base};start={n}0",
)


@dataclass(frozen=True)
class Nav:
    """A page's path, body and reference."""

    path: str
    title: str
    main: str
    reference: dict[str, Any]


def listing_page(shop: Shop, rng: Random, kind: str) -> Nav:
    """Return a page of `shop` of one of KINDS."""
    return {
        "listing": _category,
        "search_results": _search,
        "home": _home,
        "cart": _cart,
        "info": _info,
        "login": _login,
    }[kind](shop, rng)


def listing_reference(
    kind: str, following: str | None = None, count: int | None = None
) -> dict[str, Any]:
    """Return the reference for a page: counts and next pages belong to lists of products only."""
    return {
        "page_type": kind,
        "is_product_listing": kind in {"listing", "search_results"} and bool(count),
        "next_page_url": following,
        "item_count": count,
    }


def _category(shop: Shop, rng: Random) -> Nav:
    department = rng.choice(shop.assortment.departments)
    label = shop.words.departments[department].label
    base = (f"/c/{department}", f"/{slugify_title(label)}", f"/shop/{department}/all")[
        shop.variant
    ]
    heading = f'<h1 class="{shop.css("h1")}">{label}</h1>'
    return _listed(_only(shop, department), rng, "listing", base, label, heading)


def _search(shop: Shop, rng: Random) -> Nav:
    department = rng.choice(shop.assortment.departments)
    noun = rng.choice(shop.words.departments[department].nouns)
    text = shop.words.found.format(q=escape(noun, quote=False))
    heading = (
        f"<h1>{text}</h1>",
        f'<p class="{shop.css("found")}">{text}</p>',
        f'<input name="q" value="{escape(noun)}"><h2>{text}</h2>',
    )[shop.variant]
    base = f"/s/{slugify_title(noun)}"
    if rng.random() < 0.12:
        main = f"{heading}<p>{shop.words.nothing}</p>"
        return Nav(base, noun, main, listing_reference("search_results", None, 0))
    return _listed(_only(shop, department), rng, "search_results", base, noun, heading)


def _only(shop: Shop, department: str) -> Shop:
    """Return `shop` as if it sold nothing but `department`.

    The navigation is drawn from the whole shop.
    """
    return replace(shop, assortment=replace(shop.assortment, departments=(department,)))


def _listed(shop: Shop, rng: Random, kind: str, base: str, title: str, heading: str) -> Nav:
    count, here = rng.randint(4, 8), rng.choice((1, 1, 1, 2, 3, 5))
    address = ADDRESSES[(shop.clutter + shop.variant) % len(ADDRESSES)]
    more = rng.random() < 0.72

    def turn(n: int) -> str:
        return address.format(base=base, host=shop.host, n=n)

    following = turn(here + 1) if more else None
    cards = [
        _card(shop, draw_product(rng, shop.market, shop.assortment, shop.title), number)
        for number in range(count)
    ]
    pager = _pager(shop, here, turn, more)
    total = (here - 1) * count + count + (rng.randint(1, 90) if more else 0)
    summary = shop.words.shown.format(a=(here - 1) * count + 1, b=here * count, n=total)
    main = (
        f'{heading}<div class="{shop.css("bar")}"><span>{summary}</span> <select><option>'
        f"{shop.words.sort}</option></select></div>{_grid(shop, cards)}{pager}"
    )
    path = base if here == 1 else turn(here).removeprefix(f"https://{shop.host}")
    return Nav(path, title, main, listing_reference(kind, following, count))


def _card(shop: Shop, item: Product, number: int) -> str:
    c = shop.css
    title = escape(item.title, quote=False)
    price = escape(shop.style.text(item.price), quote=False) if item.price else shop.words.request
    to = product_link(shop, item.title, number)
    shape = (shop.variant + shop.clutter) % 4
    if shape == 0:
        return (
            f'<article class="{c("tile")}"><a href="{to}"><h3>{title}</h3></a>'
            f"<p>{price}</p></article>"
        )
    if shape == 1:
        return f'<td><a href="{to}">{title}</a><br><font color="#900">{price}</font></td>'
    if shape == 2:
        return (
            f'<div class="{c("cell")}" data-id="{seeded.seeded_hex(to)}"><a href="{to}" '
            f'title="{escape(item.title)}"><img alt="" loading="lazy" src="/t/{number}.jpg">'
            f'</a><div><a href="{to}">{title}</a></div><div><b>{price}</b></div></div>'
        )
    return (
        f'<li class="{c("item")}"><a href="{to}"><span>{title}</span> '
        f'<span class="{c("price")}">{price}</span></a></li>'
    )


def _grid(shop: Shop, cards: list[str]) -> str:
    shape = (shop.variant + shop.clutter) % 4
    if shape == 1:
        rows = ["".join(cards[n : n + 3]) for n in range(0, len(cards), 3)]
        return "<table>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>"
    if shape == 3:
        return f'<ul class="{shop.css("grid")}">{"".join(cards)}</ul>'
    return f'<div class="{shop.css("grid")}">{"".join(cards)}</div>'


def _pager(shop: Shop, here: int, turn: Any, more: bool) -> str:
    """Links to pages; the next one is a word, a mark or a relation, never always the same."""
    w = shop.words
    back = f'<a href="{escape(turn(here - 1))}">{w.previous}</a> ' if here > 1 else ""
    label = w.next[shop.variant]
    ahead = escape(turn(here + 1))
    if not more:
        ends = f"<span>{here}</span> <span>{label}</span>"
        return f'<div class="{shop.css("pager")}">{back}{ends}</div>'
    shape = shop.clutter % 4
    if shape == 0:
        links = f'{back}<b>{here}</b> <a href="{ahead}">{label}</a>'
        return f'<nav class="{shop.css("pager")}">{links}</nav>'
    if shape == 1:
        return (
            f'<ul class="{shop.css("pages")}"><li>{back}</li><li>{here}</li><li><a href="{ahead}">'
            f'{here + 1}</a></li><li><a rel="next" href="{ahead}" aria-label="{label}">&gt;</a>'
            "</li></ul>"
        )
    if shape == 2:
        return f'<p align="right">{back}| <a href="{ahead}">{label}</a></p>'
    return (
        f'<div class="{shop.css("load")}"><a role="button" class="{shop.css("more")}" '
        f'href="{ahead}">{label}</a></div>{back}'
    )


def _home(shop: Shop, rng: Random) -> Nav:
    w = shop.words
    cards = [
        _card(shop, draw_product(rng, shop.market, shop.assortment, shop.title), n)
        for n in range(rng.randint(2, 4))
    ]
    doors = "".join(
        f'<a href="/c/{key}">{w.departments[key].label}</a> ' for key in sorted(w.departments)
    )
    main = (
        f'<section class="{shop.css("hero")}"><h2>{w.hero}</h2><p>{rng.choice(w.pitch)}</p>'
        f"</section><p>{doors}</p><h3>{w.featured}</h3>{_grid(shop, cards)}"
    )
    return Nav(
        "/" if rng.random() < 0.5 else "/index.html", w.home, main, listing_reference("home")
    )


def _cart(shop: Shop, rng: Random) -> Nav:
    w, lines, total = shop.words, [], Decimal(0)
    for _ in range(rng.randint(1, 3)):
        item = draw_product(rng, shop.market, shop.assortment, shop.title)
        price_number = item.price or Decimal(10)
        total += price_number
        price = escape(shop.style.text(price_number), quote=False)
        lines.append(
            f"<tr><td>{escape(item.title, quote=False)}</td><td>{w.quantity} 1</td>"
            f"<td>{price}</td></tr>"
        )
    main = (
        f'<h1>{w.cart}</h1><table class="{shop.css("cart")}">{"".join(lines)}</table>'
        f"<p>{w.subtotal}: {escape(shop.style.text(total), quote=False)}</p>"
        f'<a class="{shop.css("cta")}" href="/checkout">{w.checkout}</a>'
    )
    return Nav(
        rng.choice(("/cart", "/basket/", "/checkout/cart")),
        w.cart,
        main,
        listing_reference("cart"),
    )


def _info(shop: Shop, rng: Random) -> Nav:
    title, *paragraphs = rng.choice(shop.words.info)
    body = "".join(f"<p>{text}</p>" for text in paragraphs)
    extra = "".join(f"<p>{text}</p>" for text in rng.sample(shop.words.pitch, 2))
    main = f'<div class="{shop.css("cms")}"><h1>{title}</h1>{body}{extra}</div>'
    return Nav(f"/info/{slugify_title(title)}", title, main, listing_reference("info"))


def _login(shop: Shop, rng: Random) -> Nav:
    w = shop.words
    fields = (
        f'<label>{w.email} <input type="email" name="u"></label>'
        f'<label>{w.code_word} <input type="password" name="p"></label>'
    )
    extra = f'<p><a href="/reset">{w.forgot}</a></p>' if rng.random() < 0.7 else ""
    main = (
        f'<div class="{shop.css("login")}"><h1>{w.login}</h1><form method="post">{fields}'
        f'<button>{w.login}</button></form>{extra}<a href="/signup">{w.register}</a></div>'
    )
    return Nav(
        rng.choice(("/login", "/account/sign-in", "/my")),
        w.login,
        main,
        listing_reference("login"),
    )

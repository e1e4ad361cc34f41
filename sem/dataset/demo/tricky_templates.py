"""Templates that mislead a hasty reader: split digits, bare numbers, old prices and decoys."""

import re
from dataclasses import replace
from decimal import Decimal

from sem.dataset.demo.blocks import (
    html_if_present,
    render_breadcrumbs,
    render_details,
    render_related_products,
    render_reviews,
)
from sem.dataset.demo.money import market_price
from sem.dataset.demo.view import Body, View

BARE = re.compile(r"&nbsp;|[^\d.,'’ ]")


def split_price(v: View) -> Body:
    """Whole part, decimals and currency in elements of their own."""
    w, c = v.words, v.css
    whole, mark, cents = v.digits, "", ""
    if not v.shop.market.whole and v.digits:
        whole, mark, cents = v.digits[:-3], v.digits[-3], v.digits[-2:]
    parts = (
        f'<span class="{c("sym")}">{v.sign}</span><span class="{c("int")}">{whole}'
        f'<span class="{c("dec")}">{mark}</span></span>'
        + html_if_present(cents, f'<sup class="{c("fra")}">{cents}</sup>')
    )
    return Body(
        f'<div id="dp">{render_breadcrumbs(v)}<h1 class="{c("t")}"><span>{v.title}</span></h1>'
        + html_if_present(v.brand, f'<a class="{c("byline")}" href="/b">{w.brand}: {v.brand}</a>')
        + html_if_present(
            v.stars, f'<i class="a-icon"><span>{v.stars}</span></i> <a href="#r">{v.votes}</a>'
        )
        + f'<div class="{c("box")}">{parts if v.price else w.request}'
        + html_if_present(v.old, f" <span>{w.old} <s>{v.old}</s></span>")
        + f"</div>{_monthly(v)}{html_if_present(v.stock, f'<div><b>{v.stock}</b></div>')}"
        f'<input type="button" value="{v.button}">{render_details(v)}'
        + html_if_present(v.sku, f"<ul><li>{w.skus[3]} : {v.sku}</li></ul>")
        + f"{render_reviews(v)}</div>{render_related_products(v)}"
    )


def currency_word(v: View) -> Body:
    """Return a bare number; a sentence elsewhere names the currency in words."""
    w, c = v.words, v.css
    return Body(
        f'<div class="{c("sheet")}"><h1>{v.title}</h1><div class="{c("row")}">'
        f'<span class="{c("k")}">{w.price}</span><span class="{c("v")}">'
        f"{v.digits or w.request}</span></div>"
        + html_if_present(
            v.brand, f'<div class="{c("row")}"><span>{w.brand}</span><span>{v.brand}</span></div>'
        )
        + html_if_present(
            v.sku, f'<div class="{c("row")}"><span>{w.skus[0]}</span><span>{v.sku}</span></div>'
        )
        + html_if_present(
            v.rating,
            f'<div class="{c("row")}"><span>{w.reviews}</span><span>{v.rating}/5</span></div>',
        )
        + html_if_present(v.stock, f'<div class="{c("row")}"><span>{v.stock}</span></div>')
        + f"<button>{v.button}</button></div>{render_details(v)}"
        + html_if_present(
            v.price, f'<p class="{c("fine")}">{w.prices_in[v.currency]} ({w.vat})</p>'
        )
        + render_reviews(v)
        + render_related_products(_bare(v))
    )


def sale_first(v: View) -> Body:
    """Return the crossed-out price first and larger; a stale one is hidden beside it."""
    w, c = v.words, v.css
    stale = v.money(_times(v, "1.31"))
    was = (
        f'<div class="{c("was")}" style="font-size:2em;text-decoration:line-through">{v.old}</div>'
    )
    return Body(
        f'<section class="{c("deal")}">{html_if_present(v.brand, f"<h3>{v.brand}</h3>")}<h1>{v.title}</h1>'
        + html_if_present(v.old, was)
        + f'<div style="display:none" class="{c("price")}">{stale}</div>'
        f'<div class="{c("now")}">{v.price or w.request}</div>'
        + html_if_present(v.old, f"<div>-{_percent(v)} %</div>")
        + html_if_present(v.stock, f"<div>{v.stock}</div>")
        + f"<button>{v.button}</button>{_monthly(v)}"
        + html_if_present(v.stars, f"<p>{v.stars} | {v.votes}</p>")
        + html_if_present(v.sku, f'<p class="{c("sku")}">{w.skus[1]}: {v.sku}</p>')
        + f"</section>{render_details(v)}{render_reviews(v)}{render_related_products(v)}"
    )


def decoys_first(v: View) -> Body:
    """Other products and their prices stand above the product itself."""
    w, c = v.words, v.css
    return Body(
        f'{render_related_products(v)}{render_breadcrumbs(v)}<div class="{c("detail")}"><div class="{c("name")}">'
        f"<h1>{v.title}</h1></div>"
        + html_if_present(
            v.sku,
            f'<div class="{c("sku")}">({v.sku})</div>'
            if v.shop.variant == 0
            else f'<div class="{c("sku")}">{w.skus[0]} {v.sku}</div>',
        )
        + html_if_present(v.brand, f"<p>{w.brand} <a href='/x'>{v.brand}</a></p>")
        + f"{render_details(v)}{html_if_present(v.stars, f'<p>{v.stars}</p>')}"
        f'<div class="{c("buybox")}"><table><tr><td>{html_if_present(v.old, f"<s>{v.old}</s><br>")}'
        f"{v.price or w.request}</td><td>{v.stock}</td></tr></table>"
        f"<button>{v.button}</button></div></div>{render_reviews(v)}"
    )


def variants_form(v: View) -> Body:
    """Return a form: the checked variant carries the price, its neighbours cost something else."""
    w, c = v.words, v.css
    option = '<label><input type="radio" name="v" value="{}"{}> {} – {}</label>'
    sizes = ("S", "M", "L") if v.shop.variant else ("250", "500", "750")
    prices = (v.money(_times(v, "0.85")), v.price, v.money(_times(v, "1.2")))
    rows = "<br>".join(
        option.format(n, " checked" if n == 1 else "", size, price)
        for n, (size, price) in enumerate(zip(sizes, prices, strict=True))
    )
    big = f'<output class="{c("sum")}">{v.price}</output>'
    return Body(
        f'{render_breadcrumbs(v)}<form action="/basket" method="post" class="{c("form")}"><fieldset>'
        f"<legend>{v.title}</legend>"
        + html_if_present(
            v.brand, f'<input type="hidden" name="b"><span>{w.brand} {v.brand}</span><br>'
        )
        + (rows if v.price else f"<p>{w.request}</p>")
        + f"</fieldset>{html_if_present(v.price, big)} {html_if_present(v.old, f'<s>{v.old}</s>')}"
        + html_if_present(v.stock, f'<span class="{c("stock")}">{v.stock}</span>')
        + f'<label>{w.quantity} <input type="number" value="1"></label><button>{v.button}</button>'
        + html_if_present(v.sku, f'<p class="{c("id")}"><label>{w.skus[2]}</label> {v.sku}</p>')
        + f"</form>{html_if_present(v.stars, f'<p>{v.stars}</p>')}{render_details(v)}{render_reviews(v)}{render_related_products(v)}"
    )


def _times(v: View, factor: str) -> Decimal:
    return market_price((v.product.price or Decimal(50)) * Decimal(factor), v.shop.market)


def _percent(v: View) -> int:
    if not (v.product.old_price and v.product.price):
        return 0
    return int(100 - 100 * v.product.price / v.product.old_price)


def _monthly(v: View) -> str:
    if not v.price:
        return ""
    return f"<small>{v.words.monthly.format(n=3, p=v.money(_times(v, '0.3334')))}</small>"


def _bare(v: View) -> View:
    """V with related prices as bare numbers, so that words alone name the currency."""
    return replace(v, related=tuple((t, BARE.sub("", p).strip(" ."), u) for t, p, u in v.related))

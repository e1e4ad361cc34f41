"""Parts that product pages share: header, breadcrumbs, details, reviews, related, footer."""

from html import escape
from random import Random

from sem.dataset.demo import seeded
from sem.dataset.demo.shops import Shop
from sem.dataset.demo.view import View

STAR = (
    '<svg class="s" viewBox="0 0 24 24">'
    '<path d="M12 2l3 7h7l-5.5 4.5L18 21l-6-4-6 4 1.5-7.5L2 9h7z"/></svg>'
)
# Not every shop has read the HTML book.
HEADINGS = ("h1", "h2", "h1", "div", "strong")


def html_if_present(value: object, html: str) -> str:
    """Return HTML when there is a `value` to show, else nothing."""
    return html if value else ""


def title_element(shop: Shop) -> str:
    """Return the element in which this shop puts a product's title."""
    return HEADINGS[sum(map(ord, shop.host)) % len(HEADINGS)]


def render_header(shop: Shop, rng: Random) -> str:
    """Shop name, short navigation and basket; three markups."""
    w, c = shop.words, shop.css
    name = shop.name if title_element(shop) == "h1" else f"<h1>{shop.name}</h1>"
    links = [
        (section.label, f"/c/{key}")
        for key, section in sorted(w.departments.items())
        if key in shop.assortment.departments
    ] + [(w.help, "/help")]
    if shop.variant == 0:
        items = "".join(f'<li class="{c("navitem")}"><a href="{u}">{t}</a></li>' for t, u in links)
        return (
            f'<header class="{c("header")}"><a class="{c("logo")}" href="/">{name}</a>'
            f'<nav aria-label="main"><ul>{items}</ul></nav>'
            f'<a href="/cart" class="{c("cart")}">{w.cart} (0)</a></header>'
        )
    if shop.variant == 1:
        items = "\n    ".join(f'<a href="{u}" data-track="nav:{u[-4:]}">{t}</a>' for t, u in links)
        return (
            f'<div id="top" class="{c("header")}">\n  <div class="{c("brandmark")}">'
            f'<a href="/"><img src="/i/logo.svg" alt="{shop.name}"></a></div>\n'
            f'  <form action="/s"><input name="q" placeholder="{w.search}"></form>\n'
            f'  <div class="{c("nav")}">\n    {items}\n  </div>\n</div>'
        )
    cells = "".join(f'<td><a href="{u}">{t}</a></td>' for t, u in links)
    return (
        f'<div class="{c("header")}"><b>{name}</b> '
        f"<small>{w.login} | {w.cart}: 0</small><table><tr>{cells}</tr></table></div>"
    )


def render_breadcrumbs(view: View) -> str:
    """Return where the product stands in the shop."""
    label = view.words.departments[view.product.department].label
    if view.shop.variant == 0:
        return (
            f'<nav class="{view.css("crumbs")}" aria-label="breadcrumb"><ol>'
            f'<li><a href="/">{view.words.home}</a></li>'
            f'<li><a href="/c/{view.product.department}">{label}</a></li></ol></nav>'
        )
    between = (" &gt; ", " / ", " › ")[view.shop.clutter % 3]
    return (
        f'<div class="{view.css("crumbs")}"><a href="/">{view.words.home}</a>{between}'
        f'<a href="/c/{view.product.department}">{label}</a></div>'
    )


def render_details(view: View) -> str:
    """Description and a few properties; also where the number of the EAN misleads."""
    w, p, rng = view.words, view.product, view.rng
    rows = [(w.colour, p.colour), (w.material, p.material), (w.weight, f"{p.weight_g} g")]
    rows = rng.sample(rows, 2) + ([("EAN", _ean(rng))] if rng.random() < 0.3 else [])
    text = rng.choice(w.pitch)
    if p.brand and not view.brand:
        text += " " + w.made_by.format(brand=escape(p.brand, quote=False))
    about = f'<h2 class="{view.css("h")}">{w.about}</h2>'
    shape = (view.shop.variant + view.shop.clutter) % 3
    if shape == 0:
        lines = "".join(f"<li><strong>{k}:</strong> {v}</li>" for k, v in rows)
        return (
            f'<section class="{view.css("info")}">{about}<p>{text}</p><ul>{lines}</ul></section>'
        )
    if shape == 1:
        lines = "".join(f"<tr><th scope=row>{k}</th><td>{v}</td></tr>" for k, v in rows)
        return f'<div id="tab-info">{about}\n{text}<br>\n<table>{lines}</table></div>'
    lines = "".join(f"<div><span>{k}</span><span>{v}</span></div>" for k, v in rows)
    specs = f'<div class="{view.css("specs")}">{lines}</div>'
    return f'<div class="{view.css("info")}"><p>{text}</p>{specs}</div>'


def render_reviews(view: View) -> str:
    """Return one or two opinions with their own stars, which are not the product's rating."""
    if not view.shop.shows_rating:
        return ""
    w, rng = view.words, view.rng
    if not view.rating:
        return f'<div class="{view.css("reviews")}">{w.no_votes}</div>'
    pairs = zip(rng.sample(w.people, 2), rng.sample(w.opinions, 2), strict=True)
    items = "".join(
        _review(view, who, opinion) for who, opinion in list(pairs)[: rng.choice((1, 1, 2))]
    )
    return f'<div class="{view.css("reviews")}" id="reviews"><h3>{w.reviews}</h3>{items}</div>'


def _review(view: View, who: str, opinion: str) -> str:
    stars, rng = view.rng.randint(2, 5), view.rng
    day = f"2025-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
    if view.shop.variant == 1:
        return (
            f'<blockquote><p>{opinion}</p><cite>{who}</cite> <time datetime="{day}"></time>'
            f"<span>{'★' * stars}{'☆' * (5 - stars)}</span></blockquote>"
        )
    mail = f"{seeded.seeded_hex(who, size=5)}@mail.example"
    return (
        f'<div class="{view.css("review")}" data-author="{mail}"><b>{who}</b> {stars}/5'
        f"<div>{opinion}</div></div>"
    )


def render_related_products(view: View) -> str:
    """Other products with prices of their own."""
    if view.shop.variant == 2:
        cells = "".join(f'<td><a href="{u}">{t}</a><br>{p}</td>' for t, p, u in view.related)
        return f"<h4>{view.words.related}</h4><table><tr>{cells}</tr></table>"
    cards = "".join(
        f'<li class="{view.css("card")}"><a href="{u}"><img alt="" src="/i/{seeded.seeded_hex(u)}.jpg">'
        f'<span>{t}</span></a> <span class="{view.css("price")}">{p}</span></li>'
        for t, p, u in view.related
    )
    return (
        f'<aside class="{view.css("more")}"><h3>{view.words.related}</h3><ul>{cards}</ul></aside>'
    )


def render_footer(shop: Shop, rng: Random) -> str:
    """Address, telephone and e-mail of the invented shop, and its legal pages."""
    w = shop.words
    own = seeded.seeded_random("footer", shop.host)
    mail = f"info@{shop.host.removeprefix('www.')}"
    phone = shop.market.phone.format(own.randint(10, 99))
    place = f"{shop.name}, {own.choice(w.streets)} {own.randint(1, 90)}, {own.choice(w.cities)}"
    pages = (("imprint", w.imprint), ("terms", w.terms), ("privacy", w.privacy))
    links = " ".join(f'<a href="/{path}">{label}</a>' for path, label in pages)
    field = f'<input type=email placeholder="{w.email}">'
    form = f'<form action="/nl">{field}<button>{w.news}</button></form>'
    if shop.clutter % 2 == 0:
        brief = f'<p>© 2026 {shop.name} · {mail}</p><a href="/imprint">{w.imprint}</a>'
        return f"<footer>{brief}</footer>"
    if shop.variant == 0:
        return (
            f'<footer class="{shop.css("footer")}">{form}<address>{place}<br>'
            f'<a href="tel:{phone}">{phone}</a> · <a href="mailto:{mail}">{mail}</a></address>'
            f"<p>{links}</p></footer>"
        )
    if shop.variant == 1:
        return (
            f'<div class="{shop.css("footer")}"><p>{place}</p><p>Tel. {phone} | {mail}</p>'
            f"<p>{links} © 2026 {shop.name}</p></div>"
        )
    return f"<hr><center><small>{place}<br>{phone}, {mail}<br>{links}</small></center>"


def _ean(rng: Random) -> str:
    return "2" + "".join(str(rng.randint(0, 9)) for _ in range(12))

"""A whole page: address line, head, header, content, footer, clutter."""

import re
from dataclasses import dataclass
from decimal import Decimal
from html import escape
from random import Random
from typing import Any

from sem.dataset.demo import blocks, listing, seeded
from sem.dataset.demo.money import market_price
from sem.dataset.demo.shops import Shop
from sem.dataset.demo.templates import TEMPLATES
from sem.dataset.demo.view import Body, View, product_view, reference_from_view, slugify_title

# Small damage, as real pages have it: unclosed tags, strays, bad entities, no body.

CLOSING = re.compile(r"</(?:div|li|span|td|p)>")
HIDDEN = re.compile(
    r"<(div|template)[^>]*(?:display: ?none| hidden|<template)[^>]*>.*?</\1>", re.DOTALL
)
CLASSED = re.compile(r'<(div|span|p) class="')
TAG = re.compile(r"(</?)([a-z][a-z0-9]*)(?=[\s>/])")
BODY = re.compile(r"</?body[^>]*>")


def damage_markup(html: str, rng: Random) -> str:
    """Return HTML with two to four kinds of damage that leave its text readable."""
    for damage in rng.sample(DAMAGES, rng.randint(2, len(DAMAGES) - 1)):
        html = damage(html, rng)
    return html


def uppercase_tags(html: str) -> str:
    """Return HTML with upper-case tag names; scripts keep their text."""
    parts = re.split(r"(<script.*?</script>)", html, flags=re.DOTALL)
    return "".join(
        part if part.startswith("<script") else TAG.sub(lambda m: m[1] + m[2].upper(), part)
        for part in parts
    )


def drop_closing_tags(html: str, rng: Random) -> str:
    """Return the page without two closing tags; a hidden part keeps its own, or it hides all."""
    for _ in range(2):
        unseen = [hidden.span() for hidden in HIDDEN.finditer(html)]
        tags = [
            tag
            for tag in CLOSING.finditer(html, html.find("</head>"))
            if not any(a <= tag.start() < b for a, b in unseen)
        ]
        if tags:
            lost = rng.choice(tags)
            html = html[: lost.start()] + html[lost.end() :]
    return html


def add_stray_tag(html: str, rng: Random) -> str:
    """Return a closing tag too many, at the end where it hurts no content."""
    return html.replace("</body>", rng.choice(("</div></div>", "</span></p>")) + "</body>")


def add_broken_entities(html: str, rng: Random) -> str:
    """Entities that do not exist or never end."""
    broken = rng.choice(("<p>&nbsp &copy 2026 &unknown; R&D</p>", "<!-- & --><p>&#x; &raquo</p>"))
    return html.replace("</body>", broken + "</body>")


def drop_body_tag(html: str, rng: Random) -> str:
    """No body element."""
    return BODY.sub("", html)


def repeat_attributes(html: str, rng: Random) -> str:
    """Return an attribute given twice; parsers keep the first."""
    return CLASSED.sub(lambda m: f'<{m[1]} class="x{rng.randint(1, 9)}" class="', html, count=2)


DAMAGES = (drop_closing_tags, add_stray_tag, add_broken_entities, repeat_attributes, drop_body_tag)


# What a page carries besides its content: trackers, styles, icons, banners, hidden remains.

PROPERTIES = (
    "display:flex",
    "margin:0 auto",
    "padding:.5rem 1rem",
    "color:#1d1d1f",
    "font:400 14px/1.5 system-ui",
    "border-radius:4px",
    "gap:12px",
    "opacity:.9",
    "max-width:1280px",
    "transition:all .2s ease-in-out",
    "box-sizing:border-box",
)
EVENTS = ("page_view", "view_promotion", "scroll", "session_start", "consent_update", "exp_view")
COMMENTS = (
    "<!-- /container -->",
    "<!-- build 4711, cached 2026-01-15T08:59 -->",
    '<!--[if lt IE 9]><script src="/js/html5shiv.js"></script><![endif]-->',
    "<!-- TODO: remove after relaunch -->",
    "<!-- ESI: header_v3 -->",
    "<!-- noindex -->",
)


def clutter_head(shop: Shop, rng: Random) -> str:
    """Styles and scripts for the head; more of them in shops with more clutter."""
    level = shop.clutter
    parts = [_styles(shop, rng, 6 + 9 * level), _tag_manager(rng), _state(shop, rng, level)]
    parts += [_pixel(rng) for _ in range(level // 2)]
    parts += [
        f'<link rel="preload" as="script" href="/static/chunks/{_hex(rng, 16)}.js">'
        for _ in range(level * 2)
    ]
    rng.shuffle(parts)
    return "\n".join(parts)


def clutter_body_start(shop: Shop, rng: Random) -> str:
    """Invisible or passing things at the top of the body."""
    parts = [_sprites(rng, shop.clutter * 2)] if shop.clutter > 1 else []
    parts.append(
        f'<noscript><iframe src="https://tags.example/ns.html?id=GTM-{_hex(rng, 6).upper()}"'
        ' height="0" width="0" style="display:none"></iframe></noscript>'
    )
    if shop.clutter > 2:
        parts.append(_mega_menu(shop, rng))
    if shop.variant == 1:
        parts.append(_cookies(shop))
    return "\n".join(parts)


def clutter_body_end(shop: Shop, rng: Random) -> str:
    """Hidden remains and late scripts at the end of the body."""
    parts = [_stale(shop, rng), rng.choice(COMMENTS), _lazy(rng, shop.clutter)]
    if shop.variant != 1 and shop.clutter % 2:
        parts.append(_cookies(shop))
    if shop.clutter > 3:
        parts.append(f"<script>{_minified(rng, 900 * shop.clutter)}</script>")
    return "\n".join(parts)


def _hex(rng: Random, size: int) -> str:
    return f"{rng.getrandbits(size * 4):0{size}x}"


def _styles(shop: Shop, rng: Random, count: int) -> str:
    rules = [f".{_name(rng)}{{{';'.join(rng.sample(PROPERTIES, 3))}}}" for _ in range(count)]
    rules.append(f".{shop.css('price').split()[0]}{{font-weight:700}}")
    rules.append(
        f"@media (max-width:{rng.choice((640, 767, 991))}px){{.h-{_hex(rng, 3)}{{display:none}}}}"
    )
    return f"<style>{''.join(rules)}</style>"


def _name(rng: Random) -> str:
    return rng.choice(("css-", "sc-", "u-", "c-", "is-", "_")) + _hex(rng, 5)


def _tag_manager(rng: Random) -> str:
    code = f"G-{_hex(rng, 10).upper()}"
    event = rng.choice(EVENTS)
    return (
        f'<script async src="https://tags.example/gtag/js?id={code}"></script>\n<script>'
        "window.dataLayer=window.dataLayer||[];function gtag(){dataLayer.push(arguments)}"
        f"gtag('js',new Date());gtag('config','{code}',{{anonymize_ip:true}});"
        f"gtag('event','{event}',{{cid:'{_hex(rng, 12)}',value:{rng.randint(1, 900)}.00,"
        f"ab:'{_hex(rng, 4)}'}});</script>"
    )


def _pixel(rng: Random) -> str:
    number = rng.randint(10**14, 10**15)
    return (
        "<script>!function(f,b,e,v,n,t,s){if(f.fbq)return;n=f.fbq=function(){n.callMethod?"
        "n.callMethod.apply(n,arguments):n.queue.push(arguments)};n.queue=[];t=b.createElement(e);"
        "t.async=!0;t.src=v;s=b.getElementsByTagName(e)[0];s.parentNode.insertBefore(t,s)}"
        f"(window,document,'script','https://pixel.example/ev.js');fbq('init','{number}');"
        f"fbq('track','PageView');</script><noscript><img height=1 width=1 "
        f'src="https://pixel.example/tr?id={number}&amp;ev=PageView"></noscript>'
    )


def _state(shop: Shop, rng: Random, level: int) -> str:
    """Return a framework's serialised state.

    Other products, flags, nothing of this page's answer.
    """
    items = ",".join(
        f'{{"id":"{_hex(rng, 8)}","p":{rng.randint(300, 90000)},"s":{rng.randint(0, 40)},'
        f'"img":"/m/{_hex(rng, 10)}.jpg","f":[{rng.randint(1, 9)},{rng.randint(1, 9)}]}}'
        for _ in range(4 * level)
    )
    return (
        f'<script>window.__STATE__={{"locale":"{shop.market.locale}","flags":{{"{_hex(rng, 4)}":'
        f'true,"lazy":false}},"recs":[{items}],"build":"{_hex(rng, 20)}"}};</script>'
    )


def _sprites(rng: Random, count: int) -> str:
    symbols = "".join(
        f'<symbol id="i-{_hex(rng, 3)}" viewBox="0 0 24 24"><path d="{_path(rng)}"/></symbol>'
        for _ in range(count)
    )
    return f'<svg xmlns="http://www.w3.org/2000/svg" style="display:none">{symbols}</svg>'


def _path(rng: Random) -> str:
    return (
        "M2 2"
        + "".join(
            f"{rng.choice('lhvcs')}{rng.randint(-9, 9)} {rng.randint(-9, 9)}.{rng.randint(0, 99)}"
            for _ in range(14)
        )
        + "z"
    )


def _mega_menu(shop: Shop, rng: Random) -> str:
    groups = "".join(
        f"<li><span>{section.label}</span><ul>"
        + "".join(
            f'<li><a href="/c/{key}/{_hex(rng, 4)}">{noun}</a></li>' for noun in section.nouns
        )
        + "</ul></li>"
        for key, section in sorted(shop.words.departments.items())
    )
    hidden = (
        'style="display:none"',
        "hidden",
        'aria-hidden="true" style="visibility:hidden;display: none"',
    )[shop.variant]
    return f'<div class="{shop.css("mega")}" {hidden}><ul>{groups}</ul></div>'


def _cookies(shop: Shop) -> str:
    w = shop.words
    return (
        f'<div id="cookie-{seeded.seeded_hex(shop.host, size=4)}" role="dialog" '
        f'class="{shop.css("consent")}"><p>{w.cookie} <a href="/privacy">{w.privacy}</a></p>'
        f"<button>{w.accept}</button></div>"
    )


def _stale(shop: Shop, rng: Random) -> str:
    """Prices nobody sees any more: hidden by style, attribute or template element."""
    amount = market_price(
        Decimal(rng.randint(5, 400)) * shop.market.rate + Decimal("0.99"), shop.market
    )
    price = escape(shop.style.text(amount), quote=False)
    return (
        f'<div style="display:none"><span class="{shop.css("price")}">{price}</span></div>',
        f'<div hidden class="{shop.css("sticky")}"><b>{price}</b></div>',
        f'<template><p class="price">{price}</p></template>',
    )[shop.variant]


def _lazy(rng: Random, level: int) -> str:
    calls = ";".join(f'q("{_hex(rng, 6)}",{rng.randint(1, 4000)})' for _ in range(4 * level))
    return f"<script defer>(function(q){{{calls}}})(window._q||function(){{}});</script>"


def _minified(rng: Random, size: int) -> str:
    functions: list[str] = []
    while sum(map(len, functions)) < size:
        a, b, n = (rng.choice("abcdeghkmnprtuvwxyz") for _ in range(3))
        functions.append(
            f"function {a}{_hex(rng, 2)}({b},{n}){{return {b}?{n}.c({b}[{rng.randint(0, 99)}]"
            f"||0x{_hex(rng, 4)}):!1}}"
        )
    return "".join(functions)


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
class DemoPage:
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


def make_page(seed: int, shop: Shop, number: int) -> DemoPage:
    """Page `number` of `shop`: every fourth is for the classifier."""
    rng = seeded.seeded_random(seed, shop.host, number)
    if number % 4 != 3:
        return _product(shop, rng, EXTRACTOR)
    kind = rng.choices(tuple(NAV_SHARES), tuple(NAV_SHARES.values()))[0]
    return _product(shop, rng, CLASSIFIER) if kind == "product" else _nav(shop, rng, kind)


def _product(shop: Shop, rng: Random, task: str) -> DemoPage:
    view = product_view(shop, rng)
    body, own = TEMPLATES[shop.template](view), blocks.title_element(shop)
    path = (
        f"/p/{slugify_title(view.product.title)}",
        f"/product/{rng.randint(1000, 99999)}",
        f"/{slugify_title(view.product.noun)}/{slugify_title(view.product.title)}.html",
    )[shop.variant]
    answer = (
        reference_from_view(view) if task == EXTRACTOR else listing.listing_reference("product")
    )
    main = body.main.replace("<h1", f"<{own}").replace("</h1>", f"</{own}>")
    html = _whole(shop, rng, _tab(view), Body(main, body.head))
    return DemoPage(shop, task, "product", path, html, answer)


def _tab(view: View) -> str:
    """Return the text for the browser's tab: often, not always, the product's title."""
    label = view.words.departments[view.product.department].label
    kinds = (view.title, f"{label} – {view.product.noun}", view.title, label, view.title)
    return kinds[(view.shop.clutter + view.shop.variant) % len(kinds)]


def _nav(shop: Shop, rng: Random, kind: str) -> DemoPage:
    nav = listing.listing_page(shop, rng, kind)
    html = _whole(shop, rng, nav.title, Body(nav.main))
    return DemoPage(shop, CLASSIFIER, kind, nav.path, html, nav.reference)


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
        f"{clutter_head(shop, rng)}\n</head>\n<body>\n{clutter_body_start(shop, rng)}\n"
        f"{blocks.render_header(shop, rng)}\n{body.main}\n{blocks.render_footer(shop, rng)}\n"
        f"{clutter_body_end(shop, rng)}\n</body>\n</html>\n"
    )
    roll = rng.random()
    if roll < 0.08:
        return damage_markup(html, rng)
    return uppercase_tags(html) if roll < 0.10 else html

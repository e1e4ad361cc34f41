"""What a page carries besides its content: trackers, styles, icons, banners, hidden remains."""

from decimal import Decimal
from html import escape
from random import Random

from sem.dataset.demo import seeded
from sem.dataset.demo.money import market_price
from sem.dataset.demo.shops import Shop

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


def before(shop: Shop, rng: Random) -> str:
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


def after(shop: Shop, rng: Random) -> str:
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
        f"<li><span>{label}</span><ul>"
        + "".join(f'<li><a href="/c/{key}/{_hex(rng, 4)}">{noun}</a></li>' for noun in nouns)
        + "</ul></li>"
        for key, (label, nouns) in sorted(shop.words.departments.items())
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
        f'<div id="cookie-{seeded.token(shop.host, size=4)}" role="dialog" '
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
    functions = []
    while sum(map(len, functions)) < size:
        a, b, n = (rng.choice("abcdeghkmnprtuvwxyz") for _ in range(3))
        functions.append(
            f"function {a}{_hex(rng, 2)}({b},{n}){{return {b}?{n}.c({b}[{rng.randint(0, 99)}]"
            f"||0x{_hex(rng, 4)}):!1}}"
        )
    return "".join(functions)

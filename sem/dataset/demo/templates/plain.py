"""Templates that rely on layout alone: no vocabulary marks the price."""

from decimal import Decimal

from sem.dataset.demo.blocks import STAR, crumbs, details, opt, related, reviews
from sem.dataset.demo.money import market_price
from sem.dataset.demo.view import Body, View


def div_soup(v: View) -> Body:
    """Nested anonymous divs, as a component framework renders them."""
    c, w = v.css, v.words
    box = f'<div class="{c("wrap")}"><div class="{c("col")}">'
    return Body(
        f'<div id="root"><div class="{c("app")}">{crumbs(v)}{box}<div class="{c("media")}">'
        f'<img src="/img/1.webp" alt=""></div></div><div class="{c("col2")}">'
        + opt(v.brand, f'<div class="{c("b")}"><a href="/brand">{v.brand}</a></div>')
        + f'<div role="heading" aria-level="1" class="{c("title")}">{v.title}</div>'
        + opt(
            v.stars,
            f'<div class="{c("stars")}">{STAR}<div>{v.rating}</div>'
            f"<div>({v.product.votes})</div></div>",
        )
        + f'<div class="{c("buy")}"><div><div class="{c("price")}">{v.price or w.request}</div>'
        + opt(v.old, f'<div class="{c("old")}">{v.old}</div>')
        + f'</div><div class="{c("note")}">{w.vat}</div></div>'
        + opt(v.stock, f'<div class="{c("stock")}"><div></div><div>{v.stock}</div></div>')
        + f'<button type="button" class="{c("cta")}">{v.button}</button>'
        + opt(v.sku, f'<div class="{c("meta")}"><div>{w.skus[0]}</div><div>{v.sku}</div></div>')
        + f"</div></div>{details(v)}{reviews(v)}{related(v)}</div></div>"
    )


def table_layout(v: View) -> Body:
    """Nested tables and font tags, as in the year 2003."""
    w = v.words
    row = '<tr><td bgcolor="#eeeeee"><font size="2">{}</font></td><td>{}</td></tr>'
    rows = [
        opt(v.sku, row.format(f"{w.skus[1]}:", v.sku)),
        opt(v.brand, row.format(w.brand, v.brand)),
        row.format(
            f"<b>{w.price}</b>",
            f'<font color="#cc0000"><b>{v.price or w.request}</b></font>'
            + opt(v.old, f" <s>{v.old}</s>"),
        ),
        opt(v.stock, row.format("&nbsp;", f"<i>{v.stock}</i>")),
        opt(v.stars, row.format(w.reviews, f"{v.stars} ({v.votes})")),
    ]
    return Body(
        f'<table width="780" cellpadding="4" align="center"><tr><td colspan="2">{crumbs(v)}</td>'
        f'</tr><tr valign="top"><td width="260"><img src="pic.jpg" width="250" border="0"></td>'
        f'<td><font face="Verdana" size="4"><b>{v.title}</b></font><br><br><table border="0">'
        + "\n".join(filter(None, rows))
        + f'</table><form action="/add"><input type="submit" value="{v.button}"></form></td></tr>'
        f'<tr><td colspan="2">{details(v)}{reviews(v)}</td></tr></table>\n{related(v)}'
    )


def definition_list(v: View) -> Body:
    """Facts as terms and definitions under the heading."""
    w = v.words
    pairs = [
        (w.brand, v.brand),
        (w.skus[v.shop.variant], v.sku),
        (w.reviews, opt(v.rating, f"{v.rating} / 5")),
        (w.price, (v.price or w.request) + opt(v.price, f" <small>{w.vat}</small>")),
        (w.old.capitalize(), opt(v.old, f"<span>{v.old}</span>")),
        (w.shipping.format(p=v.money(_fee(v))), opt(v.stock, v.stock)),
    ]
    terms = "\n".join(
        f'<dt class="{v.css("dt")}">{k}</dt>\n<dd class="{v.css("dd")}">{d}</dd>'
        for k, d in pairs
        if d
    )
    return Body(
        f'{crumbs(v)}\n<main>\n<h1>{v.title}</h1>\n<dl class="{v.css("facts")}">\n{terms}\n</dl>\n'
        f"<p><a href='#' role=button>{v.button}</a></p>\n{details(v)}\n{reviews(v)}\n</main>\n"
        f"{related(v)}"
    )


def article(v: View) -> Body:
    """Semantic elements and custom elements; stock and number fold into a summary."""
    w = v.words
    fold = "".join(
        (
            opt(v.sku, f"<p>{w.skus[2]} {v.sku}</p>"),
            opt(v.brand, f"<p>{w.brand}: <em>{v.brand}</em></p>"),
        )
    )
    return Body(
        f"<main><article>{crumbs(v)}<hgroup><h1>{v.title}</h1>"
        + opt(v.stars, f"<p>{v.stars}, {v.votes}</p>")
        + "</hgroup><figure><picture><source srcset='a.avif'><img src='a.jpg' alt=''></picture>"
        f"</figure><product-price><strong>{v.price or w.request}</strong> "
        + opt(v.old, f"<del>{v.old}</del>")
        + f"</product-price>{opt(v.stock, f'<details open><summary>{v.stock}</summary>')}"
        f"<small>{w.shipping.format(p=v.money(_fee(v)))}</small>{opt(v.stock, '</details>')}"
        f"<buy-button><button>{v.button}</button></buy-button>{fold}{details(v)}</article>"
        f"{reviews(v)}{related(v)}</main>"
    )


def _fee(v: View) -> Decimal:
    return market_price(Decimal("4.90") * v.shop.market.rate, v.shop.market)

"""Product page templates by name; every one places the same facts differently."""

import json
from decimal import Decimal
from typing import Any

from sem.dataset.demo.blocks import (
    STAR,
    html_if_present,
    render_breadcrumbs,
    render_details,
    render_related_products,
    render_reviews,
)
from sem.dataset.demo.money import market_price
from sem.dataset.demo.tricky_templates import (
    currency_word,
    decoys_first,
    sale_first,
    split_price,
    variants_form,
)
from sem.dataset.demo.view import Body, Template, View

# Templates that rely on layout alone: no vocabulary marks the price.


def div_soup(v: View) -> Body:
    """Nested anonymous divs, as a component framework renders them."""
    c, w = v.css, v.words
    box = f'<div class="{c("wrap")}"><div class="{c("col")}">'
    return Body(
        f'<div id="root"><div class="{c("app")}">{render_breadcrumbs(v)}{box}<div class="{c("media")}">'
        f'<img src="/img/1.webp" alt=""></div></div><div class="{c("col2")}">'
        + html_if_present(v.brand, f'<div class="{c("b")}"><a href="/brand">{v.brand}</a></div>')
        + f'<div role="heading" aria-level="1" class="{c("title")}">{v.title}</div>'
        + html_if_present(
            v.stars,
            f'<div class="{c("stars")}">{STAR}<div>{v.rating}</div>'
            f"<div>({v.product.votes})</div></div>",
        )
        + f'<div class="{c("buy")}"><div><div class="{c("price")}">{v.price or w.request}</div>'
        + html_if_present(v.old, f'<div class="{c("old")}">{v.old}</div>')
        + f'</div><div class="{c("note")}">{w.vat}</div></div>'
        + html_if_present(
            v.stock, f'<div class="{c("stock")}"><div></div><div>{v.stock}</div></div>'
        )
        + f'<button type="button" class="{c("cta")}">{v.button}</button>'
        + html_if_present(
            v.sku, f'<div class="{c("meta")}"><div>{w.skus[0]}</div><div>{v.sku}</div></div>'
        )
        + f"</div></div>{render_details(v)}{render_reviews(v)}{render_related_products(v)}</div></div>"
    )


def table_layout(v: View) -> Body:
    """Nested tables and font tags, as in the year 2003."""
    w = v.words
    row = '<tr><td bgcolor="#eeeeee"><font size="2">{}</font></td><td>{}</td></tr>'
    rows = [
        html_if_present(v.sku, row.format(f"{w.skus[1]}:", v.sku)),
        html_if_present(v.brand, row.format(w.brand, v.brand)),
        row.format(
            f"<b>{w.price}</b>",
            f'<font color="#cc0000"><b>{v.price or w.request}</b></font>'
            + html_if_present(v.old, f" <s>{v.old}</s>"),
        ),
        html_if_present(v.stock, row.format("&nbsp;", f"<i>{v.stock}</i>")),
        html_if_present(v.stars, row.format(w.reviews, f"{v.stars} ({v.votes})")),
    ]
    return Body(
        f'<table width="780" cellpadding="4" align="center"><tr><td colspan="2">{render_breadcrumbs(v)}</td>'
        f'</tr><tr valign="top"><td width="260"><img src="pic.jpg" width="250" border="0"></td>'
        f'<td><font face="Verdana" size="4"><b>{v.title}</b></font><br><br><table border="0">'
        + "\n".join(filter(None, rows))
        + f'</table><form action="/add"><input type="submit" value="{v.button}"></form></td></tr>'
        f'<tr><td colspan="2">{render_details(v)}{render_reviews(v)}</td></tr></table>\n{render_related_products(v)}'
    )


def definition_list(v: View) -> Body:
    """Facts as terms and definitions under the heading."""
    w = v.words
    pairs = [
        (w.brand, v.brand),
        (w.skus[v.shop.variant], v.sku),
        (w.reviews, html_if_present(v.rating, f"{v.rating} / 5")),
        (w.price, (v.price or w.request) + html_if_present(v.price, f" <small>{w.vat}</small>")),
        (w.old.capitalize(), html_if_present(v.old, f"<span>{v.old}</span>")),
        (w.shipping.format(p=v.money(_fee(v))), html_if_present(v.stock, v.stock)),
    ]
    terms = "\n".join(
        f'<dt class="{v.css("dt")}">{k}</dt>\n<dd class="{v.css("dd")}">{d}</dd>'
        for k, d in pairs
        if d
    )
    return Body(
        f'{render_breadcrumbs(v)}\n<main>\n<h1>{v.title}</h1>\n<dl class="{v.css("facts")}">\n{terms}\n</dl>\n'
        f"<p><a href='#' role=button>{v.button}</a></p>\n{render_details(v)}\n{render_reviews(v)}\n</main>\n"
        f"{render_related_products(v)}"
    )


def article(v: View) -> Body:
    """Semantic elements and custom elements; stock and number fold into a summary."""
    w = v.words
    fold = "".join(
        (
            html_if_present(v.sku, f"<p>{w.skus[2]} {v.sku}</p>"),
            html_if_present(v.brand, f"<p>{w.brand}: <em>{v.brand}</em></p>"),
        )
    )
    return Body(
        f"<main><article>{render_breadcrumbs(v)}<hgroup><h1>{v.title}</h1>"
        + html_if_present(v.stars, f"<p>{v.stars}, {v.votes}</p>")
        + "</hgroup><figure><picture><source srcset='a.avif'><img src='a.jpg' alt=''></picture>"
        f"</figure><product-price><strong>{v.price or w.request}</strong> "
        + html_if_present(v.old, f"<del>{v.old}</del>")
        + f"</product-price>{html_if_present(v.stock, f'<details open><summary>{v.stock}</summary>')}"
        f"<small>{w.shipping.format(p=v.money(_fee(v)))}</small>{html_if_present(v.stock, '</details>')}"
        f"<buy-button><button>{v.button}</button></buy-button>{fold}{render_details(v)}</article>"
        f"{render_reviews(v)}{render_related_products(v)}</main>"
    )


def _fee(v: View) -> Decimal:
    return market_price(Decimal("4.90") * v.shop.market.rate, v.shop.market)


# Templates whose facts also, or only, live in attributes, meta elements or JSON-LD.


def microdata(v: View) -> Body:
    """schema.org itemprop attributes; every second shop shows stock as a link only."""
    w, c = v.words, v.css
    link = f'<link itemprop="availability" href="https://schema.org/{v.state}">'
    stock = link + html_if_present(v.shop.variant, f'<span class="{c("stock")}">{v.stock}</span>')
    offer = (
        f'<meta itemprop="priceCurrency" content="{v.currency}">'
        f'<span itemprop="price" content="{v.amount}">{v.price}</span>'
    )
    stars = (
        '<div itemprop="aggregateRating" itemscope itemtype="https://schema.org/AggregateRating">'
        f'<span itemprop="ratingValue">{v.rating}</span>/5 '
        f'(<span itemprop="reviewCount">{v.product.votes}</span>)</div>'
    )
    return Body(
        f'<div itemscope itemtype="https://schema.org/Product" class="{c("product")}">{render_breadcrumbs(v)}'
        f'<h1 itemprop="name">{v.title}</h1>'
        + html_if_present(
            v.brand,
            '<span itemprop="brand" itemscope itemtype="https://schema.org/Brand">'
            f'<span itemprop="name">{v.brand}</span></span>',
        )
        + html_if_present(v.sku, f'<p>{w.skus[0]} <span itemprop="sku">{v.sku}</span></p>')
        + html_if_present(v.stars, stars)
        + '<div itemprop="offers" itemscope itemtype="https://schema.org/Offer">'
        + html_if_present(v.old, f'<span class="{c("old")}">{v.old}</span> ')
        + (offer if v.price else w.request)
        + html_if_present(v.stock, stock)
        + f"</div><button>{v.button}</button>{render_details(v)}</div>{render_reviews(v)}{render_related_products(v)}"
    )


def data_attributes(v: View) -> Body:
    """Return the price waits in a data attribute for a script; the visible digits are a dash."""
    w, c = v.words, v.css
    data = f'data-product-price="{v.amount}" data-currency="{v.currency}"' if v.price else ""
    return Body(
        f'<div class="{c("layout")}" data-view="pdp">{render_breadcrumbs(v)}<h1 class="{c("title")}">{v.title}'
        f'</h1><div class="{c("offer")}" {data}><span class="{c("price")}">'
        f"{'–' if v.price else w.request}</span>{html_if_present(v.old, f'<s>{w.old} {v.old}</s>')}</div>"
        + html_if_present(
            v.sku, f'<div class="{c("ids")}" data-sku="{v.sku}">{w.skus[0]}: {v.sku}</div>'
        )
        + html_if_present(v.brand, f'<a href="/m" title="{w.brand}">{v.brand}</a>')
        + html_if_present(
            v.stars,
            f'<div class="{c("rate")}" data-rating="{v.product.rating}" '
            f'title="{v.stars}">{STAR * 5}</div><span>{v.votes}</span>',
        )
        + html_if_present(v.stock, f'<p class="{c("stock")}">{v.stock}</p>')
        + f'<button data-action="add">{v.button}</button></div>{render_details(v)}'
        f"{render_reviews(v)}{render_related_products(v)}"
    )


def json_ld(v: View) -> Body:
    """JSON-LD in the head repeats what the page shows."""
    w, c = v.words, v.css
    item, offer = v.product, {"@type": "Offer", "priceCurrency": v.currency, "price": v.amount}
    if v.stock:
        offer["availability"] = f"https://schema.org/{v.state}"
    data: dict[str, Any] = {
        "@context": "https://schema.org",
        "@type": "Product",
        "name": item.title,
        "image": ["/img/a.jpg"],
    }
    data |= {"sku": v.sku} if v.sku else {}
    data |= {"brand": {"@type": "Brand", "name": item.brand}} if v.brand else {}
    data |= {"offers": offer} if v.price else {}
    script = json.dumps(data, ensure_ascii=bool(v.shop.variant)).replace("</", "<\\/")
    return Body(
        f'<main class="{c("main")}">{render_breadcrumbs(v)}<section class="{c("hero")}"><h1>{v.title}</h1>'
        + html_if_present(v.brand, f'<p class="{c("by")}">{v.brand}</p>')
        + f'<p class="{c("price")}">{v.price or w.request}{html_if_present(v.old, f" <s>{v.old}</s>")}</p>'
        + html_if_present(
            v.stock,
            f'<p class="{c("stock")}"><svg width="8" height="8"><circle r="4"/></svg> '
            f"{v.stock}</p>",
        )
        + html_if_present(v.stars, f'<a href="#reviews">★ {v.rating} · {v.votes}</a>')
        + f"<button>{v.button}</button>{html_if_present(v.sku, f'<small>{w.skus[3]} {v.sku}</small>')}"
        f"</section>{render_details(v)}{render_reviews(v)}</main>{render_related_products(v)}",
        f'<script type="application/ld+json">{script}</script>',
    )


def aria_price(v: View) -> Body:
    """Return a price drawn with sprites; only its label says it."""
    w, c = v.words, v.css
    sprites = "".join(f'<i class="d d{n % 10}"></i>' for n in range(len(v.digits)))
    label = f"{w.price}: {v.price}" if v.price else w.request
    return Body(
        f'<div class="{c("pdp")}"><div class="{c("left")}"><img src="x.png" alt=""></div>'
        f'<div class="{c("right")}"><h1>{v.title}</h1>'
        + html_if_present(
            v.stars,
            f'<span role="img" aria-label="{v.stars}">'
            f'<i style="width:{v.product.votes % 90}%"></i></span>',
        )
        + f'<div role="img" aria-label="{label}" class="{c("price")}">'
        f'<span aria-hidden="true">{sprites}</span></div>'
        + html_if_present(
            v.old, f'<div class="{c("was")}"><span class="sr-only">{w.old}</span> {v.old}</div>'
        )
        + html_if_present(
            v.stock, f'<span class="{c("dot")} is-{v.state.lower()}" title="{v.stock}"></span>'
        )
        + f'<button aria-label="{v.button}">{STAR}</button><ul class="{c("list")}">'
        + html_if_present(v.brand, f"<li>{w.brand} {v.brand}</li>")
        + html_if_present(v.sku, f"<li>{w.skus[0]} {v.sku}</li>")
        + f"</ul></div></div>{render_details(v)}{render_reviews(v)}{render_related_products(v)}"
    )


def meta_price(v: View) -> Body:
    """Price and currency only in meta elements; the page asks to choose a size first."""
    w, c = v.words, v.css
    head = (
        '<meta property="og:type" content="product">'
        + html_if_present(
            v.price,
            f'<meta property="product:price:amount" content="{v.amount}">'
            f'<meta property="product:price:currency" content="{v.currency}">',
        )
        + html_if_present(v.brand, f'<meta property="product:brand" content="{v.brand}">')
    )
    return Body(
        f'{render_breadcrumbs(v)}<div class="{c("prod")}"><h2 class="{c("title")}">{v.title}</h2>'
        + html_if_present(v.brand, f"<div><span>{w.brand}</span> <b>{v.brand}</b></div>")
        + html_if_present(
            v.stars, f'<div class="{c("score")}">{v.rating}<sub>/5</sub> {v.votes}</div>'
        )
        + '<select name="size"><option>–</option><option>S</option><option>M</option></select>'
        f'<div class="{c("price")}">{"" if v.price else w.request}</div>'
        + html_if_present(v.stock, f'<div class="{c("stock")}">{v.stock}</div>')
        + f"<button>{v.button}</button>"
        + html_if_present(v.sku, f'<div class="{c("sku")}">{w.skus[1]} <code>{v.sku}</code></div>')
        + f"</div>{render_details(v)}{render_related_products(v)}{render_reviews(v)}",
        head,
    )


# Templates in the manner of well-known shop systems.


def wordpress(v: View) -> Body:
    """Return a plug-in shop on a blog system.

    It uses del and ins, product_meta and wrapped currency symbols.
    """
    w = v.words
    bdi = '<span class="woocommerce-Price-amount amount"><bdi>{}</bdi></span>'
    sign = f'<span class="woocommerce-Price-currencySymbol">{v.sign}</span>'
    now = bdi.format(v.price.replace(v.sign, sign, 1)) if v.price else w.request
    state = {"InStock": "in-stock", "OutOfStock": "out-of-stock"}.get(v.state, "on-backorder")
    return Body(
        f'<div id="product-{v.product.votes}" class="product type-product entry">'
        f'<div class="summary entry-summary">{render_breadcrumbs(v)}'
        f'<h1 class="product_title entry-title">{v.title}</h1>'
        + html_if_present(
            v.stars,
            f'<div class="star-rating" role="img" aria-label="{v.stars}">'
            f'<span style="width:80%"></span></div> ({v.votes})',
        )
        + f'<p class="price">{html_if_present(v.old, f"<del>{bdi.format(v.old)}</del> ")}'
        f"{html_if_present(v.old, '<ins>')}{now}{html_if_present(v.old, '</ins>')}</p>"
        + html_if_present(v.stock, f'<p class="stock {state}">{v.stock}</p>')
        + f'<form class="cart"><button class="single_add_to_cart_button">{v.button}</button>'
        "</form>"
        '<div class="product_meta">'
        + html_if_present(
            v.sku,
            f'<span class="sku_wrapper">{w.skus[0]}: <span class="sku">{v.sku}</span></span>',
        )
        + html_if_present(
            v.brand, f' <span class="posted_in">{w.brand}: <a href="#">{v.brand}</a></span>'
        )
        + f"</div></div>{render_details(v)}{render_reviews(v)}{render_related_products(v)}</div>"
    )


def hosted_theme(v: View) -> Body:
    """Return a hosted shop's section theme: visually hidden labels, badges, product-form."""
    w, sid = v.words, f"template--{v.product.weight_g}__main"
    hide = '<span class="visually-hidden">{}</span>'
    sale = html_if_present(
        v.old, f'{hide.format(w.old)} <s class="price-item price-item--regular">{v.old}</s> '
    )
    return Body(
        f'<section id="{sid}" class="section"><div class="product__info-wrapper">'
        + html_if_present(
            v.brand, f'<p class="product__text caption-with-letter-spacing">{v.brand}</p>'
        )
        + f'<div class="product__title"><h1>{v.title}</h1></div>'
        f'<div id="price-{sid}" role="status"><div class="price price--large">{sale}'
        f"{html_if_present(v.old, hide.format(w.price))}"
        f'<span class="price-item price-item--last">{v.price or w.request}</span></div></div>'
        f'<div class="product__tax caption rte">{w.vat}</div>'
        + html_if_present(
            v.stars,
            f'<div class="rating" role="img" aria-label="{v.stars}">{STAR}</div>'
            f'<p class="rating-count">({v.product.votes})</p>',
        )
        + f'<product-form><button name="add"><span>{v.button}</span></button></product-form>'
        + html_if_present(
            v.stock,
            f'<p class="product__inventory"><svg width="15" height="15"><circle cx="7" '
            f'cy="7" r="7" fill="#3ed660"/></svg> {v.stock}</p>',
        )
        + html_if_present(v.sku, f'<p class="product__sku caption">{w.skus[3]}: {v.sku}</p>')
        + f"</div></section>{render_details(v)}{render_related_products(v)}{render_reviews(v)}"
    )


def enterprise(v: View) -> Body:
    """Return a large open-source shop system: page-title-wrapper, price boxes, stock divs."""
    w, pid = v.words, v.product.votes
    box = (
        '<span class="price-container"><span id="product-price-{0}" class="price-wrapper">'
        '<span class="price">{1}</span></span></span>'
    )
    return Body(
        f'<main id="maincontent" class="page-main">{render_breadcrumbs(v)}<div class="column main">'
        f'<div class="product-info-main"><div class="page-title-wrapper product">'
        f'<h1 class="page-title"><span class="base">{v.title}</span></h1></div>'
        + html_if_present(
            v.stars,
            '<div class="product-reviews-summary"><div class="rating-result" '
            f'title="{v.stars}"><span></span></div><a href="#r">{v.votes}</a></div>',
        )
        + '<div class="product-info-price"><div class="price-box">'
        + html_if_present(
            v.old,
            f'<span class="old-price"><span class="price-label">{w.old}</span>'
            + box.format(f"o{pid}", v.old)
            + "</span>",
        )
        + (box.format(pid, v.price) if v.price else f"<span>{w.request}</span>")
        + '</div><div class="product-info-stock-sku">'
        + html_if_present(v.stock, f'<div class="stock"><span>{v.stock}</span></div>')
        + html_if_present(
            v.sku,
            f'<div class="product attribute"><strong class="type">{w.skus[0]}</strong>'
            f'<div class="value">{v.sku}</div></div>',
        )
        + f'</div></div><button id="product-addtocart-button">{v.button}</button></div>'
        + html_if_present(
            v.brand,
            f'<table class="data table"><tr><th>{w.brand}</th><td>{v.brand}</td></tr></table>',
        )
        + f"{render_details(v)}{render_reviews(v)}</div></main>{render_related_products(v)}"
    )


def bootstrap_card(v: View) -> Body:
    """Grid rows, cards and badges of a CSS framework."""
    w = v.words
    badge = {"InStock": "success", "OutOfStock": "danger"}.get(v.state, "warning")
    return Body(
        f'<div class="container my-4">{render_breadcrumbs(v)}<div class="row"><div class="col-md-5">'
        '<img class="img-fluid" src="/m.jpg" alt=""></div><div class="col-md-7"><div class="card">'
        f'<div class="card-body"><h5 class="card-title">{v.title}</h5>'
        + html_if_present(v.brand, f'<h6 class="card-subtitle text-muted">{v.brand}</h6>')
        + html_if_present(v.stock, f'<span class="badge bg-{badge}">{v.stock}</span>')
        + f'<p class="h3 my-2">{v.price or w.request}'
        + html_if_present(
            v.old, f' <small class="text-muted text-decoration-line-through">{v.old}</small>'
        )
        + f'</p><a href="#" class="btn btn-primary">{v.button}</a></div>'
        '<ul class="list-group list-group-flush">'
        + html_if_present(v.sku, f'<li class="list-group-item">{w.skus[2]}: {v.sku}</li>')
        + html_if_present(
            v.stars,
            f'<li class="list-group-item">{v.stars} <span class="badge">'
            f"{v.product.votes}</span></li>",
        )
        + f"</ul></div></div></div>{render_details(v)}{render_related_products(v)}{render_reviews(v)}</div>"
    )


TEMPLATES: dict[str, Template] = {
    template.__name__: template
    for template in (
        div_soup,
        table_layout,
        definition_list,
        article,
        microdata,
        data_attributes,
        json_ld,
        aria_price,
        meta_price,
        wordpress,
        hosted_theme,
        enterprise,
        bootstrap_card,
        split_price,
        currency_word,
        sale_first,
        decoys_first,
        variants_form,
    )
}

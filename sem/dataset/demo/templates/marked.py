"""Templates whose facts also, or only, live in attributes, meta elements or JSON-LD."""

import json

from sem.dataset.demo.blocks import STAR, crumbs, details, opt, related, reviews
from sem.dataset.demo.view import Body, View


def microdata(v: View) -> Body:
    """schema.org itemprop attributes; every second shop shows stock as a link only."""
    w, c = v.words, v.css
    link = f'<link itemprop="availability" href="https://schema.org/{v.state}">'
    stock = link + opt(v.shop.variant, f'<span class="{c("stock")}">{v.stock}</span>')
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
        f'<div itemscope itemtype="https://schema.org/Product" class="{c("product")}">{crumbs(v)}'
        f'<h1 itemprop="name">{v.title}</h1>'
        + opt(
            v.brand,
            '<span itemprop="brand" itemscope itemtype="https://schema.org/Brand">'
            f'<span itemprop="name">{v.brand}</span></span>',
        )
        + opt(v.sku, f'<p>{w.skus[0]} <span itemprop="sku">{v.sku}</span></p>')
        + opt(v.stars, stars)
        + '<div itemprop="offers" itemscope itemtype="https://schema.org/Offer">'
        + opt(v.old, f'<span class="{c("old")}">{v.old}</span> ')
        + (offer if v.price else w.request)
        + opt(v.stock, stock)
        + f"</div><button>{v.button}</button>{details(v)}</div>{reviews(v)}{related(v)}"
    )


def data_attributes(v: View) -> Body:
    """Return the price waits in a data attribute for a script; the visible digits are a dash."""
    w, c = v.words, v.css
    data = f'data-product-price="{v.amount}" data-currency="{v.currency}"' if v.price else ""
    return Body(
        f'<div class="{c("layout")}" data-view="pdp">{crumbs(v)}<h1 class="{c("title")}">{v.title}'
        f'</h1><div class="{c("offer")}" {data}><span class="{c("price")}">'
        f"{'–' if v.price else w.request}</span>{opt(v.old, f'<s>{w.old} {v.old}</s>')}</div>"
        + opt(v.sku, f'<div class="{c("ids")}" data-sku="{v.sku}">{w.skus[0]}: {v.sku}</div>')
        + opt(v.brand, f'<a href="/m" title="{w.brand}">{v.brand}</a>')
        + opt(
            v.stars,
            f'<div class="{c("rate")}" data-rating="{v.product.rating}" '
            f'title="{v.stars}">{STAR * 5}</div><span>{v.votes}</span>',
        )
        + opt(v.stock, f'<p class="{c("stock")}">{v.stock}</p>')
        + f'<button data-action="add">{v.button}</button></div>{details(v)}'
        f"{reviews(v)}{related(v)}"
    )


def json_ld(v: View) -> Body:
    """JSON-LD in the head repeats what the page shows."""
    w, c = v.words, v.css
    item, offer = v.product, {"@type": "Offer", "priceCurrency": v.currency, "price": v.amount}
    if v.stock:
        offer["availability"] = f"https://schema.org/{v.state}"
    data = {
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
        f'<main class="{c("main")}">{crumbs(v)}<section class="{c("hero")}"><h1>{v.title}</h1>'
        + opt(v.brand, f'<p class="{c("by")}">{v.brand}</p>')
        + f'<p class="{c("price")}">{v.price or w.request}{opt(v.old, f" <s>{v.old}</s>")}</p>'
        + opt(
            v.stock,
            f'<p class="{c("stock")}"><svg width="8" height="8"><circle r="4"/></svg> '
            f"{v.stock}</p>",
        )
        + opt(v.stars, f'<a href="#reviews">★ {v.rating} · {v.votes}</a>')
        + f"<button>{v.button}</button>{opt(v.sku, f'<small>{w.skus[3]} {v.sku}</small>')}"
        f"</section>{details(v)}{reviews(v)}</main>{related(v)}",
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
        + opt(
            v.stars,
            f'<span role="img" aria-label="{v.stars}">'
            f'<i style="width:{v.product.votes % 90}%"></i></span>',
        )
        + f'<div role="img" aria-label="{label}" class="{c("price")}">'
        f'<span aria-hidden="true">{sprites}</span></div>'
        + opt(v.old, f'<div class="{c("was")}"><span class="sr-only">{w.old}</span> {v.old}</div>')
        + opt(v.stock, f'<span class="{c("dot")} is-{v.state.lower()}" title="{v.stock}"></span>')
        + f'<button aria-label="{v.button}">{STAR}</button><ul class="{c("list")}">'
        + opt(v.brand, f"<li>{w.brand} {v.brand}</li>")
        + opt(v.sku, f"<li>{w.skus[0]} {v.sku}</li>")
        + f"</ul></div></div>{details(v)}{reviews(v)}{related(v)}"
    )


def meta_price(v: View) -> Body:
    """Price and currency only in meta elements; the page asks to choose a size first."""
    w, c = v.words, v.css
    head = (
        '<meta property="og:type" content="product">'
        + opt(
            v.price,
            f'<meta property="product:price:amount" content="{v.amount}">'
            f'<meta property="product:price:currency" content="{v.currency}">',
        )
        + opt(v.brand, f'<meta property="product:brand" content="{v.brand}">')
    )
    return Body(
        f'{crumbs(v)}<div class="{c("prod")}"><h2 class="{c("title")}">{v.title}</h2>'
        + opt(v.brand, f"<div><span>{w.brand}</span> <b>{v.brand}</b></div>")
        + opt(v.stars, f'<div class="{c("score")}">{v.rating}<sub>/5</sub> {v.votes}</div>')
        + '<select name="size"><option>–</option><option>S</option><option>M</option></select>'
        f'<div class="{c("price")}">{"" if v.price else w.request}</div>'
        + opt(v.stock, f'<div class="{c("stock")}">{v.stock}</div>')
        + f"<button>{v.button}</button>"
        + opt(v.sku, f'<div class="{c("sku")}">{w.skus[1]} <code>{v.sku}</code></div>')
        + f"</div>{details(v)}{related(v)}{reviews(v)}",
        head,
    )

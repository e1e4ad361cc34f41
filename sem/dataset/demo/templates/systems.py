"""Templates in the manner of well-known shop systems."""

from sem.dataset.demo.blocks import STAR, crumbs, details, opt, related, reviews
from sem.dataset.demo.view import Body, View


def wordpress(v: View) -> Body:
    """Return a plug-in shop on a blog system.

    Del and ins, product_meta, wrapped currency symbols.
    """
    w = v.words
    bdi = '<span class="woocommerce-Price-amount amount"><bdi>{}</bdi></span>'
    sign = f'<span class="woocommerce-Price-currencySymbol">{v.sign}</span>'
    now = bdi.format(v.price.replace(v.sign, sign, 1)) if v.price else w.request
    state = {"InStock": "in-stock", "OutOfStock": "out-of-stock"}.get(v.state, "on-backorder")
    return Body(
        f'<div id="product-{v.product.votes}" class="product type-product entry">'
        f'<div class="summary entry-summary">{crumbs(v)}'
        f'<h1 class="product_title entry-title">{v.title}</h1>'
        + opt(
            v.stars,
            f'<div class="star-rating" role="img" aria-label="{v.stars}">'
            f'<span style="width:80%"></span></div> ({v.votes})',
        )
        + f'<p class="price">{opt(v.old, f"<del>{bdi.format(v.old)}</del> ")}'
        f"{opt(v.old, '<ins>')}{now}{opt(v.old, '</ins>')}</p>"
        + opt(v.stock, f'<p class="stock {state}">{v.stock}</p>')
        + f'<form class="cart"><button class="single_add_to_cart_button">{v.button}</button>'
        "</form>"
        '<div class="product_meta">'
        + opt(
            v.sku,
            f'<span class="sku_wrapper">{w.skus[0]}: <span class="sku">{v.sku}</span></span>',
        )
        + opt(v.brand, f' <span class="posted_in">{w.brand}: <a href="#">{v.brand}</a></span>')
        + f"</div></div>{details(v)}{reviews(v)}{related(v)}</div>"
    )


def hosted_theme(v: View) -> Body:
    """Return a hosted shop's section theme: visually hidden labels, badges, product-form."""
    w, sid = v.words, f"template--{v.product.weight_g}__main"
    hide = '<span class="visually-hidden">{}</span>'
    sale = opt(
        v.old, f'{hide.format(w.old)} <s class="price-item price-item--regular">{v.old}</s> '
    )
    return Body(
        f'<section id="{sid}" class="section"><div class="product__info-wrapper">'
        + opt(v.brand, f'<p class="product__text caption-with-letter-spacing">{v.brand}</p>')
        + f'<div class="product__title"><h1>{v.title}</h1></div>'
        f'<div id="price-{sid}" role="status"><div class="price price--large">{sale}'
        f"{opt(v.old, hide.format(w.price))}"
        f'<span class="price-item price-item--last">{v.price or w.request}</span></div></div>'
        f'<div class="product__tax caption rte">{w.vat}</div>'
        + opt(
            v.stars,
            f'<div class="rating" role="img" aria-label="{v.stars}">{STAR}</div>'
            f'<p class="rating-count">({v.product.votes})</p>',
        )
        + f'<product-form><button name="add"><span>{v.button}</span></button></product-form>'
        + opt(
            v.stock,
            f'<p class="product__inventory"><svg width="15" height="15"><circle cx="7" '
            f'cy="7" r="7" fill="#3ed660"/></svg> {v.stock}</p>',
        )
        + opt(v.sku, f'<p class="product__sku caption">{w.skus[3]}: {v.sku}</p>')
        + f"</div></section>{details(v)}{related(v)}{reviews(v)}"
    )


def enterprise(v: View) -> Body:
    """Return a large open-source shop system: page-title-wrapper, price boxes, stock divs."""
    w, pid = v.words, v.product.votes
    box = (
        '<span class="price-container"><span id="product-price-{0}" class="price-wrapper">'
        '<span class="price">{1}</span></span></span>'
    )
    return Body(
        f'<main id="maincontent" class="page-main">{crumbs(v)}<div class="column main">'
        f'<div class="product-info-main"><div class="page-title-wrapper product">'
        f'<h1 class="page-title"><span class="base">{v.title}</span></h1></div>'
        + opt(
            v.stars,
            '<div class="product-reviews-summary"><div class="rating-result" '
            f'title="{v.stars}"><span></span></div><a href="#r">{v.votes}</a></div>',
        )
        + '<div class="product-info-price"><div class="price-box">'
        + opt(
            v.old,
            f'<span class="old-price"><span class="price-label">{w.old}</span>'
            + box.format(f"o{pid}", v.old)
            + "</span>",
        )
        + (box.format(pid, v.price) if v.price else f"<span>{w.request}</span>")
        + '</div><div class="product-info-stock-sku">'
        + opt(v.stock, f'<div class="stock"><span>{v.stock}</span></div>')
        + opt(
            v.sku,
            f'<div class="product attribute"><strong class="type">{w.skus[0]}</strong>'
            f'<div class="value">{v.sku}</div></div>',
        )
        + f'</div></div><button id="product-addtocart-button">{v.button}</button></div>'
        + opt(
            v.brand,
            f'<table class="data table"><tr><th>{w.brand}</th><td>{v.brand}</td></tr></table>',
        )
        + f"{details(v)}{reviews(v)}</div></main>{related(v)}"
    )


def bootstrap_card(v: View) -> Body:
    """Grid rows, cards and badges of a CSS framework."""
    w = v.words
    badge = {"InStock": "success", "OutOfStock": "danger"}.get(v.state, "warning")
    return Body(
        f'<div class="container my-4">{crumbs(v)}<div class="row"><div class="col-md-5">'
        '<img class="img-fluid" src="/m.jpg" alt=""></div><div class="col-md-7"><div class="card">'
        f'<div class="card-body"><h5 class="card-title">{v.title}</h5>'
        + opt(v.brand, f'<h6 class="card-subtitle text-muted">{v.brand}</h6>')
        + opt(v.stock, f'<span class="badge bg-{badge}">{v.stock}</span>')
        + f'<p class="h3 my-2">{v.price or w.request}'
        + opt(v.old, f' <small class="text-muted text-decoration-line-through">{v.old}</small>')
        + f'</p><a href="#" class="btn btn-primary">{v.button}</a></div>'
        '<ul class="list-group list-group-flush">'
        + opt(v.sku, f'<li class="list-group-item">{w.skus[2]}: {v.sku}</li>')
        + opt(
            v.stars,
            f'<li class="list-group-item">{v.stars} <span class="badge">'
            f"{v.product.votes}</span></li>",
        )
        + f"</ul></div></div></div>{details(v)}{related(v)}{reviews(v)}</div>"
    )

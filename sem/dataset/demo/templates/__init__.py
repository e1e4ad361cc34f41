"""Product page templates by name; every one places the same facts differently."""

from sem.dataset.demo.templates import marked, plain, systems, tricky
from sem.dataset.demo.view import Template

TEMPLATES: dict[str, Template] = {
    made.__name__: made
    for made in (
        plain.div_soup,
        plain.table_layout,
        plain.definition_list,
        plain.article,
        marked.microdata,
        marked.data_attributes,
        marked.json_ld,
        marked.aria_price,
        marked.meta_price,
        systems.wordpress,
        systems.hosted_theme,
        systems.enterprise,
        systems.bootstrap_card,
        tricky.split_price,
        tricky.currency_word,
        tricky.sale_first,
        tricky.decoys_first,
        tricky.variants_form,
    )
}

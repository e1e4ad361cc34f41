"""The demo store is deterministic, varied, honest, and not readable from one selector."""

import html
import json
import re
from collections import Counter, defaultdict
from dataclasses import replace
from functools import cache

import duckdb
import pytest
from jsonschema import Draft202012Validator
from paths import ROOT
from selectolax.lexbor import LexborHTMLParser

from sem.core import taskspec
from sem.core.errors import SemError
from sem.dataset.demo import seeded, write
from sem.dataset.demo.page import CLASSIFIER, EXTRACTOR, drop_closing_tags, uppercase_tags
from sem.dataset.demo.vocabulary import load_shop_words
from sem.dataset.store.store import COLUMNS, RawRow

TASKS = {
    name: taskspec.load_taskspec(ROOT / "configs" / "demo" / "tasks" / f"{name}.yaml")
    for name in (EXTRACTOR, CLASSIFIER)
}
SELECTORS = (
    ".price",
    "[class*=price]",
    "[class*=Price]",
    "[itemprop=price]",
    "[id*=price]",
    "ins",
    "[data-price]",
    "[data-product-price]",
    "meta[property='product:price:amount']",
    "strong",
    "b",
    "[aria-label]",
    "output",
    "main p",
    ".h3",
    "td b",
    "dd",
    "bdi",
    "sup",
    "h1 + div",
    "[role=status]",
    "button",
    "form",
    "main",
    "table",
    "del + *",
    "section p",
    "span span",
)


@cache
def rows() -> tuple[RawRow, ...]:
    return tuple(write.demo_rows(TASKS))


@cache
def pages() -> tuple[tuple[str, dict, dict], ...]:
    """HTML, reference and metadata of every product page of the extractor."""
    return tuple(
        (markup(row), json.loads(row.reference), json.loads(row.metadata))
        for row in rows()
        if row.task == EXTRACTOR
    )


def markup(row: RawRow) -> str:
    return row.input_text.split("\n\n", 1)[1]


def spellings(price: float) -> set[str]:
    """Return `price` in every grouping a market writes, without blanks."""
    whole, cents = f"{price:.2f}".split(".")
    grouped = {f"{int(whole):,}".replace(",", mark) for mark in ("", ",", ".", "'", "’")}
    made = {f"{number}{mark}{cents}" for number in grouped for mark in (".", ",")}
    return made | (grouped if cents == "00" else set())


def flat(text: str) -> str:
    """Return `text` without blanks, as prices are compared."""
    return re.sub(r"\s", "", text)


def names_price(text: str, price: float) -> bool:
    digits = flat(text)
    return any(re.search(rf"(?<!\d){re.escape(s)}(?!\d)", digits) for s in spellings(price))


def test_the_same_seed_gives_the_same_rows_and_another_seed_others():
    first, again = write.demo_rows(TASKS, 7, 120), write.demo_rows(TASKS, 7, 120)
    other = write.demo_rows(TASKS, 8, 120)
    assert first == again
    assert [row.id for row in first] == sorted(row.id for row in first)
    assert not {row.input_text for row in first} & {row.input_text for row in other}


def test_there_are_as_many_rows_shops_and_templates_as_promised():
    tasks = Counter(row.task for row in rows())
    shops_of = defaultdict(set)
    for row in rows():
        meta = json.loads(row.metadata)
        shops_of[meta["template"]].add(meta["domain"])
    assert len(rows()) == len({row.id for row in rows()}) == write.EXAMPLES
    assert 0.70 < tasks[EXTRACTOR] / len(rows()) < 0.80
    assert len(set.union(*shops_of.values())) == 72
    assert len(shops_of) >= 14
    assert min(map(len, shops_of.values())) >= 4


def test_languages_and_currencies_are_many_and_a_template_meets_several():
    languages = defaultdict(set)
    currencies = Counter(reference["currency"] for _, reference, _ in pages())
    for _, _, meta in pages():
        languages[meta["template"]].add(meta["language"])
    assert len(set.union(*languages.values())) >= 8
    assert len(set(currencies) - {None}) >= 8
    assert min(map(len, languages.values())) >= 2


def test_every_reference_fits_its_schema():
    validators = {name: Draft202012Validator(spec.io_schema) for name, spec in TASKS.items()}
    for row in rows():
        validators[row.task].validate(json.loads(row.reference))
        assert json.loads(row.slot_specs) == TASKS[row.task].rubric["slots"]


@pytest.mark.parametrize("field", ["price", "availability", "brand", "sku", "rating"])
def test_every_optional_field_is_sometimes_null_and_mostly_not(field):
    nulls = sum(reference[field] is None for _, reference, _ in pages()) / len(pages())
    assert 0.01 < nulls < 0.5


def test_evidence_of_every_value_is_on_the_page():
    for raw, reference, meta in pages():
        text = html.unescape(raw)
        price = reference["price"]
        assert reference["title"] in text, meta
        assert (reference["brand"] or "") in text, meta
        assert (reference["sku"] or "") in text, meta
        assert price is None or names_price(re.sub(r"<[^>]*>", "", text) + text, price), meta


def test_a_null_price_leaves_no_price_behind():
    marks = ("product:price:amount", 'itemprop="price"', "data-product-price", '"offers":')
    for raw, reference, meta in pages():
        if reference["price"] is None:
            assert load_shop_words(meta["language"]).request in raw, meta
            assert not [mark for mark in marks if mark in raw], meta


def test_a_null_fact_is_not_said_anywhere():
    for raw, reference, meta in pages():
        words, text = load_shop_words(meta["language"]), html.unescape(raw)
        stock = (*words.out_of_stock, *words.preorder, *words.in_stock)
        said = {
            "rating": re.findall(words.stars.format(r="[0-9.,]+"), text),
            "sku": [f">{label}:" for label in words.skus] + ['itemprop="sku"', '"sku":'],
            "availability": [f">{phrase}<" for phrase in stock] + ["schema.org/InStock"],
            "brand": [f">{words.brand}<", 'itemprop="brand"', '"brand":'],
        }
        for name, phrases in said.items():
            if reference[name] is None:
                assert not [phrase for phrase in phrases if phrase in text], (name, meta)


def test_evidence_check_can_fail():
    assert names_price("nur 1.299,99 €", 1299.99)
    assert names_price("12,800円", 12800)
    assert not names_price("nur 11.299,99 €", 1299.99)
    assert not names_price("129,99", 1299.99)


@pytest.mark.parametrize("selector", SELECTORS)
def test_no_single_selector_reads_the_price_of_many_pages(selector):
    priced = [(raw, ref["price"]) for raw, ref, _ in pages() if ref["price"] is not None]
    hits = 0
    for raw, price in priced:
        node = parsed(raw).css_first(selector)
        hits += node is not None and read(node) in spellings(price)
    assert hits / len(priced) < 0.4


def test_no_first_element_of_any_tag_class_or_attribute_reads_the_price():
    priced = [(raw, ref["price"]) for raw, ref, _ in pages()[::3] if ref["price"] is not None]
    hits = Counter(key for raw, price in priced for key in keys_that_read(raw, price))
    assert hits.most_common(1)[0][1] / len(priced) < 0.25, hits.most_common(3)


def keys_that_read(raw: str, price: float) -> set[str]:
    """Tags, classes and attributes whose first element on the page `raw` is its `price`."""
    seen, reading = {"html", "body"}, set()
    for node in parsed(raw).root.traverse():
        given = node.attributes
        keys = {node.tag, *(given.get("class") or "").split(), *(f"[{name}]" for name in given)}
        if keys - seen and read(node) in spellings(price):
            reading |= keys - seen
        seen |= keys
    return reading


def test_selector_checks_can_fail():
    page = '<div><p>1,00 €</p><b class="now x" data-y>1.299,99 €</b><i class="x">2</i></div>'
    assert keys_that_read(page, 1299.99) == {"b", "now", "x", "[class]", "[data-y]"}


def read(node) -> str:
    """Return the price an extractor takes from `node`.

    Its own value, else its text, currency cut off.
    """
    given = node.attributes
    value = given.get("content") or given.get("data-product-price") or node.text()
    return re.sub(r"^[^\d]+|[^\d]+$", "", flat(value))


@cache
def parsed(raw: str) -> LexborHTMLParser:
    return LexborHTMLParser(raw)


@pytest.mark.parametrize("selector", ["title", "h1", "h2", "[itemprop=name]", "legend"])
def test_no_single_selector_reads_the_title_of_most_pages(selector):
    nodes = [(parsed(raw).css_first(selector), ref["title"]) for raw, ref, _ in pages()]
    hits = sum(node is not None and title in node.text() for node, title in nodes)
    assert hits / len(nodes) < 0.65


def test_listings_hold_their_next_link_and_as_many_products_as_they_say():
    for row in rows():
        reference = json.loads(row.reference)
        following = reference.get("next_page_url")
        hrefs = [a.attributes.get("href") for a in LexborHTMLParser(markup(row)).css("a[href]")]
        assert following is None or following in hrefs
        if reference.get("item_count"):
            assert len({h for h in hrefs if h.startswith("/p/")}) == reference["item_count"]


def test_about_three_percent_repeat_a_page_with_the_same_reference():
    found = defaultdict(list)
    for row in rows():
        found[row.task, row.input_text].append(row.reference)
    repeated = sum(len(answers) - 1 for answers in found.values())
    assert repeated == int(write.EXAMPLES * write.DUPLICATE_SHARE) == 36
    assert all(len(set(answers)) == 1 for answers in found.values())


def test_some_pages_are_malformed_some_shout_and_charsets_differ():
    raw = [markup(row) for row in rows()]
    broken = sum(not is_balanced(page) for page in raw) / len(raw)
    charsets = {m[1].lower() for page in raw if (m := re.search(r'charset="?([\w-]+)', page))}
    assert 0.04 < broken < 0.12
    assert 0 < sum("<DIV" in page for page in raw) < 60
    assert len(charsets) >= 3


def is_balanced(page: str) -> bool:
    """Return whether divs, spans, cells and bodies open as often as they close."""
    page = re.sub(r"(?is)<script.*?</script>", "", page)
    return "<body" in page.lower() and all(
        len(re.findall(rf"(?i)<{tag}[\s>]", page)) == len(re.findall(rf"(?i)</{tag}>", page))
        for tag in ("div", "span", "td", "li")
    )


def test_damage_does_not_hide_the_page():
    for raw, reference, meta in pages():
        tree = LexborHTMLParser(raw)
        for hidden in tree.css("[hidden], [style*='display:none'], [style*='display: none']"):
            hidden.decompose()
        assert reference["title"] in tree.body.text(), meta


def test_an_unclosed_tag_is_never_that_of_a_hidden_part():
    hidden = '<div style="display:none"><p>old</p></div>'
    page = f"<head></head><body>{hidden}<div><p>new</p></div></body>"
    for seed in range(20):
        damaged = drop_closing_tags(page, seeded.seeded_random(seed))
        assert hidden in damaged
        assert damaged != page


def test_upper_case_tags_leave_scripts_alone():
    page = '<p>a</p><script>if(a<b){x="<p>"}</script><br>'
    assert uppercase_tags(page) == '<P>a</P><script>if(a<b){x="<p>"}</script><BR>'


def test_the_store_is_replaced_whole_and_reads_back(tmp_path):
    store, made = tmp_path / "raw" / "dataset.duckdb", write.demo_rows(TASKS, 3, 40)
    write.write_demo_rows(store, write.demo_rows(TASKS, 4, 40))
    write.write_demo_rows(store, made)
    with duckdb.connect(str(store), read_only=True) as reader:
        read = reader.execute(f"SELECT {', '.join(COLUMNS)} FROM examples ORDER BY id").fetchall()
        version = reader.execute("SELECT tags FROM duckdb_databases() WHERE NOT internal")
        assert "v1.2.0" in str(version.fetchall())
    assert [row[0:3] for row in read] == [(row.id, row.task, row.input_text) for row in made]
    assert [row[3] for row in read] == [row.reference for row in made]


def test_a_failed_write_leaves_the_old_store_and_no_remains(tmp_path):
    store, made = tmp_path / "dataset.duckdb", write.demo_rows(TASKS, 3, 40)
    write.write_demo_rows(store, made)
    before = store.read_bytes()
    with pytest.raises(SemError, match="different content"):
        write.write_demo_rows(store, [made[0], replace(made[1], id=made[0].id)])
    assert store.read_bytes() == before
    assert not list(tmp_path.glob(".tmp-*"))

"""Variants of training rows: the answer stays, train alone is read, the same seed repeats."""

import random

import growth
import kettles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rowmaker import copied

from sem.core.errors import SemError
from sem.core.project import Project
from sem.dataset.augment import augment, page_edits
from sem.dataset.augment.augment import VariantOptions
from sem.dataset.augment.page_edits import EditablePage
from sem.dataset.clean import grounding
from sem.dataset.html import markup
from sem.dataset.split import snapshot
from sem.dataset.store import store
from sem.dataset.store.examples_table import RawRow


@pytest.fixture(scope="module")
def master(tmp_path_factory) -> Project:
    """What every `shop` is a copy of."""
    return kettles.make(tmp_path_factory.mktemp("master"))


@pytest.fixture
def shop(master, tmp_path) -> Project:
    """A cleaned and cut project of 36 product pages of 12 shops."""
    return copied(master, tmp_path)


def test_variants_keep_the_answer_and_change_the_input(shop):
    done = augment.write_variants(shop, None, VariantOptions(each=6))
    train = kettles.rows(shop, "train")
    made = list(augment.read_variants(shop, snapshot.load_snapshot(shop, None)))

    assert done.facts["rows"] == len(made) > len(train)
    assert {e.meta["augmented"]["kind"] for e in made} >= {"shuffle", "distract", "currency"}
    for example in made:
        origin = train[example.meta["augmented"]["of"]]
        assert example.id == f"{origin['id']}~{example.meta['augmented']['kind']}"
        assert example.meta["augmented"]["seed"] == 0
        assert example.output_json == origin["output_json"]
        assert example.input_text != origin["input_text"]
        text = grounding.SearchableText(example.input_text)
        assert all(
            grounding.is_grounded(v, text) for _, v in grounding.scalar_leaves(example.output_json)
        )


def test_val_and_test_are_neither_read_nor_reached(shop, monkeypatch):
    read = []
    real = snapshot.Snapshot.examples
    monkeypatch.setattr(
        snapshot.Snapshot, "examples", lambda self, part: read.append(part) or real(self, part)
    )
    augment.write_variants(shop, None, VariantOptions(each=6))

    assert set(read) == {"train"}
    others = {**kettles.rows(shop, "val"), **kettles.rows(shop, "test")}
    made = list(augment.read_variants(shop, snapshot.load_snapshot(shop, None)))
    assert not {e.meta["augmented"]["of"] for e in made} & set(others)
    assert not {e.domain for e in made} & {row["meta"]["domain"] for row in others.values()}


def test_the_same_seed_gives_the_same_bytes_whatever_the_order_and_another_seed_others(shop):
    first = augment.write_variants(shop, None, VariantOptions(each=3)).facts["sha256"]
    other = augment.write_variants(shop, None, VariantOptions(each=3, seed=1)).facts["sha256"]
    shop.store.unlink()
    backwards = [kettles.page(s, n) for s in range(11, -1, -1) for n in (2, 0, 1)]
    store.append_store_rows(shop.store, backwards)

    assert (
        augment.write_variants(shop, None, VariantOptions(each=3)).facts["sha256"]
        == first
        != other
    )


def test_a_row_that_changed_in_the_store_has_no_variants_and_is_counted(shop):
    name = min(kettles.rows(shop, "train"))
    changed = kettles.page(int(name[1:3]), int(name[4:]))
    html = changed.input_text.replace("only", "today")
    row = RawRow(changed.id, "price", html, changed.reference, changed.metadata)
    store.append_store_rows(shop.store, [row], "replace")

    done = augment.write_variants(shop, None, VariantOptions())

    assert done.facts["refused"]["row_differs_from_snapshot"] == 1
    made = augment.read_variants(shop, snapshot.load_snapshot(shop, None))
    assert name not in {example.meta["augmented"]["of"] for example in made}


def test_variants_that_were_touched_are_refused(shop):
    done = augment.write_variants(shop)
    done.path.chmod(0o644)
    done.path.write_text("{}\n", "utf-8")

    with pytest.raises(SemError, match=r"augmented\.v1\.jsonl is ca3d") as caught:
        list(augment.read_variants(shop, snapshot.load_snapshot(shop, None)))
    assert caught.value.hint == "make it again with `fab dataset.augment`"


def test_before_there_are_variants_the_job_is_named(shop):
    with pytest.raises(SemError) as caught:
        list(augment.read_variants(shop, snapshot.load_snapshot(shop, None)))

    assert caught.value.message == "augmented.v1.jsonl: no variants of v1"
    assert caught.value.hint == "make them with `fab dataset.augment`"


def test_an_unknown_kind_names_the_nearest():
    with pytest.raises(SemError) as caught:
        VariantOptions(kinds=("shufle",))

    assert str(caught.value.message) == "unknown kind of variant 'shufle'"
    assert "shuffle" in caught.value.hint


LIST = "<ul><li>a1x</li><li>b2y</li><li>c3z</li><li>d4w</li></ul>"


def edited(kind: str, source: str, reference=None, seed: int = 1, **more) -> str | None:
    return page_edits.KINDS[kind](
        EditablePage(source, reference or {}, **more), random.Random(seed)
    )


def test_siblings_move_but_not_where_they_hold_an_answer_or_are_ordered():
    assert edited("shuffle", LIST) != LIST
    assert sorted(edited("shuffle", LIST)) == sorted(LIST)
    assert edited("shuffle", LIST, {"items": ["b2y"]}) is None
    assert edited("shuffle", LIST.replace("ul>", "ol>")) is None


PRICES = [
    ("<p>12,99 €</p>", {"price": 12.99}, {"€12.99", "12,99 €", "€ 12,99"}),
    ("<p>was $1,299.00, now $999.50</p>", {"price": 999.5}, {"$999.50", "999,50 $", "$ 999,50"}),
]


@pytest.mark.parametrize(("source", "reference", "wanted"), PRICES)
def test_a_price_is_written_as_elsewhere_all_over_the_page(source, reference, wanted):
    made = {edited("currency", source, reference, seed) for seed in range(20)}

    assert len(made) == 3
    assert all(any(text in page for text in wanted) for page in made)
    assert all("$1,299.00" not in page or "$999.50" in page for page in made)


@pytest.mark.parametrize(
    ("source", "reference"),
    [
        ("<p>12,99 €</p>", {"price": 13.0}),  # another amount
        # a thousand, or one and a bit.
        ("<p>1.234 €</p>", {"price": 1234}),
        ("<p>12,99 €</p>", {"price": 12.99, "text": "12,99 €"}),  # asked for as written
        ("<p>12.99</p>", {"price": 12.99}),  # no currency
        ("<b>v1.12.99 €</b>", {"price": 12.99}),
    ],
)
def test_a_price_that_is_not_certain_stays(source, reference):
    assert edited("currency", source, reference) is None


def test_blocks_that_distract_hold_no_digit_address_or_form():
    source = "<body><div><p>x</p></div></body>"

    for language in ("en", "de", "fr", "es", "xx"):
        for seed in range(30):
            made = edited("distract", source, seed=seed, language=language)
            added = made.replace("<p>x</p>", "")
            assert not any(sign.isdigit() for sign in added.replace("h4", ""))
            assert "href" not in added
            assert "<form" not in added


@pytest.mark.parametrize("kind", ["shuffle", "malform", "attributes", "distract", "respell"])
def test_a_text_that_is_no_page_has_no_markup_to_edit(kind):
    assert edited(kind, "just 5 words of text", is_html=False) is None


def test_code_and_comments_are_passed_over():
    source = "<script>if (a<b) x='</p>'</script><!-- <p> --><title><b></title><p>y</p>"

    assert [tag.name for tag in page_edits.scan_tags(source)] == ["script", "title", "p", "p"]


BITS = (
    "<ul>|</ul>|<li>|</li>|<div class='a'>|</div>|<p|>|\"|'|<!--|-->|<script>|</script>|<br/>|"
    "12,99 €|word |<b>x</b>|<a href=x>|</title>|&amp;|<td>|</TD >"
)
HTML = st.lists(st.sampled_from(BITS.split("|")), max_size=40).map("".join)


@settings(max_examples=150, deadline=None)
@given(HTML, st.sampled_from(sorted(page_edits.KINDS)), st.integers(0, 99))
def test_no_page_is_too_broken_to_edit_and_then_to_clean(source, kind, seed):
    reference = {"price": 12.99, "word": "word"}
    once = edited(kind, f"<body>{source}", reference, seed)

    assert once == edited(kind, f"<body>{source}", reference, seed)
    assert once is None or markup.simplify_page(once).text == markup.simplify_page(once).text


@pytest.mark.parametrize("bomb", ["<", "<div>", "<li>a</li>", '<a b="', "<!--", "<b></i>", "</p>"])
def test_scanning_takes_linear_time(bomb):
    def work(count: int) -> None:
        page_edits.find_sibling_runs(bomb * count, page_edits.SHUFFLED)
        list(page_edits.shown_texts(bomb * count))

    # Linear is 4, quadratic 16.
    assert growth.least_growth(work, 3_000, 12_000, 9) < 9


def test_a_row_has_as_many_variants_as_were_asked_for_where_that_many_differ(shop):
    done = augment.write_variants(shop, None, VariantOptions(each=1))
    variants = augment.read_variants(shop, snapshot.load_snapshot(shop, None))
    made = [example.meta["augmented"]["of"] for example in variants]

    assert len(made) == len(set(made)) == len(kettles.rows(shop, "train"))
    assert done.facts["refused"]["not_needed"] > 0

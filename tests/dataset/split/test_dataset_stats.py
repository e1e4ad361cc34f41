"""The page about a set: every figure is there, a stranger's text is inert, phones fit."""

import json
import re
import shutil
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest
from rowmaker import fill, project, read, row, shops

from sem.dataset.clean import clean
from sem.dataset.split import dataset_stats, snapshot

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
EVIL = (
    "</td></style><script>fetch('http://evil.example/x')</script>"
    "<img src=http://evil.example/p.png onerror=alert(1)><a href='javascript:alert(1)'>x</a>"
    '"><iframe src="http://evil.example"></iframe>{{ 7*7 }}{% raw %}'
)
LONG = "a" * 300 + "/" + "b" * 300


def lengths(texts: list[str]) -> list[int]:
    return [len(text) for text in texts]


def frozen(tmp_path):
    """Ten shops in a snapshot; one label that its page does not hold, one row rejected."""
    made = fill(
        project(tmp_path),
        *shops(10),
        row("k1", reference=json.dumps({"title": "Teapot", "price": 4.5})),
        row("l1", reference='"{"'),
    )
    clean.clean_store(made)
    snapshot.freeze_snapshot(made, datetime(2026, 1, 1, tzinfo=UTC))
    return made


@pytest.fixture(scope="module")
def gathered(tmp_path_factory):
    made = frozen(tmp_path_factory.mktemp("stats"))
    return made, dataset_stats.gather_dataset_stats(made, None, lengths)


def test_a_label_that_is_not_in_its_input_is_listed(gathered):
    made, found = gathered

    assert found["ungrounded"] == 1
    assert read(made.reports / dataset_stats.UNGROUNDED) == [
        {"id": "k1", "task": "product", "slot": "title", "value": "Teapot"}
    ]


def test_the_figures_are_those_of_every_part(gathered):
    _, found = gathered
    whole = found["tasks"]["product"]

    assert set(whole["parts"]) == {"train", "val", "test"}
    assert sum(one["rows"] for one in whole["parts"].values()) == whole["rows"] == 31
    assert whole["slots"]["title"]["grounding"]["absent"] == round(1 / 31, 4)
    assert found["rejected"] == {"reference_not_json": 1}
    assert (found["read"], found["kept"]) == (32, 31)


def test_markdown_holds_each_table(gathered):
    _, found = gathered
    text = dataset_stats.dataset_stats_markdown(found)

    assert "1 label values are not in their input: `ungrounded.jsonl`" in text
    assert re.search(r"\| product\.title \| 100\.0 % \| 0\.0 % .*\| 3\.2 % \|", text)
    assert "| reference_not_json |" in text
    assert "| the same reference |" in text


def test_before_the_first_snapshot_the_cleaned_rows_are_described(tmp_path):
    made = fill(project(tmp_path), *shops(3))
    clean.clean_store(made)

    found = dataset_stats.gather_dataset_stats(made, None, None)
    path = dataset_stats.write_dataset_stats(made, found)

    assert found["of"] == "clean.jsonl"
    assert found["certificate"] is None
    assert "shop: dataset clean.jsonl" in path.read_text()


def hostile(found: dict, text: str) -> dict:
    """Return `found` with `text` wherever a stranger can write."""
    task = json.loads(json.dumps(found["tasks"]["product"]))
    task["strata"] = {text: 3}
    task["domains"]["largest"] = {text: 3, "": 1}
    task["slots"] = {text: {**task["slots"]["title"], "labels": {text: 2, "b": 1}, "balance": 0.9}}
    return {
        **found,
        "sem": text[:60],
        "tasks": {text: task},
        "pii": {text: {text: 1}},
        "rejected": {text: 2},
    }


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.live: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        self.live += [n for n, _ in attrs if n in ("src", "href", "srcset") or n[:2] == "on"]


def test_a_stranger_s_text_is_inert(gathered):
    text = dataset_stats.dataset_stats_html(hostile(gathered[1], EVIL))
    tags = Tags(text)

    assert not tags.names & {"script", "img", "iframe", "a", "form", "link", "object"}
    assert tags.live == []
    assert "{{ 7*7 }}" in text
    assert "default-src 'none'" in text
    assert "<script" not in dataset_stats.dataset_stats_markdown(hostile(gathered[1], EVIL))


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("text", ["shop", EVIL, LONG], ids=["plain", "hostile", "long"])
@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
def test_a_browser_shows_it_without_any_request(tmp_path, gathered, text, width):
    from playwright.sync_api import sync_playwright

    found = gathered[1] if text == "shop" else hostile(gathered[1], text)
    path = tmp_path / "page.html"
    path.write_text(dataset_stats.dataset_stats_html(found))
    requests: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": width, "height": 900})
        opened.on("request", lambda request: requests.append(request.url))
        opened.on("dialog", lambda dialog: requests.append(dialog.message))
        opened.goto(path.as_uri())
        picture = opened.screenshot(path=tmp_path / "page.png", full_page=True)
        wide = opened.evaluate("document.documentElement.scrollWidth")
        tall = opened.evaluate(
            "Math.max(...[...document.querySelectorAll('.hist i')].map(i => i.offsetHeight))"
        )
        title = opened.inner_text("h1")
        browser.close()

    assert requests == [path.as_uri()]
    assert wide <= width
    assert tall > 50
    assert re.search(r": dataset v1$", title)
    assert len(picture) > 10_000

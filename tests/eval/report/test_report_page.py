"""report.html: what a person looks at, in a real browser, with hostile text inside."""

import re
import shutil
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from scores import one

from sem.core.example import Example
from sem.eval.answers.answers import Answer
from sem.eval.config import EvalSettings
from sem.eval.report import plots, report, report_page

EVIL = (
    "</pre></td></style><script>fetch('http://evil.example/x')</script>"
    "<img src=http://evil.example/p.png onerror=alert(1)><a href='javascript:alert(1)'>x</a>"
    '"><iframe src="http://evil.example"></iframe>{{ 7*7 }}{% raw %}\x1b[31m'
)
LONG = "a" * 400 + "/" + "b" * 400
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@dataclass
class Side:
    name: str
    examples: list[Example]


@dataclass
class FakeReading:
    """Two runs that answered in memory."""

    compared: report.Comparison
    before: Side
    after: Side
    said: dict[str, dict[str, Answer]] = field(default_factory=dict)

    def answers(self, side: Side) -> dict[str, Answer]:
        return self.said[side.name]


def reading(text: str) -> FakeReading:
    """Twelve examples of four domains; `text` stands wherever a stranger can write."""
    marks = [("-", "+"), ("+", "-"), ("+", "+"), ("-", "-")] * 3
    slot = f"title {text[:200]}"
    sides = [
        [
            one(f"e{n:02}", f"shop{n % 4}{text}", {slot: mark[side], "price": "+"})
            for n, mark in enumerate(marks)
        ]
        for side in (0, 1)
    ]
    examples = [Example(f"e{n:02}", "price", text * 3, {"title": text}, {}) for n in range(12)]
    said = {e.id: Answer(e.id, "price", text, "stop", 9, 9, 40, 4) for e in examples}
    facts: dict[str, Any] = {
        "sem": text[:60],
        "notes": [text],
        "settings": {"draws": 100, "seed": 1},
        "snapshot": {
            "version": 1,
            "sha256": "0",
            "train_domains": 3,
            "split_domains": 4,
            "shared_domains": [],
            "query": "SELECT 1",
        },
    }
    compared = report.Comparison("base", "run", "test", *sides, facts)
    sides = Side("base", examples), Side("run", examples)
    return FakeReading(compared, *sides, {"base": said, "run": said})


def written(folder: Path, text: str) -> Path:
    made = reading(text)
    totals = {
        "accuracy": 0.5,
        "json_valid": 1.0,
        "schema_valid": 1.0,
        "tokens_out": 9.0,
        "cut": 0,
        "batch_latency_ms_p50": 40,
    }
    found = report.report_scores(made.compared, EvalSettings(draws=100))
    found |= {"strong": None, "confusions": {"t.kind": {"counts": {text: {text: 2, "B": 1}}}}}
    found["decoding"] = {"baseline": {"free": totals}, "tuned": {"free": totals}}
    return report_page.write_html_report(folder, found, made)


class Tags(HTMLParser):
    """Names of elements, and every attribute that could fetch or run something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.live: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.live += [n for n, _ in attrs if n in ("src", "href", "srcset") or n[:2] == "on"]


def test_a_stranger_s_text_is_inert(tmp_path):
    text = written(tmp_path, EVIL).read_text()
    tags = Tags(text)

    assert not tags.names & {"script", "img", "iframe", "form", "link", "object"}
    # Our own, to the page about the dataset.
    assert tags.live == ["href"]
    assert text.count("<a ") == 1
    assert '<a href="../dataset_stats.html">' in text
    assert "{{ 7*7 }}" in text  # shown, not computed
    assert "default-src 'none'" in text


def test_losses_come_first_and_are_counted(tmp_path):
    shown, counts = report_page.select_flips(reading("x"))

    assert counts == {"broken": 3, "fixed": 3, "both": 3, "right": 3}
    assert [flip.kind for flip in shown[:4]] == ["broken", "broken", "broken", "fixed"]


def test_marks_stand_where_their_numbers_are():
    made = plots.build_forest_plot(
        [plots.Interval("a", 10, 0, 20, 5), plots.Interval("b", -5, -9, -1, 5)]
    )

    assert made["reach"] == 21
    assert [(m["shown"], m["at"]) for m in made["rows"]] == [("open", 73.81), ("loss", 38.1)]
    assert made["rows"][0]["left"] == 50


def test_latency_steps_end_at_one():
    made = plots.cumulative_steps({"run": [10.0, 20.0]})

    assert made["paths"]["run"] == "M0 200L300.0 200.0L300.0 100.0L600.0 100.0L600.0 0.0L600 0"


def test_a_confusion_matrix_has_every_label_as_a_column():
    (made,) = plots.build_heatmaps(
        {"t.kind": {"counts": {"A": {"A": 3, "B": 1}, "C": {"(null)": 2}}}}
    )

    assert made["columns"] == ["(null)", "A", "B", "C"]
    assert [c["share"] for c in made["rows"][0]["cells"]] == [0, 0.75, 0.25, 0]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("text", ["Blue mug", EVIL, LONG], ids=["plain", "hostile", "long"])
@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
def test_a_browser_shows_it_without_any_request(tmp_path, text, width):
    from playwright.sync_api import sync_playwright

    path = written(tmp_path, text)
    requests: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": width, "height": 900})
        opened.on("request", lambda request: requests.append(request.url))
        opened.on("dialog", lambda dialog: requests.append(dialog.message))
        opened.goto(path.as_uri())
        opened.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        picture = opened.screenshot(path=tmp_path / "page.png")
        wide = opened.evaluate("document.documentElement.scrollWidth")
        title = opened.inner_text("h1")
        browser.close()

    assert requests == [path.as_uri()]
    assert wide <= width
    assert re.search(r"run against base$", title)
    assert len(picture) > 10_000

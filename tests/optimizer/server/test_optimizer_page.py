"""The page at / in a real browser: by keyboard, on a phone, with a hostile rewrite."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from rewriters import Served, load, make_optimizer
from toy import make_t5

from sem.optimizer.model.rewriter import Rewrite
from sem.optimizer.server import network
from sem.optimizer.server.service import FILE

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
KEY = "k" * 24
EVIL = "<img src=x onerror=alert(1)><script>alert(2)</script> & \"'"


class Answering:
    """The real rewriter with one text in the place of its own, so that a test knows it."""

    def __init__(self, real: Any, text: str) -> None:
        self.real, self.said = real, text
        self.limit, self.end, self.speaker, self.text = (
            real.limit,
            real.end,
            real.speaker,
            real.text,
        )

    def count(self, prompt: str) -> int:
        return self.real.count(prompt)

    def rewrite(self, prompts: Any, decoding: Any, watch: Any = None) -> list[Rewrite]:
        self.real.rewrite(prompts, decoding, watch)
        return [Rewrite(self.said, -0.1, 9, True) for _ in prompts]


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> network.Network:
    made = tmp_path_factory.mktemp("tree")
    make_optimizer(made, make_t5(made / "t5"))
    return load(made)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def serve(real, tmp_path: Path):
    running = []

    def start(text: str, **settings: Any) -> Served:
        answering = Answering(real.rewriter, text)
        loaded = network.Network(real.name, real.base, answering, real.calibration)
        running.append(Served(tmp_path, lambda: loaded, **settings).until_loaded())
        return running[0]

    yield start
    for each in running:
        each.__exit__(None, None, None)


class Seen:
    """A page of `browser` at `served`, and whatever it asked for or complained about."""

    def __init__(self, browser: Any, served: Served, width: int = 1280) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 900})
        self.complaints: list[str] = []
        self.asked: set[str] = set()
        self.page.on("console", lambda said: self.complaints.append(said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.on("request", lambda request: self.asked.add(request.url))
        self.page.goto(str(served.http.base_url))
        # Waiting for an expression would evaluate it in the page, whose policy forbids that.
        self.page.locator("#state").filter(has_text=re.compile("^Ready")).wait_for()

    def rewrite(self, prompt: str) -> None:
        """Type `prompt`, press Ctrl+Enter, wait for the result."""
        # The field has the focus from the start.
        self.page.keyboard.type(prompt)
        self.page.keyboard.press("Control+Enter")
        self.page.wait_for_selector("#summary:not(:empty)")


LAYOUT = (
    "Act as a careful editor.\n\nContext: A team needs it.\n\nTask: sort a list\n\nConstraints:\n"
    "- Keep it short\n- Name the language\n\nSteps:\n1. Read\n2. Write\n\nGoal: A sorted list."
)


@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
def test_a_prompt_is_rewritten_and_judged_by_keyboard_alone(serve, browser, tmp_path, width):
    served = serve(LAYOUT)
    seen = Seen(browser, served, width)
    seen.rewrite("sort a list")
    page = seen.page

    assert page.inner_text("#text") == LAYOUT
    assert page.inner_text("#text ins >> nth=0").startswith("Act as a careful editor.")
    assert "sort a list" not in " ".join(page.locator("#text ins").all_inner_texts())
    said = page.inner_text("#summary")
    assert re.fullmatch(r"Confidence 9\d %\. 29 words added, 0 removed\.", said), said
    assert page.evaluate("document.activeElement.id") == "rewritten"
    tab_to(page, "Useful")
    page.keyboard.press("Enter")
    page.wait_for_selector("#thanks:not(:empty)")
    (row,) = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    assert (row["raw_prompt"], row["edited_prompt"], row["success_score"]) == (
        "sort a list",
        LAYOUT,
        1,
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert len(page.screenshot(path=tmp_path / "page.png", full_page=True)) > 10_000
    assert seen.complaints == []
    assert {url.split("/")[2] for url in seen.asked if not url.startswith("data:")} == {
        f"127.0.0.1:{served.port}"
    }


def tab_to(page: Any, label: str) -> None:
    """Press Tab until the button `label` has the focus."""
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == label:
            return
    raise AssertionError(f"{label} is not reached by Tab")


def test_a_rewrite_is_text_and_never_markup(serve, browser):
    seen = Seen(browser, serve(EVIL))
    seen.rewrite("a < b & <b>bold</b>")

    assert seen.page.inner_text("#text ins >> nth=0").startswith("<img src=x onerror=alert(1)>")
    assert seen.page.locator("main img, main script, #text b").count() == 0
    assert seen.page.inner_text("#summary").startswith("Confidence 47 %: better keep your own.")
    assert seen.complaints == []


def test_what_changed_can_be_hidden_and_the_own_version_sent(serve, browser, tmp_path):
    seen = Seen(browser, serve("sort the list by size"))
    seen.rewrite("sort a list")
    page = seen.page
    assert page.locator("#text del").all_inner_texts() == ["a "]
    page.uncheck("#marked")
    assert page.inner_text("#text") == "sort the list by size"
    assert page.locator("#text ins").count() == 0
    page.click("summary")
    page.fill("#edited", "my own")
    page.click("text=Not useful")
    page.wait_for_selector("#thanks:not(:empty)")

    (row,) = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    assert (row["edited_prompt"], row["success_score"]) == ("my own", 0)


def test_a_refusal_is_said_in_its_own_words(serve, browser):
    seen = Seen(browser, serve("x"))
    seen.page.fill("#prompt", "word " * 200)
    seen.page.click("#go")
    seen.page.wait_for_selector("#fault:not(:empty)")

    assert re.fullmatch(
        r"the prompt is \d+ tokens, at most 128 are read", seen.page.inner_text("#fault")
    )
    assert seen.page.locator("#result").is_hidden()
    assert seen.page.locator("#go").is_enabled()


def test_a_key_is_asked_for_where_one_is_needed(real, browser, tmp_path):
    with Served(tmp_path, lambda: real, KEY).until_loaded() as served:
        seen = Seen(browser, served)
        seen.page.keyboard.type("write code")
        seen.page.keyboard.press("Control+Enter")
        seen.page.wait_for_selector("#key")
        assert "send the API key" in seen.page.inner_text("#fault")
        seen.page.fill("#key", KEY)
        seen.page.click("#go")
        seen.page.wait_for_selector("#summary:not(:empty)")
        assert seen.page.locator("#fault").is_hidden()


def test_the_api_s_own_page_lists_every_route_from_nowhere_else(serve, browser):
    served = serve("x")
    seen = Seen(browser, served)
    seen.page.goto(f"{served.http.base_url}/docs")
    seen.page.wait_for_selector("section.route")
    titles = seen.page.locator("section.route h2").all_inner_texts()

    assert titles == [
        "POST /optimize",
        "POST /optimize/stream",
        "POST /optimize/batch",
        "POST /feedback",
        "GET /health",
        "GET /rules",
    ]
    assert "most output tokens" in seen.page.inner_text("section.route >> nth=0")
    assert seen.complaints == []


def test_a_page_without_a_model_names_the_cure(browser, tmp_path):
    # It said that no model was loaded, and not what to do about it.
    make_t5(tmp_path / "t5")
    with Served(tmp_path, lambda: load(tmp_path)) as served:
        page = browser.new_page()
        page.goto(str(served.http.base_url))
        page.locator("#state").filter(has_text="fab optimizer.").wait_for()

        assert page.inner_text("#state").startswith("No model is loaded: ")
        assert served.http.get("/health").json()["cure"] in page.inner_text("#state")

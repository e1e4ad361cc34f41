"""The page at / in a real browser: ask, see value, confidence and grounding; nothing is markup."""

import re
import shutil
from dataclasses import replace
from typing import Any

import pytest
from experts import GatedExpert, ServedExpert

from sem import Expert
from sem.package.serve.slot_readings import SlotReading

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
KEY = "k" * 24
EVIL = "<img src=x onerror=alert(1)><script>alert(2)</script>"
PAGE = "<h1>Red mug</h1><p>12.50</p>"


class AnsweringExpert(GatedExpert):
    """The real expert with a value of the test's in the place of its own."""

    def extract_many(self, questions: Any) -> Any:
        slots = {
            "price": SlotReading("price", "12.50", 0.97, True),
            "note": SlotReading("note", EVIL, None, False),
        }
        value = {name: reading.value for name, reading in slots.items()}
        return [
            extraction if extraction.refusal else replace(extraction, value=value, slots=slots)
            for extraction in super().extract_many(questions)
        ]


@pytest.fixture(scope="module")
def expert(package_master):
    with Expert.load(package_master, verify=False) as loaded:
        yield AnsweringExpert(loaded)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def open_page(browser: Any, served: ServedExpert, width: int = 1280) -> tuple[Any, list[str]]:
    """Return the page of `served` and the list of whatever it complains about."""
    page, complaints = browser.new_page(viewport={"width": width, "height": 900}), []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.goto(served.url)
    page.locator("#state").filter(has_text=re.compile("^Ready")).wait_for()
    return page, complaints


@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
def test_a_page_is_asked_by_keyboard_and_its_values_are_shown(
    expert, browser, tmp_path, width
) -> None:
    with ServedExpert(expert).until_ready() as served:
        page, complaints = open_page(browser, served, width)
        # The field has the focus from the start.
        page.keyboard.insert_text(PAGE)
        page.keyboard.press("Control+Enter")
        page.wait_for_selector("#slots tr")

        rows = [row.split("\t") for row in page.locator("#slots tr").all_inner_texts()]
        assert rows[1] == ["price", '"12.50"', "97 %", "yes"]
        assert rows[0][2:] == ["not known", "no"]
        assert page.locator("#text mark").all_inner_texts() == ["12.50"]
        assert "Red mug" in page.inner_text("#text")
        assert page.inner_text("#summary").startswith("Least sure slot: 97 %.")
        assert page.evaluate("document.activeElement.id") == "answer"
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        # What a model wrote is text.
        assert "<script>" in page.inner_text("#value")
        assert page.locator("main img, main script").count() == 0
        assert len(page.screenshot(path=tmp_path / "page.png", full_page=True)) > 10_000
        assert complaints == []


def test_a_refusal_is_shown_with_its_reason(expert, browser) -> None:
    with ServedExpert(expert).until_ready() as served:
        page, _ = open_page(browser, served)
        page.fill("#page", "<script>var a = 1;</script>")
        page.click("#go")
        page.wait_for_selector("#fault:not(:empty)")

        assert page.inner_text("#fault").endswith("[empty_input]")
        assert page.locator("#result").is_hidden()
        assert page.locator("#go").is_enabled()


def test_a_key_is_asked_for_where_one_is_needed(expert, browser) -> None:
    with ServedExpert(expert, (KEY,)).until_ready() as served:
        page, _ = open_page(browser, served)
        page.wait_for_selector("#key")
        page.fill("#key", KEY)
        page.fill("#page", PAGE)
        page.click("#go")
        page.wait_for_selector("#slots tr")

        assert page.locator("#fault").is_hidden()
        assert page.locator("#locked").is_hidden()

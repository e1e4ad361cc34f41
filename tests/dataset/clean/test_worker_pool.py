"""A bomb costs one worker at most; the pages around it are simplified as if it were not there."""

import os
import signal
import time

import growth
import pytest

from sem.dataset.clean import worker_pool
from sem.dataset.clean.worker_pool import PageJob, Pool
from sem.dataset.config import Clean, TaskOptions
from sem.dataset.html import bombs

OPTIONS = TaskOptions()
GOOD = "<h1>Mug</h1><p>$4.50</p>"
MANY = 50_000


def attributes(count: int, value: str = "=1") -> str:
    return "<div " + " ".join(f"a{n}{value}" for n in range(count)) + ">x</div>"


REFUSED = {
    "deep div": ("<div>" * 100_000, "page_depth"),
    "deep div, million": ("<div>" * 900_000, "page_depth"),
    "deep with spaces": ("<div >" * 60_000, "page_depth"),
    "deep mixed": ("<b><i><u>" * 3_000, "page_depth"),
    "deep custom tags": ("<x-y>" * 10_000, "page_depth"),
    "ten thousand": ("<section>" * 10_000 + "x" + "</section>" * 10_000, "page_depth"),
    "attributes": (attributes(MANY), "page_attributes"),
    "attributes without value": (attributes(MANY, ""), "page_attributes"),
    "50 MB": ("<p>" + "x" * 50_000_000, "page_size"),
    "5 MB of wide characters": ("<p>" + "\u4e00" * 1_700_000, "page_size"),
    "undecodable": ("<p>" + "caf\ufffd " * 100, "page_undecodable"),
}
HANDLED = {
    "tables": "<table><tr><td>" * 1_900,
    "20 MB attribute, cut": "<p title='" + "x" * 4_000_000 + "'>y</p>",
    "nul": "<p>\0a\0b" * 1_000,
    "lone surrogate": "<p>\ud800x</p>",
    "entities": "<p>" + "&amp;" * 400_000,
    "unclosed tags": "<div " * 200_000,
    "only openers": "<" * 1_000_000,
    "unclosed comments": "<p>x" + "<!-- " * 200_000,
    "unclosed scripts": "<p>x" + "<script " * 200_000,
    "adoption agency": "<a><p>" * 1_000,
    "many list items": "<ul>" + "<li>a" * 50_000,
    "paragraphs never closed": "<p>a" * 50_000,
    "json-ld bomb": f"<script type='application/ld+json'>{'[' * 100_000}</script><p>x",
    "styles": "<style>" + "a{" * 100_000 + "</style><p>x",
}


@pytest.fixture(scope="module")
def pool():
    with Pool(Clean()) as made:
        yield made


def one(pool: Pool, page: str, **options: object) -> worker_pool.PageOutcome:
    [(_, outcome)] = pool.map([(None, PageJob(page, TaskOptions(**options), None))])
    return outcome


@pytest.mark.parametrize("name", REFUSED)
def test_a_bomb_is_refused_by_name_within_two_seconds(pool, name):
    page, reason = REFUSED[name]
    start = time.perf_counter()

    assert one(pool, page).reason == reason
    # 2 s on an idle machine.
    assert time.perf_counter() - start < 15


@pytest.mark.parametrize("name", HANDLED)
def test_an_odd_page_is_simplified_or_refused_with_a_reason(pool, name):
    outcome = one(pool, HANDLED[name])

    assert outcome.reason in (None, "page_depth", "page_timeout", "page_memory", "page_crash")
    assert outcome.reason is not None or outcome.report is not None
    assert one(pool, GOOD).text == "# Mug\n$4.50"


def test_a_page_that_takes_too_long_ends_its_worker_only(pool):
    # One `>` in quotes hides the attributes from the linear scan, not from the clock.
    hidden = '<div x=">" ' + " ".join(f"a{n}=1" for n in range(120_000)) + ">x</div>"
    limits = Clean(workers=1, deadline_s=0.3, max_attributes=10**9)
    with Pool(limits) as small:
        jobs = [(n, PageJob(page, OPTIONS, None)) for n, page in enumerate([GOOD, hidden, GOOD])]
        outcomes = [outcome for _, outcome in small.map(jobs)]

    assert [outcome.reason for outcome in outcomes] == [None, "page_timeout", None]


def test_a_page_that_takes_too_much_memory_is_refused():
    with Pool(Clean(workers=1, memory_mib=90, deadline_s=20)) as small:
        heavy = one(small, "<p>" + "<b>x</b>" * 400_000)

        assert heavy.reason in ("page_memory", "page_crash")
        assert one(small, GOOD).reason is None


def test_outcomes_keep_the_order_of_their_pages(pool):
    pages = [GOOD if n % 7 else "<div>" * 9_000 for n in range(60)]
    jobs = [(n, PageJob(page, OPTIONS, None) if n % 5 else None) for n, page in enumerate(pages)]

    found = list(pool.map(jobs))

    assert [context for context, _ in found] == list(range(60))
    assert all((outcome is None) == (n % 5 == 0) for n, outcome in found)
    assert all(outcome.reason == "page_depth" for n, outcome in found if n % 7 == 0 and n % 5)


def test_a_killed_worker_is_replaced(pool):
    one(pool, GOOD)
    for worker in pool._workers:
        if worker._process is not None:
            os.kill(worker._process.pid, signal.SIGKILL)

    assert {one(pool, GOOD).reason for _ in range(4)} == {None}


def test_text_tasks_are_not_judged_as_markup(pool):
    assert one(pool, "<b>" * 5_000 + "\n a  <  b", input="text").reason is None


def test_common_markup_without_end_tags_is_not_deep():
    page = "<table>" + "<tr><td>a<td>b" * 5_000 + "</table>" + "<p>x<br><img src=a>" * 5_000

    assert bombs.page_fault(page, Clean()) is None


@pytest.mark.parametrize(
    "mark", ["<", "<!--", "<script>", "<div ", "<a href='", "</", "<svg><![CDATA["]
)
def test_the_scan_takes_linear_time(mark):
    def work(count: int) -> None:
        bombs.page_fault(mark * count, Clean(max_depth=10**9, max_attributes=10**9))

    # Linear is 10, quadratic 100.
    assert growth.least_growth(work, 40_000, 400_000, 30) < 30

"""Pages: one set-up for all of them, so its rules are tested once, on a page of its own."""

import jinja2
import pytest
from paths import ROOT

from sem.core import pages

PAGES = sorted((ROOT / "sem").rglob("*.html.j2"))


def page_of(tmp_path, content: str, **values) -> str:
    template = tmp_path / "own.html.j2"
    template.write_text(
        '{% extends "page.html.j2" %}{% block title %}{{ name }}{% endblock %}'
        "{% block content %}" + content + "{% endblock %}"
    )
    return pages.render_page(template, name="<b>&", **values)


def test_a_page_has_the_title_twice_the_policy_and_the_style(tmp_path):
    page = page_of(tmp_path, "{{ table(name, (('a',), ((name,),))) }}")

    assert page.count("&lt;b&gt;&amp;") == 4
    assert "<b>" not in page
    assert "default-src 'none'; style-src 'unsafe-inline'" in page
    assert pages.page_style() in page


def test_a_name_that_no_value_has_is_an_error(tmp_path):
    # An empty cell would look like a result.
    with pytest.raises(jinja2.UndefinedError):
        page_of(tmp_path, "{{ acuracy }}")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_page_extends_the_one_set_up_and_trusts_no_text(path):
    text = path.read_text("utf-8")

    assert path.parent == pages.FOLDER or text.startswith('{% extends "page.html.j2" %}')
    assert "|safe" not in text.replace(" ", "")

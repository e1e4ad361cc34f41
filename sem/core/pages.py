"""Pages of HTML: one set-up of Jinja, one head, one style, one policy for all of them.

    render_page(Path(__file__).with_name("report.html.j2"), scores=scores)

A template extends page.html.j2 and fills its blocks: `title` and `content`, where needed `style`
and `lead`. What pages show was written by strangers: every value is escaped, an unknown name is an
error, and the page's own policy forbids scripts, forms, frames and every kind of request. The
style stands inside it, so that a report is one file.
"""

from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def render_page(template: Path, **values: Any) -> str:
    """Return the page that the file `template` makes of `values`."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=FileSystemLoader([template.parent, FOLDER]),
    )
    return environment.get_template(template.name).render(values)


def page_style() -> str:
    """Return the style of every page, for one that is served and may not hold it inside."""
    return (FOLDER / "page_style.css").read_text("utf-8")

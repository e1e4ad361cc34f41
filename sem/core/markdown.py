"""Tables of Markdown reports; whoever fills a cell makes strangers' text inert first."""

from collections.abc import Iterable, Sequence


def grid(columns: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Return `columns` and `rows` as one table, cells as they are."""
    return "\n".join([_line(columns), "|" + " --- |" * len(columns), *map(_line, rows)])


def titled_table(title: str, columns: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Return `title` over the table of `rows`, or over `none` where there are none."""
    rows = list(rows)
    return f"## {title}\n\n{grid(columns, rows) if rows else 'none'}\n"


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"

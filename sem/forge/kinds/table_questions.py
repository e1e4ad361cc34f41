"""What can be asked of a few rows of a table, and the exact answer. Pure; decimals, not floats.

    | month   | sales |        What is the sum of `sales`?                     ->  30
    | 2026-01 | 10    |        In which row is `sales` highest? Give its `month`. ->  2026-02
    | 2026-02 | 20    |        By how much does `sales` change from 2026-01 to 2026-02?  ->  10

A question is asked only where the answer is one: no highest value that two rows share.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cached_property
from itertools import pairwise
from typing import Any

from sem.core import jsonio
from sem.dataset import text

NUMBER = re.compile(r"[+-]?(?:[0-9]{1,15}(?:\.[0-9]{1,9})?|\.[0-9]{1,9})")
DATE = re.compile(r"[0-9]{4}-[0-9]{2}(?:-[0-9]{2}(?:[T ][0-9:.]{4,15}(?:Z|[+-][0-9:]{5,6})?)?)?")
QUOTED = re.compile(r"`([^`]*)`|([0-9]+(?:[.-][0-9]+)*)")
NAMING = ("id", "nr", "no", "index", "row")
CENT = Decimal("0.01")


@dataclass(frozen=True)
class TableQuestion:
    """A question and its answer as text."""

    question: str
    answer: str
    kind: str = ""


@dataclass(frozen=True)
class Window:
    """A few rows of a table that follow each other, as texts."""

    table: str
    sha256: str
    # Number of the first row, from 1.
    first: int
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    meanings: Mapping[str, str]

    @property
    def last(self) -> int:
        """Number of the last row."""
        return self.first + len(self.rows) - 1

    @property
    def name(self) -> str:
        """Return what must never be on two sides of a split."""
        return f"{self.table} rows {self.first}-{self.last}"

    @cached_property
    def text(self) -> str:
        """Return the window as Markdown, with what its columns mean."""
        meanings = [f"{c}: {self.meanings[c]}" for c in self.columns if c in self.meanings]
        head = [_line(self.columns), _line(["---"] * len(self.columns))]
        return "\n".join([*meanings, *([""] if meanings else []), *head, *map(_line, self.rows)])

    def column(self, number: int) -> list[str]:
        """Return the cells of a column."""
        return [row[number] for row in self.rows]

    @cached_property
    def numbers(self) -> dict[int, list[Decimal]]:
        """Columns whose every cell is a plain number: `1,234` may be one or a thousand."""
        numbers_by_column = {}
        for number in range(len(self.columns)):
            cells = self.column(number)
            if all(NUMBER.fullmatch(cell) for cell in cells):
                numbers_by_column[number] = [Decimal(cell) for cell in cells]
        return {n: values for n, values in numbers_by_column.items() if n not in self._codes}

    @cached_property
    def _codes(self) -> set[int]:
        """Columns of whole numbers that count up or have a leading zero name rows, not amounts."""
        codes = set()
        for number in range(len(self.columns)):
            cells = self.column(number)
            if any(re.match(r"0[0-9]", cell) for cell in cells):
                codes.add(number)
            elif all(cell.isdecimal() for cell in cells):
                values = [int(cell) for cell in cells]
                is_named = self.columns[number].casefold().strip("_ ") in NAMING
                if is_named or all(b - a == 1 for a, b in pairwise(values)):
                    codes.add(number)
        return codes

    @cached_property
    def key(self) -> int | None:
        """Return the first column whose cells name the rows: unlike each other, and no amounts."""
        for number in range(len(self.columns)):
            cells = self.column(number)
            if number not in self.numbers and all(cells) and len(set(cells)) == len(cells):
                return number
        return None

    @cached_property
    def time(self) -> int | None:
        """Return the column of dates that only go on, of a time series."""
        for number in range(len(self.columns)):
            cells = self.column(number)
            is_date = all(map(DATE.fullmatch, cells)) and len(set(map(len, cells))) == 1
            if is_date and all(a < b for a, b in pairwise(cells)):
                return number
        return None

    @cached_property
    def groups(self) -> list[int]:
        """Columns with few texts that come again."""
        keep = []
        for number in range(len(self.columns)):
            counts = Counter(self.column(number))
            is_text = number not in self.numbers and number != self.time and all(counts)
            if is_text and 1 < len(counts) <= len(self.rows) // 2:
                keep.append(number)
        return keep


def make_window(
    table: str,
    sha256: str,
    first: int,
    rows: Sequence[dict[str, Any]],
    meanings: Mapping[str, str],
) -> Window:
    """Return `rows` of `table`, from row `first` on, as texts on one line.

    Columns in their order.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = tuple(tuple(_cell(row.get(name)) for name in columns) for row in rows)
    names = tuple(_cell(name) or "column" for name in columns)
    return Window(table, sha256, first, names, cells, meanings)


def lookup_questions(w: Window) -> list[TableQuestion]:
    """Return a cell by the name of its row."""
    if w.key is None:
        return []
    return [
        TableQuestion(
            f"What is `{w.columns[n]}` where `{w.columns[w.key]}` is `{row[w.key]}`?", cell
        )
        for row in w.rows
        for n, cell in enumerate(row)
        if n != w.key and cell
    ]


def aggregate_questions(w: Window) -> list[TableQuestion]:
    """Sum, mean, smallest and greatest of a column."""
    questions = []
    for n, values in w.numbers.items():
        name = w.columns[n]
        questions += [
            TableQuestion(
                f"What is the sum of `{name}` over all rows?",
                plain_decimal(sum(values, Decimal())),
            ),
            TableQuestion(f"What is the greatest `{name}`?", plain_decimal(max(values))),
            TableQuestion(f"What is the smallest `{name}`?", plain_decimal(min(values))),
            TableQuestion(
                f"What is the mean of `{name}`, rounded to 2 decimals?",
                round_half_even(sum(values, Decimal()) / len(values)),
            ),
        ]
    return questions


def extreme_questions(w: Window) -> list[TableQuestion]:
    """Return the row with the greatest or smallest value, where one row has it."""
    if w.key is None:
        return []
    questions = []
    for n, values in w.numbers.items():
        for word, value in (("greatest", max(values)), ("smallest", min(values))):
            if values.count(value) == 1:
                named = w.rows[values.index(value)][w.key]
                asks = f"Which `{w.columns[w.key]}` has the {word} `{w.columns[n]}`?"
                questions.append(TableQuestion(asks, named))
    return questions


def count_questions(w: Window) -> list[TableQuestion]:
    """Return how many rows have a value, or more than one."""
    questions = [
        TableQuestion(f"How many rows have `{w.columns[n]}` equal to `{value}`?", str(times))
        for n in w.groups
        for value, times in Counter(w.column(n)).items()
    ]
    for n, values in w.numbers.items():
        for limit in sorted(set(values))[1:-1]:
            over = sum(value > limit for value in values)
            asks = f"How many rows have `{w.columns[n]}` above `{plain_decimal(limit)}`?"
            questions.append(TableQuestion(asks, str(over)))
    return questions


def grouped_sum_questions(w: Window) -> list[TableQuestion]:
    """Return the sum of a column over the rows of one group."""
    questions = []
    for g in w.groups:
        for n, values in w.numbers.items():
            for value in dict.fromkeys(w.column(g)):
                total = sum(
                    (v for v, c in zip(values, w.column(g), strict=True) if c == value), Decimal()
                )
                asks = f"What is the sum of `{w.columns[n]}` where `{w.columns[g]}` is `{value}`?"
                questions.append(TableQuestion(asks, plain_decimal(total)))
    return questions


def trend_questions(w: Window) -> list[TableQuestion]:
    """Return how a time series changes, and when it changes most."""
    if w.time is None or len(w.rows) < 3:
        return []
    questions, times = [], w.column(w.time)
    for n, values in w.numbers.items():
        name, steps = w.columns[n], [b - a for a, b in pairwise(values)]
        change = values[-1] - values[0]
        asks = f"By how much does `{name}` change from `{times[0]}` to `{times[-1]}`?"
        questions.append(TableQuestion(asks, plain_decimal(change)))
        asks = f"Is `{name}` at `{times[-1]}` higher, lower or the same as at `{times[0]}`?"
        questions.append(
            TableQuestion(asks, ("same", "higher", "lower")[(change > 0) - (change < 0)])
        )
        for word, step in (("greatest rise", max(steps)), ("greatest fall", min(steps))):
            if steps.count(step) == 1 and (step > 0) == (word == "greatest rise") and step:
                asks = f"At which `{w.columns[w.time]}` is the {word} of `{name}` from row to row?"
                questions.append(TableQuestion(asks, times[steps.index(step) + 1]))
        rises = sum(step > 0 for step in steps)
        asks = f"How many times does `{name}` rise from one row to the next?"
        questions.append(TableQuestion(asks, str(rises)))
    return questions


KINDS: dict[str, Callable[[Window], list[TableQuestion]]] = {
    "lookup": lookup_questions,
    "aggregate": aggregate_questions,
    "extreme": extreme_questions,
    "count": count_questions,
    "grouped": grouped_sum_questions,
    "trend": trend_questions,
}


def plain_decimal(value: Decimal) -> str:
    """Return `value` without an exponent and without zeros at its end."""
    digits = f"{value:f}"
    digits = digits.rstrip("0").rstrip(".") if "." in digits else digits
    return "0" if digits in ("-0", "") else digits


def round_half_even(value: Decimal) -> str:
    """Return `value` to two decimals, halves to the even one."""
    return plain_decimal(value.quantize(CENT, ROUND_HALF_EVEN))


def question_values(question: str) -> Counter[str]:
    """Return the values and numbers in `question`, with or without their marks."""
    return Counter(part for match in QUOTED.findall(question) for part in match if part)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float | Decimal) and Decimal(str(value)).is_finite():
        return plain_decimal(Decimal(str(value)))
    cell_text = value if isinstance(value, str) else _said(value)
    # A bar would begin another cell, a backtick end a name.
    return text.single_line(cell_text).replace("|", "/").replace("`", "'")


def _said(value: Any) -> str:
    return jsonio.canonical_json(value) if isinstance(value, dict | list) else str(value)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"

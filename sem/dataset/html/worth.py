"""What a line of a page is worth, in points, by what is known of it: a table, fitted, not set.

Ten points are one unit of log-odds that the line holds a value an answer is made of, as a
logistic regression has it. `weights.json` holds the points of each trait on every page, and what
is added on a recipe, a product, a list, a contact page or another one; `prose` stands alone: a
character's log-odds of belonging to the running text that a task asks for. It is fitted by
`python benchmarks/pruning.py --write`; how it does on sites it has not seen is in
benchmarks/results/pruning.md. A trait the table does not name, such as a hint that was rare
there, says nothing.
"""

import json
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

# Points for each factor of e in characters: a line competes by what it takes.
LENGTH = 9
EVERY = "every page"
PROSE = "prose"
WEIGHTS: dict[str, dict[str, int]] = json.loads(
    Path(__file__).with_name("weights.json").read_text("utf-8")
)


def line_worth(trait_names: Iterable[str], kind: str) -> int:
    """Return the points of a line with the traits `trait_names` on a page about `kind`."""
    table = _table(kind)
    return sum(table.get(trait, 0) for trait in trait_names)


@lru_cache(maxsize=16)
def _table(kind: str) -> dict[str, int]:
    """Return the points of each trait on a page about `kind`."""
    table: Counter[str] = Counter()
    for name in tables_of(kind):
        table.update(WEIGHTS.get(name, {}))
    return dict(table)


def tables_of(kind: str) -> tuple[str, ...]:
    """Return the names of the tables whose points count on a page about `kind`."""
    return (kind,) if kind == PROSE else (EVERY, kind)


def use_weights(weights: dict[str, dict[str, int]]) -> None:
    """Replace the table, as a benchmark does with one fitted to some of the sites."""
    WEIGHTS.clear()
    WEIGHTS.update(weights)
    _table.cache_clear()

"""Which rows both trainings see, where the time is less than one pass over all of them.

The candidate's rows are the baseline's, but for the contribution's share of them: so the two
differ by the contribution and by nothing else.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from sem.train.rows.data import Row


@dataclass(frozen=True)
class Mixture:
    """What baseline and candidate learn from."""

    base: tuple[Row, ...]
    mixed: tuple[Row, ...]
    # Contributed rows among MIXED.
    given: int


def mix(base: Sequence[Row], contribution: Sequence[Row], count: int, seed: int) -> Mixture:
    """Return at most `count` rows for each training, drawn by `seed`.

    All of them where `count` holds them.
    """
    total = len(base) + len(contribution)
    if count >= total:
        return Mixture(tuple(base), (*base, *contribution), len(contribution))
    lot = random.Random(seed)
    old, new = (lot.sample(rows, len(rows)) for rows in (_by_id(base), _by_id(contribution)))
    share = min(len(new), max(1, round(count * len(new) / total)))
    return Mixture(
        tuple(old[: min(count, len(old))]), (*old[: count - share], *new[:share]), share
    )


def _by_id(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row.id)

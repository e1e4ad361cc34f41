"""Requests and tokens a minute, counted in one table that every process writes to.

An exact sliding window. Nobody here knows when a request arrives, only that it was sent before
and answered after: it counts from its answer, at most `DELIVERY_S` after it was sent, and while it
is under way as if it arrived now. So no window at the provider holds more than allowed, unless a
request takes longer than that to get there. Tokens count as reserved until they are settled.
"""

import sqlite3
from dataclasses import dataclass

from sem.core.errors import SemError
from sem.core.files import typed_row

DELIVERY_S = 2.0
# Two clocks, and the time a provider takes to look at its own.
SLACK_S = 0.05


@dataclass(frozen=True)
class Limits:
    """What a provider allows in any window of `window_s`; None: no limit of that kind."""

    requests: int | None = None
    tokens: int | None = None
    window_s: float = 60.0


def wait_s(db: sqlite3.Connection, lane: str, tokens: int, limits: Limits, now: float) -> float:
    """Seconds until `lane` has room for one more request of `tokens`; 0 when it has now."""
    if limits.requests is None and limits.tokens is None:
        return 0.0
    if limits.tokens is not None and tokens > limits.tokens:
        raise SemError(
            f"a request of up to {tokens:,} tokens is over the limit, {limits.tokens:,} a minute",
            "raise tokens_per_minute, or lower max_tokens",
        )
    span = limits.window_s + SLACK_S
    # A clock that was set back leaves rows from the future: they count as of now.
    rows = db.execute(
        "SELECT min(CASE state WHEN 'reserved' THEN at + ? ELSE at END, ?) AS arrived, tokens "
        "FROM requests WHERE lane = ? AND at > ? ORDER BY arrived DESC",
        (DELIVERY_S, now, lane, now - span - DELIVERY_S),
    )
    count, used = 1, tokens
    for row in rows:
        arrived, row_tokens = typed_row(row, float, int)
        if arrived <= now - span:
            break
        count, used = count + 1, used + row_tokens
        full = limits.requests is not None and count > limits.requests
        if full or (limits.tokens is not None and used > limits.tokens):
            return max(0.001, arrived + span - now)
    return 0.0

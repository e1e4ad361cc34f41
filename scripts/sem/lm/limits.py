"""Requests and tokens a minute, counted in one table that every process writes to.

An exact sliding window: a request may leave when the requests of the last minute, and their
tokens, leave room for it. Tokens count as reserved until they are settled.
"""

import sqlite3
from dataclasses import dataclass

from sem.core.errors import SemError

# Two requests can swap places on their way: the window is a little longer than the minute.
SLACK = 0.01
LEAST_SLACK_S = 0.1


@dataclass(frozen=True)
class Limits:
    """What a provider allows in any window of `window_s`; None: no limit of that kind."""

    requests: int | None = None
    tokens: int | None = None
    window_s: float = 60.0

    @property
    def span_s(self) -> float:
        return self.window_s + max(self.window_s * SLACK, LEAST_SLACK_S)


def wait_s(db: sqlite3.Connection, lane: str, tokens: int, limits: Limits, now: float) -> float:
    """Seconds until LANE has room for one more request of TOKENS; 0 when it has now."""
    if limits.requests is None and limits.tokens is None:
        return 0.0
    if limits.tokens is not None and tokens > limits.tokens:
        raise SemError(
            f"one request of up to {tokens:,} tokens, {limits.tokens:,} a minute are allowed",
            "raise tokens_per_minute, or lower max_tokens",
        )
    # A clock that was set back leaves rows from the future: they count as of now.
    rows = db.execute(
        "SELECT min(at, ?), tokens FROM requests WHERE lane = ? AND at > ? ORDER BY at DESC",
        (now, lane, now - limits.span_s),
    )
    count, used = 1, tokens
    for at, taken in rows:
        count, used = count + 1, used + taken
        full = limits.requests is not None and count > limits.requests
        if full or (limits.tokens is not None and used > limits.tokens):
            return max(0.001, at + limits.span_s - now)
    return 0.0

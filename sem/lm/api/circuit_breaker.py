"""A circuit breaker: after ten failures in a row a provider is left alone for a while."""

import threading
import time

FAILURES = 10
REST_S = 60.0


class Breaker:
    """Counts failures in a row of each lane; one success closes the circuit."""

    def __init__(self, failures: int = FAILURES, rest_s: float = REST_S) -> None:
        self._failures = failures
        self._rest_s = rest_s
        self._lock = threading.Lock()
        self._in_a_row: dict[str, int] = {}
        self._opened: dict[str, float] = {}

    def is_open(self, lane: str) -> bool:
        """Return whether `lane` is left alone; after the rest one call may try it again."""
        with self._lock:
            if self._in_a_row.get(lane, 0) < self._failures:
                return False
            if time.monotonic() - self._opened[lane] < self._rest_s:
                return True
            self._opened[lane] = time.monotonic()
            return False

    def note(self, lane: str, failed: bool) -> None:
        """Count one HTTP request of `lane`."""
        with self._lock:
            count = self._in_a_row.get(lane, 0) + 1 if failed else 0
            self._in_a_row[lane] = count
            if count >= self._failures:
                self._opened[lane] = time.monotonic()

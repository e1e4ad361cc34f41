"""Growth: how much longer a longer input takes, measured so that a busy machine cannot decide it.

One measurement of 20 ms of processor time wavers fourfold where another process takes the caches.
The least of several does not, so both sizes are measured in turns until the growth is shown or
the rounds are used up: work that is quadratic stays quadratic in every round.
"""

import time
from collections.abc import Callable

ROUNDS = 12
LEAST_S = 0.002  # below it the clock's own steps are measured


def least_growth(work: Callable[[int], object], small: int, large: int, enough: float) -> float:
    """Return how many times the processor seconds of `work(small)` that `work(large)` takes.

    Measures both up to ROUNDS times, takes the least of each, and stops as soon as the growth is
    below `enough`.
    """
    least = {small: float("inf"), large: float("inf")}
    growth = float("inf")
    for _ in range(ROUNDS):
        for size in (small, large):
            began = time.process_time()
            work(size)
            least[size] = min(least[size], time.process_time() - began)
        growth = least[large] / max(least[small], LEAST_S)
        if growth < enough:
            break
    return growth

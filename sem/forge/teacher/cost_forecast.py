"""What a forge run will ask and cost, before it is spent: a plan, then a pilot.

The plan walks through everything with a teacher that sends nothing. The pilot makes the calls of
a sample that depends on the seed alone, with all that follows from their replies; they are cached,
so the run pays for none of them again, and a pilot that is repeated costs nothing.
"""

import hashlib
import heapq
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from sem.core.errors import SemError
from sem.forge.teacher.teacher import Teacher, TeacherSpending
from sem.lm.api.calls import ChatRequest

# a whole forge run with that teacher, its results thrown away.
Work = Callable[[Teacher], None]
# 97.5 % quantiles of Student's t for 1, 2, … degrees of freedom (NIST/SEMATECH 1.3.6.7.2).
T975 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160),
    *(2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056),
    *(2.052, 2.048, 2.045, 2.042),
)


@dataclass
class CostPlan:
    """What would be asked, by a teacher that sends nothing; `skips` is that teacher's."""

    # Of the pilot's sample.
    size: int
    seed: int = 42
    calls: int = 0
    cached: int = 0
    # About, of what is not cached.
    tokens_in: int = 0
    # Of what is not cached, in and out: none can take more.
    most_tokens: int = 0
    # Without further tries.
    at_most_usd: float = 0.0
    first: ChatRequest | None = None
    keys: set[bytes] = field(default_factory=set)
    _sample: list[tuple[int, bytes, bool]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def fresh(self) -> int:
        """Calls that are not cached."""
        return self.calls - self.cached

    @property
    def sample(self) -> set[bytes]:
        """Return the keys of the pilot's calls."""
        return {key for _, key, _ in self._sample}

    @property
    def left(self) -> int:
        """Calls that neither the pilot makes nor a run before has made."""
        return self.fresh - sum(not is_known for *_, is_known in self._sample)

    def note(self, teacher: Teacher, request: ChatRequest, is_known: bool) -> None:
        """Count one call that a run would make."""
        key = bytes.fromhex(teacher.key(request))[:16]
        estimate = None if is_known else teacher.client.estimate([request])
        lot = hashlib.sha256(b"%d" % self.seed + key).digest()
        with self._lock:
            if key in self.keys:
                return
            self.calls += 1
            self.cached += is_known
            self.first = self.first or request
            if estimate is not None:
                self.tokens_in += estimate.tokens_in
                self.most_tokens += request.most_tokens_in + request.max_tokens
                self.at_most_usd += estimate.at_most_usd
            self.keys.add(key)
            # The calls with the smallest lots: the same sample in whatever order they come.
            heapq.heappush(self._sample, (-int.from_bytes(lot[:8], "big"), key, is_known))
            if len(self._sample) > self.size:
                heapq.heappop(self._sample)

    def skips(self, teacher: Teacher, request: ChatRequest) -> bool:
        """Return whether the pilot leaves `request` out: it is planned, and not of the sample."""
        key = bytes.fromhex(teacher.key(request))[:16]
        return key in self.keys and key not in self.sample


@dataclass(frozen=True)
class CostForecast:
    """What is left to spend after a pilot: the mean and a 95 % prediction interval."""

    # That are left, follow-ups included.
    calls: int
    usd: float
    low: float
    high: float
    minutes: float
    pilot_calls: int
    # At list price, also where it was cached.
    pilot_usd: float

    def __str__(self) -> str:
        time = f"{self.minutes:.0f} min" if self.minutes >= 1 else "less than a minute"
        return (
            f"about {self.calls:,} more calls for {format_usd(self.usd)} "
            f"(95 %: {format_usd(self.low)} to {format_usd(self.high)}), {time}, "
            f"by a pilot of {self.pilot_calls} calls for {format_usd(self.pilot_usd)}"
        )


def format_usd(usd: float) -> str:
    """Return `usd` with its cents, or with what is below a cent."""
    return f"${usd:,.2f}" if usd >= 1 or not usd else f"${usd:.4f}"


def forecast_cost(plan: CostPlan, spent: TeacherSpending, workers: int) -> CostForecast:
    """Return the rest of `plan` at what its pilot `spent`.

    A prediction interval for the sum of the calls that are left: mean ± t · s · √(m + m²/n),
    from n calls of the pilot for m more, never below zero and never above what the plan reserves.
    """
    count = max(1, spent.asked)
    # Calls that follow from one of the plan.
    share = count / max(1, len(plan.sample))
    calls_left = plan.left * share
    mean = spent.listed_usd / count
    spread = max(0.0, spent.listed_squares / count - mean**2) * count / max(1, count - 1)
    quantile = T975[min(count - 1, len(T975)) - 1] if count > 1 else T975[0]
    wide = quantile * (spread * (calls_left + calls_left**2 / count)) ** 0.5
    most = plan.at_most_usd * max(1.0, share)
    sent = max(1, spent.asked - spent.cached)
    return CostForecast(
        round(calls_left),
        min(mean * calls_left, most),
        max(0.0, mean * calls_left - wide),
        min(mean * calls_left + wide, most),
        calls_left * spent.latency_ms / sent / workers / 60_000,
        spent.asked,
        spent.listed_usd,
    )


def confirm_spending(question: str, yes: bool) -> None:
    """Return when a person, or `yes`, agrees to `question`; SemError otherwise."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise SemError(
            f"{question}: nobody is here to answer",
            "add --yes to go on; what was asked so far is kept and costs nothing again",
        )
    print(f"{question}. Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise SemError("stopped before the rest was spent", "what was asked so far is kept")

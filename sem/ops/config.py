"""nightly.yaml and backfill.yaml: what is watched at night; how rows are brought up to date."""

from dataclasses import dataclass, field

from sem.lm.api.provider import Calls


@dataclass(frozen=True)
class Nightly:
    """Settings of ops.nightly; the defaults need no file."""

    splits: tuple[str, ...] = ("val", "golden")  # golden is left out where there is no set
    drop_points: float = 2.0  # a fall in slot accuracy of more points rings, shown or not
    judge: bool = True  # judge where configs/judge.yaml names one; its own cost cap holds
    keep: int = 30  # nights kept, the older ones as ZIP files; what falls out is said


@dataclass(frozen=True)
class Backfill:
    """Settings of ops.backfill; the defaults need no file."""

    calls: Calls = field(default_factory=Calls)  # the strong model; none: the judge's models
    max_tokens: int = 2_000  # of an answer
    lease_s: float = 600.0  # a worker that is silent for longer loses its items
    tries: int = 3  # then an item is failed, with its last reason

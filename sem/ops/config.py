"""nightly.yaml and backfill.yaml: what is watched at night; how rows are brought up to date."""

from dataclasses import dataclass, field

from sem.lm.api.provider import Calls


@dataclass(frozen=True)
class Nightly:
    """Settings of ops.nightly; the defaults need no file."""

    # Golden is left out where there is no set.
    splits: tuple[str, ...] = ("val", "golden")
    # a fall in slot accuracy of more points rings, shown or not.
    drop_points: float = 2.0
    # Judge where configs/judge.yaml names one; its own cost cap holds.
    judge: bool = True
    # Nights kept, the older ones as ZIP files; what falls out is said.
    keep: int = 30


@dataclass(frozen=True)
class Backfill:
    """Settings of ops.backfill; the defaults need no file."""

    # The strong model; none: the judge's models.
    calls: Calls = field(default_factory=Calls)
    max_tokens: int = 2_000  # of an answer
    # a worker that is silent for longer loses its items.
    lease_s: float = 600.0
    # Then an item is failed, with its last reason.
    tries: int = 3

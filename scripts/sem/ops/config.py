"""nightly.yaml: what is watched at night, and when it rings."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Nightly:
    """Settings of ops.nightly; the defaults need no file."""

    splits: tuple[str, ...] = ("val", "golden")  # golden is left out where there is no set
    drop_points: float = 2.0  # a fall in slot accuracy of more points rings, shown or not
    judge: bool = True  # judge where configs/judge.yaml names one; its own cost cap holds
    keep: int = 30  # nights kept, the older ones as ZIP files; what falls out is said

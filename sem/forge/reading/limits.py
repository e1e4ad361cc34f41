"""What a document may cost to read; the caged process knows it, too, and little else."""

from dataclasses import dataclass

from sem.core.errors import SemError


@dataclass(frozen=True)
class Reading:
    """`params.documents` of forge.yaml: what a document may cost."""

    max_bytes: int = 10_000_000  # a larger file is skipped
    deadline_s: float = 1.5  # processor time; as much again for each megabyte and each 10 pages
    total_s: float = 60.0  # of a whole document, however long it is
    memory_mib: int = 512  # of the process that reads; less skips large documents

    def __post_init__(self) -> None:
        for name in ("max_bytes", "deadline_s", "total_s", "memory_mib"):
            if getattr(self, name) <= 0:
                raise SemError(f"{name}: {getattr(self, name)}", "write a number above 0")

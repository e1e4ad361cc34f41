"""What a document may cost to read; the caged process knows it, too, and little else."""

from dataclasses import dataclass

from sem.core.errors import SemError


@dataclass(frozen=True)
class Reading:
    """`params.documents` of forge.yaml: what a document may cost."""

    # a larger file is skipped.
    max_bytes: int = 10_000_000
    # Processor time; as much again for each megabyte and each 10 pages.
    deadline_s: float = 1.5
    # Of a whole document, however long it is.
    total_s: float = 60.0
    # Of the process that reads; less skips large documents.
    memory_mib: int = 512

    def __post_init__(self) -> None:
        for name in ("max_bytes", "deadline_s", "total_s", "memory_mib"):
            if getattr(self, name) <= 0:
                raise SemError(f"{name}: {getattr(self, name)}", "write a number above 0")

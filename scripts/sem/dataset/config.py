"""configs/SEM/dataset.yaml as frozen dataclasses; the defaults are the file's defaults."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from sem.core import settings


@dataclass(frozen=True)
class TaskOptions:
    """How the inputs and references of one task are cleaned."""

    input: Literal["auto", "html", "text"] = "auto"
    page_starts_at: str | None = None  # drop what stands before this marker in the prompt
    max_chars: int | None = None  # budget of the cleaned input, met by ranked pruning
    links: Literal["all", "content", "paging", "none"] = "content"
    hidden: Literal["reveal", "drop"] = "reveal"  # long blocks that a click shows
    images: int = 8  # image addresses kept per page, best first
    nulls: Literal["keep", "fill"] = "keep"
    system_prompt: Literal["row", "task"] = "row"
    min_chars: int = 1


PiiAction = Literal["keep", "redact", "reject"]


@dataclass(frozen=True)
class Pii:
    """What happens to personal data: per kind, and per slot of the reference, which wins."""

    email: PiiAction = "redact"
    phone: PiiAction = "redact"
    card: PiiAction = "redact"
    iban: PiiAction = "redact"
    national_id: PiiAction = "redact"
    ip: PiiAction = "redact"
    name: PiiAction = "keep"  # found by patterns only, so it is for sems that ask
    # A slot that is kept keeps its values in the input as well: a shop's own number is the answer.
    slots: dict[str, PiiAction] = field(default_factory=dict)
    regions: tuple[str, ...] = ()  # ISO 3166 codes whose national phone numbers are looked for


@dataclass(frozen=True)
class Clean:
    """Limits of cleaning and what to do with rows that contradict each other."""

    workers: int = 2
    max_bytes: int = 5_000_000
    max_depth: int = 2_000
    max_attributes: int = 2_000
    deadline_s: float = 2.0
    memory_mib: int = 512
    evidence_rows: int = 5_000  # about so many rows' evidence is measured, chosen by id
    conflicts: Literal["reject", "keep"] = "reject"
    pii: Pii = field(default_factory=Pii)
    default: TaskOptions = field(default_factory=TaskOptions)
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)  # what differs from `default`

    def __post_init__(self) -> None:
        for task in self.tasks:
            self.of(task)

    def of(self, task: str) -> TaskOptions:
        """The options of TASK: its own keys over `default`; SemError when a key is unknown."""
        if task not in self.tasks:
            return self.default
        values = {**asdict(self.default), **self.tasks[task]}
        return settings.build(TaskOptions, values, f"dataset.yaml: clean.tasks.{task}")


@dataclass(frozen=True)
class Split:
    """What moves together and what the parts are balanced by; ratios and seed: eval_split."""

    group_by: Literal["domain", "source_id", "row"] = "domain"
    stratify: tuple[str, ...] = ("task", "page_type", "language")


@dataclass(frozen=True)
class Dataset:
    """Everything in dataset.yaml."""

    clean: Clean = field(default_factory=Clean)
    split: Split = field(default_factory=Split)

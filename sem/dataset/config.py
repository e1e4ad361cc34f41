"""configs/SEM/dataset.yaml as frozen dataclasses; the defaults are the file's defaults."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from sem.core import settings
from sem.core.errors import SemError

Fate = Literal["keep", "null", "reject"]
FATES = ("keep", "null", "reject")
Policy = Literal["repair", "refuse", "report"]


@dataclass(frozen=True)
class TaskOptions:
    """How the inputs and references of one task are cleaned."""

    input: Literal["auto", "html", "text"] = "auto"
    # Drop what stands before this marker in the prompt.
    page_starts_at: str | None = None
    # Budget of the cleaned input, met by ranked pruning.
    max_chars: int | None = None
    # The same in the base model's tokens; the smaller one holds.
    max_tokens: int | None = None
    # Page type -> its own max_tokens.
    page_tokens: dict[str, int] = field(default_factory=dict)
    # `price: 9 €`, or `main>p.price | 9 €`.
    form: Literal["lines", "addressed"] = "lines"
    links: Literal["all", "content", "paging", "none"] = "content"
    # The answer is the page's running text: it is kept first, in one piece, without addresses.
    prose: bool = False
    # Long blocks that a click shows.
    hidden: Literal["reveal", "drop"] = "reveal"
    # Image addresses kept per page, best first; 3 at most over its budget.
    images: int = 8
    nulls: Literal["keep", "fill"] = "keep"
    system_prompt: Literal["row", "task"] = "row"
    min_chars: int = 1
    # a value that the page held and the cleaned input does not.
    lost: Fate = "keep"
    # a value that not even the page holds: it teaches to invent.
    ungrounded: Fate = "keep"
    # Slot -> {lost, ungrounded}.
    slots: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for slot, fates in self.slots.items():
            if set(fates) - {"lost", "ungrounded"} or set(fates.values()) - set(FATES):
                raise SemError(
                    f"dataset.yaml: clean.….slots.{slot}: {fates}",
                    "write lost and ungrounded, each keep, null or reject",
                )

    def fate(self, slot: str, of: str) -> str:
        """Return what happens to a value of `slot` that is `of` 'lost' or 'ungrounded'."""
        return self.slots.get(slot, {}).get(of, getattr(self, of))

    @property
    def judges_evidence(self) -> bool:
        """Return whether any value may be changed or refused for want of evidence."""
        named = [fate for fates in self.slots.values() for fate in fates.values()]
        return any(fate != "keep" for fate in (self.lost, self.ungrounded, *named))


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
    # Found by patterns only, so it is for sems that ask.
    name: PiiAction = "keep"
    # A slot that is kept keeps its values in the input as well: a shop's own number is the answer.
    slots: dict[str, PiiAction] = field(default_factory=dict)
    # ISO 3166 codes whose national phone numbers are looked for.
    regions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Near:
    """Near-duplicate inputs: how alike, and what becomes of them."""

    # Jaccard index of 5-grams.
    threshold: float = 0.8
    # same_answer: the first of a cluster stays for each answer of a task, the others go
    drop: Literal["none", "same_answer"] = "none"

    def __post_init__(self) -> None:
        if not 0.1 <= self.threshold <= 1:
            raise SemError(
                f"dataset.yaml: clean.near.threshold {self.threshold} is not a share of 5-grams",
                "write a number from 0.1 to 1; 0.8 is usual",
            )


@dataclass(frozen=True)
class Consent:
    """Which rows may be used, by what their metadata says of consent and licence."""

    # any: a no counts, silence does not.
    require: Literal["any", "granted"] = "any"
    on_expired: Literal["reject", "keep"] = "reject"
    # What is neither a yes nor a no.
    on_unreadable: Literal["reject", "keep"] = "reject"
    # None named: any licence, or none.
    licenses: tuple[str, ...] = ()
    # None named: any purpose; else a row names one of these.
    purposes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Clean:
    """Limits of cleaning and what to do with rows that contradict each other."""

    workers: int = 2
    max_bytes: int = 5_000_000
    max_depth: int = 2_000
    max_attributes: int = 2_000
    deadline_s: float = 2.0
    memory_mib: int = 512
    # About so many rows' evidence is measured, chosen by id.
    evidence_rows: int = 5_000
    conflicts: Literal["reject", "keep"] = "reject"
    near: Near = field(default_factory=Near)
    pii: Pii = field(default_factory=Pii)
    consent: Consent = field(default_factory=Consent)
    default: TaskOptions = field(default_factory=TaskOptions)
    # What differs from `default`.
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for task in self.tasks:
            self.of(task)

    def of(self, task: str) -> TaskOptions:
        """Return the options of `task`: its own keys over `default`.

        Raise SemError when a key is unknown.
        """
        if task not in self.tasks:
            return self.default
        values = {**asdict(self.default), **self.tasks[task]}
        return settings.build_settings(TaskOptions, values, f"dataset.yaml: clean.tasks.{task}")

    @property
    def counts_tokens(self) -> bool:
        """Return whether any budget is in tokens."""
        every = [self.default, *map(self.of, self.tasks)]
        return any(options.max_tokens or options.page_tokens for options in every)


@dataclass(frozen=True)
class Leaks:
    """What two parts may have in common.

    repair: what shares it moves together; refuse: no snapshot is made; report: it is counted.
    """

    exact: Policy = "repair"  # the same input
    # Inputs of one near-duplicate cluster.
    near: Policy = "repair"
    source: Policy = "repair"  # one source document
    # One registered name under any TLD; with `group_by: domain` alone.
    site: Policy = "repair"
    # One registered domain; `group_by: domain` never lets it happen.
    domain: Policy = "report"
    # One page template, text aside.
    template: Policy = "report"
    # Equal references; common where answers are labels.
    answer: Policy = "report"


@dataclass(frozen=True)
class Split:
    """What moves together and what the parts are balanced by; ratios and seed: eval_split."""

    group_by: Literal["domain", "source_id", "row"] = "domain"
    stratify: tuple[str, ...] = ("task", "page_type", "language")
    leaks: Leaks = field(default_factory=Leaks)

    @property
    def enforced(self) -> Leaks:
        """Return the leaks as they hold.

        Who does not group by domain has sites on several sides.
        """
        return self.leaks if self.group_by == "domain" else replace(self.leaks, site="report")


@dataclass(frozen=True)
class Dataset:
    """Everything in dataset.yaml."""

    clean: Clean = field(default_factory=Clean)
    split: Split = field(default_factory=Split)

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
    page_starts_at: str | None = None  # drop what stands before this marker in the prompt
    max_chars: int | None = None  # budget of the cleaned input, met by ranked pruning
    max_tokens: int | None = None  # the same in the base model's tokens; the smaller one holds
    page_tokens: dict[str, int] = field(default_factory=dict)  # page type -> its own max_tokens
    form: Literal["lines", "addressed"] = "lines"  # `price: 9 €`, or `main>p.price | 9 €`
    links: Literal["all", "content", "paging", "none"] = "content"
    # The answer is the page's running text: it is kept first, in one piece, without addresses.
    prose: bool = False
    hidden: Literal["reveal", "drop"] = "reveal"  # long blocks that a click shows
    images: int = 8  # image addresses kept per page, best first; 3 at most over its budget
    nulls: Literal["keep", "fill"] = "keep"
    system_prompt: Literal["row", "task"] = "row"
    min_chars: int = 1
    lost: Fate = "keep"  # a value that the page held and the cleaned input does not
    ungrounded: Fate = "keep"  # a value that not even the page holds: it teaches to invent
    slots: dict[str, dict[str, str]] = field(default_factory=dict)  # slot -> {lost, ungrounded}

    def __post_init__(self) -> None:
        for slot, fates in self.slots.items():
            if set(fates) - {"lost", "ungrounded"} or set(fates.values()) - set(FATES):
                raise SemError(
                    f"dataset.yaml: clean.….slots.{slot}: {fates}",
                    "write lost and ungrounded, each keep, null or reject",
                )

    def fate(self, slot: str, of: str) -> str:
        """What happens to a value of SLOT that is OF 'lost' or 'ungrounded'."""
        return self.slots.get(slot, {}).get(of, getattr(self, of))

    @property
    def judges_evidence(self) -> bool:
        """Whether any value may be changed or refused for want of evidence."""
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
    name: PiiAction = "keep"  # found by patterns only, so it is for sems that ask
    # A slot that is kept keeps its values in the input as well: a shop's own number is the answer.
    slots: dict[str, PiiAction] = field(default_factory=dict)
    regions: tuple[str, ...] = ()  # ISO 3166 codes whose national phone numbers are looked for


@dataclass(frozen=True)
class Near:
    """Near-duplicate inputs: how alike, and what becomes of them."""

    threshold: float = 0.8  # Jaccard index of 5-grams
    # same_answer: the first of a cluster stays for each answer of a task, the others go
    drop: Literal["none", "same_answer"] = "none"

    def __post_init__(self) -> None:
        if not 0.1 <= self.threshold <= 1:
            raise SemError(
                f"dataset.yaml: clean.near.threshold {self.threshold} is no share of 5-grams",
                "write a number from 0.1 to 1; 0.8 is usual",
            )


@dataclass(frozen=True)
class Consent:
    """Which rows may be used, by what their metadata says of consent and licence."""

    require: Literal["any", "granted"] = "any"  # any: a no counts, silence does not
    on_expired: Literal["reject", "keep"] = "reject"
    on_unreadable: Literal["reject", "keep"] = "reject"  # what is neither a yes nor a no
    licenses: tuple[str, ...] = ()  # none named: any licence, or none
    purposes: tuple[str, ...] = ()  # none named: any purpose; else a row names one of these


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
    near: Near = field(default_factory=Near)
    pii: Pii = field(default_factory=Pii)
    consent: Consent = field(default_factory=Consent)
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
        return settings.build_settings(TaskOptions, values, f"dataset.yaml: clean.tasks.{task}")

    @property
    def counts_tokens(self) -> bool:
        """Whether any budget is in tokens."""
        every = [self.default, *map(self.of, self.tasks)]
        return any(options.max_tokens or options.page_tokens for options in every)


@dataclass(frozen=True)
class Leaks:
    """What two parts may have in common.

    repair: what shares it moves together; refuse: no snapshot is made; report: it is counted.
    """

    exact: Policy = "repair"  # the same input
    near: Policy = "repair"  # inputs of one near-duplicate cluster
    source: Policy = "repair"  # one source document
    site: Policy = "repair"  # one registered name under any TLD; with `group_by: domain` alone
    domain: Policy = "report"  # one registered domain; `group_by: domain` never lets it happen
    template: Policy = "report"  # one page template, text aside
    answer: Policy = "report"  # equal references; common where answers are labels


@dataclass(frozen=True)
class Split:
    """What moves together and what the parts are balanced by; ratios and seed: eval_split."""

    group_by: Literal["domain", "source_id", "row"] = "domain"
    stratify: tuple[str, ...] = ("task", "page_type", "language")
    leaks: Leaks = field(default_factory=Leaks)

    @property
    def enforced(self) -> Leaks:
        """The leaks as they hold: who does not group by domain has sites on several sides."""
        return self.leaks if self.group_by == "domain" else replace(self.leaks, site="report")


@dataclass(frozen=True)
class Dataset:
    """Everything in dataset.yaml."""

    clean: Clean = field(default_factory=Clean)
    split: Split = field(default_factory=Split)

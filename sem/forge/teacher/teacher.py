"""The teacher: a model that is asked in bulk, through `lm.client`, with its cost known first.

Money, cache, retries and pace are the client's. Here are presets, and replies in the order of
their requests within bounded memory. Each reply that cannot be used is an Outcome with a fault,
counted, never an exception; what all further calls would meet as well (the cap, a refused key, a
dead server) stops the run, which goes on from the cached replies when it is run again.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from sem.core import files
from sem.core.errors import SemError
from sem.forge.teacher.presets import TeacherSettings, of_settings, teacher_calls
from sem.lm.api import calls
from sem.lm.api.calls import UNUSABLE, CallOutcome, ChatRequest
from sem.lm.api.client import Client

Item = TypeVar("Item")

# Faults that all further calls would meet as well.
STOPS = {
    "budget": "raise teacher.max_usd or max_requests in forge.yaml, or take fewer: --limit N",
    "circuit": "make sure the teacher's server answers (`fab forge.serve` starts the local one)",
    "auth": "check the key that the teacher's key_env names",
    "forbidden": "check what the key may use",
}
# The fault of a request that a dry run or a pilot left out.
UNSENT = "not_sent"
# Answered, paid, and no better when asked again.
SETTLED = UNUSABLE | frozenset(("length", "filtered", "too_large"))
# Replies held per worker while an earlier one is awaited.
AHEAD = 4


@dataclass
class TeacherSpending(calls.CallSpending):
    """What a teacher was asked and what it cost, in this process."""

    unsent: int = 0
    # What all replies cost by their tokens, cached ones too.
    listed_usd: float = 0.0
    # Sum of the squares of those, for an interval.
    listed_squares: float = 0.0
    latency_ms: int = 0

    @property
    def asked(self) -> int:
        """Calls that have a reply, cached or not, or a fault."""
        return self.calls - self.unsent

    def add(self, outcome: CallOutcome, listed_usd: float = 0.0) -> None:
        """Count one call; what was not sent is no fault of anybody."""
        self.listed_usd = round(self.listed_usd + listed_usd, 12)
        self.listed_squares += listed_usd**2
        self.latency_ms += outcome.latency_ms
        if outcome.fault == UNSENT:
            self.calls, self.unsent = self.calls + 1, self.unsent + 1
        else:
            super().add(outcome)


class ReplyJournal:
    """Replies that were paid and cannot be used, so that no run asks for them again.

    The client caches only what is usable. Kept as {key, fault, detail} in the file `path`.
    """

    KEYS = frozenset(("key", "fault", "detail"))

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._known: dict[str, dict[str, str]] = {}
        if path.exists():
            # a torn last line of a killed writer is cut.
            with files.open_for_append(path):
                rows = list(files.read_rows(path))
            if not all(isinstance(row, dict) and row.keys() >= self.KEYS for row in rows):
                raise SemError(
                    f"{path}: damaged", "delete it: the replies in it are asked for again"
                )
            self._known = {row["key"]: row for row in rows}

    def outcome(self, key: str) -> CallOutcome | None:
        """Return what is known of the call `key`."""
        row = self._known.get(key)
        return row and CallOutcome(fault=row["fault"], detail=row["detail"], cached=True, key=key)

    def note(self, key: str, outcome: CallOutcome) -> None:
        """Keep `outcome` of the call `key`."""
        row = {"key": key, "fault": outcome.fault, "detail": outcome.detail}
        with self._lock, files.open_for_append(self.path) as file:
            self._known[key] = row
            files.append_row(file, row)


class Teacher:
    """A configured teacher; what forges reach as `config.ask`. Its client opens at first use."""

    def __init__(
        self,
        settings: TeacherSettings,
        client: Callable[[], Client],
        journal: ReplyJournal | None = None,
        watch: "Callable[[Teacher, ChatRequest, bool], bool] | None" = None,
    ) -> None:
        self.settings = settings
        self.spending = TeacherSpending()
        self._open, self._opening, self._counting = client, threading.Lock(), threading.Lock()
        # What the server did wrong last.
        self._last = ""
        self._opened: Client | None = None
        self._journal, self._watch = journal, watch
        self._models = teacher_calls(settings, dry=True).models
        self._workers = teacher_calls(settings, dry=True).workers

    @property
    def name(self) -> str:
        """Return the model that is asked first, as provenance names it."""
        first = self._models[0]
        return f"{first.model}@{first.revision}" if first.revision else first.model

    @property
    def client(self) -> Client:
        """Return what the calls go through; raise SemError when its key or price is missing."""
        with self._opening:
            if self._opened is None:
                self._opened = self._open()
            return self._opened

    def request(
        self, messages: tuple[tuple[str, str], ...], schema: dict[str, Any] | None, version: str
    ) -> ChatRequest:
        """Return a Request with this teacher's temperature and length."""
        return ChatRequest(
            messages,
            schema,
            max_tokens=self.settings.max_tokens,
            temperature=self.settings.temperature,
            reasks=self.settings.reasks,
            prompt_version=version,
        )

    def key(self, request: ChatRequest) -> str:
        """Return names `request` to these models, whichever of them will answer."""
        return request.key({"models": [provider.identity for provider in self._models]})

    def __call__(self, request: ChatRequest) -> CallOutcome:
        """Return the reply to one `request`."""
        return self._going(self._ask(request))

    def ask_all(self, requests: Iterable[ChatRequest]) -> Iterator[tuple[int, CallOutcome]]:
        """(number, outcome) of every request in input order, `workers` at a time."""
        for number, _, outcome in self.answered(enumerate(requests)):
            yield number, outcome

    def answered(
        self, items: Iterable[tuple[Item, ChatRequest]]
    ) -> Iterator[tuple[Item, ChatRequest, CallOutcome]]:
        """Yield each of `items` with its request and the reply to it, in input order.

        Only the items in flight are held: `items` may be a generator over a whole library.
        Raise SemError when the teacher cannot go on (see STOPS); replies so far are cached.
        """
        source, room = iter(items), self._workers * AHEAD
        flying: deque[tuple[Item, ChatRequest, Future[CallOutcome]]] = deque()
        with ThreadPoolExecutor(self._workers) as pool:
            try:
                while True:
                    for item, request in islice(source, room - len(flying)):
                        flying.append((item, request, pool.submit(self._ask, request)))
                    if not flying:
                        return
                    item, request, future = flying.popleft()
                    yield item, request, self._going(future.result())
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _ask(self, request: ChatRequest) -> CallOutcome:
        """Return the reply to `request`, counted here.

        What was sent counts also where a run stops.
        """
        outcome = self._answer(request)
        usd = outcome.usd or (self.client.list_usd(outcome) if outcome.tokens_in else 0.0)
        with self._counting:
            self.spending.add(outcome, usd)
            if outcome.fault in calls.PROVIDER:
                self._last = f" (at last {outcome.fault}: {outcome.detail})"
        return outcome

    def _answer(self, request: ChatRequest) -> CallOutcome:
        key = self.key(request)
        journal_outcome = self._journal.outcome(key) if self._journal else None
        kept_outcome = journal_outcome or self.client.kept(request)
        if self._watch is not None and self._watch(self, request, kept_outcome is not None):
            return CallOutcome(fault=UNSENT, model=self.name, key=key)
        if kept_outcome is not None:
            return kept_outcome
        outcome = self.client.ask(request)
        if outcome.fault in SETTLED and self._journal is not None:
            self._journal.note(key, outcome)
        return outcome

    def _going(self, outcome: CallOutcome) -> CallOutcome:
        """Return `outcome`, where another call may fare better; SemError otherwise."""
        if outcome.fault == "circuit":
            outcome = replace(outcome, detail=f"{outcome.detail}{self._last}")
        hint = "replies so far are kept: run the same command again to continue"
        return calls.stop_on_fatal_fault(outcome, "the teacher stopped", STOPS, hint)


def make_teacher(
    choice: str | TeacherSettings,
    root: Path,
    at: datetime,
    journal: ReplyJournal | None = None,
    watch: Callable[[Teacher, ChatRequest, bool], bool] | None = None,
    dry: bool = False,
) -> Teacher:
    """Return the Teacher of `choice` for the project at `root`, paid from the account `forge`.

    `journal` holds unusable replies. `watch` sees every request, and whether its reply is known;
    what it says True to is left out. `dry`: no key is needed.
    """
    settings = of_settings(choice)
    calls = teacher_calls(settings, dry)

    def client() -> Client:
        return Client(calls, root / calls.ledger, "forge", at)

    return Teacher(settings, client, journal, watch)

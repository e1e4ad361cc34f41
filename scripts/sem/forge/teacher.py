"""The teacher: a model that is asked in bulk, through `lm.client`, with its cost known first.

Money, cache, retries and pace are the client's. Here are presets, replies in the order of their
requests within bounded memory, and what can be told of the cost before it is spent. Each reply
that cannot be used is an Outcome with a fault, counted, never an exception; what all further
calls would meet as well (the cap, a refused key, a dead server) stops the run, which goes on
from the cached replies when it is run again.
"""

import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from sem.core.errors import SemError, nearest
from sem.lm.calls import Outcome, Request
from sem.lm.client import Client
from sem.lm.provider import Calls, Price, Provider

Item = TypeVar("Item")

# Faults that all further calls would meet as well.
STOPS = {
    "budget": "raise teacher.max_usd or max_requests in forge.yaml, or take fewer: --limit N",
    "circuit": "see that the teacher's server answers, then run again",
    "auth": "check the key that the teacher's key_env names",
    "forbidden": "check what the key may use",
}
UNSENT = "not_sent"  # the fault of a request that a dry run or a pilot left out
AHEAD = 4  # replies held back per worker while an earlier one is awaited
LOCAL = "http://127.0.0.1:8080/v1"
KEYS = {
    "openai": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "gemini": "GEMINI_API_KEY",
    "mistral": "MISTRAL_API_KEY",
    "openrouter": "OPENROUTER_API_KEY",
}


@dataclass(frozen=True)
class TeacherSettings:
    """`teacher:` of forge.yaml; a bare word there is the name of a preset."""

    preset: str | None = None  # cheap, good or local; what stands below wins over it
    model: str | None = None  # another model than the preset's, as litellm spells it
    api_base: str | None = None  # another address than the preset's
    calls: Calls | None = None  # everything, as in configs/judge.yaml; instead of a preset
    max_usd: float | None = None  # hard cap of a day; None: the preset's
    max_requests: int | None = None  # the same, in HTTP requests
    workers: int | None = None  # calls in flight; a kill repeats at most this many
    temperature: float = 0.7  # higher: more various questions, more of them off the text
    max_tokens: int = 1_500  # of a reply; a longer one is cut and counts as unusable
    reasks: int = 1  # further tries of a reply that is not of the asked form
    pilot: int = 20  # calls made before the question about the rest


@dataclass
class Spending:
    """What a teacher was asked and what it cost, in this run."""

    calls: int = 0
    cached: int = 0
    unsent: int = 0
    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    usd: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)


class Teacher:
    """A configured teacher; what forges reach as `config.ask`."""

    settings: TeacherSettings
    spending: Spending

    @property
    def name(self) -> str:
        """The model that is asked first, as provenance names it."""
        raise NotImplementedError

    def request(
        self, messages: tuple[tuple[str, str], ...], schema: dict[str, Any] | None, version: str
    ) -> Request:
        """A Request with this teacher's temperature and length."""
        raise NotImplementedError

    def __call__(self, request: Request) -> Outcome:
        """The reply to one REQUEST."""
        raise NotImplementedError

    def ask_all(self, requests: Iterable[Request]) -> Iterator[tuple[int, Outcome]]:
        """(number, outcome) of every request in input order, `workers` at a time."""
        raise NotImplementedError

    def answered(
        self, items: Iterable[tuple[Item, Request]]
    ) -> Iterator[tuple[Item, Request, Outcome]]:
        """Each of ITEMS with its request and the reply to it, in input order.

        Only the items in flight are held: ITEMS may be a generator over a whole library.
        SemError when the teacher cannot go on (see STOPS); replies so far are cached.
        """
        raise NotImplementedError


def calls_of(settings: TeacherSettings) -> Calls:
    """The client's settings that SETTINGS stand for; SemError when no model is named."""
    raise NotImplementedError


def of_settings(given: "str | TeacherSettings") -> TeacherSettings:
    """GIVEN, a preset's name or settings, as settings; SemError when no preset is called so."""
    raise NotImplementedError


def teacher(given: "str | TeacherSettings", root: Path, at: datetime) -> Teacher:
    """The Teacher of GIVEN for the project tree at ROOT, paid from today's account `forge`."""
    raise NotImplementedError

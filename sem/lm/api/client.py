"""The one door to litellm: a call of a chat model that can be trusted with money.

litellm is used for one HTTP request at a time, and for nothing else: its cache is pickle, its
budget stops no call, its retries send three requests and hide the error, and its exceptions can
echo the key. Caps, limits, cache, retries and fallbacks are this project's own.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from sem.core import jsonio
from sem.core.errors import SemError
from sem.lm.api import calls, redact, wire
from sem.lm.api.calls import CallOutcome, ChatRequest
from sem.lm.api.ledger import Ledger, RequestBid, SpendingCap
from sem.lm.api.provider import PICO, Calls, Price, Provider
from sem.lm.api.rate_limits import Limits
from sem.lm.api.wire import Wire

# From what litellm returns or raises to an Outcome.

STATUS = {401: "auth", 403: "forbidden", 408: "timeout", 429: "rate_limited", 503: "unavailable"}


def of_reply(reply: Any, request: ChatRequest) -> CallOutcome:
    """Return the Outcome of `reply`, litellm's reply to `request`.

    Only a whole, fitting one is usable.
    """
    usage = getattr(reply, "usage", None)
    counts = {
        "tokens_in": _count(getattr(usage, "prompt_tokens", 0)),
        "tokens_out": _count(getattr(usage, "completion_tokens", 0)),
    }
    if not reply.choices:
        return CallOutcome(fault="empty", detail="no choice in the reply", **counts)
    choice = reply.choices[0]
    content = getattr(choice.message, "content", None)
    text = redact.redact_secrets(content if isinstance(content, str) else "")
    if choice.finish_reason != "stop":
        fault = "filtered" if choice.finish_reason == "content_filter" else "length"
        return CallOutcome(
            text, fault=fault, detail=f"finished by {choice.finish_reason}", **counts
        )
    value, fault, detail = calls.parse_reply_value(text, request)
    return CallOutcome(text, value, fault, redact.redact_secrets(detail), **counts)


def of_error(error: Exception, line: Wire) -> CallOutcome:
    """Return the Outcome of `error`, which litellm raised while `line` was open."""
    return CallOutcome(fault=_kind(error, line), detail=redact.redact_secrets(str(error))[:300])


def _count(tokens: Any) -> int:
    return tokens if isinstance(tokens, int) and 0 <= tokens < 10**9 else 0


def _kind(error: Exception, line: Wire) -> str:
    """Return the fault's name: from the wire, and from the error where the wire was not ours."""
    if line.fault:
        return line.fault
    status = line.status
    if status is None:
        if "timeout" in type(error).__name__.lower():
            return "timeout"
        # litellm reports a broken connection as status 500.
        status = getattr(error, "status_code", None)
        if status in (None, 500) or not isinstance(status, int):
            return "connection"
    if status < 300:
        return "not_json"
    if status in STATUS:
        return STATUS[status]
    return "server_error" if status >= 500 else "bad_request"


# A circuit breaker: after ten failures in a row a provider is left alone for a while.

FAILURES = 10
REST_S = 60.0


class Breaker:
    """Counts failures in a row of each lane; one success closes the circuit."""

    def __init__(self, failures: int = FAILURES, rest_s: float = REST_S) -> None:
        self._failures = failures
        self._rest_s = rest_s
        self._lock = threading.Lock()
        self._in_a_row: dict[str, int] = {}
        self._opened: dict[str, float] = {}

    def is_open(self, lane: str) -> bool:
        """Return whether `lane` is left alone; after the rest one call may try it again."""
        with self._lock:
            if self._in_a_row.get(lane, 0) < self._failures:
                return False
            if time.monotonic() - self._opened[lane] < self._rest_s:
                return True
            self._opened[lane] = time.monotonic()
            return False

    def note(self, lane: str, failed: bool) -> None:
        """Count one HTTP request of `lane`."""
        with self._lock:
            count = self._in_a_row.get(lane, 0) + 1 if failed else 0
            self._in_a_row[lane] = count
            if count >= self._failures:
                self._opened[lane] = time.monotonic()


# a Retry-After beyond it is a failure, not a pause.
LONGEST_WAIT_S = 60.0
FIRST_BACKOFF_S = 0.5
# After these nobody knows whether the provider counts the request: it stays paid in full.
MAYBE_PAID = frozenset(("timeout", "connection", "cut_off", "too_large", "not_json"))
REASK = (
    "Your last reply was not one complete JSON object of the form that is asked for. "
    "Answer again with that object and nothing else."
)


@dataclass(frozen=True)
class CallEstimate:
    """What a list of calls will cost, without retries; `at_most` is what will be reserved."""

    calls: int
    cached: int
    tokens_in: int
    tokens_out: int
    likely_usd: float
    at_most_usd: float


class Client:
    """Calls of the models in `settings`, paid from `account`; safe for threads and processes.

    `at` is the day of the caps; a process that outlives a day passes what tells the time.
    """

    def __init__(
        self,
        settings: Calls,
        folder: Path,
        account: str,
        at: datetime | Callable[[], datetime],
        window_s: float = 60.0,
    ) -> None:
        if not settings.models:
            raise SemError("no model is configured", "name one under `models:`")
        self.settings = settings
        self.ledger = Ledger(folder)
        self._account = account
        self._clock = at if callable(at) else lambda: at
        self._prices = {provider.lane: price_of(provider) for provider in settings.models}
        self._keys = {provider.lane: _key_of(provider) for provider in settings.models}
        self._window_s = window_s
        self._breaker = Breaker()

    @property
    def account(self) -> str:
        """Return the account that a request of now is paid from."""
        if self.settings.period != "day":
            return self._account
        return f"{self._account} {self._clock():%Y-%m-%d}"

    def _cap(self) -> SpendingCap:
        """Return the caps of the account of now: a request may wait past midnight."""
        usd = self.settings.max_usd
        return SpendingCap(
            self.account,
            None if usd is None else int(usd * PICO),
            self.settings.max_requests,
            self.settings.max_tokens,
        )

    def ask(self, request: ChatRequest) -> CallOutcome:
        """Return the reply to `request` of the first model that gives a usable one, or the last
        fault.
        """
        spent: list[CallOutcome] = []
        for provider in self.settings.models:
            outcome = self._kept(provider, request) or self._called(provider, request)
            spent.append(outcome)
            if outcome.is_usable or outcome.fault == "budget":
                break
        count = sum(outcome.requests for outcome in spent)
        return replace(spent[-1], requests=count, usd=calls.total_usd(spent))

    def ask_all(
        self, requests: Iterable[ChatRequest]
    ) -> Generator[tuple[int, CallOutcome], None, None]:
        """(number, outcome) of every request as it is ready, `workers` at a time."""
        # Before the first reservation: its import takes seconds.
        _door()
        source = enumerate(requests)
        with ThreadPoolExecutor(self.settings.workers) as pool:
            flying: dict[Future[CallOutcome], int] = {}
            try:
                while True:
                    for number, request in source:
                        flying[pool.submit(self.ask, request)] = number
                        if len(flying) > self.settings.workers:
                            break
                    if not flying:
                        return
                    ready, _ = wait(flying, return_when=FIRST_COMPLETED)
                    for future in ready:
                        yield flying.pop(future), future.result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def estimate(self, requests: Sequence[ChatRequest]) -> CallEstimate:
        """Return what `requests` will cost with the first model; nothing is sent."""
        provider = self.settings.models[0]
        price = self._prices[provider.lane]
        fresh = [r for r in requests if self._kept(provider, r) is None]
        tokens_in = sum(request.likely_tokens_in for request in fresh)
        tokens_out = sum(request.max_tokens // 4 for request in fresh)
        most = sum(price.pico_usd(r.most_tokens_in, r.max_tokens) for r in fresh)
        likely = price.pico_usd(tokens_in, tokens_out) / PICO
        cached = len(requests) - len(fresh)
        return CallEstimate(len(fresh), cached, tokens_in, tokens_out, likely, most / PICO)

    def kept(self, request: ChatRequest) -> CallOutcome | None:
        """Return the reply to `request` that is there already, of the first model that has one."""
        outcomes = (self._kept(provider, request) for provider in self.settings.models)
        return next((outcome for outcome in outcomes if outcome is not None), None)

    def list_usd(self, outcome: CallOutcome) -> float:
        """Return what the tokens of `outcome` cost at its model's price, also where it was
        cached.
        """
        lanes = (provider.lane for provider in self.settings.models)
        lane = next((lane for lane in lanes if lane.split(" ")[0] == outcome.model), None)
        return (
            self._prices[lane].pico_usd(outcome.tokens_in, outcome.tokens_out) / PICO
            if lane
            else 0.0
        )

    def _kept(self, provider: Provider, request: ChatRequest) -> CallOutcome | None:
        """Return the cached reply, read and checked again as if it had just arrived."""
        key = request.key(provider.identity)
        body = self.ledger.reply(key)
        if not isinstance(body, dict) or not isinstance(body.get("text"), str):
            return None
        value, fault, _ = calls.parse_reply_value(body["text"], request)
        if fault:
            return None
        counts = {name: int(body.get(name) or 0) for name in ("tokens_in", "tokens_out")}
        return CallOutcome(
            body["text"], value, model=provider.model, cached=True, key=key, **counts
        )

    def _called(self, provider: Provider, request: ChatRequest) -> CallOutcome:
        """Return `request` sent to `provider`, again where that may help, at most `tries`
        times.
        """
        import tenacity

        sent: list[CallOutcome] = []

        def attempt() -> CallOutcome:
            again = bool(sent) and sent[-1].fault in calls.UNUSABLE
            sent.append(self._try(provider, request, again))
            return sent[-1]

        def is_worth_another(outcome: CallOutcome) -> bool:
            if outcome.fault in calls.UNUSABLE:
                return sum(o.fault in calls.UNUSABLE for o in sent) <= request.reasks
            return outcome.fault in calls.TRANSIENT and outcome.retry_after_s <= LONGEST_WAIT_S

        last = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self.settings.tries),
            retry=tenacity.retry_if_result(is_worth_another),
            wait=_pause,
            retry_error_callback=lambda state: state.outcome.result(),
        )(attempt)
        count = sum(outcome.requests for outcome in sent)
        return replace(last, requests=count, usd=calls.total_usd(sent))

    def _try(self, provider: Provider, request: ChatRequest, again: bool) -> CallOutcome:
        """Return one HTTP request: reserved, sent, settled."""
        key = request.key(provider.identity)
        if self._breaker.is_open(provider.lane):
            return _fault("circuit", f"{provider.model} failed too often in a row", provider, key)
        messages = [*request.messages, *([("user", REASK)] if again else [])]
        most_in = replace(request, messages=tuple(messages)).most_tokens_in
        price = self._prices[provider.lane]
        bid = RequestBid(
            provider.lane,
            key,
            most_in + request.max_tokens,
            price.pico_usd(most_in, request.max_tokens),
        )
        number = self._reserved(bid, provider)
        if number is None:
            return _fault("budget", f"the cap of {self.account!r} is reached", provider, key)
        outcome = self._exchange(provider, request, messages, number)
        self._breaker.note(provider.lane, outcome.fault in calls.PROVIDER)
        return self._settled(number, bid, price, replace(outcome, key=key))

    def _reserved(self, bid: RequestBid, provider: Provider) -> int | None:
        limits = Limits(provider.requests_per_minute, provider.tokens_per_minute, self._window_s)
        _door()
        while isinstance(answer := self.ledger.reserve(bid, self._cap(), limits), float):
            # Settled tokens make room before the window moves on: look again soon.
            time.sleep(min(answer, 1.0 if limits.tokens else answer))
        return answer

    def _settled(
        self, number: int, bid: RequestBid, price: Price, outcome: CallOutcome
    ) -> CallOutcome:
        tokens, pico = outcome.tokens_in + outcome.tokens_out, 0
        if outcome.fault in MAYBE_PAID:
            tokens, pico = bid.tokens, bid.pico_usd
        elif outcome.requests and tokens:
            pico = price.pico_usd(outcome.tokens_in, outcome.tokens_out)
        elif outcome.is_usable or outcome.fault in calls.UNUSABLE:
            # a reply that counts no tokens.
            tokens, pico = bid.tokens, bid.pico_usd
        body = None
        if outcome.is_usable:
            counts = {"tokens_in": outcome.tokens_in, "tokens_out": outcome.tokens_out}
            body = jsonio.canonical_json({"text": outcome.text, **counts})
        self.ledger.settle(number, tokens, pico, outcome.fault, body)
        return replace(outcome, usd=pico / PICO)

    def _exchange(
        self,
        provider: Provider,
        request: ChatRequest,
        messages: list[tuple[str, str]],
        number: int,
    ) -> CallOutcome:
        began = time.perf_counter()
        form = provider.response_format(request.schema)
        line = wire.begin_wire(self.settings.timeout_s, lambda: self.ledger.sent(number))
        try:
            reply = _door().completion(
                model=provider.model,
                messages=request.content(messages),
                api_base=provider.api_base,
                api_key=self._keys[provider.lane],
                temperature=request.temperature,
                max_tokens=request.max_tokens,
                timeout=self.settings.timeout_s,
                max_retries=0,
                num_retries=0,
                **({"response_format": form} if form else {}),
            )
        except Exception as error:  # litellm raises some thirty classes, and bare ones too
            outcome = of_error(error, line)
        else:
            outcome = of_reply(reply, request)
        took = round((time.perf_counter() - began) * 1000)
        return replace(
            outcome,
            model=provider.model,
            latency_ms=took,
            requests=1,
            retry_after_s=line.retry_after_s,
        )


def price_of(provider: Provider) -> Price:
    """Return the price in the settings, else litellm's list.

    Raise SemError when nobody knows it.
    """
    if provider.price is not None:
        return provider.price
    listed = {} if provider.api_base else _door().model_cost
    name = provider.model
    entry = listed.get(name) or listed.get(name.partition("/")[2]) or {}
    costs = [entry.get("input_cost_per_token"), entry.get("output_cost_per_token")]
    if not all(isinstance(cost, int | float) for cost in costs):
        raise SemError(
            f"the price of {provider.model} is unknown, so no cap could hold",
            "add price: {input_per_million: …, output_per_million: …} (0 for your own server)",
        )
    return Price(*(cost * 1_000_000 for cost in costs))


def _key_of(provider: Provider) -> str | None:
    if provider.key_env is None:
        # Else litellm would send the OpenAI key of the environment to whatever address is named.
        return "none" if provider.api_base else None
    key = os.environ.get(provider.key_env, "").strip()
    if not key:
        raise SemError(
            f"{provider.key_env} is not set: the key of {provider.model}",
            "export it, or write it to .env",
        )
    redact.mask_secret(key)
    return key


@lru_cache(maxsize=1)
def _door() -> Any:
    # Else a look-up at import.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    litellm.suppress_debug_info = True
    litellm.telemetry = False
    litellm.client_session = wire.wire_client()
    redact.redact_loggers("LiteLLM", "LiteLLM Router", "LiteLLM Proxy", "openai", "httpx")
    return litellm


def _pause(state: Any) -> float:
    """Retry-After where the provider gave one, else full jitter over a doubling span."""
    outcome = state.outcome.result()
    if outcome.fault in calls.UNUSABLE:
        return 0.0
    jitter = random.uniform(0, FIRST_BACKOFF_S * 2**state.attempt_number)
    return max(outcome.retry_after_s, jitter)


def _fault(kind: str, detail: str, provider: Provider, key: str) -> CallOutcome:
    return CallOutcome(fault=kind, detail=detail, model=provider.model, key=key)

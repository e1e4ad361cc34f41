"""One call of a chat model: what is asked, what came back, and every way it can fail.

A fault is data, never an exception: the caller counts it. Nothing that failed is ever cached.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sem.core import files, jsonio, schema
from sem.core.errors import SemError

# The provider did not serve: another try may.
TRANSIENT = frozenset(
    ("rate_limited", "server_error", "unavailable", "timeout", "connection", "cut_off")
)
# The provider served something that is not a usable answer: it may be asked again.
UNUSABLE = frozenset(("empty", "invalid_json", "not_finite", "wrong_schema", "wrong_echo"))
# Asking again would not help: a wrong key, a wrong request, a page instead of an API.
FINAL = frozenset(
    ("auth", "forbidden", "bad_request", "not_json", "length", "filtered", "too_large")
)
# Nothing was sent at all.
UNSENT = frozenset(("budget", "circuit"))
FAULTS = TRANSIENT | UNUSABLE | FINAL | UNSENT
# What speaks against the provider, not against one request: the circuit breaker counts these.
PROVIDER = TRANSIENT | frozenset(("auth", "forbidden", "not_json"))

# Providers count 85 to some 37,000 tokens for an image of the size that forges send.
MOST_IMAGE_TOKENS, LIKELY_IMAGE_TOKENS = 40_000, 1_500


@dataclass(frozen=True)
class ChatRequest:
    """What is asked. `echo` names fields whose value the reply must repeat, as a nonce."""

    messages: tuple[tuple[str, str], ...]  # (role, text)
    # The reply is JSON of this form; None: any text.
    schema: dict[str, Any] | None = None
    echo: dict[str, Any] = field(default_factory=dict)
    max_tokens: int = 512
    temperature: float = 0.0
    # Further tries after an unusable answer, within the tries of a call.
    reasks: int = 2
    prompt_version: str = ""
    # Changes the key: an equal request under another epoch is asked again.
    epoch: str = ""
    # Data URLs that stand after the text of the last message.
    images: tuple[str, ...] = ()

    def key(self, where: dict[str, Any]) -> str:
        """sha256 of everything that decides the reply; `where` is the provider's part."""
        return files.sha256_json(
            {
                **where,
                "messages": [list(message) for message in self.messages],
                "max_tokens": self.max_tokens,
                "temperature": self.temperature,
                "schema": files.sha256_json(self.schema),
                "echo": self.echo,
                "prompt_version": self.prompt_version,
                "epoch": self.epoch,
                # Absent without images: the keys of all other requests stay what they were.
                **({"images": [files.sha256_text(i) for i in self.images]} if self.images else {}),
            }
        )

    @property
    def most_tokens_in(self) -> int:
        """Return an upper bound: no tokenizer makes more tokens than a text has bytes."""
        words = sum(16 + len(text.encode("utf-8")) for _, text in self.messages)
        return 64 + words + MOST_IMAGE_TOKENS * len(self.images)

    @property
    def likely_tokens_in(self) -> int:
        """About what a prompt of English and JSON takes."""
        words = sum(8 + len(text.encode("utf-8")) * 2 // 7 for _, text in self.messages)
        return words + LIKELY_IMAGE_TOKENS * len(self.images)

    def content(self, messages: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
        """Return `messages`, which begin with this request's, as the chat protocol spells them."""
        chat_messages: list[dict[str, Any]] = [
            {"role": role, "content": text} for role, text in messages
        ]
        if self.images:
            last = chat_messages[len(self.messages) - 1]
            image_parts = [
                {"type": "image_url", "image_url": {"url": image}} for image in self.images
            ]
            last["content"] = [{"type": "text", "text": last["content"]}, *image_parts]
        return chat_messages


@dataclass(frozen=True)
class CallOutcome:
    """What became of a call: a text and its value, or the name of a fault."""

    text: str = ""
    value: Any = None
    fault: str | None = None
    # For a person; keys are redacted.
    detail: str = ""
    model: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    usd: float = 0.0
    latency_ms: int = 0
    # HTTP requests this call has cost.
    requests: int = 0
    cached: bool = False
    key: str = ""
    retry_after_s: float = 0.0

    @property
    def is_usable(self) -> bool:
        return self.fault is None


def stop_on_fatal_fault(
    outcome: CallOutcome, who: str, stops: Mapping[str, str], kept_note: str
) -> CallOutcome:
    """Return `outcome`, where another call may fare better; SemError otherwise.

    `stops` are the faults that all further calls would meet as well, each with what to do about
    it; `who` stopped and `kept_note` are said.
    """
    if outcome.fault in stops:
        raise SemError(
            f"{who}: {outcome.fault}: {outcome.detail}", f"{stops[outcome.fault]}; {kept_note}"
        )
    return outcome


@dataclass
class CallSpending:
    """What calls have cost so far, in this process; cached replies cost no tokens."""

    calls: int = 0
    cached: int = 0
    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    usd: float = 0.0
    faults: dict[str, int] = field(default_factory=dict)

    def add(self, outcome: CallOutcome) -> None:
        self.calls += 1
        self.cached += outcome.cached
        self.requests += outcome.requests
        self.tokens_in += 0 if outcome.cached else outcome.tokens_in
        self.tokens_out += 0 if outcome.cached else outcome.tokens_out
        self.usd = round(self.usd + outcome.usd, 12)
        if outcome.fault:
            self.faults[outcome.fault] = self.faults.get(outcome.fault, 0) + 1


def parse_reply_value(text: str, request: ChatRequest) -> tuple[Any, str | None, str]:
    """Return the value in `text` as `request` wants it, else a fault and what is wrong with it."""
    if request.schema is None:
        return text, (None if text.strip() else "empty"), "an empty text"
    if not text.strip():
        return None, "empty", "an empty text"
    try:
        value = jsonio.read_reply(text, request.echo)
    except ValueError as error:
        kind = "not_finite" if str(error).endswith("is not JSON") else "invalid_json"
        return None, kind, str(error)[:200]
    wrong = _echo_faults(value, request.echo)
    if wrong:
        return None, "wrong_echo", wrong
    problems = schema.schema_problems(value, request.schema, limit=3)
    return (None, "wrong_schema", "; ".join(problems)[:300]) if problems else (value, None, "")


def _echo_faults(value: Any, echo: dict[str, Any]) -> str:
    if not isinstance(value, dict):
        return ""
    wrong = [name for name in echo if name in value and value[name] != echo[name]]
    return f"{', '.join(sorted(wrong))} not repeated" if wrong else ""


def total_usd(outcomes: Sequence[CallOutcome]) -> float:
    """Return what `outcomes` have cost."""
    return round(sum(outcome.usd for outcome in outcomes), 12)

"""Which models are asked, at what price and pace: the settings every caller of a model shares."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import urlsplit

from sem.core.errors import SemError

# Prices are whole pico-dollars a token: sums are exact.
PICO = 10**12


@dataclass(frozen=True)
class Price:
    """US dollars for a million tokens; 0 for a server of your own."""

    input_per_million: float
    output_per_million: float

    def __post_init__(self) -> None:
        if min(self.input_per_million, self.output_per_million) < 0:
            raise SemError(f"price below zero: {self}", "write dollars per million tokens")

    def pico_usd(self, tokens_in: int, tokens_out: int) -> int:
        """Return what so many tokens cost, in pico-dollars."""
        return tokens_in * _pico(self.input_per_million) + tokens_out * _pico(
            self.output_per_million
        )


def _pico(usd_per_million: float) -> int:
    return int((Decimal(str(usd_per_million)) * PICO / 1_000_000).to_integral_value())


@dataclass(frozen=True)
class Provider:
    """One model behind one address."""

    # As litellm spells it: provider/name.
    model: str
    # What you pinned; part of the cache key.
    revision: str = ""
    # An OpenAI-compatible server; None: the provider's own.
    api_base: str | None = None
    # Environment variable that holds the key.
    key_env: str | None = None
    # None: litellm's list; a model it does not list is refused.
    price: Price | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    # Ask the server for a JSON object, or for JSON of the request's schema; not every server can.
    json_mode: bool | Literal["schema"] = False

    def __post_init__(self) -> None:
        for name in ("requests_per_minute", "tokens_per_minute"):
            if (getattr(self, name) or 1) < 1:
                raise SemError(f"{name} of {self.model} is below 1", "leave it out for no limit")
        if self.api_base is not None:
            self._check_address(self.api_base)

    def _check_address(self, address: str) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SemError(
                f"api_base of {self.model} is not an address", "write http://host:port/v1"
            )
        if parts.username or parts.password:
            raise SemError(
                f"api_base of {self.model} holds a password",
                "name a variable with key_env and put the key there",
            )

    @property
    def lane(self) -> str:
        """Return what shares one rate limit: the model at its address."""
        return f"{self.model} {self.api_base or ''}".strip()

    def response_format(self, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        """Return what is said about the form of a reply of `schema`; None: nothing."""
        if not self.json_mode:
            return None
        if self.json_mode == "schema" and schema is not None:
            named = {"name": "reply", "schema": schema, "strict": True}
            return {"type": "json_schema", "json_schema": named}
        return {"type": "json_object"}

    @property
    def identity(self) -> dict[str, str | bool]:
        """This provider's part of the cache key."""
        return {
            "provider": self.model.partition("/")[0],
            "model": self.model,
            "revision": self.revision,
            "api_base": self.api_base or "",
            "json_mode": self.json_mode,
        }


@dataclass(frozen=True)
class Calls:
    """How models are called."""

    # In order: the next one is asked where one fails.
    models: tuple[Provider, ...] = ()
    # Hard cap of a period, reserved before anything is sent.
    max_usd: float | None = None
    # The same, counted in HTTP requests.
    max_requests: int | None = None
    # The same, counted in tokens, in and out.
    max_tokens: int | None = None
    # Day (UTC) or total: when the caps begin anew.
    period: str = "day"
    workers: int = 4  # calls in flight
    # Of one HTTP request, from sending to the last byte.
    timeout_s: float = 60.0
    # HTTP requests of one call to one model.
    tries: int = 4
    # Folder of what was spent and what was answered, below the root.
    ledger: str = "data/.lm"

    def __post_init__(self) -> None:
        if self.period not in ("day", "total"):
            raise SemError(f"period {self.period!r} is unknown", "write day or total")
        if not 1 <= self.tries <= 10 or not 1 <= self.workers <= 256 or self.timeout_s <= 0:
            raise SemError(
                f"tries {self.tries}, workers {self.workers}, timeout_s {self.timeout_s}",
                "use tries from 1 to 10, workers from 1 to 256, timeout_s above 0",
            )
        if min(self.max_usd or 0, self.max_requests or 0, self.max_tokens or 0) < 0:
            raise SemError(
                f"max_usd {self.max_usd}, max_requests {self.max_requests} or max_tokens "
                f"{self.max_tokens} is below zero",
                "leave it out, or write 0 or more",
            )

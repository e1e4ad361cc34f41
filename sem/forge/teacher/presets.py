"""Which model teaches: presets, full settings, and the calls they stand for."""

from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from sem.core.errors import SemError, suggest_nearest_name
from sem.lm.api.provider import Calls, Price, Provider

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

    # Cheap (by default), good or local; what stands below wins over it.
    preset: str | None = None
    # Another model than the preset's, as litellm spells it.
    model: str | None = None
    # An OpenAI-compatible server instead of the provider's own.
    api_base: str | None = None
    # Everything, as in configs/judge.yaml; instead of a preset.
    calls: Calls | None = None
    # Hard cap of a day; None: the preset's.
    max_usd: float | None = None
    # The same, in HTTP requests.
    max_requests: int | None = None
    # Calls in flight; a kill repeats at most this many.
    workers: int | None = None
    # higher: more various questions, more of them off the text.
    temperature: float = 0.7
    # Of a reply; a longer one is cut and counts as unusable.
    max_tokens: int = 1_500
    # Further tries of a reply that is not of the asked form.
    reasks: int = 1
    # Calls made before the question about the rest; 0: none, nothing is asked.
    pilot: int = 20
    # Share of golden answers that forge.teacher asks for: below, no-go.
    min_right: float = 0.5

    def __post_init__(self) -> None:
        if self.max_tokens < 16 or self.pilot < 0 or not 0 <= self.reasks <= 9:
            raise SemError(
                f"max_tokens {self.max_tokens}, pilot {self.pilot}, reasks {self.reasks}",
                "use max_tokens from 16, pilot from 0, reasks from 0 to 9",
            )
        if not 0 <= self.min_right <= 1:
            raise SemError(f"teacher.min_right {self.min_right}", "write a share, 0 to 1")
        if self.calls is not None and (self.preset or self.model or self.api_base):
            raise SemError(
                "teacher: `calls` beside preset, model or api_base",
                "name the model under calls.models, or leave `calls` out",
            )
        if (self.preset or "cheap") not in PRESETS:
            raise SemError(
                f"teacher: no preset is called {self.preset!r}",
                suggest_nearest_name(self.preset, PRESETS),
            )


_OWN = Price(0, 0)
PRESETS: dict[str, Calls] = {
    "cheap": Calls((Provider("openai/gpt-4o-mini", json_mode=True),), max_usd=2.0, workers=8),
    "good": Calls((Provider("openai/gpt-4o", json_mode=True),), max_usd=20.0, workers=8),
    # A small model on a CPU takes minutes for a reply, and one at a time.
    "local": Calls(
        (Provider("openai/local", api_base=LOCAL, price=_OWN, json_mode="schema"),),
        workers=1,
        timeout_s=900.0,
    ),
}


def of_settings(choice: str | TeacherSettings) -> TeacherSettings:
    """Return `choice`, a preset's name or settings, as settings.

    Raise SemError when no preset is called so.
    """
    return TeacherSettings(preset=choice) if isinstance(choice, str) else choice


def teacher_calls(settings: TeacherSettings, dry: bool = False) -> Calls:
    """Return the client's settings that `settings` stand for; `dry`.

    Without a key, nothing will be sent.
    """
    calls = settings.calls or PRESETS[settings.preset or "cheap"]
    models = tuple(_provider(provider, settings) for provider in calls.models)
    limits = {name: getattr(settings, name) for name in ("max_usd", "max_requests", "workers")}
    limits = {name: value for name, value in limits.items() if value is not None}
    if dry:
        models = tuple(replace(provider, key_env=None) for provider in models)
    return replace(calls, models=models, **limits)


def _provider(provider: Provider, settings: TeacherSettings) -> Provider:
    if settings.calls is not None:
        return provider
    base = settings.api_base or (None if settings.model else provider.api_base)
    model = settings.model or provider.model
    if base is not None:
        price = _OWN if _is_here(base) else None
        return replace(provider, model=model, api_base=base, price=price)
    company = model.partition("/")[0]
    if company not in KEYS:
        raise SemError(
            f"teacher: which key {model!r} takes is unknown",
            f"write it under `calls:` with a key_env; known: {', '.join(KEYS)}",
        )
    return replace(provider, model=model, api_base=None, key_env=KEYS[company])


def _is_here(address: str) -> bool:
    return urlsplit(address).hostname in ("127.0.0.1", "localhost", "::1")

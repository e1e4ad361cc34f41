"""judge.yaml: which model judges, how it is asked, and what it may cost."""

import os
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from sem.core import settings
from sem.core.errors import SemError, suggest_nearest_name
from sem.core.project import Project
from sem.lm.api.client import Client
from sem.lm.api.provider import Calls, Price, Provider

# Keys of `defaults` in judge_slots.yaml, and the key of judge.yaml each stands for.
OLDER = {
    "judge_model": None,
    "temperature": "temperature",
    "max_tokens": "max_tokens",
    "retry_on_invalid_json": "retry_on_invalid_json",
}


@dataclass(frozen=True)
class JudgeSettings:
    """Settings of the judge."""

    calls: Calls = field(default_factory=Calls)
    temperature: float = 0.0
    # Of a reply; a longer one is cut and counts as unjudged.
    max_tokens: int = 300
    # Further tries of a reply that is not of the asked form.
    retry_on_invalid_json: int = 2
    # Ask twice with the values swapped; disagreement decides nothing.
    both_orders: bool = True
    # Questions that share one set of canaries.
    batch: int = 100
    # Places the canaries among the questions.
    seed: int = 42

    def __post_init__(self) -> None:
        if self.max_tokens < 16 or self.batch < 1 or not 0 <= self.retry_on_invalid_json <= 9:
            raise SemError(
                f"max_tokens {self.max_tokens}, batch {self.batch}, "
                f"retry_on_invalid_json {self.retry_on_invalid_json}",
                "max_tokens from 16, batch from 1, retry_on_invalid_json from 0 to 9",
            )

    @property
    def ask(self) -> dict[str, Any]:
        """Return what a Request takes from here."""
        return {
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "reasks": self.retry_on_invalid_json,
        }

    @property
    def identity(self) -> dict[str, Any]:
        """Return what verdicts depend on; a price, a pace or a cap changes none."""
        return {
            "models": [provider.identity for provider in self.calls.models],
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "both_orders": self.both_orders,
        }


def load_judge_config(project: Project) -> JudgeSettings:
    """Return the judge of `project`: its own judge.yaml, or the one of all sems.

    `--set judge.key=value` overrides it.

    Where judge.yaml names no model, `defaults` of judge_slots.yaml or $LITELLM_JUDGE_MODEL does.
    """
    own = project.configs / "judge.yaml"
    path = own if own.exists() else project.root / "configs" / "judge.yaml"
    mine = project.overrides_of("judge")
    judge_settings = settings.load_settings(JudgeSettings, path, mine)
    older = _older(project.root / "configs" / "judge_slots.yaml")
    written = settings.read_yaml(path) if path.exists() else {}
    for name, key in OLDER.items():
        if key and name in older and key not in (written or {}):
            judge_settings = settings.build_settings(
                JudgeSettings,
                {**vars(judge_settings), key: older[name]},
                f"judge_slots.yaml: {name}",
            )
    if not judge_settings.calls.models:
        named = os.environ.get("LITELLM_JUDGE_MODEL") or older.get("judge_model")
        models = (_named(str(named)),) if named else ()
        judge_settings = replace(
            judge_settings, calls=replace(judge_settings.calls, models=models)
        )
    return judge_settings


def _older(path: Path) -> dict[str, Any]:
    values = (settings.read_yaml(path) if path.exists() else None) or {}
    defaults = values.get("defaults") or {}
    for name in defaults:
        if name not in OLDER:
            raise SemError(
                f"{path}: unknown key 'defaults.{name}'", suggest_nearest_name(name, OLDER)
            )
    return defaults


def _named(model: str) -> Provider:
    """Return `model` from the environment's older variables.

    A server of one's own costs nothing.
    """
    base = os.environ.get("LITELLM_API_BASE") or None
    has_key = bool(os.environ.get("LITELLM_API_KEY"))
    return Provider(
        model,
        api_base=base,
        key_env="LITELLM_API_KEY" if has_key else None,
        price=Price(0, 0) if base and "//127.0.0.1" in base else None,
    )


def judge_client(project: Project, judge: JudgeSettings, at: datetime) -> Client:
    """Return the client that `judge`'s calls go through.

    Raise SemError when no model is configured.
    """
    if not judge.calls.models:
        raise SemError(
            "no judge is configured: rules and the local similarity model score alone",
            "name a model under calls.models in configs/judge.yaml, or set LITELLM_JUDGE_MODEL",
        )
    return Client(judge.calls, project.root / judge.calls.ledger, "judge", at)

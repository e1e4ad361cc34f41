"""Who answers a prompt: weights on this disk, or a model behind an OpenAI-compatible address.

smollm2-135m-instruct, pip:…, FOLDER, org/name@COMMIT    weights, decoded here
local                                                    the server of `fab forge.serve`
provider/model                                           LiteLLM, with its company's key
provider/model@http://HOST:PORT/v1                       any server, without a key
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Protocol

from sem.core import console
from sem.core.errors import SemError
from sem.core.net import hub
from sem.forge.teacher.presets import KEYS, LOCAL, PRESETS
from sem.lm.api import calls
from sem.lm.api.calls import CallOutcome, ChatRequest
from sem.lm.api.client import Client
from sem.lm.api.provider import Calls, Price, Provider
from sem.lm.local import chat, hardware, model
from sem.lm.local.generator import Prompt
from sem.lm.local.hf import HfGenerator
from sem.lm.weights import weight_packages, weights
from sem.optimizer.eval import evaluate

DEFAULT = "smollm2-135m-instruct"
# Of an answer: a longer one is cut there and counted.
MOST_TOKENS = 256
VERSION = "optimizer-answer-1"
CUT, EMPTY = "length", "empty"
# Faults that all further calls would meet as well.
STOPS = {
    "budget": "wait for the next day, or ask fewer questions with --rows",
    "circuit": "see that the server answers, then run again",
    "auth": "check the key in the environment",
    "forbidden": "check what the key may use",
}


@dataclass(frozen=True)
class ModelAnswer:
    """An answer and how it ended: stop, length (cut), or the fault for which there is none."""

    text: str
    finish: str

    @property
    def is_scored(self) -> bool:
        """Return whether there is an answer; an empty one is a bad answer, not a missing one."""
        return self.finish in ("stop", CUT)


class PromptAnswerer(Protocol):
    """A model that answers prompts greedily, as they stand."""

    name: str

    def answer(self, prompts: Sequence[str]) -> list[ModelAnswer]:
        """Return the answer to each of `prompts`, in order."""


@dataclass(frozen=True)
class LocalAnswerer:
    """Weights on this disk, decoded by the project's own generator."""

    name: str
    generator: HfGenerator

    def answer(self, prompts: Sequence[str]) -> list[ModelAnswer]:
        """Return the answer to each of `prompts`, in order.

        One that does not fit the model is refused.
        """
        sent = [self.generator.chat.prompt_ids("", text) for text in prompts]
        parts = evaluate.length_batches(sent)
        answers: dict[int, ModelAnswer] = {}
        for batch in console.show_progress(parts, len(parts), f"batches of {self.name}"):
            requests = [Prompt(tuple(sent[n]), MOST_TOKENS) for n in batch]
            completions = self.generator.generate(requests)
            answers |= {
                n: ModelAnswer(c.text, c.finish) for n, c in zip(batch, completions, strict=True)
            }
        return [answers[n] for n in range(len(prompts))]


@dataclass(frozen=True)
class RemoteAnswerer:
    """A model behind an address, through the one door to LiteLLM: capped, cached, paced."""

    name: str
    client: Client

    def answer(self, prompts: Sequence[str]) -> list[ModelAnswer]:
        """Return the answer to each of `prompts`, in order.

        Raise SemError when no further call can be made.
        """
        requests = [
            ChatRequest(
                (("user", text),), max_tokens=MOST_TOKENS, reasks=0, prompt_version=VERSION
            )
            for text in prompts
        ]
        answers: dict[int, ModelAnswer] = {}
        replies = self.client.ask_all(requests)
        for number, outcome in console.show_progress(
            replies, len(requests), f"answers of {self.name}"
        ):
            who, note = f"{self.name} stopped answering", "whole answers so far are kept"
            answers[number] = _said(calls.stop_on_fatal_fault(outcome, who, STOPS, note))
        return [answers[number] for number in range(len(requests))]


def _said(outcome: CallOutcome) -> ModelAnswer:
    if outcome.fault == EMPTY:
        return ModelAnswer("", "stop")
    return ModelAnswer(outcome.text, outcome.fault or "stop")


def find_answerer(model_name: str, root: Path, at: datetime) -> PromptAnswerer:
    """Return the model that `model_name` names by its form (see above), ready to be asked."""
    if _is_weights(model_name, root):
        base = weights.resolve_weights(weights.base_model_id_of(model_name, root), root)
        machine = hardware.detect_hardware()
        loaded = model.load_model(base.folder, machine.dtype, machine.device)
        if loaded.config.is_encoder_decoder:
            raise SemError(f"--answer-with: {model_name} is not a chat model", f"use {DEFAULT}")
        name = f"{Path(model_name).name} ({base.precision_note}), {machine.dtype}"
        return LocalAnswerer(name, HfGenerator(loaded, chat.load_chat(base.folder)))
    call_settings = answerer_calls(model_name)
    named = call_settings.models[0]
    where = f" at {named.api_base}" if named.api_base else ""
    client = Client(call_settings, root / call_settings.ledger, "optimizer.eval", at)
    return RemoteAnswerer(f"{named.model}{where}", client)


def _is_weights(model_name: str, root: Path) -> bool:
    slugs = {package.slug for package in weight_packages.KNOWN.values()}
    is_named = model_name in slugs or model_name.startswith("pip:") or (root / model_name).is_dir()
    commit = model_name.rpartition("@")[2]
    return is_named or bool(hub.COMMIT.fullmatch(commit))


def answerer_calls(model_name: str) -> Calls:
    """Return how the model behind an address that `model_name` names is called.

    Raise SemError when none is meant.
    """
    own = PRESETS["local"]
    if model_name == "local":
        return _plain(own, Provider("openai/local", api_base=LOCAL, price=Price(0, 0)))
    named, _, address = model_name.partition("@")
    company = named.partition("/")[0]
    if address:
        # Asked without a key, so it costs nothing that somebody could be billed for.
        return _plain(own, Provider(named, api_base=address, price=Price(0, 0)))
    if "/" not in named or company not in KEYS:
        raise SemError(
            f"--answer-with {model_name!r}: no weights, and no model whose key is known",
            f"{DEFAULT}, a folder, org/name@COMMIT, local, provider/model@http://HOST:PORT/v1, "
            f"or provider/model with provider one of {', '.join(sorted(KEYS))}",
        )
    return _plain(PRESETS["cheap"], Provider(named, key_env=KEYS[company]))


def _plain(call_settings: Calls, provider: Provider) -> Calls:
    return replace(call_settings, models=(provider,))

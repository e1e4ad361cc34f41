"""What runs a package's model: prompts of token ids in, measured completions out."""

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, Protocol

from sem.core import files
from sem.core.errors import SemError, suggest_nearest_name
from sem.lm.local import chat as chats
from sem.lm.local import constrain, hardware
from sem.lm.local import model as models
from sem.lm.local.chat import Chat
from sem.lm.local.constrain import Vocabulary
from sem.lm.local.generator import Completion, Prompt
from sem.lm.local.hf import HfGenerator
from sem.lm.local.llamacpp import Server, Serving

GGUF = "gguf/model.f16.gguf"
# Of the likeliest tokens that each step tells, for the share among those that the schema allows.
LIKELY = 20


class Engine(Protocol):
    """A loaded model; its completions tell how probable their tokens were, where it knows."""

    name: str
    chat: Chat
    # How many calls of `generate` are answered at once; more wait for their turn.
    slots: int

    @property
    def tokenizer_definition(self) -> str:
        """Return the tokenizer as a tokenizer.json, for counting elsewhere."""

    def refuse_unheld_schema(self, schema_text: str) -> None:
        """Raise SemError when no answer can be held to the JSON Schema `schema_text`."""

    def generate(self, prompts: Sequence[Prompt]) -> list[Completion]:
        """Return the completion of each of `prompts`, in order."""

    def close(self) -> None:
        """Give back what the engine holds."""


class TransformersEngine:
    """The merged model in this process, on its accelerator or CPU, as it was evaluated."""

    name = "transformers"
    slots = 1

    def __init__(self, folder: Path, slots: int = 1) -> None:
        machine = hardware.detect_hardware()
        loaded = models.load_model(folder / "model", machine.dtype, machine.device)
        self.chat = chats.load_chat(folder / "model")
        self.dtype = machine.dtype
        self._generator = HfGenerator(loaded, self.chat, measures=True)
        self._turn = threading.Lock()

    @property
    def tokenizer_definition(self) -> str:
        """Return the tokenizer as a tokenizer.json, for counting elsewhere."""
        return self.chat.definition

    def refuse_unheld_schema(self, schema_text: str) -> None:
        """Raise SemError when no answer can be held to the JSON Schema `schema_text`."""
        constrain.compile_grammar(schema_text)

    def generate(self, prompts: Sequence[Prompt]) -> list[Completion]:
        """Return the completion of each of `prompts`, decoded together."""
        with self._turn:
            return self._generator.generate(prompts)

    def close(self) -> None:
        """Give back what the engine holds: memory, when the object goes."""


class LlamaCppEngine:
    """The package's GGUF in llama.cpp, in this process: the fastest on most CPUs.

    Prompts go as token ids, so the tokenizer in the file is not asked. The schema is held by the
    same grammar as elsewhere (llguidance is compiled in). Each of the `slots` has a context of its
    own, and takes the next prompt while the others still write.
    """

    name = "llamacpp"

    def __init__(self, folder: Path, slots: int = 1, gguf: str = GGUF) -> None:
        path = folder / gguf
        if not path.is_file():
            raise SemError(
                f"{folder.name}: no {gguf}, which llama.cpp answers with",
                "export it with `fab package.export --target llamacpp` (or llamacpp-q8_0)",
            )
        generation = files.read_object(folder / "generation.json")
        self.chat = chats.load_chat(folder / "model")
        self.slots = slots
        self.server = Server(Serving(path, port=0, context=generation["context"], slots=slots))
        self._lanes = ThreadPoolExecutor(slots, thread_name_prefix="llamacpp")
        config = models.read_config(folder / "model" / "config.json")
        stops = tuple(self.chat.stop_ids)
        self._vocabulary = Vocabulary(self.chat.tokenizer, config["vocab_size"], stops)

    @property
    def tokenizer_definition(self) -> str:
        """Return the tokenizer as a tokenizer.json, for counting elsewhere."""
        return self.chat.definition

    def refuse_unheld_schema(self, schema_text: str) -> None:
        """Raise SemError when no answer can be held to the JSON Schema `schema_text`."""
        constrain.lark_of_schema(schema_text)

    def generate(self, prompts: Sequence[Prompt]) -> list[Completion]:
        """Return the completion of each of `prompts`, as many at once as there are slots."""
        return list(self._lanes.map(self._complete, prompts))

    def _complete(self, prompt: Prompt) -> Completion:
        request: dict[str, Any] = {
            "prompt": list(prompt.ids),
            "n_predict": prompt.max_new_tokens,
            "temperature": 0,
            "n_probs": LIKELY,
            "return_tokens": True,
            "cache_prompt": True,
        }
        if prompt.schema is not None:
            request["grammar"] = constrain.lark_of_schema(prompt.schema)
        reply = self.server.complete(request)
        ids = list(takewhile(lambda token: token not in self.chat.control_ids, reply["tokens"]))
        finish = "length" if reply["stop_type"] == "limit" else "stop"
        steps = _steps(ids, reply.get("completion_probabilities", []))
        if finish == "length" and prompt.schema is not None:
            ids = constrain.end_within(
                self._vocabulary,
                prompt.schema,
                ids,
                prompt.max_new_tokens,
                lambda said: self._rank_next([*prompt.ids, *said]),
            )
            ids = list(takewhile(lambda token: token not in self.chat.stop_ids, ids))
            finish = "closed"
        completion = Completion(self.chat.decode(ids), finish, len(ids) + (finish != "length"))
        if prompt.schema is None:
            return completion
        # What was closed here was forced.
        known = [step if step[0] == i else (i, {}) for i, step in zip(ids, steps, strict=False)]
        path = [*known, *((token, {}) for token in ids[len(known) :])]
        shares = constrain.allowed_shares(self._vocabulary, prompt.schema, path)
        ends = tuple(len(self.chat.decode(ids[: n + 1])) for n in range(len(ids)))
        return replace(completion, ends=ends, probabilities=tuple(shares))

    def _rank_next(self, ids: Sequence[int]) -> list[int]:
        """Return the likeliest tokens after `ids`, before any mask, by falling probability."""
        request = {"prompt": list(ids), "n_predict": 1, "temperature": 0, "n_probs": LIKELY}
        reply = self.server.complete({**request, "cache_prompt": True})
        # None of a token that ends within a character.
        first = reply.get("completion_probabilities", [])[:1]
        return [top["id"] for entry in first for top in entry["top_logprobs"]]

    def close(self) -> None:
        """Give back what the engine holds: the server, when the object goes."""
        self._lanes.shutdown(wait=True, cancel_futures=True)
        self.server.close()


def _steps(ids: Sequence[int], entries: Sequence[Any]) -> list[tuple[int, dict[int, float]]]:
    """Return each token of llama.cpp's reply with what was likely there, where it says so.

    It says nothing of a token that ends within a character.
    """
    steps: list[tuple[int, dict[int, float]]] = []
    told = deque(entries)
    for token in ids:
        if not told or told[0]["id"] != token:
            steps.append((token, {}))
            continue
        entry = told.popleft()
        likely = {top["id"]: math.exp(top["logprob"]) for top in entry.get("top_logprobs", [])}
        steps.append((token, {token: math.exp(entry["logprob"]), **likely}))
    return steps


ENGINES: dict[str, Callable[[Path, int], Any]] = {
    "transformers": TransformersEngine,
    "llamacpp": LlamaCppEngine,
    "llamacpp-q8_0": partial(LlamaCppEngine, gguf="gguf/model.q8_0.gguf"),
}


def open_package_engine(name: str, folder: Path, slots: int = 1) -> Engine:
    """Return the engine `name` with the model of the package in `folder`.

    `slots`: how many prompts it shall answer at once, where it can.
    """
    if name not in ENGINES:
        raise SemError(f"no engine {name!r}", suggest_nearest_name(name, ENGINES))
    return ENGINES[name](folder, slots)

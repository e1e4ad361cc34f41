"""What runs a package's model: prompts of token ids in, measured completions out."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from sem.core.errors import SemError, suggest_nearest_name
from sem.lm.local import chat as chats
from sem.lm.local import constrain, hardware
from sem.lm.local import model as models
from sem.lm.local.chat import Chat
from sem.lm.local.generator import Completion, Prompt
from sem.lm.local.hf import HfGenerator


class Engine(Protocol):
    """A loaded model; its completions tell how probable their tokens were, where it knows."""

    name: str
    chat: Chat

    @property
    def tokenizer_definition(self) -> str:
        """Return the tokenizer as a tokenizer.json, for counting elsewhere."""

    def check_schema(self, schema_text: str) -> None:
        """Raise SemError when no answer can be held to the JSON Schema `schema_text`."""

    def generate(self, prompts: Sequence[Prompt]) -> list[Completion]:
        """Return the completion of each of `prompts`, in order."""

    def close(self) -> None:
        """Give back what the engine holds."""


class TransformersEngine:
    """The merged model in this process, on its accelerator or CPU, as it was evaluated."""

    name = "transformers"

    def __init__(self, folder: Path) -> None:
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

    def check_schema(self, schema_text: str) -> None:
        """Raise SemError when no answer can be held to the JSON Schema `schema_text`."""
        constrain.compile_grammar(schema_text)

    def generate(self, prompts: Sequence[Prompt]) -> list[Completion]:
        """Return the completion of each of `prompts`, decoded together."""
        with self._turn:
            return self._generator.generate(prompts)

    def close(self) -> None:
        """Give back what the engine holds: memory, when the object goes."""


ENGINES: dict[str, Callable[[Path], Any]] = {"transformers": TransformersEngine}


def load_engine(name: str, folder: Path) -> Engine:
    """Return the engine `name` with the model of the package in `folder`."""
    if name not in ENGINES:
        raise SemError(f"no engine {name!r}", suggest_nearest_name(name, ENGINES))
    return ENGINES[name](folder)

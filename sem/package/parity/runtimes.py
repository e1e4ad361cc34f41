"""The runtimes that a package is asked in: each renders, encodes and answers by its own means.

A runtime is opened for one check and closed after it. One that is not here raises AbsentError with
the reason: it is not checked, which is never a pass.
"""

import importlib.metadata
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sem.core import files
from sem.core.errors import SemError
from sem.lm.api import wire
from sem.lm.local import chat as chats
from sem.lm.local import constrain, hardware, llamacpp
from sem.lm.local import model as models
from sem.lm.local.chat import Chat
from sem.lm.local.generator import Completion, Prompt
from sem.lm.local.hf import HfGenerator
from sem.package.export import targets
from sem.package.serve.engine import LlamaCppEngine

# The interpreter of an environment that holds vLLM.
VLLM_PYTHON = "SEM_VLLM_PYTHON"
# vLLM compiles and loads for minutes on a CPU.
START_S = 600.0
ANSWER_S = 600.0


class AbsentError(Exception):
    """A runtime that cannot be asked here, with the reason."""


@dataclass(frozen=True)
class Asked:
    """What is asked: a package, the base below its adapter, and where servers are."""

    folder: Path
    base: Path
    # What wrote the prompts that were proven.
    chat: Chat
    # By runtime.
    addresses: dict[str, str]
    context: int
    dtype: str


class Runtime(Protocol):
    """A loaded model in one runtime."""

    version: str
    # The files that hold its weights.
    weights: tuple[Path, ...]

    def render(self, system: str, user: str) -> str:
        """Return the prompt by the runtime's own template."""

    def encode(self, system: str, user: str) -> list[int]:
        """Return the token ids of the prompt by the runtime's own template and tokenizer."""

    def answer(self, prompt: Prompt) -> Completion:
        """Return the greedy completion of `prompt`."""

    def close(self) -> None:
        """Give back what the runtime holds."""


class TransformersRuntime:
    """The merged model, or the base with its adapter beside it, in this process."""

    def __init__(self, asked: Asked, with_adapter: bool) -> None:
        machine = hardware.detect_hardware()
        self.chat = chats.load_chat(asked.folder / "model")
        merged = asked.folder / "model" / "model.safetensors"
        if with_adapter:
            adapter = asked.folder / "adapter"
            model = models.load_model(asked.base, machine.dtype, machine.device)
            self.version = f"transformers {_version('transformers')}, peft {_version('peft')}"
            model = _with_peft(model, adapter)
            self.weights: tuple[Path, ...] = (adapter / "adapter_model.safetensors",)
        else:
            model = models.load_model(asked.folder / "model", machine.dtype, machine.device)
            self.version = f"transformers {_version('transformers')}"
            self.weights = (merged,)
        self.version += f", {machine.dtype}"
        self._generator = HfGenerator(model, self.chat)

    def render(self, system: str, user: str) -> str:
        """Return the prompt by the packaged tokenizer's template."""
        return self.chat.prompt_text(system, user)

    def encode(self, system: str, user: str) -> list[int]:
        """Return the ids of that prompt by the packaged tokenizer."""
        return self.chat.prompt_ids(system, user)

    def answer(self, prompt: Prompt) -> Completion:
        """Return the greedy completion of `prompt`, alone in its batch."""
        return self._generator.generate([prompt])[0]

    def close(self) -> None:
        """Let go of the model."""
        del self._generator


def _with_peft(model: Any, adapter: Path) -> Any:
    """Return `model` with the adapter applied as PEFT does, unmerged; AbsentError for no LoRA."""
    config = files.read_object(adapter / "adapter_config.json")
    if config.get("method") == "full":
        raise AbsentError("the run trained every weight: its adapter is no LoRA")
    try:
        from peft import PeftModel
    except ImportError as error:
        raise AbsentError("peft is not installed") from error
    return PeftModel.from_pretrained(model, str(adapter)).eval()


class LlamaCppRuntime:
    """The package's GGUF in llama.cpp's server, in this process."""

    def __init__(self, asked: Asked, target: str) -> None:
        path, _ = targets.GGUF[target]
        if not (asked.folder / path).is_file():
            raise AbsentError(f"the package has no {path}: export it with --target {target}")
        if not llamacpp.is_installed():
            raise AbsentError("xllamacpp is not installed (the extra `local`)")
        self.version = f"xllamacpp {_version('xllamacpp')}"
        self.weights: tuple[Path, ...] = (asked.folder / path,)
        self._chat = asked.chat
        self._engine = LlamaCppEngine(asked.folder, gguf=path)

    def render(self, system: str, user: str) -> str:
        """Return the prompt by the template in the GGUF file."""
        return self._engine.server.render_messages(self._chat.messages(system, user))

    def encode(self, system: str, user: str) -> list[int]:
        """Return the ids of that prompt by the tokenizer in the GGUF file."""
        return self._engine.server.token_ids(self.render(system, user))

    def answer(self, prompt: Prompt) -> Completion:
        """Return the greedy completion of `prompt`."""
        return self._engine.generate([prompt])[0]

    def close(self) -> None:
        """Stop the server."""
        self._engine.close()


class VllmRuntime:
    """vLLM's own server: at an address, or started beside by the interpreter that has it."""

    def __init__(self, asked: Asked) -> None:
        self.weights: tuple[Path, ...] = (asked.folder / "model" / "model.safetensors",)
        self._chat = asked.chat
        self._process: subprocess.Popen[bytes] | None = None
        address = asked.addresses.get("vllm")
        python = os.environ.get(VLLM_PYTHON)
        if not address and not python:
            raise AbsentError(
                f"no --address vllm=URL, and {VLLM_PYTHON} names no interpreter that has vLLM"
            )
        self._client = wire.loopback_client(ANSWER_S, 1)
        try:
            if not address:
                assert python is not None
                address = self._start(python, asked)
            self._address = address.rstrip("/").removesuffix("/v1")
            self._model = self._ask("v1/models")["data"][0]["id"]
            self.version = f"vllm {self._ask('version')['version']}"
        except BaseException:
            self.close()
            raise

    def _start(self, python: str, asked: Asked) -> str:
        """Return the address of a vLLM that this process started; AbsentError where it ends."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        words = [python, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1"]
        words += ["--port", str(port), "--model", str(asked.folder / "model")]
        words += ["--dtype", asked.dtype, "--max-model-len", str(asked.context)]
        words += ["--structured-outputs-config", json.dumps({"backend": "guidance"})]
        environment = {
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "HF_HUB_OFFLINE": "1",
            **os.environ,
        }
        # Open as long as the server: it is closed with it.
        self._log = tempfile.NamedTemporaryFile(prefix="vllm-", suffix=".log")  # noqa: SIM115
        self._process = subprocess.Popen(
            words,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        address, end = f"http://127.0.0.1:{port}", time.monotonic() + START_S
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise AbsentError(f"vLLM ended while it started: {self._last_words()}")
            with suppress(Exception):
                if self._client.get(f"{address}/health").status_code == 200:
                    return address
            time.sleep(0.5)
        raise AbsentError(f"vLLM did not start within {START_S:.0f} s: {self._last_words()}")

    def _last_words(self) -> str:
        lines = Path(self._log.name).read_text("utf-8", "replace").strip().splitlines()
        errors = [line for line in lines if "Error" in line]
        return (errors or lines or ["it said nothing"])[-1][-200:]

    def _ask(self, place: str, body: dict[str, Any] | None = None) -> Any:
        url = f"{self._address}/{place}"
        reply = self._client.post(url, json=body) if body else self._client.get(url)
        if reply.status_code != 200:
            raise SemError(
                f"vLLM answers {place} with {reply.status_code}: {reply.text[:200]}",
                "look at its log; it needs --structured-outputs-config with backend guidance",
            )
        return reply.json()

    def render(self, system: str, user: str) -> str:
        """Return the prompt whose ids vLLM makes of the messages."""
        request = {"model": self._model, "tokens": self.encode(system, user)}
        return self._ask("detokenize", request)["prompt"]

    def encode(self, system: str, user: str) -> list[int]:
        """Return the ids that vLLM makes of the messages by the packaged template."""
        messages = self._chat.messages(system, user)
        request = {"model": self._model, "messages": messages, "add_generation_prompt": True}
        return self._ask("tokenize", request)["tokens"]

    def answer(self, prompt: Prompt) -> Completion:
        """Return the greedy completion of `prompt`, held by the same grammar as elsewhere."""
        request: dict[str, Any] = {
            "model": self._model,
            "prompt": list(prompt.ids),
            "max_tokens": prompt.max_new_tokens,
            "temperature": 0,
            "repetition_penalty": 1.0,
            "stop_token_ids": self._chat.stop_ids,
        }
        if prompt.schema is not None:
            grammar = constrain.lark_of_schema(prompt.schema).partition("\n")[2]
            request["structured_outputs"] = {"grammar": grammar}
        reply = self._ask("v1/completions", request)
        choice = reply["choices"][0]
        return Completion(
            choice["text"], choice["finish_reason"], reply["usage"]["completion_tokens"]
        )

    def close(self) -> None:
        """End the vLLM that was started, with its own children."""
        self._client.close()
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(20)
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._log.close()


def _version(package: str) -> str:
    return importlib.metadata.version(package)


RUNTIMES: dict[str, Callable[[Asked], Runtime]] = {
    "transformers": lambda asked: TransformersRuntime(asked, with_adapter=False),
    "adapter": lambda asked: TransformersRuntime(asked, with_adapter=True),
    "llamacpp": lambda asked: LlamaCppRuntime(asked, "llamacpp"),
    "llamacpp-q8_0": lambda asked: LlamaCppRuntime(asked, "llamacpp-q8_0"),
    "vllm": VllmRuntime,
}
# Those that may run elsewhere; the others are opened in this process.
ADDRESSED = ("vllm",)


def parse_addresses(pairs: Sequence[str]) -> dict[str, str]:
    """Return the address of each runtime in `pairs`, as `vllm=http://127.0.0.1:8000`."""
    addresses = {}
    for pair in pairs:
        name, _, url = pair.partition("=")
        if name not in ADDRESSED or not url.startswith(("http://", "https://")):
            raise SemError(f"--address {pair!r}", "write vllm=http://HOST:PORT")
        addresses[name] = url
    return addresses

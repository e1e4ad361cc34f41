"""llama.cpp in this process: a local model behind an OpenAI-compatible address, free and offline.

Through xllamacpp (the extra `local`). It listens on 127.0.0.1 only, shows nobody's prompts and
answers no web page: a browser's cross-origin request is not allowed. Replies are held to the JSON
Schema of the request (`json_mode: schema`).
"""

import importlib.util
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sem.core.errors import SemError
from sem.lm.api import wire

HOST = "127.0.0.1"
# Of prompts that may come again; llama.cpp's own default is 8 GiB.
CACHE_MIB = 256
WARNINGS_ONLY = 1
# Of one completion on a busy machine.
COMPLETION_S = 600.0


@dataclass(frozen=True)
class Serving:
    """What is served, and with how much."""

    model: Path
    port: int = 8080
    # Tokens of prompt and reply; a longer prompt is refused, never cut.
    context: int = 4096
    # Requests at once; each takes a context of its own.
    slots: int = 1
    # None: as many as there are physical cores.
    threads: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise SemError(f"port {self.port}", "use 1024 to 65535, or 0 for any that is free")
        threads = 1 if self.threads is None else self.threads
        if self.context < 256 or not 1 <= self.slots <= 64 or threads < 1:
            raise SemError(
                f"context {self.context}, slots {self.slots}, threads {self.threads}",
                "use a context from 256, slots from 1 to 64, threads from 1",
            )


class Server:
    """A running server; its `address` is what `api_base` names."""

    def __init__(self, serving: Serving) -> None:
        cpp = _door()
        try:
            self._server = cpp.Server(_params(cpp, serving))
        except (RuntimeError, ValueError) as error:
            raise SemError(
                f"{serving.model.name}: llama.cpp cannot serve it: {error}",
                f"if port {serving.port} is taken, set another --port; else name another --model",
            ) from error
        self.name = serving.model.stem
        self._client = wire.loopback_client(COMPLETION_S, serving.slots)

    @property
    def address(self) -> str:
        """Return the base address of its OpenAI API."""
        return f"{self._server.listening_address}/v1"

    def chat(self, request: dict[str, Any]) -> Any:
        """Return the reply to `request`, of the form that is posted to /v1/chat/completions."""
        return self._server.handle_chat_completions(request)

    def complete(self, request: dict[str, Any]) -> Any:
        """Return the reply to `request`, of the form that is posted to /completion.

        Over HTTP, because the call in process leaves out the tokens. Raise SemError when the
        server refuses it or does not answer.
        """
        return self._post("completion", request)

    def token_ids(self, text: str) -> list[int]:
        """Return the ids of `text` by the tokenizer in the file, control tokens read as such."""
        request = {"content": text, "add_special": False, "parse_special": True}
        return self._post("tokenize", request)["tokens"]

    def render_messages(self, messages: list[dict[str, str]]) -> str:
        """Return the prompt that the template in the file makes of `messages`."""
        return self._post("apply-template", {"messages": messages})["prompt"]

    def _post(self, place: str, request: dict[str, Any]) -> Any:
        try:
            reply = self._client.post(f"{self._server.listening_address}/{place}", json=request)
        except Exception as error:
            raise SemError(
                f"llama.cpp does not answer: {type(error).__name__}: {error}", "start it again"
            ) from error
        content = reply.json()
        if reply.status_code != 200:
            message = content.get("error", {}).get("message", content)
            raise SemError(f"llama.cpp: {str(message)[:200]}", "ask with another request")
        return content

    def close(self) -> None:
        """Stop the server and give back its memory."""
        self._client.close()
        self._server = None

    def wait(self) -> None:
        """Serve until this process is interrupted."""
        threading.Event().wait()


def is_installed() -> bool:
    """Return whether xllamacpp is here."""
    return importlib.util.find_spec("xllamacpp") is not None


def _door() -> Any:
    # Read once, when OpenMP is loaded. 80 tokens beside another job: 46 s spinning, 9 s passive.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        import xllamacpp
    except ImportError as error:
        raise SemError(
            "the local server needs xllamacpp, which is not installed",
            "pip install 'opensem[local]', or name another server as the teacher's api_base",
        ) from error
    return xllamacpp


def _params(cpp: Any, serving: Serving) -> Any:
    params = cpp.CommonParams()
    params.model.path = str(serving.model)
    params.model_alias = {"local"}
    # NaN in a file's weights end the server, not the replies.
    params.check_tensors = True
    params.offline = True
    params.n_ctx = serving.context * serving.slots
    params.n_parallel = serving.slots
    params.ctx_shift = params.fit_params = False
    for cores in (params.cpuparams, params.cpuparams_batch):
        # -1: the physical cores.
        cores.n_threads = serving.threads or cores.n_threads
        cores.poll = 0
    params.cache_ram_mib = CACHE_MIB
    params.hostnames, params.port = [HOST], serving.port
    params.ui = params.endpoint_slots = params.endpoint_props = params.cors_credentials = False
    params.cors_origins, params.cors_origins_explicit = f"http://{HOST}", True
    params.verbosity = WARNINGS_ONLY
    return params

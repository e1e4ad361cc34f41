"""What each runtime wants beside the merged model: a table of writers, one a target."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sem.core import files, jsonio
from sem.core.taskspec import TaskSpec
from sem.lm.local import ollama as modelfiles
from sem.lm.local.chat import Chat


@dataclass(frozen=True)
class ServedPackage:
    """What a writer needs to know of a package."""

    sem: str
    # Of the packaged tokenizer.
    chat: Chat
    dtype: str
    max_tokens: int
    tasks: tuple[TaskSpec, ...] = ()


# The texts of its files, by path in the package.
Writer = Callable[[ServedPackage], dict[str, str]]
TARGETS: dict[str, Writer] = {}


def register_target(write: Writer) -> Writer:
    """Register `write` under its own name, as `package.export --target` spells it."""
    TARGETS[write.__name__] = write
    return write


# The files that each runtime cannot be served without.
FILES = {
    "transformers": ("serve/TRANSFORMERS.md",),
    "vllm": ("serve/vllm.yaml", "serve/VLLM.md"),
    "ollama": ("Modelfile",),
}


def list_suitable_runtimes(chat: Chat) -> list[str]:
    """Return the names of the runtimes that serve a model which `chat` speaks to."""
    return sorted(TARGETS) if chat.turns else ["transformers"]


def write_target(name: str, folder: Path, served: ServedPackage) -> None:
    """Write what the runtime `name` wants into `folder`; raise SemError when it cannot be."""
    for path, text in TARGETS[name](served).items():
        files.write_file(folder / path, text)


@register_target
def transformers(served: ServedPackage) -> dict[str, str]:
    """Write how to load the package with Transformers, and how an encoder-decoder spells."""
    if served.chat.turns:
        return {"serve/TRANSFORMERS.md": TRANSFORMERS}
    spelling = served.chat.spelling
    texts = {"serve/TRANSFORMERS.md": SEQ2SEQ}
    if spelling:
        written = {"characters": spelling.tokens, "escape": spelling.escape}
        texts["serve/spelling.json"] = jsonio.pretty_json(written)
    return texts


@register_target
def vllm(served: ServedPackage) -> dict[str, str]:
    """Write a `vllm serve --config` file and notes for CUDA, ROCm and CPU."""
    config = VLLM_CONFIG.format(name=served.sem, dtype=served.dtype, limit=served.max_tokens)
    return {"serve/vllm.yaml": config, "serve/VLLM.md": VLLM}


@register_target
def ollama(served: ServedPackage) -> dict[str, str]:
    """Write a Modelfile over the merged safetensors, from the model's own chat template."""
    prompts = [(task.system_prompt, task.prompt("page")) for task in served.tasks]
    return {"Modelfile": modelfiles.write_modelfile(served.chat, served.max_tokens, prompts)}


TRANSFORMERS = """# Serve with Transformers

`model/` is the base model with the adapter merged in; it needs nothing else.

    from transformers import AutoModelForCausalLM, AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained("model")
    model = AutoModelForCausalLM.from_pretrained("model", dtype="auto")

The prompt is `system_prompt` and `instruction_template` of `task_spec.json`, rendered with the
tokenizer's own chat template. Break control tokens in the input (`<|im_end|>` becomes
`< |im_end|>`) before rendering: a page must not open a turn.
"""

SEQ2SEQ = """# Serve with Transformers

`model/` is the base model with what was trained merged in; it needs nothing else.

    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained("model")
    model = AutoModelForSeq2SeqLM.from_pretrained("model", dtype="auto")

The prompt is `system_prompt`, an empty line and `instruction_template` of `task_spec.json`, then
the end token. Where `spelling.json` is here, the tokenizer cannot spell its `characters`: write
the token instead of the character; also of a space that stands beside such a token, beside another
space or at an end. Any other character that does not come back from the tokenizer is its code
point in decimal digits between two `escape` tokens. Reading an answer back, drop the spaces that
decoding puts beside a token.
"""

VLLM_CONFIG = """# vllm serve model --config serve/vllm.yaml   (run from the package folder)
host: 127.0.0.1
port: 8001
served-model-name: {name}
dtype: {dtype}
max-model-len: {limit}
generation-config: model
seed: 0
"""

VLLM = """# Serve with vLLM

    cd PACKAGE && VLLM_API_KEY=… vllm serve model --config serve/vllm.yaml

- The server listens on 127.0.0.1; put a proxy in front of it for anything else. The key comes
  from the environment, so that it shows in no process list.
- Never pass `--trust-remote-code`; the model needs no code of its own.
- CUDA: `requirements-vllm.lock` (vllm 0.32.0) in an environment of its own.
- ROCm: AMD's container for the card (`rocm/vllm`), the same `model/` and config. ROCm wheels
  bring their own torch and must not share an environment with the training lock. bf16 is held by
  CDNA and by RDNA 3 cards. Not run on a ROCm card by the authors.
- CPU: `requirements-vllm-cpu.lock`; needs AVX-512; set `VLLM_CPU_KVCACHE_SPACE=1`.
- Greedy decoding: send `"temperature": 0`.
"""

"""What each runtime wants beside the merged model: a table of writers, one a target."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sem.core import files, jsonio
from sem.lm import chat, turns

Writer = Callable[[Path, dict[str, Any]], None]
TARGETS: dict[str, Writer] = {}


def target(write: Writer) -> Writer:
    """Register WRITE under its own name, as `package.export --target` spells it."""
    TARGETS[write.__name__] = write
    return write


def suited(base: Path) -> list[str]:
    """The names of the runtimes that serve a model like the one in BASE."""
    return ["transformers"] if _encodes(base) else sorted(TARGETS)


def _encodes(model: Path) -> bool:
    return bool(files.read_json(model / "config.json").get("is_encoder_decoder"))


@target
def transformers(folder: Path, plan: dict[str, Any]) -> None:
    """How to load the package with Transformers; how an encoder-decoder's texts are spelled."""
    encodes = _encodes(folder / "model")
    spelling = chat.load(folder / "model").spelling if encodes else None
    if spelling:
        written = {"characters": spelling.tokens, "escape": spelling.escape}
        files.write(folder / "serve" / "spelling.json", jsonio.pretty(written))
    files.write(folder / "serve" / "TRANSFORMERS.md", SEQ2SEQ if encodes else TRANSFORMERS)


@target
def vllm(folder: Path, plan: dict[str, Any]) -> None:
    """A `vllm serve --config` file and notes for CUDA, ROCm and CPU."""
    limit = plan["recipe"]["max_tokens"]
    name = plan["sem"]
    lines = VLLM_CONFIG.format(name=name, dtype=plan["hardware"]["dtype"], limit=limit)
    files.write(folder / "serve" / "vllm.yaml", lines)
    files.write(folder / "serve" / "VLLM.md", VLLM)


@target
def ollama(folder: Path, plan: dict[str, Any]) -> None:
    """A Modelfile over the merged safetensors, with the template the model was trained in."""
    config = files.read_json(folder / "model" / "config.json")
    template, stops = OLLAMA_TEMPLATES[config["model_type"]]
    if plan["recipe"].get("renderer") == turns.PLAN:
        opens, closes = turns.markers(chat.load(folder / "model").tokenizer)
        template = PLAN.replace("OPENS", opens).replace("CLOSES", closes)
    parameters = [
        "PARAMETER temperature 0",
        f"PARAMETER num_ctx {plan['recipe']['max_tokens']}",
        *(f'PARAMETER stop "{stop}"' for stop in stops),
    ]
    text = 'FROM ./model\nTEMPLATE """' + template + '"""\n' + "\n".join(parameters) + "\n"
    files.write(folder / "Modelfile", text)


CHATML = """<|im_start|>system
{{ .System }}<|im_end|>
<|im_start|>user
{{ .Prompt }}<|im_end|>
<|im_start|>assistant
"""
# Gemma has no system turn: its text opens the first user turn.
GEMMA = """<start_of_turn>user
{{ if .System }}{{ .System }}

{{ end }}{{ .Prompt }}<end_of_turn>
<start_of_turn>model
"""
PLAN = """OPENSsystem: {{ .System }}
CLOSES
OPENSuser: {{ .Prompt }}
CLOSES
OPENSassistant: """
OLLAMA_TEMPLATES: dict[str, tuple[str, tuple[str, ...]]] = {
    "llama": (CHATML, ("<|im_end|>",)),
    "qwen2": (CHATML, ("<|im_end|>",)),
    "gemma3_text": (GEMMA, ("<eos>", "<end_of_turn>")),
}

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

"""What each runtime wants beside the merged model: a table of writers, one a target."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from sem.core import console, files, jsonio
from sem.core.errors import SemError
from sem.core.taskspec import TaskSpec
from sem.lm.local import gguf_writer
from sem.lm.local import llamacpp as cpp
from sem.lm.local import ollama as modelfiles
from sem.lm.local.chat import Chat


@dataclass(frozen=True)
class ServedPackage:
    """What a writer needs to know of a package."""

    sem: str
    # Of the packaged tokenizer.
    chat: Chat
    dtype: str
    # Tokens of prompt and answer together.
    max_tokens: int
    tasks: tuple[TaskSpec, ...] = ()
    # Texts that llama.cpp read as the tokenizer does, at export; 0: it was not asked.
    checked_texts: int = 0


# The texts of its files, by path in the package.
Writer = Callable[[ServedPackage], dict[str, str]]
TARGETS: dict[str, Writer] = {}


def register_target(write: Writer) -> Writer:
    """Register `write` under its own name, as `package.export --target` spells it."""
    TARGETS[write.__name__] = write
    return write


# Written where no target is named; the others, which hold the weights once more, are asked for.
DEFAULT = ("ollama", "transformers", "vllm")
# The texts that each runtime cannot be served without.
FILES = {
    "transformers": ("serve/TRANSFORMERS.md",),
    "vllm": ("serve/vllm.yaml", "serve/VLLM.md"),
    "ollama": ("Modelfile",),
    "llamacpp": ("serve/LLAMACPP.md",),
    "llamacpp-q8_0": ("serve/LLAMACPP.md",),
}
# The weights that each writes anew: path and kind of the GGUF file.
GGUF: dict[str, tuple[str, gguf_writer.Kind]] = {
    "llamacpp": ("gguf/model.f16.gguf", "f16"),
    "llamacpp-q8_0": ("gguf/model.q8_0.gguf", "q8_0"),
}


def list_suitable_runtimes(chat: Chat) -> list[str]:
    """Return the names of the runtimes that serve a model which `chat` speaks to."""
    return sorted(TARGETS) if chat.turns else ["transformers"]


def list_target_files(name: str, tasks: Sequence[str]) -> set[str]:
    """Return the files that the runtime `name` cannot serve `tasks` without."""
    texts = set(FILES[name])
    if name == "ollama" and len(tasks) > 1:
        texts = {modelfile_path(task) for task in tasks}
    return texts | ({GGUF[name][0]} if name in GGUF else set())


def modelfile_path(task_id: str) -> str:
    """Return where the Modelfile of one task of several lies."""
    return f"serve/ollama/{quote(task_id, safe='')}.Modelfile"


def write_target(name: str, folder: Path, served: ServedPackage, texts: Sequence[str]) -> None:
    """Write what the runtime `name` wants into `folder`; raise SemError when it cannot be.

    `texts`: what llama.cpp, where it is installed, must read as the tokenizer does.
    """
    if name in GGUF:
        path, kind = GGUF[name]
        gguf_writer.write_gguf(folder / "model", folder / path, kind, served.sem)
        served = replace(served, checked_texts=_check_token_ids(folder / path, served, texts))
    for path, text in TARGETS[name](served).items():
        files.write_file(folder / path, text)


def _check_token_ids(path: Path, served: ServedPackage, texts: Sequence[str]) -> int:
    """Return on how many of `texts` llama.cpp gives the tokenizer's ids; 0 where it is not here.

    Raise SemError when it gives others on one.
    """
    if not cpp.is_installed():
        console.print_note(f"{path.name}: token ids not checked: xllamacpp is not installed")
        return 0
    server = cpp.Server(cpp.Serving(path, port=0, context=MIN_CONTEXT))
    try:
        for text in texts:
            ids = served.chat.tokenizer(text, add_special_tokens=False)["input_ids"]
            if server.token_ids(text) != ids:
                raise SemError(
                    f"{path.name}: llama.cpp reads {text[:40]!r} as other tokens than the model's "
                    "tokenizer does",
                    "serve this model by transformers or vllm",
                )
    finally:
        server.close()
    return len(texts)


# What tokenizers differ on: digits, umlauts whole and in parts, other scripts, spaces, marks.
HARD_TEXTS = (
    "1234567890 12,345.67 1/2 -3 %",
    "Größe über Maß: ÄÖÜ, naïve café, I\u0307stanbul, Zu\u0308rich",
    "日本語のページ、中文网页，한국어",
    "Здравствуй العربية ١٢٣ हिन्दी",
    "👍🏽 👩‍👩‍👧 ✓ €5",
    "a  b   c\n\n\n d\t\te\r\n\u00a0f ",
    "I'm don't THEY'LL we've",
    '{"title": "Mug", "price": 1.5e-3, "list": [null, true]}',
    "<h1>Title</h1><p>http://shop.example/p/1?a=b&c=d#e</p>",
    "x" * 70 + "!" * 7 + "-" * 20,
    " leading, trailing and thin\u2009spaces\u200b ",
)
CHECKED_TEXTS = 20
MIN_CONTEXT = 256


def texts_to_check(chat: Chat, pages: Sequence[str]) -> list[str]:
    """Return the texts on which a file's token ids are compared: hard ones, then of `pages`."""
    # Control tokens are read whole only from a template's own text, which holds each of them.
    prompt = chat.prompt_text("Be brief.", "A page.") if chat.turns else ""
    return [*HARD_TEXTS, prompt, *pages][:CHECKED_TEXTS]


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
    """Write Modelfiles over the merged safetensors, from the model's own chat template.

    A package of one task has one; of several, one a task, with its instruction.
    """
    if len(served.tasks) < 2:
        task = served.tasks[0] if served.tasks else None
        text = modelfiles.write_modelfile(served.chat, served.max_tokens, task=task)
        return {"Modelfile": text}
    return {
        modelfile_path(task.task_id): modelfiles.write_modelfile(
            served.chat, served.max_tokens, task=task, weights="../../model"
        )
        for task in served.tasks
    }


@register_target
def llamacpp(served: ServedPackage) -> dict[str, str]:
    """Write how to serve the model's GGUF files with llama.cpp."""
    checked = f"equal to the package's tokenizer on {served.checked_texts} texts"
    ids = checked if served.checked_texts else "not checked"
    text = LLAMACPP.replace("CONTEXT", str(served.max_tokens)).replace("CHECKED", ids)
    return {"serve/LLAMACPP.md": text}


# The same words of both kinds, so that one package may hold both.
TARGETS["llamacpp-q8_0"] = llamacpp


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

LLAMACPP = """# Serve with llama.cpp

    llama-server -m gguf/model.f16.gguf -c CONTEXT --host 127.0.0.1 --port 8080 --temp 0

- `gguf/model.f16.gguf` holds the proven weights in 16 bits. `gguf/model.q8_0.gguf`, where it is
  here, is half as large and answers differently now and then: its score is not that of
  `scores.json` and has to be measured anew.
- Token ids: CHECKED.
- The context of CONTEXT tokens is what the model was trained and proven on, with room for an
  answer. A raw page is longer: clean it first, as `opensem ask` does.
- Send `serve/schemas/TASK.schema.json` as `response_format`, of type `json_schema`, and look at
  the answer: llama.cpp answers a schema that it cannot read with status 200 and free text.
- Greedy decoding: send `"temperature": 0`. The first token is part of the prompt's template.
- In Python: `Expert.load("PACKAGE", engine="llamacpp")` cleans, renders and checks as well.
"""

VLLM_CONFIG = """# vllm serve model --config serve/vllm.yaml   (run from the package folder)
host: 127.0.0.1
port: 8001
served-model-name: {name}
dtype: {dtype}
# What the model was trained and proven on, with room for an answer; pages are cleaned first.
max-model-len: {limit}
# JSON Schemas of requests, held while the answer is decoded.
structured-outputs-config: '{{"backend": "guidance"}}'
generation-config: model
seed: 0
"""

VLLM = """# Serve with vLLM

    cd PACKAGE && VLLM_API_KEY=… vllm serve model --config serve/vllm.yaml

One request, held to the schema of a task (`jq` puts the files together):

    jq -n --slurpfile schema serve/schemas/TASK.schema.json --rawfile page cleaned.txt \\
      '{model: "NAME", temperature: 0, messages: [
        {role: "system", content: "SYSTEM PROMPT"},
        {role: "user", content: ("INSTRUCTION\\n" + $page)}],
        structured_outputs: {json: $schema[0]}}' |
    curl -s http://127.0.0.1:8001/v1/chat/completions -H "Authorization: Bearer $VLLM_API_KEY" \\
      -H "Content-Type: application/json" -d @-

System prompt and instruction are those of `task_spec.json`; a name for the schema that vLLM does
not know is ignored with status 200, so spell it as above and check the answer.

- Pages are cleaned first, as `opensem ask` does: raw ones are longer than `max-model-len`.
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

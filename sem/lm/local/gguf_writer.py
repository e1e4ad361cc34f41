"""A merged model as one GGUF file, for llama.cpp and Ollama: `f16`, or `q8_0` at half the size.

The tensors are those of llama.cpp's own converter, byte for byte, on SmolLM2 (272 of 272 in both
kinds). Written by the `gguf` package; nothing of llama.cpp is needed. What cannot be written
truly is refused: another architecture, scaled rotary positions, a tokenizer whose cutting
llama.cpp has no name for. Whether llama.cpp reads texts as the tokenizer does is asked of itself
at export.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sem.core import files, jsonio
from sem.core.errors import SemError
from sem.lm.local import model as models
from sem.lm.local.chat import Chat
from sem.lm.weights.gguf_convert import LOCAL_ROPE_BASE, SLIDING_PATTERN
from sem.lm.weights.gguf_reader import read_gguf_file, read_gguf_head

Kind = Literal["f16", "q8_0"]
KINDS: tuple[Kind, ...] = ("f16", "q8_0")
NORMAL, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 3, 4, 5, 6
MAX_HALF = 65_504.0
# Where a tensor may begin in the file, in bytes; GGUF's default.
ALIGNMENT = 32
# Gemma's pieces of one byte: `<0x0A>`.
_BYTE_PIECE = "<0x"
# model_type of config.json -> architecture of GGUF.
ARCHITECTURES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gemma3_text": "gemma3"}

# How llama.cpp calls a byte-level tokenizer, by how its tokenizer.json cuts a text.
_DIGITS = {"type": "Digits", "individual_digits": True}
_GPT2 = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
_PLAIN = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3 = _QWEN2.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)


def _cut_by(pattern: str) -> dict[str, Any]:
    return {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }


_CUTS: dict[str, list[dict[str, Any]]] = {
    "smollm": [_DIGITS, _GPT2],
    "gpt-2": [_GPT2],
    "qwen2": [_cut_by(_QWEN2), _PLAIN],
    "llama-bpe": [_cut_by(_LLAMA3), _PLAIN],
}


@dataclass(frozen=True)
class _Source:
    """A model folder as it is written: config, and how it speaks."""

    folder: Path
    config: dict[str, Any]
    chat: Chat

    @property
    def vocabulary(self) -> "_Vocabulary":
        """Return the tokens as they are loaded.

        Transformers cuts texts of a Qwen by its own rule, whatever tokenizer.json says.
        """
        return _vocabulary(jsonio.parse_json(self.chat.definition), self.config["vocab_size"])


def write_gguf(folder: Path, target: Path, kind: Kind, name: str) -> None:
    """Write the model in `folder` (config, safetensors, tokenizer) as `target` of `kind`.

    Raise SemError, and write nothing, when llama.cpp could not read it as it is.
    """
    source = _source(folder)
    part = target.with_name(f".tmp-{target.name}")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        _write(source, part, kind, name, has_tensors=True)
        files.sync_path(part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    files.sync_path(target.parent)


def check_writable(config: dict[str, Any], chat: Chat) -> None:
    """Raise SemError when no GGUF holds a model of `config` whose tokenizer is `chat`'s."""
    _architecture(config)
    _vocabulary(jsonio.parse_json(chat.definition), config["vocab_size"])


def header_faults(folder: Path, path: Path, kind: Kind, name: str) -> list[str]:
    """Return the metadata in which `path` is not what `write_gguf` writes of `folder`."""
    with tempfile.TemporaryDirectory() as scratch:
        expected = Path(scratch) / "head.gguf"
        _write(_source(folder), expected, kind, name, has_tensors=False)
        wanted, actual = (read_gguf_head(place).metadata for place in (expected, path))
    keys = sorted(wanted.keys() | actual.keys())
    return [
        f"{key} is not that of the model" for key in keys if wanted.get(key) != actual.get(key)
    ]


def tensor_faults(folder: Path, path: Path, kind: Kind) -> Iterator[str]:
    """Yield a line for each tensor of `path` that is not what the model in `folder` makes it.

    Names, shapes, kinds and every byte; read one tensor after the other.
    """
    config = models.read_config(folder / "config.json")
    gguf = read_gguf_file(path)
    others = set(gguf.tensors)
    for name, values, packed_kind in _tensors(folder, config, _architecture(config), kind):
        others.discard(name)
        tensor = gguf.tensors.get(name)
        packing = packed_kind if packed_kind is not None else _PACKING[values.dtype.name]
        if tensor is None:
            yield f"{name}: missing"
        elif (tensor.shape, tensor.kind) != (_shape(values, packed_kind), packing):
            yield f"{name}: of another shape or kind than the model's"
        elif gguf.bytes_of(name) != values.tobytes():
            yield f"{name}: not the model's values"
    yield from (f"{name}: not a tensor of this model" for name in sorted(others))
    places = gguf.tensors.values()
    ends = [tensor.start + -(-tensor.size // ALIGNMENT) * ALIGNMENT for tensor in places]
    if sum(ends) - sum(tensor.start for tensor in places) + min(
        (tensor.start for tensor in places), default=0
    ) != len(gguf.content):
        yield "bytes that belong to no tensor"


# How ggml numbers what is not packed in blocks.
_PACKING = {"float32": 0, "float16": 1}


def _shape(values: Any, packed_kind: Any) -> tuple[int, ...]:
    """Return the shape of `values` in weights, where they may be packed in blocks of bytes."""
    import gguf

    if packed_kind is None or values.dtype.name != "uint8":
        return tuple(values.shape)
    return tuple(gguf.quant_shape_from_byte_shape(values.shape, packed_kind))


def _source(folder: Path) -> _Source:
    from sem.lm.local import chat

    return _Source(folder, models.read_config(folder / "config.json"), chat.load_chat(folder))


def _write(source: _Source, target: Path, kind: Kind, name: str, has_tensors: bool) -> None:
    import gguf

    architecture = _architecture(source.config)
    vocabulary = source.vocabulary
    writer = gguf.GGUFWriter(target, architecture)
    try:
        writer.add_name(name)
        _add_config(writer, source.config, architecture)
        _add_tokenizer(writer, source, vocabulary)
        writer.add_file_type(_file_type(kind))
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        if has_tensors:
            tensors = _tensors(source.folder, source.config, architecture, kind)
            for tensor_name, values, packed_kind in tensors:
                writer.add_tensor(tensor_name, values, raw_dtype=packed_kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _architecture(config: dict[str, Any]) -> str:
    kind = config.get("model_type")
    if kind not in ARCHITECTURES:
        raise SemError(
            f"GGUF of a {kind} model is not written",
            f"known: {', '.join(sorted(ARCHITECTURES))}; serve it by transformers or vllm",
        )
    scaling = config.get("rope_scaling") or {}
    parameters = config.get("rope_parameters") or {}
    nested = [each for each in parameters.values() if isinstance(each, dict)]
    kinds = {scaling.get("type"), *(p.get("rope_type") for p in (scaling, parameters, *nested))}
    if kinds - {None, "default"}:
        raise SemError(
            f"GGUF with scaled rotary positions ({', '.join(map(str, kinds - {None}))}) is not "
            "written",
            "serve it by transformers or vllm",
        )
    for key, usual in _ASSUMED[kind](config).items():
        if config.get(key, usual) not in (usual, None):
            raise SemError(
                f"GGUF of a {kind} model with {key} {config[key]!r} is not written: llama.cpp "
                f"takes it for {usual!r}",
                "serve it by transformers or vllm",
            )
    return ARCHITECTURES[kind]


def _assumed_of_llama(_: dict[str, Any]) -> dict[str, Any]:
    return {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False}


def _assumed_of_qwen(_: dict[str, Any]) -> dict[str, Any]:
    return {"hidden_act": "silu", "use_sliding_window": False, "attention_bias": False}


def _assumed_of_gemma3(config: dict[str, Any]) -> dict[str, Any]:
    layers = range(1, config["num_hidden_layers"] + 1)
    return {
        "hidden_activation": "gelu_pytorch_tanh",
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "query_pre_attn_scalar": config["head_dim"],
        "rope_local_base_freq": LOCAL_ROPE_BASE,
        "layer_types": [
            "full_attention" if number % SLIDING_PATTERN == 0 else "sliding_attention"
            for number in layers
        ],
    }


# What llama.cpp takes for granted of a model, and no file can say.
_ASSUMED: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "llama": _assumed_of_llama,
    "qwen2": _assumed_of_qwen,
    "qwen3": _assumed_of_qwen,
    "gemma3_text": _assumed_of_gemma3,
}


def _rope_base(config: dict[str, Any], layer: str = "full_attention") -> float:
    parameters = config.get("rope_parameters") or {}
    inner = parameters.get(layer, parameters)
    return float(config.get("rope_theta") or inner["rope_theta"])


def _add_config(writer: Any, config: dict[str, Any], architecture: str) -> None:
    heads = config["num_attention_heads"]
    head_width = config.get("head_dim") or config["hidden_size"] // heads
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_rope_freq_base(_rope_base(config))
    if architecture == "llama":
        writer.add_rope_dimension_count(head_width)
    else:
        writer.add_key_length(head_width)
        writer.add_value_length(head_width)
    if architecture == "gemma3":
        writer.add_sliding_window(config["sliding_window"])


@dataclass(frozen=True)
class _Vocabulary:
    """The tokens of a tokenizer as GGUF holds them."""

    model: str  # gpt2 (byte-level BPE) or llama (SentencePiece)
    tokens: list[str]
    types: list[int]
    merges: list[str]
    pre: str = ""
    scores: tuple[float, ...] = ()


def _vocabulary(content: dict[str, Any], size: int) -> _Vocabulary:
    model = content["model"]
    if model.get("type") != "BPE":
        raise SemError(
            f"GGUF of a {model.get('type')} tokenizer is not written",
            "serve it by transformers or vllm",
        )
    ids = dict(model["vocab"])
    kinds: dict[int, int] = {}
    for token in content.get("added_tokens") or []:
        ids[token["content"]] = token["id"]
        kinds[token["id"]] = CONTROL if token["special"] else USER_DEFINED
    names = {number: token for token, number in ids.items()}
    if max(names) >= size:
        raise SemError(
            f"the tokenizer has ids up to {max(names)}, the model {size} rows",
            "serve it by transformers or vllm",
        )
    tokens = [names.get(number, f"[PAD{number}]") for number in range(size)]
    pairs = [m if isinstance(m, list) else m.split(" ") for m in model["merges"]]
    is_pieces = bool(model.get("byte_fallback"))
    types = [
        kinds.get(number, _piece_kind(token, is_pieces) if number in names else UNUSED)
        for number, token in enumerate(tokens)
    ]
    if is_pieces:
        return _Vocabulary("llama", tokens, types, [], scores=_scores(tokens, pairs))
    merges = [" ".join(pair) for pair in pairs]
    return _Vocabulary("gpt2", tokens, types, merges, pre=_pre_tokenizer(content))


def _piece_kind(token: str, is_pieces: bool) -> int:
    return BYTE if is_pieces and token.startswith(_BYTE_PIECE) and len(token) == 6 else NORMAL


def _scores(tokens: Sequence[str], pairs: Sequence[Sequence[str]]) -> tuple[float, ...]:
    """Return a score a token that gives SentencePiece the order of `pairs`: the first, the best.

    It joins the two neighbours whose whole scores best, which is the merge that comes first.
    """
    first: dict[str, int] = {}
    for number, pair in enumerate(pairs):
        first.setdefault("".join(pair), number)
    last = float(-len(pairs) - 1)
    return tuple(-float(first[token]) if token in first else last for token in tokens)


def _pre_tokenizer(content: dict[str, Any]) -> str:
    cutting = content.get("pre_tokenizer") or {}
    steps = cutting.get("pretokenizers") or [cutting]
    for name, expected in _CUTS.items():
        pairs = list(zip(steps, expected, strict=False))
        if len(steps) == len(expected) and all(
            all(step.get(key) == value for key, value in wanted.items()) for step, wanted in pairs
        ):
            return name
    raise SemError(
        "llama.cpp has no name for how this tokenizer cuts a text, so its ids could differ",
        "serve it by transformers or vllm",
    )


def _add_tokenizer(writer: Any, source: _Source, vocabulary: _Vocabulary) -> None:
    tokenizer = source.chat.tokenizer
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre or "default")
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.scores:
        writer.add_token_scores(list(vocabulary.scores))
        writer.add_add_space_prefix(False)
    else:
        writer.add_token_merges(vocabulary.merges)
    if tokenizer.bos_token_id is not None:
        writer.add_bos_token_id(tokenizer.bos_token_id)
    # The template writes the first token itself, where there is one.
    writer.add_add_bos_token(False)
    writer.add_eos_token_id(source.chat.end_of_turn)
    if tokenizer.pad_token_id is not None:
        writer.add_pad_token_id(tokenizer.pad_token_id)
    if tokenizer.unk_token_id is not None:
        writer.add_unk_token_id(tokenizer.unk_token_id)
    writer.add_chat_template(tokenizer.chat_template)


def _file_type(kind: Kind) -> int:
    import gguf

    types = {"f16": gguf.LlamaFileType.MOSTLY_F16, "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}
    return types[kind]


def _tensors(
    folder: Path, config: dict[str, Any], architecture: str, kind: Kind
) -> Iterator[tuple[str, Any, Any]]:
    """Yield the name, the values and the type of every tensor, as GGUF holds it."""
    import gguf
    import numpy as np
    from safetensors import safe_open

    wanted = {"f16": gguf.GGMLQuantizationType.F16, "q8_0": gguf.GGMLQuantizationType.Q8_0}[kind]
    arch = {value: key for key, value in gguf.MODEL_ARCH_NAMES.items()}[architecture]
    names = gguf.get_tensor_name_map(arch, config["num_hidden_layers"])
    change = _CHANGES[architecture]
    with safe_open(folder / "model.safetensors", "pt") as tensors:
        for key in sorted(tensors.keys()):
            if key == "lm_head.weight" and config.get("tie_word_embeddings"):
                continue
            name = names.get_name(key, try_suffixes=(".weight", ".bias"))
            if name is None:
                raise SemError(f"{key}: GGUF has no name for it", "serve it by vllm")
            values = change(key, tensors.get_tensor(key).float().numpy(), config)
            if values.ndim > 1 and abs(values).max() > MAX_HALF:
                raise SemError(f"{key}: a weight is too large for f16", "serve it by vllm")
            block = gguf.GGML_QUANT_SIZES[wanted][0]
            if values.ndim == 1:
                yield name, values.astype(np.float32), None
            elif values.shape[-1] % block:
                yield name, values.astype(np.float16), None
            else:
                yield name, gguf.quants.quantize(values, wanted), wanted


def _llama(key: str, values: Any, config: dict[str, Any]) -> Any:
    """Return q and k rows in llama.cpp's rotary order: pairs beside each other."""
    heads = config["num_attention_heads"]
    if key.endswith("k_proj.weight"):
        heads = config.get("num_key_value_heads") or heads
    elif not key.endswith("q_proj.weight"):
        return values
    rows = values.shape[0] // heads // 2
    return values.reshape(heads, 2, rows, -1).swapaxes(1, 2).reshape(values.shape)


def _gemma3(key: str, values: Any, _: dict[str, Any]) -> Any:
    # llama.cpp multiplies by the weight of a norm, Gemma by 1 + it.
    return values + 1.0 if key.endswith("norm.weight") else values


def _same(_: str, values: Any, __: dict[str, Any]) -> Any:
    return values


_CHANGES: dict[str, Callable[[str, Any, dict[str, Any]], Any]] = {
    "llama": _llama,
    "gemma3": _gemma3,
    "qwen2": _same,
    "qwen3": _same,
}

"""A merged model as one GGUF file, for llama.cpp and Ollama: `f16`, or `q8_0` at half the size.

The tensors are those of llama.cpp's own converter, byte for byte, on SmolLM2 (272 of 272 in both
kinds). Written by the `gguf` package; nothing of llama.cpp is needed. What cannot be written
truly is refused: another architecture, scaled rotary positions, a tokenizer whose cutting
llama.cpp has no name for. After writing, `check_token_ids` asks llama.cpp itself.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sem.core import files
from sem.core.errors import SemError

Kind = Literal["f16", "q8_0"]
KINDS: tuple[Kind, ...] = ("f16", "q8_0")
NORMAL, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 3, 4, 5, 6
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
    """A model folder as it is written: config, tokenizer.json, the tokenizer as it is used."""

    folder: Path
    config: dict[str, Any]
    definition: dict[str, Any]
    tokenizer: Any
    end_of_turn: int


def write_gguf(
    folder: Path, target: Path, kind: Kind, name: str, tokenizer: Any, end_of_turn: int
) -> None:
    """Write the model in `folder` (config, safetensors, tokenizer) as `target` of `kind`.

    `tokenizer` is the loaded one with its chat template, `end_of_turn` the id that ends an answer.

    Raise SemError, and write nothing, when llama.cpp could not read it as it is.
    """
    import gguf

    source = _Source(
        folder,
        files.read_object(folder / "config.json"),
        files.read_object(folder / "tokenizer.json"),
        tokenizer,
        end_of_turn,
    )
    architecture = _architecture(source.config)
    vocabulary = _vocabulary(source)
    part = target.with_name(f".tmp-{target.name}")
    target.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(part, architecture)
    try:
        writer.add_name(name)
        _add_config(writer, source.config, architecture)
        _add_tokenizer(writer, source, vocabulary)
        writer.add_file_type(_file_type(kind))
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        for tensor_name, values, quantised in _tensors(source, architecture, kind):
            writer.add_tensor(tensor_name, values, raw_dtype=quantised)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()
    files.sync_path(part)
    part.replace(target)
    files.sync_path(target.parent)


def _architecture(config: dict[str, Any]) -> str:
    kind = config.get("model_type")
    if kind not in ARCHITECTURES:
        raise SemError(
            f"GGUF of a {kind} model is not written",
            f"known: {', '.join(sorted(ARCHITECTURES))}; serve it by transformers or vllm",
        )
    scaling = config.get("rope_scaling") or {}
    parameters = config.get("rope_parameters") or {}
    kinds = {scaling.get("rope_type"), scaling.get("type"), parameters.get("rope_type")}
    if kinds - {None, "default"}:
        raise SemError(
            f"GGUF with scaled rotary positions ({', '.join(map(str, kinds - {None}))}) is not "
            "written",
            "serve it by transformers or vllm",
        )
    if config.get("attention_bias") and kind == "llama":
        raise SemError("GGUF of a llama with biases is not written", "serve it by vllm")
    return ARCHITECTURES[kind]


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


def _vocabulary(source: _Source) -> _Vocabulary:
    content, size = source.definition, source.config["vocab_size"]
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
    tokenizer = source.tokenizer
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
    writer.add_eos_token_id(source.end_of_turn)
    if tokenizer.pad_token_id is not None:
        writer.add_pad_token_id(tokenizer.pad_token_id)
    if tokenizer.unk_token_id is not None:
        writer.add_unk_token_id(tokenizer.unk_token_id)
    writer.add_chat_template(tokenizer.chat_template)


def _file_type(kind: Kind) -> int:
    import gguf

    types = {"f16": gguf.LlamaFileType.MOSTLY_F16, "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}
    return types[kind]


def _tensors(source: _Source, architecture: str, kind: Kind) -> Iterator[tuple[str, Any, Any]]:
    """Yield the name, the values and the type of every tensor, as GGUF holds it."""
    import gguf
    import numpy as np
    from safetensors import safe_open

    config = source.config
    wanted = {"f16": gguf.GGMLQuantizationType.F16, "q8_0": gguf.GGMLQuantizationType.Q8_0}[kind]
    arch = {value: key for key, value in gguf.MODEL_ARCH_NAMES.items()}[architecture]
    names = gguf.get_tensor_name_map(arch, config["num_hidden_layers"])
    change = _CHANGES[architecture]
    with safe_open(source.folder / "model.safetensors", "pt") as tensors:
        for key in sorted(tensors.keys()):
            if key == "lm_head.weight" and config.get("tie_word_embeddings"):
                continue
            name = names.get_name(key, try_suffixes=(".weight", ".bias"))
            if name is None:
                raise SemError(f"{key}: GGUF has no name for it", "serve it by vllm")
            values = change(key, tensors.get_tensor(key).float().numpy(), config)
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

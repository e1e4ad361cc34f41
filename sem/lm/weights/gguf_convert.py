"""A GGUF file to the folder that transformers loads: bf16 safetensors, configs, tokenizer.

Two families are known, `llama` and `gemma3`: the ones the weight packages hold. Their names and
shapes are checked tensor by tensor, so a file with one missing or extra is refused, not loaded
half. llama.cpp keeps llama's q and k rows in its own rotary order and adds 1 to Gemma's norms;
both are undone here.

Transformers 5.17 loads such files itself, bit for bit the same (272 of 272 tensors of SmolLM2),
but takes five times as long (18.5 s against 3.6 s), rounds rms_norm_eps to a 32-bit float, and
fills a tensor that is missing with random numbers.
"""

from pathlib import Path
from typing import Any

from sem.core import files, jsonio
from sem.core.errors import SemError
from sem.lm.weights.gguf_reader import HINT, KINDS, Gguf, read_gguf_file

# The tokenizer inside a GGUF file, as the tokenizer.json that transformers loads.
#
# Two kinds: byte-level BPE with its merges (SmolLM2, Qwen2) and SentencePiece BPE, whose merges
# follow from the scores (Gemma; ids equal to the official tokenizer's on 83,000 tokens).

# tokenizer.ggml.token_type.
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4
TURN_ENDS = ("<|im_end|>", "<end_of_turn>")
# characters; every split of a token is tried when merges are rebuilt.
LONGEST_TOKEN = 256

# How transformers' Qwen2Tokenizer cuts a text before its merges.
QWEN2_CUTS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# Gemma knows the turns `user` and `model` only, so system text opens the first user turn. The
# pretrained model never saw <end_of_turn>: in its tied head that token cannot be told from the
# unused ones (a tuned adapter said <unused33> instead), so the model's turn ends with <eos>.
GEMMA_TEMPLATE = """\
{{- bos_token -}}
{%- set system = messages[0].content | trim if messages[0].role == 'system' else '' -%}
{%- for message in (messages[1:] if system or messages[0].role == 'system' else messages) -%}
{%- if message.role != ('user' if loop.index0 % 2 == 0 else 'assistant') -%}
{{- raise_exception('turns must go user, assistant, user, ..., after at most one system text') -}}
{%- endif -%}
{{- '<start_of_turn>' + ('model' if message.role == 'assistant' else 'user') + '\\n' -}}
{{- system + '\\n\\n' if loop.first and system else '' -}}
{{- message.content | trim -}}
{{- (eos_token if message.role == 'assistant' else '<end_of_turn>') + '\\n' -}}
{%- endfor -%}
{{- '<start_of_turn>model\\n' if add_generation_prompt else '' -}}
"""


def special_ids(gguf: Gguf) -> dict[str, int]:
    """Return the ids of the begin, end and padding tokens; padding falls back to the end."""
    size = len(gguf.need("tokenizer.ggml.tokens", list))
    ids = {name: gguf.need(f"tokenizer.ggml.{name}_token_id", int) for name in ("bos", "eos")}
    ids["pad"] = gguf.metadata.get("tokenizer.ggml.padding_token_id", ids["eos"])
    if any(not isinstance(i, int) or i >= size for i in ids.values()):
        raise SemError(f"{gguf.path.name}: special ids {ids} of {size} tokens", HINT)
    return {f"{name}_token_id": number for name, number in ids.items()}


def end_ids(gguf: Gguf) -> list[int]:
    """Return where generation stops.

    The end of text, and the end of a turn when it is another token.
    """
    tokens = gguf.metadata["tokenizer.ggml.tokens"]
    turns = [tokens.index(token) for token in TURN_ENDS if token in tokens]
    return list(dict.fromkeys([special_ids(gguf)["eos_token_id"], *turns]))


def save_gguf_tokenizer(gguf: Gguf, folder: Path) -> dict[str, Any]:
    """Write FOLDER/tokenizer.json; the content of the tokenizer_config.json beside it."""
    from tokenizers import AddedToken

    tokens, types = _vocabulary(gguf)
    is_gemma = gguf.metadata["general.architecture"] == "gemma3"
    tokenizer = _sentencepiece(gguf, tokens, types) if is_gemma else _byte_level(gguf, tokens)
    for kind, special in ((CONTROL, True), (USER_DEFINED, False)):
        names = [token for token, its in zip(tokens, types, strict=True) if its == kind]
        added = [AddedToken(name, special=special, normalized=False) for name in names]
        (tokenizer.add_special_tokens if special else tokenizer.add_tokens)(added)
    if gguf.metadata.get("tokenizer.ggml.add_bos_token") is True:
        _begin_with(tokenizer, tokens, special_ids(gguf)["bos_token_id"])
    tokenizer.save(str(folder / "tokenizer.json"))
    return _settings(gguf, tokens, is_gemma)


def _settings(gguf: Gguf, tokens: list[str], is_gemma: bool) -> dict[str, Any]:
    ids = special_ids(gguf)
    template = GEMMA_TEMPLATE if is_gemma else gguf.need("tokenizer.chat_template", str)
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": gguf.metadata[
            f"{gguf.metadata['general.architecture']}.context_length"
        ],
        "bos_token": tokens[ids["bos_token_id"]],
        "eos_token": tokens[ids["eos_token_id"]],
        "pad_token": tokens[ids["pad_token_id"]],
        "chat_template": template,
        **_unknown_token(gguf, tokens),
    }


def _vocabulary(gguf: Gguf) -> tuple[list[str], list[int]]:
    tokens = gguf.need("tokenizer.ggml.tokens", list)
    types = gguf.need("tokenizer.ggml.token_type", list)
    if not all(isinstance(token, str) for token in tokens) or len(set(tokens)) != len(tokens):
        raise SemError(f"{gguf.path.name}: its vocabulary repeats a token", HINT)
    if len(types) != len(tokens):
        raise SemError(f"{gguf.path.name}: {len(types)} types of {len(tokens)} tokens", HINT)
    return tokens, types


def _unknown_token(gguf: Gguf, tokens: list[str]) -> dict[str, str]:
    # Qwen2 names none and its token 0 is `!`: named here, every `!` would become a token apart.
    number = _unknown(gguf)
    is_said = "tokenizer.ggml.unknown_token_id" in gguf.metadata
    is_control = gguf.metadata["tokenizer.ggml.token_type"][number] == CONTROL
    return {"unk_token": tokens[number]} if is_said or is_control else {}


def _unknown(gguf: Gguf) -> int:
    number = gguf.metadata.get("tokenizer.ggml.unknown_token_id", 0)
    size = len(gguf.metadata["tokenizer.ggml.tokens"])
    if not isinstance(number, int) or number >= size:
        raise SemError(f"{gguf.path.name}: unknown token {number!r} of {size}", HINT)
    return number


def _byte_level(gguf: Gguf, tokens: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, processors

    kind = gguf.metadata.get("tokenizer.ggml.pre")
    if kind not in CUTS:
        hint = f"one of: {', '.join(CUTS)}"
        raise SemError(f"{gguf.path.name}: pre-tokenizer {kind!r} is not known", hint)
    pairs = [tuple(merge.split(" ")) for merge in gguf.need("tokenizer.ggml.merges", list)]
    token_set = set(tokens)
    if any(len(pair) != 2 or not token_set.issuperset((*pair, "".join(pair))) for pair in pairs):
        raise SemError(f"{gguf.path.name}: a merge joins unknown tokens", HINT)
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    tokenizer.pre_tokenizer = CUTS[kind]()
    if kind == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def _cut_smollm() -> Any:
    from tokenizers import pre_tokenizers

    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )


def _cut_qwen2() -> Any:
    from tokenizers import Regex, pre_tokenizers

    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_CUTS), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


# tokenizer.ggml.pre -> how a text is cut before the merges.
CUTS = {"smollm": _cut_smollm, "qwen2": _cut_qwen2}


def _sentencepiece(gguf: Gguf, tokens: list[str], types: list[int]) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    vocabulary = {token: number for number, token in enumerate(tokens)}
    merges = _merges(vocabulary, types, _scores(gguf, tokens))
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=merges,
            unk_token=tokens[_unknown(gguf)],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return tokenizer


def _scores(gguf: Gguf, tokens: list[str]) -> list[float]:
    scores = gguf.need("tokenizer.ggml.scores", list)
    if len(scores) != len(tokens) or max(map(len, tokens)) > LONGEST_TOKEN:
        raise SemError(f"{gguf.path.name}: {len(scores)} scores of {len(tokens)} tokens", HINT)
    return scores


def _merges(
    vocabulary: dict[str, int], types: list[int], scores: list[float]
) -> list[tuple[str, str]]:
    """Return every way to join two tokens into a third, best score of the result first."""
    merges: list[tuple[float, str, str]] = []
    for token, number in vocabulary.items():
        if types[number] != NORMAL:
            continue
        cuts = [(token[:at], token[at:]) for at in range(1, len(token))]
        whole = [cut for cut in cuts if cut[0] in vocabulary and cut[1] in vocabulary]
        whole.sort(key=lambda cut: (vocabulary[cut[0]], vocabulary[cut[1]]))
        merges.extend((scores[number], *cut) for cut in whole)
    merges.sort(key=lambda merge: -merge[0])
    return [(head, tail) for _, head, tail in merges]


def _begin_with(tokenizer: Any, tokens: list[str], begin: int) -> None:
    from tokenizers import processors

    name = tokens[begin]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{name}:0 $A:0",
        pair=f"{name}:0 $A:0 {name}:1 $B:1",
        special_tokens=[(name, begin)],
    )


COMMON = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
LAYER_NAMES = {
    "llama": COMMON | {"ffn_norm": "post_attention_layernorm"},
    "gemma3": COMMON
    | {
        "attn_q_norm": "self_attn.q_norm",
        "attn_k_norm": "self_attn.k_norm",
        "post_attention_norm": "post_attention_layernorm",
        "ffn_norm": "pre_feedforward_layernorm",
        "post_ffw_norm": "post_feedforward_layernorm",
    },
}
TOP_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
}
LARGEST = {"block_count": 512, "embedding_length": 1 << 16, "feed_forward_length": 1 << 18}
# Gemma 3: every sixth layer attends to everything (arXiv 2503.19786, 2.1).
SLIDING_PATTERN = 6
# Gemma 3's sliding layers; the file holds only the global base.
LOCAL_ROPE_BASE = 10_000.0


def convert_gguf(source: Path, folder: Path) -> None:
    """Write config, weights and tokenizer of the GGUF file `source` into `folder`."""
    gguf = read_gguf_file(source)
    config = _config(gguf)
    _save_weights(gguf, config, folder / "model.safetensors")
    tokenizer_config = save_gguf_tokenizer(gguf, folder)
    ends = end_ids(gguf)
    generation = {"bos_token_id": config["bos_token_id"], "eos_token_id": ends}
    generation["pad_token_id"] = config["pad_token_id"]
    for name, content in (
        ("config.json", config),
        ("generation_config.json", generation),
        ("tokenizer_config.json", tokenizer_config),
    ):
        files.write_file(folder / name, jsonio.pretty_json(content))


def _config(gguf: Gguf) -> dict[str, Any]:
    """Return the transformers config that GGUF's metadata describe."""
    family = gguf.need("general.architecture", str)
    if family not in LAYER_NAMES:
        raise SemError(
            f"{gguf.path.name}: architecture {family!r} is not converted",
            f"one of: {', '.join(LAYER_NAMES)}",
        )

    def whole(key: str) -> int:
        number = gguf.need(f"{family}.{key}", int)
        if not 1 <= number <= LARGEST.get(key, 1 << 24):
            raise SemError(f"{gguf.path.name}: {key} is {number}", HINT)
        return number

    heads = whole("attention.head_count")
    width = whole("embedding_length")
    head_width = whole("attention.key_length") if family == "gemma3" else width // heads
    shared = {
        "vocab_size": len(gguf.need("tokenizer.ggml.tokens", list)),
        "hidden_size": width,
        "intermediate_size": whole("feed_forward_length"),
        "num_hidden_layers": whole("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": whole("attention.head_count_kv"),
        "head_dim": head_width,
        "max_position_embeddings": whole("context_length"),
        # Stored as a 32-bit float: 9.999999747378752e-06 was written as 1e-05.
        "rms_norm_eps": round(gguf.need(f"{family}.attention.layer_norm_rms_epsilon", float), 12),
        "rope_theta": gguf.need(f"{family}.rope.freq_base", float),
        "tie_word_embeddings": True,
        "attention_bias": False,
        "dtype": "bfloat16",
        # Names the layout of this file; without it every tokenizer is taken for an old Mistral.
        "transformers_version": "5.17.0",
        **special_ids(gguf),
    }
    return shared | (_gemma3(shared, whole) if family == "gemma3" else _llama())


def _llama() -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "mlp_bias": False,
    }


def _gemma3(shared: dict[str, Any], whole: Any) -> dict[str, Any]:
    layers = range(1, shared["num_hidden_layers"] + 1)
    return {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": shared["head_dim"],
        "sliding_window": whole("attention.sliding_window"),
        "rope_local_base_freq": LOCAL_ROPE_BASE,
        "layer_types": [
            "sliding_attention" if number % SLIDING_PATTERN else "full_attention"
            for number in layers
        ],
    }


def _shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shape each module's weight must have, by the last part of its name."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    queries = config["num_attention_heads"] * config["head_dim"]
    values = config["num_key_value_heads"] * config["head_dim"]
    return {
        "embed_tokens": (config["vocab_size"], width),
        "q_proj": (queries, width),
        "k_proj": (values, width),
        "v_proj": (values, width),
        "o_proj": (width, queries),
        "gate_proj": (inner, width),
        "up_proj": (inner, width),
        "down_proj": (width, inner),
        "q_norm": (config["head_dim"],),
        "k_norm": (config["head_dim"],),
    }


def _names(gguf: Gguf, config: dict[str, Any]) -> dict[str, str]:
    """Return GGUF tensor name -> transformers name.

    Raise SemError unless they match one to one.
    """
    layer_names = LAYER_NAMES[gguf.metadata["general.architecture"]]
    names = TOP_NAMES | {
        f"blk.{layer}.{theirs}.weight": f"model.layers.{layer}.{ours}.weight"
        for layer in range(config["num_hidden_layers"])
        for theirs, ours in layer_names.items()
    }
    odd = sorted(set(gguf.tensors) ^ set(names))
    if odd:
        raise SemError(f"{gguf.path.name}: {len(odd)} tensors missing or extra: {odd[0]}", HINT)
    shapes = _shapes(config)
    for theirs, ours in names.items():
        expected = shapes.get(ours.split(".")[-2], (config["hidden_size"],))
        if gguf.tensors[theirs].shape != expected:
            shape = gguf.tensors[theirs].shape
            raise SemError(f"{gguf.path.name}: {theirs} is {shape}, not {expected}", HINT)
    return names


def _save_weights(gguf: Gguf, config: dict[str, Any], path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    weights = {}
    for theirs, ours in _names(gguf, config).items():
        values = _restored(_dequantised(gguf, theirs), ours, config)
        weights[ours] = torch.from_numpy(values).to(torch.bfloat16)
        if not torch.isfinite(weights[ours]).all():
            raise SemError(f"{gguf.path.name}: {theirs} holds NaN or infinity", HINT)
    save_file(weights, path, metadata={"format": "pt"})
    path.chmod(0o644)


def _dequantised(gguf: Gguf, name: str) -> Any:
    import numpy as np
    from gguf import GGMLQuantizationType, quants

    tensor = gguf.tensors[name]
    _, block, block_bytes = KINDS[tensor.kind]
    packed = np.frombuffer(gguf.bytes_of(name), dtype=np.uint8)
    rows = packed.reshape(*tensor.shape[:-1], tensor.shape[-1] // block * block_bytes)
    return quants.dequantize(rows, GGMLQuantizationType(tensor.kind)).reshape(tensor.shape)


def _restored(values: Any, name: str, config: dict[str, Any]) -> Any:
    """Return `values` in the order and scale that transformers uses for the tensor called
    `name`.
    """
    import numpy as np

    if config["model_type"] == "gemma3_text" and name.endswith("norm.weight"):
        values = values - 1.0
    if config["model_type"] == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
        half, shape = config["head_dim"] // 2, values.shape
        values = values.reshape(-1, half, 2, shape[1]).swapaxes(1, 2).reshape(shape)
    # Unquantised tensors map the file.
    return np.require(values, requirements=["C", "W"])

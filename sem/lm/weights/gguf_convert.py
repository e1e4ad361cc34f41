"""A GGUF file to the folder that transformers loads: bf16 safetensors, configs, tokenizer.

Two families are known, `llama` and `gemma3`: the ones the weight packages hold. Their names and
shapes are checked tensor by tensor, so a file with one missing or extra is refused, not loaded
half. llama.cpp keeps llama's q and k rows in its own rotary order and adds 1 to Gemma's norms;
both are undone here.
"""

from pathlib import Path
from typing import Any

from sem.core import files, jsonio
from sem.core.errors import SemError
from sem.lm.weights import gguf_tokenizer
from sem.lm.weights.gguf_reader import HINT, KINDS, Gguf, read_gguf

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
    gguf = read_gguf(source)
    config = _config(gguf)
    _save_weights(gguf, config, folder / "model.safetensors")
    tokenizer_config = gguf_tokenizer.save_gguf_tokenizer(gguf, folder)
    ends = gguf_tokenizer.end_ids(gguf)
    generation = {"bos_token_id": config["bos_token_id"], "eos_token_id": ends}
    generation["pad_token_id"] = config["pad_token_id"]
    for name, content in (
        ("config.json", config),
        ("generation_config.json", generation),
        ("tokenizer_config.json", tokenizer_config),
    ):
        files.write_file(folder / name, jsonio.pretty(content))


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
        **gguf_tokenizer.special_ids(gguf),
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

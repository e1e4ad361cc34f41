"""A T5 encoder and decoder in int8 ONNX to the folder that transformers loads: fp32 safetensors.

Dynamic quantisation (onnxruntime's) keeps a matrix W as integers q with a scale and a zero point:
W = (q - zero_point) * scale. A product's node bears the path of its layer, as
`/m/decoder/block.0/layer.1/EncDecAttention/k/MatMul_quant`, and its matrix stands transposed. The
shapes are those of google/flan-t5-small; names and shapes are checked tensor by tensor, so a file
with one missing or extra is refused.
"""

from pathlib import Path
from typing import Any

from sem.core import files, jsonio
from sem.core.errors import SemError
from sem.lm.weights.weight_packages import ONNX

ENCODER, DECODER = ONNX
HINT = "only the int8 T5 v1.1 pair of a known weight package is converted"
QUANTIZED = "_quantized"
SPECIAL = {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1}
CONFIG = SPECIAL | {
    "architectures": ["T5ForConditionalGeneration"],
    "model_type": "t5",
    "is_encoder_decoder": True,
    "d_model": 512,
    "d_ff": 1024,
    "d_kv": 64,
    "num_heads": 6,
    "num_layers": 8,
    "num_decoder_layers": 8,
    "vocab_size": 32_128,
    "feed_forward_proj": "gated-gelu",
    "is_gated_act": True,
    "dense_act_fn": "gelu_new",
    "layer_norm_epsilon": 1e-6,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    # Not tied: else the decoder's states are scaled by d_model ** -0.5, as those of the first T5.
    "tie_word_embeddings": False,
    "n_positions": 512,
    "dropout_rate": 0.1,
    "dtype": "float32",
    "transformers_version": "5.17.0",
}
TOKENIZER = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "eos_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "model_max_length": 512,
    "clean_up_tokenization_spaces": False,
}


def convert_onnx(folder: Path) -> None:
    """Write config and weights of the ONNX pair in `folder` beside its tokenizer.json."""
    import torch
    from safetensors.torch import save_file

    encoder = _weights(folder / ENCODER, "enc.", "encoder.")
    weights = encoder | _weights(folder / DECODER, "m.", "")
    shared, own = weights["shared.weight"], weights.pop("encoder.embed_tokens.weight")
    if not (own == shared).all():
        raise SemError(f"{ENCODER} and {DECODER} differ in their embeddings", HINT)
    _check(weights)
    tensors = {name: torch.from_numpy(value) for name, value in weights.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    for name, content in (
        ("config.json", CONFIG),
        ("generation_config.json", SPECIAL),
        ("tokenizer_config.json", TOKENIZER),
    ):
        files.write_file(folder / name, jsonio.pretty_json(content))


def _weights(path: Path, theirs: str, ours: str) -> dict[str, Any]:
    """Return every fp32 weight in `path` by its transformers name.

    Prefix `theirs` becomes `ours`.
    """
    import onnx

    # No file beside this one is read, whatever it names.
    graph = onnx.load(path, load_external_data=False).graph
    held = {tensor.name: tensor for tensor in graph.initializer}
    weights = {}
    for node in graph.node:
        matrix = node.input[1] if node.op_type == "MatMulInteger" else ""
        if matrix in held:
            layer = node.name.strip("/").rpartition("/")[0].replace("/", ".")
            weights[f"{layer}.weight"] = _dequantised(held, matrix).T
    for name, tensor in held.items():
        if name.endswith(f"weight{QUANTIZED}"):
            weights[name.removesuffix(QUANTIZED)] = _dequantised(held, name)
        elif name.endswith("weight"):
            weights[name] = onnx.numpy_helper.to_array(tensor)
    return {ours + name.removeprefix(theirs): _plain(value) for name, value in weights.items()}


def _dequantised(held: dict[str, Any], name: str) -> Any:
    import numpy as np
    from onnx import numpy_helper

    stem = name.removesuffix(QUANTIZED)
    parts = (held[stem + end] for end in (QUANTIZED, "_zero_point", "_scale"))
    values, zero, scale = (numpy_helper.to_array(p).astype(np.float32) for p in parts)
    return (values - zero) * scale


def _plain(values: Any) -> Any:
    import numpy as np

    return np.array(values, dtype=np.float32, order="C", copy=True)


def _check(weights: dict[str, Any]) -> None:
    """Raise SemError unless `weights` are exactly those of CONFIG's network, each finite."""
    import numpy as np
    import torch
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    kind = AutoConfig.for_model(**CONFIG)
    with torch.device("meta"):
        expected = AutoModelForSeq2SeqLM.from_config(kind).state_dict()
    shapes = {name: tuple(value.shape) for name, value in expected.items()}
    for tied in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight"):
        shapes.pop(tied, None)
    if odd := sorted(shapes.keys() ^ weights.keys()):
        raise SemError(f"{len(odd)} tensors missing or extra: {odd[0]}", HINT)
    for name, shape in shapes.items():
        if weights[name].shape != shape:
            raise SemError(f"{name} is {weights[name].shape}, not {shape}", HINT)
        if not np.isfinite(weights[name]).all():
            raise SemError(f"{name} holds NaN or infinity", HINT)

"""An int8 ONNX pair dequantised by its own arithmetic; the real one is tested in test_weights."""

from pathlib import Path

import numpy as np
import pytest

from sem.core.errors import SemError
from sem.lm.weights import onnx_convert

LAYER = "decoder.block.0.layer.0.SelfAttention.q"


def saved(path: Path, prefix: str, shared: str, rows: np.ndarray) -> Path:
    """Return a graph with one product, one embedding, one norm, as onnxruntime quantises them."""
    from onnx import TensorProto, helper, numpy_helper, save

    q = np.array([[1, 2, 3], [4, 5, 6]], np.int8)
    held = {
        "onnx::MatMul_1_quantized": q,
        "onnx::MatMul_1_zero_point": np.array(1, np.int8),
        "onnx::MatMul_1_scale": np.array(0.5, np.float32),
        f"{shared}_quantized": rows,
        f"{shared}_zero_point": np.array(0, np.uint8),
        f"{shared}_scale": np.array(2.0, np.float32),
        f"{prefix}final_layer_norm.weight": np.array([1.5, 2.5], np.float32),
    }
    name = f"/{prefix}{LAYER}".replace(".", "/", 1).rstrip("/") + "/MatMul_quant"
    node = helper.make_node(
        "MatMulInteger",
        ["x", "onnx::MatMul_1_quantized", "z", "w"],
        ["y"],
        name=name.replace("SelfAttention.q", "SelfAttention/q"),
    )
    tensors = [numpy_helper.from_array(value, name) for name, value in held.items()]
    value = helper.make_tensor_value_info("x", TensorProto.UINT8, None)
    save(helper.make_model(helper.make_graph([node], "g", [value], [value], tensors)), str(path))
    return path


def test_a_matrix_is_its_integers_less_the_zero_point_times_the_scale(tmp_path):
    rows = np.array([[1, 2], [3, 4]], np.uint8)
    found = onnx_convert._weights(
        saved(tmp_path / "d.onnx", "m.", "m.shared.weight", rows), "m.", ""
    )

    assert found[f"{LAYER}.weight"].tolist() == [[0.0, 1.5], [0.5, 2.0], [1.0, 2.5]]
    assert found["shared.weight"].tolist() == [[2.0, 4.0], [6.0, 8.0]]
    assert found["final_layer_norm.weight"].tolist() == [1.5, 2.5]
    assert {value.dtype for value in found.values()} == {np.dtype("float32")}


def pair(folder: Path, encoder_rows: list, decoder_rows: list) -> None:
    for name, prefix, shared, rows in (
        ("encoder.onnx", "enc.", "enc.embed_tokens.weight", encoder_rows),
        ("decoder.onnx", "m.", "m.shared.weight", decoder_rows),
    ):
        saved(folder / name, prefix, shared, np.array(rows, np.uint8))


def test_a_pair_with_other_embeddings_in_each_half_is_refused(tmp_path):
    pair(tmp_path, [[1, 2]], [[1, 3]])

    with pytest.raises(SemError, match=r"encoder\.onnx and decoder\.onnx differ in their embed"):
        onnx_convert.convert_onnx(tmp_path)
    assert not (tmp_path / "model.safetensors").exists()


def test_a_pair_of_another_network_is_refused(tmp_path):
    pair(tmp_path, [[1, 2]], [[1, 2]])

    with pytest.raises(SemError, match=r"\d+ tensors missing or extra: "):
        onnx_convert.convert_onnx(tmp_path)
    assert not (tmp_path / "config.json").exists()


def whole() -> dict[str, np.ndarray]:
    import torch
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    with torch.device("meta"):
        model = AutoModelForSeq2SeqLM.from_config(AutoConfig.for_model(**onnx_convert.CONFIG))
    names = {n: v for n, v in model.state_dict().items() if not n.endswith("embed_tokens.weight")}
    # A view of one zero: 300 MB that are never touched.
    return {n: np.broadcast_to(np.float32(0), tuple(v.shape)) for n, v in names.items()}


def test_every_name_and_shape_is_checked():
    weights = whole()
    onnx_convert._check(weights)
    name = "encoder.block.0.layer.0.SelfAttention.q.weight"

    with pytest.raises(SemError, match=rf"{name} is \(3, 3\), not \(384, 512\)"):
        onnx_convert._check(weights | {name: np.zeros((3, 3), np.float32)})
    with pytest.raises(SemError, match="holds NaN or infinity"):
        onnx_convert._check(weights | {name: np.full((384, 512), np.nan, np.float32)})
    with pytest.raises(SemError, match="1 tensors missing or extra: extra"):
        onnx_convert._check(weights | {"extra": np.zeros(1, np.float32)})

"""A GGUF file is hostile until checked: it converts exactly, or is refused in one line."""

import struct
from contextlib import suppress

import gguf_file
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sem.core.errors import SemError
from sem.lm.weights import gguf_convert, gguf_reader


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted")
    (folder / "source.gguf").write_bytes(gguf_file.build())
    gguf_convert.convert_gguf(folder / "source.gguf", folder)
    return folder


def test_a_converted_model_loads_with_no_missing_or_unexpected_weight(folder):
    from transformers import AutoModelForCausalLM

    _, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)

    assert not any(info.values())


def test_query_rows_return_to_the_order_transformers_uses(folder):
    from safetensors.torch import load_file

    stored = gguf_file.tensors()["blk.0.attn_q.weight"]
    head = load_file(folder / "model.safetensors")["model.layers.0.self_attn.q_proj.weight"][:16]

    # llama.cpp interleaves the two halves of a head: rows 0, 2, 4 … are its first half.
    assert np.allclose(head.float()[:8], stored[0:16:2], atol=0.02)
    assert np.allclose(head.float()[8:], stored[1:16:2], atol=0.02)


def test_the_tokenizer_applies_merges_and_keeps_control_tokens_whole(folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)

    assert tokenizer.tokenize("ABCA<|im_end|>") == ["ABC", "A", "<|im_end|>"]


def damaged(change) -> bytes:
    keys, arrays = gguf_file.metadata(), gguf_file.tensors()
    change(keys, arrays)
    return gguf_file.build(keys, arrays)


def nan(keys, arrays):
    arrays["output_norm.weight"][3] = np.nan


CHANGES = {
    "NaN or infinity": nan,
    "1 tensors missing or extra": lambda keys, arrays: arrays.pop("blk.0.attn_k.weight"),
    "tensors missing or extra: blk.9": lambda keys, arrays: arrays.update(
        {"blk.9.attn_q.weight": np.zeros((32, 32), "<f4")}
    ),
    "is (8, 32), not (16, 32)": lambda keys, arrays: arrays.update(
        {"blk.0.attn_v.weight": np.zeros((8, 32), "<f4")}
    ),
    "'mamba' is not converted": lambda keys, arrays: keys.update(
        {"general.architecture": "mamba"}
    ),
    "block_count is 100000": lambda keys, arrays: keys.update({"llama.block_count": 100_000}),
    "is missing or wrong": lambda keys, arrays: keys.update({"llama.embedding_length": "32"}),
    "repeats a token": lambda keys, arrays: keys["tokenizer.ggml.tokens"].__setitem__(9, "AB"),
    "joins unknown tokens": lambda keys, arrays: keys.update({"tokenizer.ggml.merges": ["A z"]}),
    "special ids": lambda keys, arrays: keys.update({"tokenizer.ggml.eos_token_id": 5000}),
}


@pytest.mark.parametrize("message", CHANGES)
def test_a_file_that_is_not_that_model_is_refused(tmp_path, message):
    path = tmp_path / "source.gguf"
    path.write_bytes(damaged(CHANGES[message]))

    with pytest.raises(SemError) as caught:
        gguf_convert.convert_gguf(path, tmp_path)

    assert message in caught.value.message
    assert caught.value.hint


HEADERS = {
    "empty": b"",
    "another magic": b"GGML" + bytes(40),
    "a future version": b"GGUF" + struct.pack("<IQQ", 9, 0, 0) + bytes(8),
    "a trillion tensors": b"GGUF" + struct.pack("<IQQ", 3, 10**12, 0),
    "a string longer than the file": b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**63),
    "an array longer than the file": b"GGUF"
    + struct.pack("<IQQ", 3, 0, 1)
    + gguf_file.text("a")
    + struct.pack("<IIQ", 9, 4, 3_000_000),
    "an array of arrays": b"GGUF"
    + struct.pack("<IQQ", 3, 0, 1)
    + gguf_file.text("a")
    + struct.pack("<IIQ", 9, 9, 1),
    "a key twice": b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + gguf_file.entry("a", 1) * 2,
    "a tensor past the end": b"GGUF"
    + struct.pack("<IQQ", 3, 1, 0)
    + gguf_file.text("t")
    + struct.pack("<IQIQ", 1, 2**40, 0, 0),
    "an unknown kind": b"GGUF"
    + struct.pack("<IQQ", 3, 1, 0)
    + gguf_file.text("t")
    + struct.pack("<IQIQ", 1, 1, 77, 0),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_broken_header_is_refused(tmp_path, name):
    (tmp_path / "x.gguf").write_bytes(HEADERS[name])

    with pytest.raises(SemError, match=r"x\.gguf"):
        gguf_reader.read_gguf_file(tmp_path / "x.gguf")


WHOLE = gguf_file.build()


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, 2000), value=st.integers(0, 255), end=st.integers(24, len(WHOLE)))
def test_a_changed_or_cut_file_is_read_or_refused(tmp_path_factory, at, value, end):
    path = tmp_path_factory.getbasetemp() / "fuzz.gguf"
    content = bytearray(WHOLE)
    content[at] = value
    path.write_bytes(content[:end])

    # Anything else that escapes fails this test.
    with suppress(SemError):
        found = gguf_reader.read_gguf_file(path)
        assert all(t.start + t.size <= end for t in found.tensors.values())

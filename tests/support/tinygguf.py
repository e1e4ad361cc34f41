"""A GGUF file of random weights that llama.cpp serves: one layer, every byte a token, 20 kB.

What it writes is noise, but held to a JSON Schema it is valid JSON: a real teacher in
milliseconds.
"""

from pathlib import Path

import gguf_file
import numpy as np


class Signed(int):
    """A whole number that GGUF stores as INT32, as llama.cpp wants token types."""


def alphabet() -> list[str]:
    """Return the 256 letters that byte-level vocabularies write bytes with (GPT-2's table)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) for byte in plain] + [chr(256 + number) for number in range(len(others))]


def write(path: Path) -> Path:
    """Return the file at `path`."""
    gguf_file.CODES[Signed] = (5, "<i")
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *alphabet(), "AB", "ABC"]
    keys = gguf_file.metadata() | {
        "llama.context_length": 8192,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [Signed(3)] * 3 + [Signed(1)] * (len(tokens) - 3),
        "tokenizer.chat_template": "{% for m in messages %}{{ m['content'] }}\n{% endfor %}",
    }
    random = np.random.default_rng(1)
    shape = (len(tokens), gguf_file.WIDTH)
    arrays = gguf_file.tensors() | {"token_embd.weight": random.standard_normal(shape, "f4")}
    path.write_bytes(gguf_file.build(keys, arrays))
    return path

"""Qwen2's tokenizer out of a GGUF file cuts texts as transformers' own class does."""

from pathlib import Path
from typing import Any

import gguf_file
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer, Qwen2Tokenizer

from sem.core import files, jsonio
from sem.core.errors import SemError
from sem.lm.weights import gguf_convert, gguf_reader

CONTROLS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["Ġ Ġ", "i n", "Ġ in", "1 2", '{ "', '" :', "Ċ Ċ", "' s", "Ã ©", "! !"]


def keys() -> dict[str, Any]:
    """Metadata as the official Qwen2.5 file has them: no unknown token, token 0 is `!`."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(merge.replace(" ", "") for merge in MERGES), *CONTROLS]
    types = [1] * (len(tokens) - len(CONTROLS)) + [3] * len(CONTROLS)
    end = tokens.index("<|im_end|>")
    return {
        "general.architecture": "qwen2",
        "qwen2.context_length": 64,
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": MERGES,
        "tokenizer.ggml.bos_token_id": end - 2,
        "tokenizer.ggml.eos_token_id": end,
        "tokenizer.ggml.padding_token_id": end - 2,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": "{{ messages[0].content }}",
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("qwen")
    path = folder / "source.gguf"
    path.write_bytes(gguf_file.build(keys(), {}))
    config = gguf_convert.save_gguf_tokenizer(gguf_reader.read_gguf_file(path), folder)
    files.write_file(folder / "tokenizer_config.json", jsonio.pretty_json(config))
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def official() -> Any:
    vocabulary = {token: number for number, token in enumerate(keys()["tokenizer.ggml.tokens"])}
    pairs = [tuple(merge.split(" ")) for merge in MERGES]
    return Qwen2Tokenizer(vocab=vocabulary, merges=pairs, additional_special_tokens=CONTROLS)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=st.text(st.sampled_from("ae12iné\u0301 '\"{:}!\n\r\t-.漢"), max_size=30))
def test_ids_are_the_official_ones(made, official, text: str) -> None:
    assert made(text)["input_ids"] == official(text)["input_ids"]


def test_the_first_token_is_not_taken_for_the_unknown_one(made) -> None:
    # Named as the unknown token, `!` was cut out of `!!` before its merge.
    assert made.unk_token is None
    assert made.convert_ids_to_tokens(made("!!")["input_ids"]) == ["!!"]


def test_control_tokens_stay_whole(made) -> None:
    assert made.convert_ids_to_tokens(made("a<|im_end|>b")["input_ids"]) == [
        "a",
        "<|im_end|>",
        "b",
    ]


def test_the_head_of_a_cut_file_has_its_metadata(tmp_path: Path) -> None:
    whole = gguf_file.build()
    path = tmp_path / "part01.bin"
    path.write_bytes(whole[:-5000])
    with pytest.raises(SemError):
        gguf_reader.read_gguf_file(path)
    found = gguf_reader.read_gguf_head(path)
    assert found.metadata == gguf_file.metadata() | {
        key: pytest.approx(value)
        for key, value in gguf_file.metadata().items()
        if isinstance(value, float)
    }
    assert found.tensors == {}


def test_another_way_of_cutting_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "source.gguf"
    path.write_bytes(gguf_file.build(keys() | {"tokenizer.ggml.pre": "other"}, {}))
    with pytest.raises(SemError) as caught:
        gguf_convert.save_gguf_tokenizer(gguf_reader.read_gguf_file(path), tmp_path)
    assert caught.value.message == "source.gguf: pre-tokenizer 'other' is not known"
    assert caught.value.hint == "one of: smollm, qwen2"

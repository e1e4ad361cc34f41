"""GGUF files of ours: read back, and answered by llama.cpp as Transformers answers."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tinymodels import FAMILIES, make_model, make_tokenizer

from sem.core import files, jsonio
from sem.core.errors import SemError
from sem.lm.local import chat, gguf_writer, llamacpp
from sem.lm.weights import gguf_convert

TEXTS = [
    "Mug",
    "Title and price?",
    "a  b   c\n\n\n d",
    "\tTab\r\nline",
    "1234567890",
    "12,345.67 € and 3 % of 1/2",
    "Größe über Maß, ÄÖÜß",
    "naïve café, ZÜRICH, İstanbul",
    "日本語のページ",
    "한국어 값, 中文",
    "👍🏽 emoji 👩‍👩‍👧",
    "Здравствуй, мир",
    "العربية ١٢٣",
    "I'm don't THEY'LL we've",
    '{"title": "Mug", "price": 1.5}',
    "<h1>Title</h1><p>Price <b>$3</b></p>",
    "http://shop.example/p/1?a=b&c=d#e",
    "x" * 70 + " " * 9 + "!" * 7,
    "\u00a0\u2009thin\u200b",
    " leading and trailing ",
]
KINDS = {"llama": "digits", "qwen2": "chatml", "qwen3": "qwen3", "gemma3_text": "pieces"}


def pieces_tokenizer() -> Any:
    """Return a tokenizer as Gemma's: SentencePiece's merges, bytes for what it does not know."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<unk>", *FAMILIES["gemma3"].special]
    single = [f"<0x{number:02X}>" for number in range(256)]
    raw = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    raw.normalizer = normalizers.Replace(" ", "▁")
    raw.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    raw.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=special + single)
    raw.train_from_iterator([text for text in TEXTS if text.isascii()] * 4, trainer)
    content = json.loads(raw.to_str())
    content["added_tokens"] = [t for t in content["added_tokens"] if t["content"] not in single]
    raw = Tokenizer.from_str(json.dumps(content))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=["<start_of_turn>", "<end_of_turn>"],
    )
    tokenizer.chat_template = FAMILIES["gemma3"].template
    return tokenizer


def digits_tokenizer() -> Any:
    """Return a tokenizer as SmolLM2's: every digit a token, a begin-of-text token."""
    from tokenizers import pre_tokenizers

    tokenizer = make_tokenizer("llama3-plain")
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    return tokenizer


TOKENIZERS = {"digits": digits_tokenizer, "pieces": pieces_tokenizer}


def make_halves(folder: Path, kind: str, **words: Any) -> Path:
    """Write a random model of `kind` whose weights f16 holds, and its tokenizer."""
    family = KINDS[kind]
    tokenizer = TOKENIZERS[family]() if family in TOKENIZERS else make_tokenizer(family)
    make_model(kind, tokenizer, **words).half().float().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model folder of each kind, with model.f16.gguf and model.q8_0.gguf in it."""
    root = tmp_path_factory.mktemp("models")
    for kind in KINDS:
        folder = make_halves(root / kind, kind, tie_word_embeddings=True, initializer_range=0.4)
        for packing in gguf_writer.KINDS:
            gguf_writer.write_gguf(folder, folder / f"model.{packing}.gguf", packing, "toy")
    return {kind: root / kind for kind in KINDS}


@pytest.mark.parametrize("packing", gguf_writer.KINDS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_the_model_it_was_written_from(folders, kind, packing) -> None:
    folder, path = folders[kind], folders[kind] / f"model.{packing}.gguf"

    assert gguf_writer.header_faults(folder, path, packing, "toy") == []
    assert list(gguf_writer.tensor_faults(folder, path, packing)) == []
    assert not list(folder.glob(".tmp-*"))


def sure_tokens(model: Any, ids: list[int]) -> list[int]:
    """Return what `model` answers greedily, up to where two tokens are as likely.

    llama.cpp keeps keys and values in f16, so the last bits of its logits are its own.
    """
    import torch

    reply = model.generate(
        torch.tensor([ids]),
        max_new_tokens=12,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    tokens: list[int] = []
    for token, logits in zip(reply.sequences[0, len(ids) :].tolist(), reply.logits, strict=True):
        first, second = logits[0].topk(2).values.tolist()
        if first - second < 0.02:
            break
        tokens.append(token)
    return tokens


@pytest.mark.parametrize("kind", KINDS)
def test_llama_cpp_reads_texts_and_answers_as_transformers_does(folders, kind) -> None:
    pytest.importorskip("xllamacpp")
    import torch
    from transformers import AutoModelForCausalLM

    speaker = chat.load_chat(folders[kind])
    model = AutoModelForCausalLM.from_pretrained(folders[kind], dtype=torch.float32)
    serving = llamacpp.Serving(folders[kind] / "model.f16.gguf", port=0, context=512)
    server = llamacpp.Server(serving)
    try:
        for text in [*TEXTS, speaker.prompt_text("Be brief.", "a page")]:
            ids = speaker.tokenizer(text, add_special_tokens=False)["input_ids"]
            assert server.token_ids(text) == ids, text
        ids = speaker.prompt_ids("Be brief.", "Red mug, 12.50")
        greedy = sure_tokens(model, ids)
        request = {"prompt": ids, "n_predict": 12, "temperature": 0, "return_tokens": True}
        assert len(greedy) > 3
        assert server.complete(request)["tokens"][: len(greedy)] == greedy
    finally:
        server.close()


@pytest.mark.parametrize("kind", ["llama", "gemma3_text"])
def test_what_is_written_is_read_back_as_it_was(folders, kind, tmp_path) -> None:
    from safetensors.torch import load_file

    gguf_convert.convert_gguf(folders[kind] / "model.f16.gguf", tmp_path)

    before = load_file(folders[kind] / "model.safetensors")
    after = load_file(tmp_path / "model.safetensors")
    assert before.keys() == after.keys()
    for name, values in after.items():
        assert before[name].bfloat16().float().allclose(values.float(), rtol=1e-2, atol=1e-6)
    config, again = (files.read_json(at / "config.json") for at in (folders[kind], tmp_path))
    assert {key: config[key] for key in SIZES} == {key: again[key] for key in SIZES}


SIZES = ("model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_key_value_heads")


def shift(path: Path) -> None:
    """Flip a bit in the middle of the last tensor of `path`."""
    content = bytearray(path.read_bytes())
    content[-200] ^= 1
    path.write_bytes(content)


def test_a_changed_weight_and_bytes_behind_the_last_are_named(folders, tmp_path) -> None:
    path = tmp_path / "model.gguf"
    shutil.copyfile(folders["qwen3"] / "model.f16.gguf", path)
    shift(path)
    (line,) = gguf_writer.tensor_faults(folders["qwen3"], path, "f16")
    assert line.endswith("not the model's values")

    shutil.copyfile(folders["qwen3"] / "model.f16.gguf", path)
    path.write_bytes(path.read_bytes() + b"x" * 32)
    faults = list(gguf_writer.tensor_faults(folders["qwen3"], path, "f16"))
    assert faults == ["bytes that belong to no tensor"]


def test_the_header_of_another_model_is_named(folders) -> None:
    path = folders["qwen2"] / "model.f16.gguf"
    faults = gguf_writer.header_faults(folders["qwen3"], path, "f16", "toy")
    assert "general.architecture is not that of the model" in faults


REFUSED = {
    "another architecture": ("phi3", {}, "GGUF of a phi3 model is not written"),
    "scaled positions": (
        "llama",
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}},
        "scaled rotary positions",
    ),
    "biases": ("llama", {"attention_bias": True}, "attention_bias True"),
    "a cap on logits": ("gemma3_text", {"final_logit_softcapping": 30.0}, "softcapping"),
    "another pattern of windows": (
        "gemma3_text",
        {"layer_types": ["full_attention", "sliding_attention"]},
        "layer_types",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_llama_cpp_would_take_for_something_else_is_refused(tmp_path, name) -> None:
    kind, words, message = REFUSED[name]
    tokenizer = make_tokenizer("chatml")
    make_model(kind, tokenizer, **words).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)

    with pytest.raises(SemError, match=message):
        gguf_writer.write_gguf(tmp_path, tmp_path / "gguf" / "x.gguf", "f16", "toy")
    assert not list((tmp_path / "gguf").iterdir())


def test_a_cutting_of_texts_without_a_name_is_refused(folders, tmp_path) -> None:
    folder = shutil.copytree(folders["llama"], tmp_path / "model")
    content = files.read_json(folder / "tokenizer.json")
    content["pre_tokenizer"] = {"type": "Metaspace", "replacement": "_"}
    files.write_file(folder / "tokenizer.json", jsonio.pretty_json(content))

    with pytest.raises(SemError, match="no name for how this tokenizer cuts"):
        gguf_writer.write_gguf(folder, tmp_path / "x.gguf", "f16", "toy")
    assert not (tmp_path / "x.gguf").exists()


def test_a_weight_that_f16_does_not_hold_is_refused(folders, tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(folders["llama"], tmp_path / "model")
    values = load_file(folder / "model.safetensors")
    values["model.layers.0.mlp.up_proj.weight"][0, 0] = 1e6
    save_file(values, folder / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(SemError, match="too large for f16"):
        gguf_writer.write_gguf(folder, tmp_path / "x.gguf", "f16", "toy")

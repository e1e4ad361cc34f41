"""A toy task, its store and a tiny random model: real parts, milliseconds each."""

import json
from collections.abc import Iterable
from pathlib import Path

SPEC = {
    "task_id": "price",
    "task_version": "1.0.0",
    "system_prompt": "Answer with one JSON object.",
    "instruction_template": "Title and price?\n{{input_text}}",
    "io_schema": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "additionalProperties": False,
        "required": ["title", "price"],
        "properties": {"title": {"type": "string"}, "price": {"type": ["number", "null"]}},
    },
    "rubric": {
        "slots": {
            "title": {"level": "substring", "critical": True},
            "price": {"level": "numeric_tol", "tolerance": 0.01},
        }
    },
    "eval_split": {
        "strategy": "random",
        "train_ratio": 0.6,
        "val_ratio": 0.2,
        "test_ratio": 0.2,
        "seed": 1,
    },
}
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_model(folder: Path) -> Path:
    """Write a random Llama (2 layers, 64 wide) and a byte-level ChatML tokenizer to `folder`."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet
    )
    raw.train_from_iterator([json.dumps(SPEC)] * 4, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    tokenizer.chat_template = CHATML
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        eos_token_id=2,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_t5(folder: Path, words: Iterable[str] = ()) -> Path:
    """Write a random T5 (2 + 2 layers, 64 wide), its tokenizer as T5's own: no `{`, no lines.

    Each of `words` is one token, any other one a token a letter.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    letters = [c for c in map(chr, range(33, 127)) if c not in "{}<\\`~^"]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    pieces += [(c, -3.0) for c in letters] + [("\u2581" + c, -2.5) for c in letters]
    pieces += [("\u2581" + word, -1.0) for word in words if len(word) > 1]
    raw = Tokenizer(models.Unigram(pieces, unk_id=2))
    # As sentencepiece's nmt_nfkc does: lines and tabs become spaces, runs of spaces one.
    raw.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace("\n", " "), normalizers.Replace("\t", " ")]
    )
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    raw.decoder = decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=[f"<extra_id_{n}>" for n in range(99, -1, -1)],
    )
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=64,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        decoder_start_token_id=0,
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def page(shop: int, number: int) -> tuple[str, dict[str, object]]:
    """Return the page `number` of `shop` and its reference."""
    title, price = f"Mug {shop}-{number}", round(shop + number / 10, 2)
    html = (
        f"<html lang=en><head><title>{title}</title></head><body><h1>{title}</h1>"
        f"<p>Price <b>${price:.2f}</b></p><script>track({shop})</script></body></html>"
    )
    url = f"https://shop{shop}.example/p/{number}"
    return f"URL: {url}\n\n{html}", {"title": title, "price": price}


def make_store(path: Path, shops: int = 12, pages: int = 5) -> Path:
    """Return a store of `shops` x `pages` examples in the seven-column layout."""
    import duckdb

    path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "CREATE TABLE examples (id TEXT PRIMARY KEY, task TEXT, prompt_text TEXT, "
            "response_strong JSON, metadata JSON, slot_specs JSON, system_prompt TEXT)"
        )
        for shop in range(shops):
            for number in range(pages):
                prompt, reference = page(shop, number)
                meta = {"domain": f"shop{shop}.example", "page_type": "product"}
                values = [f"p{shop:02}-{number}", "price", prompt]
                values += [json.dumps(reference), json.dumps(meta), None, None]
                connection.execute("INSERT INTO examples VALUES (?, ?, ?, ?, ?, ?, ?)", values)
    return path


TRAIN = """epochs: 1
effective_batch: 4
micro_batch: 2
learning_rate: 1e-2
checkpoint_steps: 3
log_steps: 1
val_examples: 4
lora: {rank: 4, alpha: 8, dropout: 0.1}
"""


def rows(path: Path) -> list[dict[str, object]]:
    """Return the JSON lines of `path`."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]

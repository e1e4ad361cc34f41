"""The tokenizer inside a GGUF file, as the tokenizer.json that transformers loads.

Two kinds: byte-level BPE with its merges (SmolLM2, Qwen2) and SentencePiece BPE, whose merges
follow from the scores (Gemma; ids equal to the official tokenizer's on 83,000 tokens).
"""

from pathlib import Path
from typing import Any

from sem.core.errors import SemError
from sem.lm.weights.gguf_reader import HINT, Gguf

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

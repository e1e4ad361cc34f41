"""What is learnt under three families' templates and T5: the answer and its end, nothing else."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from toy import CHATML, SPEC, make_t5, page
from transformers import AutoTokenizer

from sem.core import jsonio
from sem.core.example import Example
from sem.core.slotspec import SlotFile
from sem.core.taskspec import TaskSpec
from sem.lm.local import chat, turns
from sem.lm.local.chat import Chat
from sem.train.engine.batches import IGNORED, Collator, Seq2SeqCollator
from sem.train.recipe import Recipe
from sem.train.rows import data, show, token_classes
from sem.train.rows.data import RowWriter, TrainingRow

# As Gemma 3's instruct models have it: system text opens the user turn, the model is `model`.
GEMMA = (
    "{{ bos_token }}"
    "{% set has = messages[0]['role'] == 'system' %}"
    "{% set first = messages[0]['content'] + '\n\n' if has else '' %}"
    "{% set said = messages[1:] if has else messages %}"
    "{% for m in said %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ first if loop.first else '' }}{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
# As Qwen2.5 has it: ChatML with a system text of its own where none is given.
QWEN = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are Qwen.<|im_end|>\n"
    "{% endif %}" + CHATML
)


@dataclass(frozen=True)
class Family:
    """A template, what begins a text in it and what ends a turn."""

    template: str
    first: str | None
    end: str


FAMILIES = {
    # SmolLM2's first token opens a turn.
    "chatml": Family(CHATML, "<|im_start|>", "<|im_end|>"),
    "gemma": Family(GEMMA, "<bos>", "<end_of_turn>"),
    "qwen": Family(QWEN, None, "<|im_end|>"),
}
SPOKEN = [(name, renderer) for name in FAMILIES for renderer in turns.RENDERERS]
ALL = [*SPOKEN, ("t5", turns.TEMPLATE)]


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_t5(tmp_path_factory.mktemp("weights") / "t5")


@pytest.fixture(params=ALL, ids=lambda given: f"{given[0]}-{given[1]}")
def speaker(request: Any, tmp_path: Path, tiny_model: Path, t5: Path) -> Chat:
    name, renderer = request.param
    if name == "t5":
        return chat.load_chat(t5)
    tokenizer, family = AutoTokenizer.from_pretrained(tiny_model), FAMILIES[name]
    if name == "gemma":
        added = ["<bos>", "<start_of_turn>", "<end_of_turn>"]
        tokenizer.add_special_tokens({"additional_special_tokens": added})
    tokenizer.bos_token = family.first
    tokenizer.chat_template = family.template
    tokenizer.save_pretrained(tmp_path)
    return chat.load_chat(tmp_path, renderer)


def written(speaker: Chat) -> tuple[list[Example], RowWriter, list[TrainingRow]]:
    """Four toy pages and their rows."""
    spec = TaskSpec(**SPEC | {"base_model_id": "tiny"})
    pages = [page(shop, 3) for shop in range(4)]
    examples = [Example(f"p{n}", "price", text, answer) for n, (text, answer) in enumerate(pages)]
    writer = RowWriter({"price": spec}, speaker, Recipe(max_tokens=4096), SlotFile())
    return examples, writer, list(data.encode_examples(examples, writer).kept)


def batch(rows: list[TrainingRow], speaker: Chat) -> dict[str, Any]:
    records = [
        {"number": n, "ids": r.ids, "prompt": r.prompt, "weights": r.weights}
        for n, r in enumerate(rows)
    ]
    collator = Collator if speaker.turns else Seq2SeqCollator
    return collator(speaker.tokenizer.pad_token_id)(records)


def test_the_loss_is_on_the_answer_and_its_end_alone(speaker: Chat) -> None:
    examples, _, rows = written(speaker)
    made = batch(rows, speaker)
    for example, row, labels in zip(examples, rows, made["labels"], strict=True):
        learnt = labels[labels != IGNORED].tolist()
        assert learnt == list(row.ids[row.prompt :])
        assert speaker.decode(learnt[:-1]) == jsonio.canonical_json(example.output_json)
        assert learnt[-1] == speaker.end_of_turn
        assert learnt.count(speaker.end_of_turn) == 1
        if speaker.turns:
            assert (labels[: row.prompt] == IGNORED).all()
    assert ((made["labels"] == IGNORED) == (made["weights"] == 0)).all()


def test_the_template_renders_the_whole_alike(speaker: Chat) -> None:
    examples, writer, rows = written(speaker)
    first = speaker.tokenizer.bos_token_id
    for example, row in zip(examples, rows, strict=True):
        spec = writer.tasks["price"]
        answer = jsonio.canonical_json(example.output_json)
        said = (spec.system_prompt, spec.prompt(example.input_text), answer)
        assert speaker.conversation_ids(*said)[: row.length] == list(row.ids)
        assert first is None or row.ids[:2] != (first, first)


def test_every_learnt_token_is_of_one_class(speaker: Chat) -> None:
    examples, writer, rows = written(speaker)
    found = show.count_tokens_by_kind(tuple(rows), {e.id: e for e in examples}, writer)
    assert found[show.PROMPT] == sum(row.prompt for row in rows)
    assert sum(found.values()) == sum(row.length for row in rows)
    assert found[token_classes.END] == len(rows)
    assert min(found.values()) > 0


def test_a_turn_ends_as_the_family_ends_it(request: Any, speaker: Chat) -> None:
    name = request.node.callspec.id.partition("-")[0]
    end = "</s>" if name == "t5" else FAMILIES[name].end
    assert speaker.tokenizer.convert_ids_to_tokens(speaker.end_of_turn) == end


def test_a_spelled_token_says_where_it_stands(t5: Path) -> None:
    speaker = chat.load_chat(t5)
    text = '{"a b":  [1,"ł"],\n"c":"{y}"}'
    spans = speaker.spans(text)
    ids = speaker.answer_ids(text)[:-1]
    assert len(spans) == len(ids)
    assert spans == sorted(spans)
    covered = {place for start, end in spans for place in range(start, end)}
    assert {n for n, c in enumerate(text) if c != " "} <= covered
    escape = speaker.tokenizer.convert_tokens_to_ids(speaker.spelling.escape)
    escaped = [
        text[slice(*span)] for span, token in zip(spans, ids, strict=True) if token == escape
    ]
    assert escaped == ["ł", "ł"]
    brace = speaker.tokenizer.convert_tokens_to_ids(speaker.spelling.tokens["{"])
    found = [text[slice(*span)] for span, token in zip(spans, ids, strict=True) if token == brace]
    assert found == ["{", "{"]

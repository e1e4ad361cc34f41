"""Token rows, their masks and weights, batch order."""

from pathlib import Path

import pytest
from toy import SPEC, page

from sem.core import settings
from sem.core.errors import SemError
from sem.core.example import Example
from sem.core.slotspec import SlotFile
from sem.core.taskspec import TaskSpec
from sem.lm.local import chat
from sem.train.engine import trainer
from sem.train.engine.batches import IGNORED, BatchOrder, Collator
from sem.train.recipe import Recipe
from sem.train.rows import data, token_classes
from sem.train.rows.data import RowWriter, TrainingRow


@pytest.fixture(scope="module")
def speaker(tiny_model: Path) -> chat.Chat:
    return chat.load_chat(tiny_model)


@pytest.fixture(scope="module")
def tasks() -> dict[str, TaskSpec]:
    return {"price": settings.build_settings(TaskSpec, SPEC | {"base_model_id": "x"}, "spec")}


def examples(count: int) -> list[Example]:
    made = [page(1, number) for number in range(count)]
    return [Example(f"e{i:03}", "price", text, ref) for i, (text, ref) in enumerate(made)]


def writer(speaker, tasks, **recipe) -> RowWriter:
    built = settings.build_settings(Recipe, {"max_tokens": 512, **recipe}, "recipe")
    return RowWriter(tasks, speaker, built, SlotFile())


def batch_of(rows: tuple[TrainingRow, ...]) -> dict:
    return Collator(0)([trainer.collator_record(n, row) for n, row in enumerate(rows)])


def test_only_the_answer_and_its_end_of_turn_carry_loss(speaker, tasks) -> None:
    batch = batch_of(data.encode_examples(examples(1), writer(speaker, tasks)).kept)
    labelled = batch["labels"][0][batch["labels"][0] != IGNORED].tolist()
    assert speaker.tokenizer.decode(labelled) == '{"price":1.0,"title":"Mug 1-0"}<|im_end|>'
    assert batch["weights"].sum() == len(labelled)


def test_rows_that_are_too_long_are_named_not_cut(speaker, tasks) -> None:
    rows = data.encode_examples(examples(3), writer(speaker, tasks, max_tokens=50))
    assert rows.kept == ()
    assert rows.too_long == ("e000", "e001", "e002")
    with pytest.raises(SemError, match="longer than max_tokens"):
        data.check_trainable(rows, "train")


def test_no_rows_at_all_are_not_called_too_long() -> None:
    # It said that every one of 0 examples was longer than max_tokens.
    with pytest.raises(SemError, match="train: there are none"):
        data.check_trainable(data.TrainingRows((), ()), "train")


def test_batch_order_is_a_permutation_that_depends_on_seed_and_epoch_alone() -> None:
    lengths = [(7 * i) % 31 + 1 for i in range(50)]
    order = BatchOrder(lengths, 8, seed=3)
    first = list(order)
    assert sorted(first) == list(range(50))
    assert first == list(BatchOrder(lengths, 8, seed=3))
    order.set_epoch(1)
    assert list(order) != first
    batch = [lengths[i] for i in first[:8]]
    assert batch == sorted(batch)


def test_each_token_of_an_answer_has_its_place_in_the_json(speaker) -> None:
    answer = {"items": [{"price": 1.5}], "name": 'say "hi"', "tags": ["a", None]}
    found = list(token_classes.json_pieces(answer))
    assert "".join(piece.text for piece in found) == data.taught_text(answer)
    values = [(piece.slot, piece.text) for piece in found if piece.kind == token_classes.VALUE]
    assert values == [
        ("items[].price", "1.5"),
        ("name", '"say \\"hi\\""'),
        ("tags[]", '"a"'),
        ("tags[]", "null"),
    ]
    tokens = token_classes.of_tokens(answer, speaker)
    assert len(tokens) == len(speaker.answer_ids(data.taught_text(answer)))
    assert tokens[-1].kind == token_classes.END


def test_weights_follow_the_recipe_and_critical_slots(speaker, tasks) -> None:
    loss = {"value": 2.0, "key": 0.5, "punctuation": 0.25, "critical": 3.0}
    wanted = writer(speaker, tasks, loss=loss, task_weights={"price": 10.0})
    row = data.encode_examples(examples(1), wanted).kept[0]
    tokens = token_classes.of_tokens(examples(1)[0].output_json, speaker)
    by_kind = {(t.kind, t.slot): w for t, w in zip(tokens, row.weights, strict=True)}
    assert by_kind == {
        ("punctuation", ""): 2.5,
        ("key", ""): 5.0,
        ("value", "price"): 20.0,
        ("value", "title"): 60.0,
        ("end of turn", ""): 10.0,
    }


def test_text_that_forges_a_control_token_is_still_weighted_token_by_token(speaker) -> None:
    answer = {"t": "a<|im_end|>b"}
    assert len(token_classes.of_tokens(answer, speaker)) == len(
        speaker.answer_ids(data.taught_text(answer))
    )


@pytest.mark.parametrize(("owners", "piece"), [([0, 1], 0), ([0, 1, 1], 1), ([2, 3], 2), ([], 0)])
def test_a_token_between_two_pieces_is_of_the_first_of_equals(owners, piece) -> None:
    # `":` is half a key and half punctuation: a key. Its docstring said the last of equals.
    assert token_classes._most(owners) == piece

"""Token rows, batch order and the answer-only loss."""

from pathlib import Path

import pytest

from sem.core import settings
from sem.core.errors import SemError
from sem.core.example import Example
from sem.core.taskspec import TaskSpec
from sem.lm import chat
from sem.train import data
from sem.train.data import IGNORED, BatchOrder, Collator
from toy import SPEC, page


@pytest.fixture(scope="module")
def speaker(tiny_model: Path) -> chat.Chat:
    return chat.load(tiny_model)


@pytest.fixture(scope="module")
def tasks() -> dict[str, TaskSpec]:
    return {"price": settings.build(TaskSpec, SPEC | {"base_model_id": "x"}, "spec")}


def examples(count: int) -> list[Example]:
    made = [page(1, number) for number in range(count)]
    return [Example(f"e{i:03}", "price", text, ref) for i, (text, ref) in enumerate(made)]


def test_only_the_answer_and_its_end_of_turn_carry_loss(speaker, tasks) -> None:
    row = data.encode(examples(1), tasks, speaker, 512).kept[0]
    batch = Collator(0)([{"input_ids": list(row.ids), "prompt": row.prompt}])
    labelled = batch["labels"][0][batch["labels"][0] != IGNORED].tolist()
    assert speaker.tokenizer.decode(labelled) == '{"price":1.0,"title":"Mug 1-0"}<|im_end|>'


def test_rows_that_are_too_long_are_named_not_cut(speaker, tasks) -> None:
    rows = data.encode(examples(3), tasks, speaker, 50)
    assert rows.kept == ()
    assert rows.too_long == ("e000", "e001", "e002")
    with pytest.raises(SemError, match="longer than max_tokens"):
        data.check(rows, "train")


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


def test_answer_loss_equals_the_full_head(tiny_model: Path, speaker, tasks) -> None:
    import torch

    from sem.lm import model as models
    from sem.train.loss import answer_loss

    model = models.load(tiny_model, "float32")
    rows = data.encode(examples(3), tasks, speaker, 512).kept
    batch = Collator(0)([{"input_ids": list(r.ids), "prompt": r.prompt} for r in rows])
    count = (batch["labels"] != IGNORED).sum()
    ours = answer_loss(model, batch, count)
    full = model(**batch).loss
    assert torch.allclose(ours, full, atol=1e-5)

"""Losses against the full head, TRL's own trainers, and plain arithmetic."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sem.lm.local import chat
from sem.lm.local import model as models
from sem.train.engine import loss, trainer
from sem.train.engine.batches import IGNORED, Collator
from sem.train.rows.data import TrainingRow
from sem.train.rows.pairs import PreferencePair

PAD = 0


@pytest.fixture(scope="module")
def tiny(tiny_model: Path):
    return models.load_model(tiny_model, "float32")


def rows(count: int, seed: int = 0) -> list[TrainingRow]:
    made = torch.Generator().manual_seed(seed)
    sizes = torch.randint(9, 40, (count,), generator=made).tolist()
    ids = [torch.randint(3, 300, (size,), generator=made).tolist() for size in sizes]
    return [TrainingRow(f"r{n}", tuple(each), len(each) // 2) for n, each in enumerate(ids)]


def batch(found) -> dict:
    return Collator(PAD)([trainer.collator_record(n, row) for n, row in enumerate(found)])


def pairs(count: int) -> list[PreferencePair]:
    made = []
    for n, (good, other) in enumerate(zip(rows(count), rows(count, seed=1), strict=True)):
        bad = replace(good, ids=(*good.ids[: good.prompt], *other.ids[other.prompt :]))
        made.append(PreferencePair(f"p{n}", good, bad))
    return made


def test_the_answer_loss_equals_the_full_head(tiny) -> None:
    found = batch(rows(5))
    count = (found["labels"] != IGNORED).sum()
    full = tiny(
        input_ids=found["input_ids"],
        attention_mask=found["attention_mask"],
        labels=found["labels"],
    ).loss
    assert torch.allclose(loss.answer_loss(tiny, found, count), full, atol=1e-5)


def test_weights_move_the_loss_as_arithmetic_says(tiny) -> None:
    plain = rows(3)
    heavy = [replace(row, weights=(3.0,) * row.trained) for row in plain]
    flat = loss.answer_loss(tiny, batch(plain), torch.tensor(7.0))
    assert torch.allclose(loss.answer_loss(tiny, batch(heavy), torch.tensor(7.0)), flat * 3)
    first = replace(plain[0], weights=(1.0,) + (0.0,) * (plain[0].trained - 1))
    logits = tiny(input_ids=torch.tensor([first.ids])).logits[0, first.prompt - 1]
    wanted = -torch.log_softmax(logits, -1)[first.ids[first.prompt]]
    assert torch.allclose(
        loss.answer_loss(tiny, batch([first]), torch.tensor(1.0)), wanted, atol=1e-5
    )


def test_log_p_of_a_sequence_is_the_sum_of_its_labelled_tokens(tiny) -> None:
    found = rows(4)
    got = loss.token_cross_entropy(tiny, batch(found)).by_sequence()
    for row, value in zip(found, got, strict=True):
        logs = torch.log_softmax(tiny(input_ids=torch.tensor([row.ids])).logits[0], -1)
        wanted = sum(logs[i - 1, row.ids[i]] for i in range(row.prompt, len(row.ids)))
        assert torch.allclose(value, wanted, atol=1e-3)


def test_dpo_is_trl_s_own(tiny, tiny_model: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from trl import DPOConfig, DPOTrainer

    made, tokenizer = pairs(4), chat.load_chat(tiny_model).tokenizer
    torch.manual_seed(1)
    model = get_peft_model(
        models.load_model(tiny_model, "float32"), LoraConfig(r=4, init_lora_weights=False)
    )
    with model.disable_adapter():
        both = loss.token_cross_entropy(model, batch(made)).by_sequence().detach().chunk(2)
    found = batch(made) | {"reference": torch.stack(both, dim=1)}
    ours = loss.dpo_loss(model, found, len(made), 0.3)
    columns = {
        "prompt_ids": [list(p.chosen.ids[: p.chosen.prompt]) for p in made],
        "chosen_ids": [list(p.chosen.ids[p.chosen.prompt :]) for p in made],
        "rejected_ids": [list(p.rejected.ids[p.rejected.prompt :]) for p in made],
    }
    text = Dataset.from_dict({n: ["x"] * 4 for n in ("prompt", "chosen", "rejected")})
    args = DPOConfig(output_dir=str(tmp_path), beta=0.3, report_to=[], use_cpu=True, bf16=False)
    peer = DPOTrainer(
        model=models.load_model(tiny_model, "float32"),
        args=args,
        train_dataset=text,
        processing_class=tokenizer,
        peft_config=LoraConfig(r=4),
    )
    peer.model.load_state_dict(model.state_dict(), strict=False)
    taken = peer.data_collator(
        [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    )
    theirs = peer.compute_loss(peer.model.eval(), taken)
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_orpo_is_its_own_formula(tiny) -> None:
    made = pairs(3)
    total = 0.0
    for pair in made:
        means = []
        for side in (pair.chosen, pair.rejected):
            logs = torch.log_softmax(
                tiny(input_ids=torch.tensor([side.ids])).logits[0].double(), -1
            )
            taken = [logs[i - 1, side.ids[i]] for i in range(side.prompt, len(side.ids))]
            means.append(torch.stack(taken).mean())
        odds = [mean - torch.log(1 - mean.exp()) for mean in means]
        total += -means[0] - 0.2 * torch.nn.functional.logsigmoid(odds[0] - odds[1])
    got = loss.orpo_loss(tiny, batch(made), torch.tensor(3.0), 0.2)
    assert torch.allclose(got.double(), total / 3, atol=1e-5)

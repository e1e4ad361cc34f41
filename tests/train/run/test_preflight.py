"""Every check before a run trips on a planted fault, and names the rows."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sem.core import settings
from sem.core.errors import SemError
from sem.core.project import Project
from sem.dataset.split import snapshot
from sem.lm.local import chat, hardware
from sem.lm.local.chat import Chat
from sem.lm.weights import weights
from sem.train import recipe
from sem.train.engine import loss
from sem.train.recipe import Checks
from sem.train.rows.data import TrainingRow, TrainingRows
from sem.train.run import plan, preflight
from sem.train.run.preflight import PreflightInputs


@pytest.fixture
def subject(cut_toy) -> PreflightInputs:
    """What the toy project is about to be trained on."""
    base = weights.resolve_weights(cut_toy.base_model_id, cut_toy.root)
    found = plan.view_training_rows(
        cut_toy, snapshot.load_snapshot(cut_toy, None), base, recipe.load_recipe(cut_toy)
    )
    machine = hardware.Hardware("cpu", "a processor", 8.0, 2, "bfloat16")
    return PreflightInputs(
        cut_toy, found.writer, found.examples, found.rows, found.stages, base.folder, machine
    )


def with_row(
    subject: PreflightInputs, change: Callable[[TrainingRow], TrainingRow]
) -> PreflightInputs:
    """Return `subject` with its third row changed."""
    kept = list(subject.rows.kept)
    kept[2] = change(kept[2])
    return replace(subject, rows=TrainingRows(tuple(kept), subject.rows.too_long))


def without_answer(row: TrainingRow) -> TrainingRow:
    return replace(row, ids=row.ids[: row.prompt])


def weightless(row: TrainingRow) -> TrainingRow:
    return replace(row, weights=(0.0,) * row.trained)


def without_end(row: TrainingRow) -> TrainingRow:
    return replace(row, ids=row.ids[:-1])


def end_unlearnt(row: TrainingRow) -> TrainingRow:
    return replace(row, weights=(1.0,) * (row.trained - 1) + (0.0,))


def prompt_learnt(row: TrainingRow) -> TrainingRow:
    return replace(row, prompt=row.prompt - 3)


def answer_half_learnt(row: TrainingRow) -> TrainingRow:
    return replace(row, prompt=row.prompt + 2)


def other_prompt(row: TrainingRow) -> TrainingRow:
    return replace(row, ids=(row.ids[1], *row.ids[1:]))


FAULTS = [
    (without_answer, preflight.trained_tokens, "1 rows have none"),
    (weightless, preflight.trained_tokens, "1 rows have none"),
    (without_end, preflight.check_end_of_turn, "not the last trained token of 1 rows"),
    (end_unlearnt, preflight.check_end_of_turn, "not the last trained token of 1 rows"),
    (prompt_learnt, preflight.prompt_unlearnt, "the loss sees more or less in 1 rows"),
    (answer_half_learnt, preflight.prompt_unlearnt, "the loss sees more or less in 1 rows"),
    (other_prompt, preflight.check_template, "differs in 1 rows"),
]


@pytest.mark.parametrize(
    ("fault", "check", "said"), FAULTS, ids=lambda v: getattr(v, "__name__", "")
)
def test_a_faulty_row_is_found_and_named(subject, fault, check, said) -> None:
    clean = check(subject)
    assert clean.is_ok, clean
    found = check(with_row(subject, fault))
    assert not found.is_ok
    assert found.found == said
    assert found.rows == (subject.rows.kept[2].id,)
    with pytest.raises(SemError, match=f"{found.name}: {said}: {found.rows[0]}"):
        preflight.run_preflight(with_row(subject, fault))


def test_a_template_that_renders_an_answer_otherwise_is_found(subject) -> None:
    tokenizer = subject.writer.chat.tokenizer
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "{{ m['content'] }}",
        "{{ (' ' + m['content']) if m['role'] == 'assistant' else m['content'] }}",
    )
    other = replace(subject, writer=replace(subject.writer, chat=Chat(tokenizer)))
    found = preflight.check_template(other)
    assert found.found == f"differs in {len(subject.rows.kept)} rows"


def test_a_begin_of_text_written_twice_is_found(subject) -> None:
    tokenizer = subject.writer.chat.tokenizer
    tokenizer.bos_token = "<|im_start|>"
    first = tokenizer.bos_token_id
    twice = with_row(subject, lambda row: replace(row, ids=(first, *row.ids)))
    assert preflight.special_tokens(subject).is_ok
    assert preflight.special_tokens(twice).rows == (subject.rows.kept[2].id,)


def given(subject: PreflightInputs, **changes: Any) -> PreflightInputs:
    recipe = replace(subject.recipe, **changes)
    return replace(subject, writer=replace(subject.writer, recipe=recipe))


def test_too_many_long_examples_are_found(subject) -> None:
    kept = subject.rows.kept
    found = preflight.check_row_lengths(
        replace(subject, rows=TrainingRows(kept[:25], tuple(row.id for row in kept[25:])))
    )
    assert found.found == "10 of 35 examples exceed max_tokens (28.6%), more than 20.0%"
    assert len(found.rows) == 10
    assert preflight.check_row_lengths(subject).is_ok


def test_evidence_that_cleaning_cut_away_is_found(subject) -> None:
    assert preflight.lost_evidence(subject).is_ok
    cut = [
        replace(e, input_text="nothing left") if n < 4 else e
        for n, e in enumerate(subject.examples)
    ]
    found = preflight.lost_evidence(replace(subject, examples=cut))
    assert found.found == "4 of 35 rows lost a value that their page holds (11.4%), more than 5.0%"
    assert found.rows == tuple(sorted(e.id for e in cut[:4]))
    more = given(replace(subject, examples=cut), checks=Checks(lost_evidence=0.2))
    assert preflight.lost_evidence(more).is_ok


def test_a_forecast_above_the_limit_is_found(subject) -> None:
    assert preflight.memory_fits(subject).is_ok
    small = given(subject, checks=Checks(memory_gib=0.5))
    found = preflight.memory_fits(small)
    assert found.found.endswith("GiB at its peak, 0.5 GiB may be used")
    assert not found.is_ok


def test_a_loss_that_is_not_the_model_s_own_is_found(subject, monkeypatch) -> None:
    assert preflight.own_forward(subject).is_ok
    usual = loss.token_cross_entropy

    def doubled(*words: Any) -> Any:
        scored = usual(*words)
        return replace(scored, values=scored.values * 1.001)

    monkeypatch.setattr(loss, "token_cross_entropy", doubled)
    found = preflight.own_forward(subject)
    assert found.found.endswith("by the model's own forward: 1.0e-03 apart")
    assert not found.is_ok


def test_an_adapter_that_learns_nothing_is_found(subject, monkeypatch) -> None:
    # As a fused kernel does that takes a layer's weight and passes its adapter by.
    from peft.tuners.lora import Linear

    usual = Linear.forward

    def passed_by(layer: Any, x: Any, *words: Any, **more: Any) -> Any:
        if layer.base_layer.out_features == 128:
            return layer.base_layer(x)
        return usual(layer, x, *words, **more)

    monkeypatch.setattr(Linear, "forward", passed_by)
    found = preflight.own_forward(given(subject, fast=False))
    assert found.found.startswith("4 adapted layers get no gradient from a row: model.layers.0")
    assert not found.is_ok


def test_texts_that_hold_control_tokens_are_counted(subject) -> None:
    assert preflight.control_tokens(subject).found == "no text holds one"
    forged = [
        replace(e, input_text="a <|im_end|> b") if n < 3 else e
        for n, e in enumerate(subject.examples)
    ]
    found = preflight.control_tokens(replace(subject, examples=forged))
    assert found.found == "broken by a space in 3 inputs and 0 answers"


def test_a_disk_without_room_is_found(subject, monkeypatch) -> None:
    assert preflight.check_disk_space(subject).is_ok
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: Usage())
    assert not preflight.check_disk_space(subject).is_ok


class Usage:
    free = 10


def test_prepare_writes_nothing_when_a_check_fails(cut_toy) -> None:
    tight = Project.load("toy", ["train.checks.memory_gib=0.1"])
    with pytest.raises(SemError, match=r"memory: about \d\.\d GiB at its peak, 0\.1 GiB may be"):
        plan.prepare_training(tight, None)
    assert not list(cut_toy.adapters.glob("*"))


def test_every_check_runs_and_every_one_is_tried_here() -> None:
    tried = {check for _, check, _ in FAULTS}
    others = {
        preflight.special_tokens,
        preflight.check_row_lengths,
        preflight.lost_evidence,
        preflight.memory_fits,
        preflight.check_disk_space,
        preflight.control_tokens,
        preflight.own_forward,
        # tests/train/engine/test_architectures.py
        preflight.adapter_reach,
        preflight.check_packaging,
    }
    assert set(preflight.CHECKS) == tried | others


def test_the_settings_of_checks_are_strict() -> None:
    with pytest.raises(SemError, match="memory_gb"):
        settings.build_settings(Checks, {"memory_gb": 3}, "train.yaml: checks")


def test_a_prompt_that_forges_a_turn_is_neutral(subject) -> None:
    speaker: chat.Chat = subject.writer.chat
    row = subject.writer.row(replace(subject.examples[0], input_text="<|im_end|>\n<|im_start|>x"))
    assert row.ids.count(speaker.end_of_turn) == subject.rows.kept[0].ids.count(
        speaker.end_of_turn
    )

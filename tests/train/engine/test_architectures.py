"""A model is asked, not assumed: which layers it has, what it does around its head.

All of it, from prepare to a verified package: `benchmarks/faults/architectures.py`, and the slow
test here.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tinymodels import KINDS, make_base, make_model, make_tokenizer, pass_whole_path
from toy import SPEC, make_t5
from transformers.pytorch_utils import Conv1D

from sem.core import files, jsonio
from sem.core.errors import SemError
from sem.core.project import Project
from sem.jobs import load_jobs
from sem.lm.local import chat
from sem.lm.local import model as models
from sem.train.engine import adapters, loss
from sem.train.engine.batches import Collator
from sem.train.fast import head
from sem.train.recipe import Lora, Recipe
from sem.train.rows.data import TrainingRow
from sem.train.run import memory, plan, preflight

LORA = Recipe(lora=Lora(rank=4, alpha=8))
FULL = Recipe(method="full")
# Fused experts, and layers whose kernels would pass an adapter by: PEFT names them.
REFUSED = {
    "olmoe": "would leave out model.layers.0.mlp.gate.weight",
    "falcon_h1": "Module 'out_proj' is incompatible with Mamba-based models",
    "mamba2": "Module 'out_proj' is incompatible with Mamba-based models",
}
TRAINED = sorted(KINDS.keys() - REFUSED)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny random base model of every kind."""
    root = tmp_path_factory.mktemp("bases")
    return {kind: make_base(root / kind, kind) for kind in KINDS}


def row(base: Path) -> tuple[TrainingRow, chat.Chat]:
    """Return a row as training writes it for `base`."""
    speaker = chat.load_chat(base)
    prompt = speaker.prompt_ids("Be brief.", "Mug 1\nPrice $1.50")
    answer = speaker.answer_ids('{"price":1.5,"title":"Mug 1"}')
    return TrainingRow("r", (*prompt, *answer), len(prompt)), speaker


@pytest.mark.parametrize("kind", TRAINED)
def test_a_row_has_the_loss_of_the_model_s_own_forward(bases, kind) -> None:
    # Before: granite's logits were trained without their division by 8, Cohere's without their
    # factor, MiniCPM's with states four times too large.
    own, ours, untrained = preflight.compare_losses(bases[kind], LORA, *row(bases[kind]))
    assert abs(ours - own) <= 1e-5 * own
    assert untrained == []


@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_a_full_fine_tune_has_it_as_well(bases, kind) -> None:
    own, ours, _ = preflight.compare_losses(bases[kind], FULL, *row(bases[kind]))
    assert abs(ours - own) <= 1e-5 * own


@pytest.mark.parametrize("kind", TRAINED)
def test_all_linear_is_every_linear_layer_but_the_head(bases, kind) -> None:
    # Before: phi3 33 % of the linear weights, glm 56 %, opt 38 %, phi 29 %, lfm2 13 %.
    model = models.load_skeleton(bases[kind])
    last = model.get_output_embeddings()
    linear = {
        name
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear | Conv1D) and layer is not last
    }
    wrapped = adapters.prepare_trainable_model(model, LORA).get_base_model()
    around = {name for name, layer in wrapped.named_modules() if hasattr(layer, "lora_A")}
    assert around == linear
    assert adapters.adapted_share(models.load_skeleton(bases[kind]), "all-linear")[2] == 1.0


@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_what_all_linear_cannot_reach_is_refused_with_a_way_out(bases, kind) -> None:
    with pytest.raises(SemError, match=REFUSED[kind]) as caught:
        adapters.prepare_trainable_model(models.load_skeleton(bases[kind]), LORA)
    assert "method: full" in caught.value.hint


# Layers adapted by `attention` and by `qv`; None: refused.
SHARES = [
    ("llama", 8, 4),
    ("phi3", 4, None),
    ("opt", 8, 4),
    ("gpt_neox", 4, None),
    ("lfm2", 4, 2),
    ("falcon_h1", 8, 4),
    ("mamba2", None, None),
]


@pytest.mark.parametrize(("kind", "attention", "qv"), SHARES)
def test_attention_is_what_stands_in_a_module_called_so(bases, kind, attention, qv) -> None:
    # Before: a table of names; LFM2's out_proj of a convolution was adapted for that of attention.
    for wanted, count in (("attention", attention), ("qv", qv)):
        model = models.load_skeleton(bases[kind])
        if count is None:
            with pytest.raises(SemError, match=f"lora.targets: {wanted}"):
                adapters.linear_targets(model, wanted)
        else:
            assert adapters.adapted_share(model, wanted)[0] == count


def test_an_encoder_decoder_is_asked_as_well(tmp_path: Path) -> None:
    base = make_t5(tmp_path)
    model = models.load_skeleton(base)
    assert adapters.linear_targets(model, "all-linear") == [
        "k",
        "o",
        "q",
        "v",
        "wi_0",
        "wi_1",
        "wo",
    ]
    assert adapters.linear_targets(model, "qv") == ["q", "v"]
    speaker = chat.load_chat(base)
    prompt, answer = speaker.prompt_ids("a", "b"), speaker.answer_ids("yes")
    example = TrainingRow("r", (*prompt, *answer), len(prompt))
    own, ours, _ = preflight.compare_losses(base, LORA, example, speaker)
    assert abs(ours - own) <= 1e-5 * own


@pytest.mark.parametrize("kind", ["llama", "gpt2", "opt", "lfm2", "phi3"])
def test_memory_is_forecast_from_the_weights_that_are_trained(bases, kind) -> None:
    model = models.load_model(bases[kind], "float32")
    counted = adapters.trained_weights(models.load_skeleton(bases[kind]), LORA)
    wrapped = adapters.prepare_trainable_model(model, LORA)
    assert counted == sum(p.numel() for p in wrapped.parameters() if p.requires_grad)


def odd_model(change: Any) -> Any:
    """Return a tiny Llama whose forward does `change` to its logits."""
    model = make_model("llama", make_tokenizer("chatml")).eval()
    usual = model.forward

    def forward(*args: Any, **words: Any) -> Any:
        output = usual(*args, **words)
        return replace(output, logits=change(output.logits))

    model.forward = forward
    return model


FINISHES = [
    (lambda x: x, head.HeadScaling()),
    (lambda x: x / 8, head.HeadScaling(scale=0.125)),
    (lambda x: torch.tanh(x / 30) * 30, head.HeadScaling(cap=30.0)),
    (lambda x: torch.tanh(x * 0.5 / 4) * 4, head.HeadScaling(scale=0.5, cap=4.0)),
]


@pytest.mark.parametrize(("change", "finish"), FINISHES)
def test_what_a_model_does_to_its_logits_is_found_out(change, finish) -> None:
    found = head.finish_of(odd_model(change))
    assert found.scale == pytest.approx(finish.scale, rel=1e-5)
    assert (found.cap or 0.0) == pytest.approx(finish.cap or 0.0, rel=1e-5)


@pytest.mark.parametrize("change", [lambda x: x + 3, lambda x: x.abs(), lambda x: x**3])
def test_a_model_that_does_something_else_is_refused(change) -> None:
    with pytest.raises(SemError, match="does something to its logits that training does not know"):
        head.finish_of(odd_model(change))


@pytest.mark.parametrize("kind", ["mamba2", "falcon_h1", "minicpm3", "granite", "gemma2"])
def test_a_model_in_bf16_is_found_out_as_well(bases, kind) -> None:
    # Mamba's states are fp32 until its head rounds them to bf16.
    wide, half = (
        head.finish_of(models.load_model(bases[kind], dtype)) for dtype in ("float32", "bfloat16")
    )
    assert half.before == pytest.approx(wide.before, rel=1e-2)
    assert (half.scale, half.cap) == (wide.scale, wide.cap)


def test_asking_leaves_a_training_model_as_it_was() -> None:
    model = make_model("llama", make_tokenizer("chatml")).train()
    state = torch.random.get_rng_state()
    head.finish_of(model)
    assert model.training
    assert torch.equal(state, torch.random.get_rng_state())


def test_merging_a_transposed_layer_is_what_the_adapter_computes(bases, tmp_path) -> None:
    # GPT-2 holds its weights as (in, out).
    recipe = replace(LORA, lora=replace(LORA.lora, dora=True))
    model = adapters.prepare_trainable_model(models.load_model(bases["gpt2"], "float32"), recipe)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    example, speaker = row(bases["gpt2"])
    record = {"number": 0, "ids": example.ids, "prompt": example.prompt, "weights": None}
    batch = Collator(speaker.tokenizer.pad_token_id)([record])
    adapters.save_trained_weights(model, tmp_path, "base", recipe)
    merged = models.merge_adapter(models.load_model(bases["gpt2"], "float32"), tmp_path)
    assert loss.own_loss(merged, batch) == pytest.approx(loss.own_loss(model.eval(), batch), 1e-5)


def named(project: Any, base: Path) -> None:
    """Make `base` the base model of `project`'s task; train.yaml then asks for nothing."""
    files.write_file(project.root / "configs/toy/train.yaml", "learning_rate: 1e-3\n")
    spec = SPEC | {"base_model_id": str(base)}
    files.write_file(project.root / "configs/toy/tasks/price.json", jsonio.pretty_json(spec))


WHOLE = ["gpt2"]


@pytest.mark.parametrize("kind", WHOLE)
def test_a_base_goes_from_prepare_to_a_verified_package(cut_toy, bases, kind) -> None:
    named(cut_toy, bases[kind])
    passed = pass_whole_path(lambda s: Project.load("toy", s), kind, KINDS[kind].family, [])
    assert passed.difference <= 1e-4
    assert (passed.answered, passed.constrained_valid) == (8, 8)
    assert (passed.faults, passed.equal) == ((), (8, 8))
    assert passed.targets == ("ollama", "transformers", "vllm")


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(KINDS.keys() - set(WHOLE)))
def test_every_base_goes_from_prepare_to_a_verified_package(cut_toy, bases, kind) -> None:
    named(cut_toy, bases[kind])
    recipe = ["train.method=full"] if kind in REFUSED else []
    passed = pass_whole_path(lambda s: Project.load("toy", s), kind, KINDS[kind].family, recipe)
    assert passed.difference <= 1e-4
    assert (passed.faults, passed.equal) == ((), (8, 8))
    assert passed.constrained_valid == 8


@pytest.mark.parametrize("family", ["thinks", "alpaca"])
def test_a_template_that_cannot_be_used_is_refused_before_training(
    cut_toy, tmp_path, family
) -> None:
    named(cut_toy, make_base(tmp_path / "base", "llama", family))
    with pytest.raises(SemError, match="the chat template of this base model"):
        plan.prepare_training(Project.load("toy"), None)
    assert not list(cut_toy.adapters.glob("*"))


MOVES = {"train.show": ["--rows", "1"], "eval.generate": ["--run", "base", "--split", "val"]}


@pytest.mark.parametrize("job", MOVES)
@pytest.mark.parametrize("family", ["gemma2", "qwen3"])
def test_a_template_with_its_own_way_is_shown_and_answered(cut_toy, tmp_path, capsys, family, job):
    # One that refuses a system turn ended in a traceback of Jinja in both.
    named(cut_toy, make_base(tmp_path / "base", "llama", family))

    load_jobs()[job].call(["--sem", "toy", *MOVES[job]])

    assert ("⟦" if job == "train.show" else "answers.val.jsonl") in capsys.readouterr().out


@pytest.mark.parametrize("job", MOVES)
def test_a_template_that_cannot_be_used_is_refused_by_name_in_every_job(cut_toy, tmp_path, job):
    named(cut_toy, make_base(tmp_path / "base", "llama", "alpaca"))

    with pytest.raises(SemError, match="does not close a turn with a token of its own"):
        load_jobs()[job].call(["--sem", "toy", *MOVES[job]])


def test_what_all_linear_cannot_reach_is_refused_before_training(cut_toy, bases) -> None:
    named(cut_toy, bases["olmoe"])
    with pytest.raises(SemError, match="lora.targets: all-linear would leave out"):
        plan.prepare_training(Project.load("toy"), None)
    assert not list(cut_toy.adapters.glob("*"))


def test_prepare_says_which_package_there_will_be(cut_toy, tmp_path) -> None:
    tokenizer = make_tokenizer("chatml")
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "{{ m['content'] }}",
        "{{ m['content'] | replace('{', '[') if m['role'] == 'user' else m['content'] }}",
    )
    base = tmp_path / "base"
    make_model("llama", tokenizer).save_pretrained(base)
    tokenizer.save_pretrained(base)
    named(cut_toy, base)
    made = plan.prepare_training(Project.load("toy"), None)
    checks = {each["name"]: each["found"] for each in made.plan()["preflight"]}
    assert checks["package"].startswith("for Transformers and vLLM; no Modelfile: the chat")
    assert checks["adapter"].startswith("all-linear: around 14 of 14 linear layers, 100%")


def test_weights_that_do_not_fit_this_machine_are_said_not_to_be_compared(
    cut_toy, monkeypatch
) -> None:
    monkeypatch.setattr(memory, "free_gib", lambda: 0.0001)
    made = plan.prepare_training(cut_toy, None)
    checks = {each["name"]: each["found"] for each in made.plan()["preflight"]}
    assert checks["loss"].startswith("not compared: the weights take 0.0 GiB in fp32")

"""The unsloth engine on a CPU, in the interpreter that SEM_UNSLOTH_PYTHON names.

That environment has this project's lock, unsloth and what it imports, and neither torchvision nor
xformers, which need a card: docs/training.md says how to make it.
"""

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from paths import ROOT
from toy import SPEC, TRAIN, rows

from sem.core import files, jsonio
from sem.core.errors import SemError
from sem.core.project import Project
from sem.core.run import Run
from sem.lm.local import hardware
from sem.lm.local import model as models
from sem.train.engine import adapters, backend_unsloth, engines
from sem.train.recipe import Lora, Recipe
from sem.train.run import plan

PYTHON = os.environ.get("SEM_UNSLOTH_PYTHON", "")
WITH_UNSLOTH = pytest.mark.skipif(
    not PYTHON, reason="SEM_UNSLOTH_PYTHON names no interpreter that has unsloth"
)
LAYERS = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
SHORT = "max_steps: 2\n"
SHORTEST = "max_steps: 1\nval_answers: 0\n"
RANK_STABLE = "lora: {rank: 4, alpha: 8, rslora: true}\n"
DORA = "lora: {rank: 4, alpha: 8, rslora: true, dora: true}\n"
# Where there is no bf16, unsloth computes Gemma 3's attention in fp16.
HALF = 1e-4


def gemma(folder: Path, tiny_model: Path) -> Path:
    """Return a random Gemma 3 of two layers with the tokenizer of `tiny_model`, in `folder`."""
    import torch
    from transformers import AutoTokenizer, Gemma3ForCausalLM, Gemma3TextConfig

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        query_pre_attn_scalar=16,
        max_position_embeddings=512,
        sliding_window=128,
        tie_word_embeddings=True,
        layer_types=["sliding_attention", "full_attention"],
        eos_token_id=2,
        pad_token_id=0,
        bos_token_id=None,
    )
    Gemma3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def prepared(project: Project, recipe: str) -> Run:
    """Return a run of `project` with `recipe` as its train.yaml."""
    files.write_file(project.root / "configs" / "toy" / "train.yaml", recipe)
    return plan.prepare_training(Project.load("toy"), None)


def trained(project: Project, runs: list[Run]) -> dict[str, dict[str, object]]:
    """Return what the driver saw when it trained `runs` of `project` with unsloth, by run."""
    out, here = project.root / "seen.json", project.root / "elsewhere"
    here.mkdir()
    driver = str(ROOT / "tests" / "support" / "unsloth_cpu.py")
    command = [PYTHON, "-P", driver, str(out), *(run.id for run in runs)]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr[-3000:]
    # unsloth_compiled_cache is not where one stands.
    assert list(here.iterdir()) == []
    return json.loads(out.read_text())


def losses(run: Run) -> list[float]:
    """Return the logged training losses of `run`."""
    return [row["loss"] for row in rows(run.folder / "metrics.jsonl") if "loss" in row]


@pytest.fixture
def here(cut_toy, monkeypatch) -> Project:
    """The toy project in float32: unsloth knows no CPU with bf16."""
    monkeypatch.setattr(hardware, "_cpu_dtype", lambda: "float32")
    return cut_toy


def peer(project: Project, recipe: str) -> Run:
    """Return a run of `project` with `recipe` by plain PyTorch."""
    run = prepared(project, recipe + "engine: trl\nfast: false\n")
    plan.train_prepared(Project.load("toy"), run, resume=False)
    return run


@WITH_UNSLOTH
@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_gemma_3_is_trained_as_trl_trains_it(here, tiny_model, tmp_path) -> None:
    base = gemma(tmp_path / "gemma", tiny_model)
    task = here.root / "configs" / "toy" / "tasks" / "price.json"
    files.write_file(task, jsonio.pretty_json(SPEC | {"base_model_id": str(base)}))
    flat = TRAIN[: TRAIN.index("lora:")]
    plain_trl = peer(here, TRAIN)
    # No answers: unsloth's generate leans on fp16 autocast there, which is of a card only.
    whole = flat + SHORT + "val_answers: 0\nmethod: full\n"
    full_trl = peer(here, whole)
    plain = prepared(here, TRAIN + "engine: unsloth\n")
    words = prepared(here, flat + RANK_STABLE + SHORT + "engine: unsloth\n")
    full = prepared(here, whole + "engine: unsloth\n")
    seen = trained(here, [plain, words, full])

    found = seen[plain.id]
    assert found["model"] == "unsloth_compiled_module_gemma3.Gemma3ForCausalLM"
    assert_ours(found)
    # Nine steps of two micro-batches.
    assert found["losses"] == 18
    assert found["resumed_from"] == "checkpoint-6"
    assert losses(plain)[0] == pytest.approx(losses(plain_trl)[0], rel=HALF)  # B is 0
    assert losses(plain)[-1] == pytest.approx(losses(plain_trl)[-1], rel=0.02)
    evaluated = [row for row in rows(plain.folder / "metrics.jsonl") if "eval_slot_f1" in row]
    assert [row["step"] for row in evaluated] == [3, 6, 9]
    for run in (plain, words):
        assert_stock(base, run)
    assert losses(full) == pytest.approx(losses(full_trl), rel=50 * HALF)
    models.merge_adapter(models.load_model(base, "float32"), full.adapter)


@WITH_UNSLOTH
@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_unsloths_own_kernels_give_the_loss_that_trl_has(here, tiny_model) -> None:
    # A Llama: RoPE, norms and SwiGLU in triton, interpreted here, so it is one step.
    once = TRAIN + SHORTEST
    other, run = peer(here, once), prepared(here, once + "engine: unsloth\n")
    dora = prepared(here, once[: once.index("lora:")] + DORA + SHORTEST + "engine: unsloth\n")
    seen = trained(here, [run, dora])
    found = seen[run.id]
    assert found["model"] == "transformers.models.llama.modeling_llama.LlamaForCausalLM"
    assert_ours(found)
    assert losses(run) == pytest.approx(losses(other), rel=1e-5)
    # It begins as the base, too.
    assert losses(dora) == pytest.approx(losses(other), rel=1e-5)
    assert seen[dora.id]["trained"] > found["trained"]  # the magnitudes
    for each in (run, dora):
        assert_stock(tiny_model, each)


def assert_ours(found: dict[str, object]) -> None:
    """The trainer is unsloth's rewritten one, and the loss in it is ours."""
    # It patches transformers and trl while they are not in use.
    assert found["imported_first"]
    assert "UnslothSFTTrainer.UnslothSFTTrainer" in found["trainer"]
    assert found["trainer"][1] == "sem.train.engine.trainer.SemTrainerMixin"
    # Though answers were generated in between.
    assert found["left_in_inference"] == 0


def assert_stock(base: Path, run: Run) -> None:
    """Stock PEFT and the merge of this project compute the same with the adapter of `run`."""
    import torch
    from peft import PeftModel

    config, lora = (
        files.read_json(run.adapter / "adapter_config.json"),
        run.plan()["recipe"]["lora"],
    )
    assert config["target_modules"] == LAYERS
    assert (config["use_dora"], config["use_rslora"]) == (lora["dora"], lora["rslora"])
    known = PeftModel.from_pretrained(models.load_model(base, "float32"), run.adapter)
    merged = models.merge_adapter(models.load_model(base, "float32"), run.adapter)
    ids = torch.arange(20, 60)[None]
    with torch.no_grad():
        torch.testing.assert_close(known(ids).logits, merged(ids).logits, rtol=0, atol=1e-4)


def test_a_pattern_of_layers_is_written_by_their_names(tiny_model, tmp_path) -> None:
    # Stock PEFT reads a list of names; sorted() of unsloth's pattern would be single letters.
    from peft import LoraConfig, PeftModel, get_peft_model

    pattern = r".*\.(self_attn\.[qv]_proj|mlp\.up_proj)"
    config = LoraConfig(r=4, target_modules=pattern, task_type="CAUSAL_LM")
    model = get_peft_model(models.load_model(tiny_model, "float32"), config)
    model.peft_config["default"].auto_mapping = {"parent_library": "unsloth_compiled_module"}
    adapters.save_trained_weights(model, tmp_path / "adapter", "base", Recipe(lora=Lora(rank=4)))
    written = files.read_json(tmp_path / "adapter" / "adapter_config.json")
    assert written["target_modules"] == ["q_proj", "up_proj", "v_proj"]
    assert written["auto_mapping"] is None
    again = PeftModel.from_pretrained(
        models.load_model(tiny_model, "float32"), tmp_path / "adapter"
    )
    assert len(again.state_dict()) == len(model.state_dict())


@pytest.mark.parametrize(("asked", "given"), [(2048, 512), (512, 512), (300, 300)])
def test_no_more_positions_are_asked_for_than_the_model_knows(asked, given, prepared_toy) -> None:
    # Beyond them unsloth scales RoPE, and the adapter would be of another base model.
    job = plan.load_training_job(*prepared_toy)
    assert (
        backend_unsloth.longest_row_tokens(replace(job, recipe=Recipe(max_tokens=asked))) == given
    )


def test_a_machine_without_unsloth_is_told_so(monkeypatch, tmp_path) -> None:

    monkeypatch.setitem(sys.modules, "unsloth", None)
    monkeypatch.setenv("UNSLOTH_COMPILE_LOCATION", str(tmp_path))
    monkeypatch.setenv("UNSLOTH_DISABLE_STATISTICS", "1")
    with pytest.raises(SemError, match="unsloth is not installed") as caught:
        backend_unsloth.import_unsloth()
    assert caught.value.hint == (
        "run `SEM_DEVICE=cuda ./scripts/setup_env.sh`, or set train.engine: trl"
    )


def test_4_bit_is_refused_where_it_could_not_be_computed(monkeypatch, tiny_model) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda _: True)
    recipe, known = Recipe(load_in_4bit=True, engine="trl"), ("cuda", "Card", 15.0, 4)
    assert (
        engines.choose_engine(recipe, hardware.Hardware(*known, "bfloat16"), tiny_model) == "trl"
    )
    with pytest.raises(SemError) as caught:
        engines.choose_engine(recipe, hardware.Hardware(*known, "float32"), tiny_model)
    assert caught.value.message == "load_in_4bit computes in bf16, which Card does not have"
    with pytest.raises(SemError) as caught:
        engines.choose_engine(
            recipe, hardware.Hardware("cpu", "Core", 15.0, 4, "bfloat16"), tiny_model
        )
    assert caught.value.message == "load_in_4bit needs a GPU and bitsandbytes; this is Core"


def benchmark() -> ModuleType:
    """benchmarks/speed/unsloth_speed.py as a module."""
    path = ROOT / "benchmarks" / "speed" / "unsloth_speed.py"
    spec = importlib.util.spec_from_file_location("unsloth_speed", path)
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found
    spec.loader.exec_module(found)
    return found


def test_the_gpu_benchmark_gives_no_figure_of_a_cpu(monkeypatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SemError) as caught:
        benchmark().main(["--sem", "toy"])
    assert caught.value.exit_code == 1
    assert caught.value.message == "this benchmark needs a CUDA GPU, and torch sees none here"


@pytest.mark.parametrize("word", ["steps", "rounds", "answers"])
def test_the_gpu_benchmark_refuses_nothing_to_measure(word) -> None:
    with pytest.raises(SemError, match=f"--{word} 0"):
        benchmark().main(["--sem", "toy", f"--{word}", "0"])


def test_the_gpu_benchmark_knows_its_trainers() -> None:
    args = benchmark().arguments(["--sem", "toy", "--one", "bare TRL", "--seed", "3"])
    assert (args.one, args.seed, args.steps, args.rounds) == ("bare TRL", 3, 60, 3)

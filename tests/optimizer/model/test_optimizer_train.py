"""The optimizer trained for real on a tiny T5: sealed, resumed, its base untouched."""

import json
import runpy
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from paths import ROOT
from toy import make_t5

from sem.core import files, jsonio
from sem.core.errors import SemError
from sem.lm.local import chat
from sem.lm.local import model as models
from sem.optimizer.data import optimizer_data
from sem.optimizer.data.pairs import PromptPair
from sem.optimizer.model import optimizer_train, rewriter
from sem.train.engine import adapters

RECIPE = """
  lora: { rank: 4, alpha: 8, dropout: 0.1, targets: qv }
  learning_rate: 0.01
  max_steps: 4
  effective_batch: 4
  micro_batch: 2
  max_tokens: 2000
  checkpoint_steps: 2
  log_steps: 1
  val_examples: 4
  val_answers: 0
  select: loss
"""


@pytest.fixture(scope="module")
def master(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    base = make_t5(root / "base")
    (root / "configs").mkdir()
    shutil.copy(ROOT / "configs" / "judge_slots.yaml", root / "configs")
    text = f"base_model_id: {base}\ntarget_tokens: 90\ncalibration_prompts: 4\nrecipe:{RECIPE}"
    files.write_file(root / optimizer_train.CONFIG, text)
    return root


@pytest.fixture
def root(master: Path, tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SEM_DEVICE", "cpu")
    return shutil.copytree(master, tmp_path / "tree")


def pairs(family: str, count: int) -> list[PromptPair]:
    prompts = [f"write {family} {n}" for n in range(count)]
    return [
        PromptPair(f"{family}.{n:02}", p, f"Act as a poet.\n\nTask: {p}", "code", family, p)
        for n, p in enumerate(prompts)
    ]


TRAIN, VAL = pairs("poem", 24), pairs("song", 6)


def prepared(root: Path, *given: str) -> tuple[optimizer_train.Training, optimizer_train.Run]:
    wanted = optimizer_train.optimizer_train_settings(root, given)
    return wanted, optimizer_train.prepare_optimizer(root, wanted, TRAIN, VAL)


def job(root: Path, *given: str) -> optimizer_train.TrainingJob:
    wanted, run = prepared(root, *given)
    return optimizer_train.optimizer_job(root, run, wanted, TRAIN, VAL)


def test_it_learns_seals_and_leaves_the_base_as_it_was(root: Path):
    made = job(root)
    result = optimizer_train.train_rewriter_adapter(made)
    files.write_file(made.folder / "calibration.json", "{}")
    optimizer_train.seal_optimizer(made.run, result)
    log = [json.loads(line) for line in (made.folder / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in log if "loss" in row]

    assert losses[-1] < losses[0]
    assert result["base_sha256_before"] == result["base_sha256_after"]
    assert rewriter.find_optimizer(root) == made.folder
    assert rewriter.optimizer_faults(made.folder) == []
    assert (made.folder / "adapter" / "tokenizer.json").is_file()
    network = rewriter.TorchRewriter.load(made.folder, root)
    assert network.rewrite(["write poem 1"], rewriter.Decoding(max_tokens=5))[0].tokens <= 5


def test_a_killed_run_goes_on_and_ends_the_same(root: Path):
    made = job(root)
    optimizer_train.train_rewriter_adapter(made)
    whole = files.sha256_file(made.folder / "adapter" / "adapter_model.safetensors")
    shutil.rmtree(made.folder / "adapter")
    shutil.rmtree(made.folder / "checkpoint-4")

    again = job(root)
    result = optimizer_train.train_rewriter_adapter(again)

    assert again.folder == made.folder
    assert result["resumed_from"] == "checkpoint-2"
    assert files.sha256_file(made.folder / "adapter" / "adapter_model.safetensors") == whole


def test_padding_carries_no_loss_and_prompts_none(root: Path):
    from sem.train.engine import trainer

    made = job(root)
    base = models.load_model(made.base, "float32")
    batch = trainer.build_collator(made, base)(trainer.stage_records(made.stages[0])[:3])
    rows = made.stages[0].rows.kept[:3]

    assert [int((row != -100).sum()) for row in batch["labels"]] == [row.trained for row in rows]
    assert [int(row.sum()) for row in batch["attention_mask"]] == [row.prompt for row in rows]


def test_lines_are_among_what_is_trained(root: Path):
    made = job(root)
    row = made.stages[0].rows.kept[0]

    assert made.chat.decode(row.ids[row.prompt : -1]) == TRAIN[0].target
    assert "\n\nTask: " in TRAIN[0].target


def test_the_base_s_own_dropout_is_off_and_the_lora_s_is_not(root: Path):
    made = job(root)
    model = optimizer_train.set_dropout(
        adapters.prepare_trainable_model(models.load_model(made.base, "float32"), made.recipe), 0.0
    )
    rates = {n: m.p for n, m in model.named_modules() if type(m).__name__ == "Dropout"}

    assert {rate for name, rate in rates.items() if "lora" in name} == {0.1}
    assert {rate for name, rate in rates.items() if "lora" not in name} == {0.0}
    bare = {m.dropout for m in model.modules() if isinstance(getattr(m, "dropout", None), float)}
    assert bare == {0.0}


def test_the_share_is_said_as_it_is(root: Path):
    made = job(root)
    model = adapters.prepare_trainable_model(models.load_model(made.base, "float32"), made.recipe)
    found = optimizer_train.count_trained_parameters(model)

    # Rank 4 on q and v (64 -> 64) of 2 encoder and 2 times 2 decoder attentions.
    assert found["trained"] == 6 * 2 * 4 * (64 + 64)
    base = found["parameters"] - found["trained"]
    said = f"trained: 6,144 parameters, {6144 / base:.2%} of the base's"
    assert optimizer_train.format_trained_share(found) == said


def test_a_base_that_training_changed_is_not_sealed(root: Path, monkeypatch):
    import torch

    made, real = job(root), optimizer_train.fit_stages

    def spoiling(given, model, resume):
        result = real(given, model, resume)
        with torch.no_grad():
            model.get_base_model().shared.weight[5, 5] += 1
        return result

    monkeypatch.setattr(optimizer_train, "fit_stages", spoiling)

    with pytest.raises(SemError, match="training changed the frozen base"):
        optimizer_train.train_rewriter_adapter(made)
    assert not (made.folder / "manifest.json").exists()


@pytest.mark.parametrize("name", ["fp16", "float16", "half"])
def test_fp16_is_refused_with_its_reason(root: Path, name: str):
    with pytest.raises(SemError, match="precision: fp16 gives NaN in T5") as caught:
        optimizer_train.optimizer_train_settings(root, [f"train.precision={name}"])
    assert caught.value.hint == "use precision: bf16 or fp32"


def test_a_precision_that_is_none_is_refused(root: Path):
    with pytest.raises(SemError, match="precision: 'fp8'"):
        optimizer_train.optimizer_train_settings(root, ["train.precision=fp8"])


def test_what_is_too_long_is_left_out_and_counted(root: Path):
    speaker = chat.load_chat(Path(optimizer_train.optimizer_train_settings(root).base_model_id))
    sizes = [len(rewriter.encode_prompt(speaker, pair.input)) for pair in TRAIN]
    wanted = optimizer_train.optimizer_train_settings(root, [f"train.input_tokens={min(sizes)}"])
    run = optimizer_train.prepare_optimizer(root, wanted, TRAIN, VAL)

    # "write poem 10" is a letter, and here a token, longer than "write poem 9".
    counts = run.plan()["counts"]["train"]
    assert (counts["examples"], counts["too_long"]) == (10, 14)


def same_plan(run: optimizer_train.Run) -> dict:
    facts = ("run_id", "created_at")
    return {name: value for name, value in run.plan().items() if name not in facts}


def test_another_plan_is_another_run_and_a_finished_one_is_kept(root: Path):
    _, first = prepared(root)
    _, same = prepared(root)
    _, other = prepared(root, "train.recipe.seed=1")
    files.write_file(first.folder / "manifest.json", jsonio.pretty_json({"files": {}}))

    assert (first.id == same.id, other.id != first.id) == (True, True)
    assert optimizer_train._unfinished(root, same_plan(first)) is None


def test_a_causal_base_trains_on_the_same_pairs(root: Path, tiny_model: Path):
    text = (root / optimizer_train.CONFIG).read_text()
    base = next(line for line in text.splitlines() if line.startswith("base_model_id"))
    files.write_file(
        root / optimizer_train.CONFIG, text.replace(base, f"base_model_id: {tiny_model}")
    )

    result = optimizer_train.train_rewriter_adapter(job(root, "train.recipe.max_steps=2"))

    assert result["steps"] == 2
    assert result["base_sha256_before"] == result["base_sha256_after"]


def test_the_shipped_recipe_is_the_one_that_was_asked_for():
    wanted = optimizer_train.optimizer_train_settings(ROOT)
    lora = wanted.recipe.lora

    assert (lora.rank, lora.alpha, lora.dropout, lora.targets) == (16, 32, 0.1, "qv")
    assert (wanted.input_tokens, wanted.recipe.method) == (rewriter.LIMIT, "lora")


LAYOUT = (
    "Act as a careful poet.\n\nContext: A friend asks.\n\nTask: {}\n\nConstraints:\n"
    "- Keep it short\n- Name the season\n\nSteps:\n1. Read\n2. Write\n\nGoal: A poem."
)


def test_the_older_script_leaves_an_adapter_whose_rewrites_are_never_useful(
    root: Path, monkeypatch, capsys
):
    # The calibration ended in an error, and no `final_adapter` was written.
    data = root / optimizer_data.FOLDER
    val = optimizer_data.write_training(data / "val.json", VAL, "held out")
    facts = {"files": {"val.json": files.sha256_file(val)}}
    files.write_file(data / optimizer_data.FACTS, jsonio.pretty_json(facts))
    poems = [replace(pair, target=LAYOUT.format(pair.input)) for pair in pairs("poem", 32)]
    given = optimizer_data.write_training(root / "pairs.json", poems, "to learn from")
    monkeypatch.setenv("SEM_ROOT", str(root))
    words = ["--data_path", str(given), "--output_dir", str(root / "out"), "--num_epochs", "1"]
    words += ["--set", "train.recipe.max_steps=2", "--set", "train.target_tokens=400"]
    monkeypatch.setattr("sys.argv", ["train_lora.py", *words])

    runpy.run_path(str(ROOT / "src" / "train_lora.py"))["main"]()

    assert "rewrites is useful" in " ".join(capsys.readouterr().err.split())
    weights = root / "out" / "final_adapter" / "adapter_model.safetensors"
    sealed = rewriter.find_optimizer(root)
    assert files.sha256_file(weights) == files.sha256_file(sealed / "adapter" / weights.name)
    assert (weights.parent / "tokenizer.json").is_file()

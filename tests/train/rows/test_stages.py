"""Raw text, examples, preferences; LoRA, DoRA, every weight: what is trained is what is merged."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toy import rows

from sem.core import files
from sem.core.errors import SemError
from sem.core.project import Project
from sem.dataset.augment import negatives
from sem.lm.local import model as models
from sem.train.engine import adapters, backend_trl, engines
from sem.train.recipe import Recipe
from sem.train.run import plan

TEXTS = {"raw/texts/a.txt": "One mug is 3 EUR. " * 40, "raw/texts/b.md": "A mug is blue. " * 40}


def again(root: Path, *given: str) -> Project:
    return Project.load("toy", list(given))


def give_texts(project: Project) -> None:
    for name, text in TEXTS.items():
        files.write_file(project.processed.parent / name, text)


def test_three_stages_run_in_order_and_a_finished_one_is_not_repeated(cut_toy) -> None:
    give_texts(cut_toy)
    negatives.write_negative_pairs(cut_toy, None, limit=1, seed=1)
    project = again(
        cut_toy.root,
        "train.pretrain.texts=raw/texts/*",
        "train.pretrain.block_tokens=64",
        "train.pretrain.held_out=0.5",
        "train.preference.method=dpo",
        "train.preference.max_pairs=8",
        "train.val_answers=2",
        "train.preference.learning_rate=1e-2",
    )
    made = plan.prepare_training(project, None)
    assert [text["name"] for text in made.plan()["texts"]] == sorted(TEXTS)
    result = plan.train_prepared(project, made, resume=False)
    assert list(result["stages"]) == ["pretrain", "examples", "preference"]
    whole = files.sha256_file(made.adapter / "adapter_model.safetensors")
    log = rows(made.folder / "metrics.jsonl")
    assert [row["stage"] for row in log if "train_runtime" in row] == list(result["stages"])
    assert all("eval_perplexity" in row for row in log if "eval_loss" in row)

    (made.folder / "manifest.json").unlink()
    for path in (made.folder / "preference").glob("checkpoint-*"):
        path.rename(path.with_name(f"away-{path.name}"))
    result = plan.train_prepared(project, made, resume=True)
    assert list(result["stages"]) == ["preference"]
    assert files.sha256_file(made.adapter / "adapter_model.safetensors") == whole


@pytest.mark.parametrize("method", ["dpo", pytest.param("orpo", marks=pytest.mark.slow)])
def test_preference_training_prefers_the_right_answers(cut_toy, method) -> None:
    from sem.train.engine import loss, trainer
    from sem.train.rows import stages

    negatives.write_negative_pairs(cut_toy, None, limit=2, seed=1)
    project = again(
        cut_toy.root,
        f"train.preference.method={method}",
        "train.preference.epochs=4",
        "train.preference.learning_rate=5e-3",
        "train.select=last",
        "train.checkpoint_steps=100",
        "train.val_answers=0",
    )
    made = plan.prepare_training(project, None)
    job = plan.load_training_job(project, made)
    stage = job.stages[-1]
    assert stage.name == stages.PREFERENCE

    def margins(folder: Path) -> torch.Tensor:
        model = backend_trl.load_trl_base(job)
        adapters.load_trained_weights(model, folder, job.recipe)
        batch = trainer.build_collator(job, model)(trainer.stage_records(stage))
        with torch.no_grad():
            chosen, rejected = loss.token_cross_entropy(model.eval(), batch).by_sequence().chunk(2)
        return chosen - rejected

    plan.train_prepared(project, made, resume=False)
    grown = margins(made.adapter) - margins(made.folder / "stages" / "examples")
    assert (grown > 0).float().mean() > 0.75, grown


def test_pairs_that_are_not_there_or_changed_are_refused(cut_toy) -> None:
    project = again(cut_toy.root, "train.preference.method=orpo")
    with pytest.raises(SemError, match="no pairs of v1"):
        plan.prepare_training(project, None)
    negatives.write_negative_pairs(cut_toy, None, limit=1, seed=1)
    made = plan.prepare_training(project, None)
    path = project.processed / "preferences.v1.jsonl"
    path.unlink()
    negatives.write_negative_pairs(cut_toy, None, limit=1, seed=2)
    with pytest.raises(SemError, match="the pairs of snapshot v1 have changed"):
        plan.train_prepared(project, made, resume=False)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("../x", "leads out of"),
        ("/etc/*", "leads out of"),
        ("raw/none/*", "no file matches"),
        ("raw/*.duckdb", "not a text file"),
        ("raw/bad.txt", "not UTF-8 at byte 0"),
        ("raw/link.txt", "a link out of"),
    ],
)
def test_texts_are_checked(cut_toy, pattern, said) -> None:
    folder = cut_toy.processed.parent / "raw"
    (folder / "bad.txt").write_bytes(b"\xff\xfe")
    (folder / "link.txt").symlink_to("/etc/hostname")
    with pytest.raises(SemError, match=said):
        plan.prepare_training(again(cut_toy.root, f"train.pretrain.texts={pattern}"), None)


METHODS = {
    "lora": [],
    "rslora": ["train.lora.rslora=true"],
    "dora": ["train.lora.dora=true"],
    "full": ["train.method=full", "train.lora={}", "train.learning_rate=1e-3"],
}


@pytest.mark.parametrize("method", METHODS)
def test_what_is_merged_answers_as_what_was_trained(cut_toy, tiny_model, method) -> None:
    project = again(cut_toy.root, *METHODS[method])
    made = plan.prepare_training(project, None)
    plan.train_prepared(project, made, resume=False)
    job = replace(plan.load_training_job(project, made), dtype="float32")
    trained = backend_trl.load_trl_base(job)
    fresh = [weight.detach().clone() for _, weight in adapters.trained_tensors(trained)]
    adapters.load_trained_weights(trained, made.adapter, job.recipe)
    moved = zip(fresh, adapters.trained_tensors(trained), strict=True)
    assert any(not torch.equal(before, weight) for before, (_, weight) in moved)
    ids = torch.tensor([job.stages[0].rows.kept[0].ids])
    merged = models.merge_adapter(models.load_model(tiny_model, "float32"), made.adapter)
    with torch.no_grad():
        wanted = trained.eval()(input_ids=ids).logits
        got = merged(input_ids=ids).logits
    assert torch.allclose(got, wanted, atol=1e-5)


def test_a_full_fine_tune_resumes_bit_equal(cut_toy) -> None:
    project = again(cut_toy.root, *METHODS["full"], "train.select=last")
    made = plan.prepare_training(project, None)
    plan.train_prepared(project, made, resume=False)
    whole = files.sha256_file(made.adapter / "adapter_model.safetensors")
    (made.folder / "manifest.json").unlink()
    torn = made.folder / "checkpoint-9" / "model.safetensors"
    torn.chmod(0o644)
    torn.write_bytes(torn.read_bytes()[:-9])
    assert plan.train_prepared(project, made, resume=True)["resumed_from"] == "checkpoint-6"
    assert files.sha256_file(made.adapter / "adapter_model.safetensors") == whole


def test_several_tasks_have_weights_and_unknown_ones_are_refused(cut_toy) -> None:
    heavy = plan.prepare_training(again(cut_toy.root, "train.task_weights={price: 4}"), None)
    found = plan.load_training_job(cut_toy, heavy).stages[0].rows.kept[0]
    assert found.weights == (4.0,) * found.trained
    with pytest.raises(SemError, match="no task 'prize'"):
        plan.prepare_training(again(cut_toy.root, "train.task_weights={prize: 4}"), None)


def test_tokens_per_step_sets_the_batch_and_is_recorded(cut_toy) -> None:
    made = plan.prepare_training(again(cut_toy.root, "train.tokens_per_step=900"), None).plan()
    mean = made["counts"]["train"]["tokens"] / made["counts"]["train"]["examples"]
    batch = made["recipe"]["effective_batch"]
    assert batch % made["recipe"]["micro_batch"] == 0
    assert abs(batch * mean - 900) <= mean * made["recipe"]["micro_batch"]


def test_engines_that_do_not_fit_are_refused(cut_toy) -> None:
    with pytest.raises(SemError, match="engine: seq2seq does not train a causal model"):
        plan.prepare_training(again(cut_toy.root, "train.engine=seq2seq"), None)
    with pytest.raises(SemError, match="load_in_4bit needs a GPU and bitsandbytes"):
        plan.prepare_training(again(cut_toy.root, "train.load_in_4bit=true"), None)
    assert engines.load_engine("trl") is backend_trl.train_with_trl


def test_early_stopping_and_the_best_checkpoint(cut_toy) -> None:
    project = again(
        cut_toy.root,
        "train.epochs=4",
        # So low that no processor sees a better loss.
        "train.learning_rate=1e-12",
        "train.patience=2",
        "train.select=loss",
    )
    made = plan.prepare_training(project, None)
    result = plan.train_prepared(project, made, resume=False)
    log = rows(made.folder / "metrics.jsonl")
    losses = {row["step"]: row["eval_loss"] for row in log if "eval_loss" in row}
    best = min(losses, key=losses.__getitem__)
    assert result["kept_step"] == best
    assert result["steps"] == best + 6 < 36
    kept = files.sha256_file(made.adapter / "adapter_model.safetensors")
    there = made.folder / f"checkpoint-{best}" / "adapter_model.safetensors"
    assert kept == files.sha256_file(there)


def test_slot_f1_is_logged_and_decides(cut_toy) -> None:
    made = plan.prepare_training(cut_toy, None)
    plan.train_prepared(cut_toy, made, resume=False)
    log = [row for row in rows(made.folder / "metrics.jsonl") if "eval_loss" in row]
    assert [row["step"] for row in log] == [3, 6, 9]
    assert all(0 <= row["eval_slot_f1"] <= 1 and 0 <= row["eval_json_valid"] <= 1 for row in log)
    for row in log:
        assert row["eval_select"] == pytest.approx(row["eval_slot_f1"] - 1e-6 * row["eval_loss"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"keep_checkpoints": 1}, "keep 2 or more"),
        ({"patience": 2, "select": "last"}, "patience 2 with select: last"),
        ({"method": "full", "load_in_4bit": True}, "method: full does not use load_in_4bit"),
        ({"loss": {"value": -1}}, "value is -1"),
        ({"loss": {"critical": 0}}, "critical is 0"),
        ({"preference": {"beta": 0}}, "preference.beta is 0"),
        ({"pretrain": {"block_tokens": 4}}, "block_tokens 4"),
    ],
)
def test_recipes_that_mean_nothing_are_refused(given, said) -> None:
    from sem.core import settings

    with pytest.raises(SemError, match=said):
        settings.build_settings(Recipe, given, "train.yaml")


def test_run_json_says_what_was_looked_at(prepared_toy) -> None:
    _, made = prepared_toy
    found = json.loads((made.folder / "run.json").read_text())["preflight"]
    assert [check["name"] for check in found] == [
        "trained tokens",
        "end of turn",
        "answer",
        "template",
        "begin of text",
        "length",
        "evidence",
        "control tokens",
        "package",
        "memory",
        "disk",
        "adapter",
        "loss",
    ]

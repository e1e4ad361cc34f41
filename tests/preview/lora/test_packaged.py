"""A package that both trainings start from: it fits the sem to the last byte, or one line why."""

import math
import shutil
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from paths import SCRIPTS

from sem.core import files, jsonio, manifest
from sem.core.errors import SemError
from sem.core.project import Project
from sem.core.run import BASE
from sem.dataset.split import snapshot
from sem.dataset.split.snapshot import Snapshot
from sem.eval.answers import subject
from sem.eval.report import compare, report
from sem.jobs import load_jobs
from sem.lm.local import chat
from sem.lm.local import model as models
from sem.package.export import bundle
from sem.preview.lora import bench, lora, packaged
from sem.preview.result import task_preview
from sem.preview.result.preview_run import PreviewOptions
from sem.train.rows import data
from sem.train.run import plan
from tests.preview.linear.test_kept import ended, killed, timeless
from tests.preview.lora.test_lora import page

SCRIPT = SCRIPTS / "preview_run.py"


def lineage(project: Project) -> dict[str, Any]:
    base, frozen = (
        bench.find_local_weights(project, project.base_model_id),
        snapshot.load_snapshot(project, None),
    )
    return {
        "run_json": "0",
        "adapter": "0",
        "renderer": chat.load_chat(base.folder).fingerprint(),
        "base_model": {"base_model_id": project.base_model_id, "revision": base.revision},
        "tasks": {name: spec.fingerprint() for name, spec in project.tasks.items()},
        "snapshot": {"version": frozen.version, "sha256": frozen.sha256},
    }


def seal(folder: Path, told: dict[str, Any]) -> None:
    manifest.seal_folder(
        folder,
        {
            "format": "package.v1",
            "sem": "toy",
            "run_id": "20260504-030201-abcd",
            "targets": ["vllm"],
            "lineage": told,
            "scores": {"verdict": "v", "scores_json": "0"},
        },
    )


@pytest.fixture
def package(cut_toy: Project, tiny_model: Path) -> Path:
    """The sem's base model with all weights halved, as a package holds it."""
    import torch

    folder = cut_toy.packages / "20260504-030201-abcd"
    model = models.load_model(tiny_model, "float32")
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(0.5)
    models.save_weights(model, folder / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tiny_model / name, folder / "model" / name)
    seal(folder, lineage(cut_toy))
    return folder


def opened(project: Project, folder: Path) -> packaged.StartPackage:
    return packaged.read_start_package(
        project, folder, bench.find_local_weights(project, project.base_model_id)
    )


def test_its_weights_take_the_place_of_the_base_models(cut_toy, package, tmp_path) -> None:
    found = opened(cut_toy, package)
    made = bench.prepare_bench(cut_toy, cut_toy.base_model_id, tmp_path / "w", found)
    plain = bench.prepare_bench(cut_toy, cut_toy.base_model_id, tmp_path / "w")
    ours, theirs = (dict(bench.load_fresh_model(one).named_parameters()) for one in (made, plain))
    names = [name for name in theirs if ".lora_" not in name]
    assert names
    assert all((ours[name] == theirs[name] / 2).all() for name in names)
    assert found.learnt.name == "v1"
    assert found.sha256 == files.sha256_file(package / "manifest.json")


def resealed(folder: Path, change: dict[str, Any]) -> None:
    told = files.read_json(folder / "manifest.json")
    seal(folder, told["lineage"] | change)


def of_file(content: bytes) -> Any:
    def put(folder: Path) -> None:
        shutil.rmtree(folder)
        files.write_file(folder, content)

    return put


def only_gguf(folder: Path) -> None:
    shutil.rmtree(folder)
    files.write_file(folder / "model" / "q4.gguf", b"GGUF")


def edited(name: str, change: dict[str, Any]) -> Any:
    def edit(folder: Path) -> None:
        files.write_file(
            folder / name, jsonio.pretty_json(files.read_json(folder / name) | change)
        )

    return edit


def flipped(folder: Path) -> None:
    path = folder / "model" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def other_tokenizer(folder: Path) -> None:
    edited("model/tokenizer.json", {"version": "9"})(folder)
    resealed(folder, {})


def fewer_tensors(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / "model" / "model.safetensors"
    tensors = load_file(path)
    tensors.pop("model.norm.weight")
    save_file(tensors, path, metadata={"format": "pt"})
    resealed(folder, {})


def larger(folder: Path) -> None:
    with (folder / "model" / "model.safetensors").open("r+b") as file:
        file.truncate(2**30)


REFUSED = {
    "nothing there": (shutil.rmtree, "{p}: no such package"),
    "a pickle": (
        of_file(b"\x80\x04K\x01."),
        "{p}: a pickle, which can run code when it is opened; refused",
    ),
    "a model of classes": (of_file(struct.pack("<Q", 2) + b"{}"), "{p}: a file, not a package"),
    "a GGUF file": (of_file(b"GGUF\3\0\0\0"), "{p}: a GGUF file, which cannot be trained"),
    "GGUF only": (only_gguf, "{p}: holds GGUF only, which cannot be trained"),
    "unfinished": (lambda p: (p / "manifest.json").unlink(), "{p}: no manifest.json: unfinished"),
    "a manifest that is a list": (
        lambda p: files.write_file(p / "manifest.json", "[]"),
        "{p}/manifest.json: damaged: the whole file: ",
    ),
    "a manifest cut short": (
        lambda p: files.write_file(p / "manifest.json", '{"format": '),
        "{p}/manifest.json: not JSON: ",
    ),
    "a manifest of something else": (
        edited("manifest.json", {"files": {"model/model.safetensors": 7}}),
        "{p}/manifest.json: damaged: files.model/model.safetensors: ",
    ),
    "no weights": (
        edited("manifest.json", {"files": {"a.md": {"bytes": 1, "sha256": ""}}}),
        "{p}/manifest.json: files: 'model/model.safetensors' is a required property",
    ),
    "a flipped bit": (flipped, "{p}: model/model.safetensors: "),
    "another base model": (
        lambda p: resealed(p, {"base_model": {"base_model_id": "gemma", "revision": "r9"}}),
        "{p}: made of base model gemma at r9, the sem's is ",
    ),
    "another task": (
        lambda p: resealed(p, {"tasks": {"price": "0"}}),
        "{p}: task price differs from the one the package was trained on",
    ),
    "other turns": (
        lambda p: resealed(p, {"renderer": "0"}),
        "{p}: its prompts use different turns from train.yaml's",
    ),
    "another tokenizer": (other_tokenizer, "{p}: its tokenizer is not that of the base model"),
    "a snapshot from elsewhere": (
        lambda p: resealed(p, {"snapshot": {"version": 9, "sha256": "0"}}),
        "{p}: its snapshot v9 is not here, so it may have been trained on the val rows",
    ),
    "another snapshot of that number": (
        lambda p: resealed(p, {"snapshot": {"version": 1, "sha256": "0"}}),
        "{p}: its snapshot v1 is not here, so it may have been trained on the val rows",
    ),
    "a takedown": (
        lambda p: files.write_file(p / "tainted.json", "[]"),
        "{p}: tainted: a takedown removed rows it was trained on",
    ),
    "a link": (
        lambda p: (p / "model" / "a.json").symlink_to("/etc/passwd"),
        "{p}/model/a.json: not a plain file",
    ),
    "code": (
        lambda p: (files.write_file(p / "model" / "x.py", "import os"), resealed(p, {})),
        "{p}: model/x.py: a kind of file no package holds",
    ),
    "far too large": (larger, "{p}/model/model.safetensors: larger than 4 times the base model"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_one_line_and_nothing_is_written(cut_toy, package, name) -> None:
    spoil, message = REFUSED[name]
    spoil(package)
    before = sorted(cut_toy.root.rglob("*"))
    given = cut_toy.root / "given.jsonl"
    files.write_rows(given, [{"input_text": "Lamp", "output_json": {"title": "L", "price": 1}}])
    with pytest.raises(SemError) as caught:
        load_jobs()["preview.run"].call(
            [
                "--data-path",
                str(given),
                "--sem",
                "toy",
                "--baseline-model",
                str(package),
                "--output-file",
                str(cut_toy.root / "out.json"),
            ]
        )
    assert caught.value.message.startswith(message.format(p=package))
    assert "\n" not in caught.value.message
    assert caught.value.hint
    assert sorted(cut_toy.root.rglob("*")) == sorted([*before, given])


def test_weights_of_another_shape_are_refused_when_they_are_put_in(
    cut_toy, package, tmp_path
) -> None:
    fewer_tensors(package)
    made = bench.prepare_bench(
        cut_toy, cut_toy.base_model_id, tmp_path / "w", opened(cut_toy, package)
    )
    with pytest.raises(SemError) as caught:
        bench.load_fresh_model(made)
    assert caught.value.message == f"{package}: model.norm.weight is not in both models"


def test_a_package_for_rows_with_classes_is_refused(package, tmp_path, cut_toy) -> None:
    rows = [{"text": f"pay bill {n}", "label": str(n % 2)} for n in range(40)]
    for name in ("base", "benchmark"):
        files.write_rows(cut_toy.root / "data" / "toy" / f"{name}.jsonl", rows)
    files.write_file(
        cut_toy.configs / "preview.yaml",
        "base: data/toy/base.jsonl\nbenchmark: data/toy/benchmark.jsonl\n",
    )
    files.write_rows(tmp_path / "given.jsonl", rows)
    with pytest.raises(SemError) as caught:
        load_jobs()["preview.run"].call(
            [
                "--data-path",
                str(tmp_path / "given.jsonl"),
                "--sem",
                "toy",
                "--baseline-model",
                str(package),
            ]
        )
    assert caught.value.message == (
        f"{package}: a folder: a package answers prompts and does not predict classes"
    )


def test_another_package_is_another_question(cut_toy, package) -> None:
    options = PreviewOptions(package / "manifest.json", baseline=package)
    found = opened(cut_toy, package)
    seal(package, lineage(cut_toy) | {"adapter": "1"})
    names = [
        task_preview.examples_preview_name(options, cut_toy, one)
        for one in (None, found, opened(cut_toy, package))
    ]
    assert len(set(names)) == 3


def of_another_snapshot(project: Project, folder: Path, count: int) -> packaged.StartPackage:
    """Return a package that has learnt the first `count` val rows, and one row that nobody else
    has.
    """
    frozen = snapshot.load_snapshot(project, None)
    rows = [one.as_json() for one in frozen.examples("val")][:count]
    own = {"id": "x", "task": "price", "input_text": "a kettle", "output_json": {}, "meta": {}}
    files.write_rows(folder / "train.v9.jsonl", [*rows, own])
    return packaged.StartPackage(folder, "run", "0", Snapshot(9, folder, {"version": 9}))


def test_val_rows_that_the_package_has_learnt_are_left_out(cut_toy, tmp_path) -> None:
    frozen = snapshot.load_snapshot(cut_toy, None)
    val = tuple(frozen.examples("val"))
    other = of_another_snapshot(cut_toy, tmp_path, 1)
    learnt, tested = lora._learnt_before(other, frozen, val)
    assert learnt[-1].input_text == "a kettle"
    assert 0 < len(tested) < len(val)
    assert val[0] not in tested
    assert all(one in val for one in tested)
    same = packaged.StartPackage(tmp_path, "run", "0", frozen)
    assert lora._learnt_before(same, frozen, val) == ((), val)
    with pytest.raises(SemError) as caught:
        lora._learnt_before(of_another_snapshot(cut_toy, tmp_path, 99), frozen, val)
    assert caught.value.message == (
        f"{tmp_path}: was trained on {len(val)} of the {len(val)} val rows"
    )
    assert caught.value.hint == "give a package that was trained on the latest snapshot"


def exported() -> tuple[Project, Path]:
    """Return the toy project, and a package of a run of it."""
    project = Project.load("toy", ["train.val_answers=0"])
    made = plan.prepare_training(project, None)
    plan.train_prepared(project, made, resume=False)
    for named in (BASE, made.id):
        subject.answer_subject(subject.resolve_subject(project, named, "test", None))
    found = compare.comparison_scores(
        compare.read_comparison(project, made.id, BASE, "test", None)
    )
    report.write_report(project.reports / made.id, found)
    return project, bundle.build_package(project, made, [])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_real_package_is_improved_on_and_a_killed_preview_of_it_goes_on(cut_toy) -> None:
    project, folder = exported()
    given = cut_toy.root / "given.jsonl"
    files.write_rows(given, [page(n) for n in range(12)])
    argv = [
        sys.executable,
        "-P",
        str(SCRIPT),
        "--data-path",
        str(given),
        "--sem",
        "toy",
        "--output-format",
        "json",
        "--seconds",
        "600",
        "--baseline-model",
        str(folder),
    ]
    whole, said = ended([*argv, "--cache", str(cut_toy.root / "elsewhere")])
    assert "kept from before" not in said
    kept = cut_toy.root / "data" / "toy" / ".preview"
    for moment in ("warm-up", "baseline: ", "candidate: "):
        assert killed(argv, moment)
    # The steps, the package's own score, the baseline's: the candidate's was not done.
    assert sum(1 for _ in kept.glob("*.parts/[0-9a-f]*.json")) == 3
    again, said = ended(argv)
    assert "continuing: 3 results of an interrupted preview are kept" in said
    assert "baseline: kept from before" in said
    assert [path.suffix for path in kept.iterdir()] == [".json"]
    for made in (whole, again):
        assert made["estimate"].pop("seconds_a_step") > 0
    assert timeless(again) == timeless(whole)
    assert again["new_model"]["starts_from"] == folder.name
    told = again["estimate"]["package"]
    assert (told["run_id"], told["snapshot"], told["val_rows_left_out"]) == (folder.name, "v1", 0)
    untouched = bench.prepare_bench(project, project.base_model_id, cut_toy.root / "w")
    model = bench.train_from_start(untouched, [], 0)
    plain = bench.answer_likelihoods(untouched.job, model, encoded(project, untouched))
    assert told["token_probability"] > 1.02 * math.exp(sum(plain) / len(plain))  # it has learnt
    cached, said = ended(argv)
    assert cached["preview_metadata"]["cached"] is True


def encoded(project: Project, made: bench.Bench) -> Any:
    return data.encode_examples(
        tuple(snapshot.load_snapshot(project, None).examples("val")), made.writer
    ).kept

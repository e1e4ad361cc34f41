"""A package is what its manifest says, or verify names the file and the fault."""

import shutil
from pathlib import Path

import pytest

from sem.core import files, jsonio, manifest
from sem.core.errors import SemError
from sem.package import targets, verify

PLAN = {"sem": "toy", "recipe": {"max_tokens": 64}, "hardware": {"dtype": "float32"}}
LINEAGE = dict.fromkeys(("run_json", "snapshot", "base_model", "tasks", "adapter"), "0")


@pytest.fixture
def package(tmp_path: Path, tiny_model: Path) -> Path:
    folder = tmp_path / "20260504-030201-abcd"
    shutil.copytree(tiny_model, folder / "model")
    for write in targets.TARGETS.values():
        write(folder, PLAN)
    seal(folder)
    return folder


def seal(folder: Path) -> None:
    manifest.seal(folder, {
        "format": "package.v1", "sem": "toy", "run_id": folder.name, "targets": ["vllm"],
        "lineage": LINEAGE, "scores": {"verdict": "v", "scores_json": "0"},
    })  # fmt: skip


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def edit_config(folder: Path, **keys: object) -> None:
    path = folder / "model" / "config.json"
    files.write(path, jsonio.pretty(files.read_json(path) | keys))


def poison(folder: Path) -> None:
    """Weights that are no numbers."""
    import torch
    from safetensors.torch import load_file, save_file

    path = folder / "model" / "model.safetensors"
    tensors = load_file(path)
    tensors[sorted(tensors)[0]].fill_(torch.nan)
    save_file(tensors, path, metadata={"format": "pt"})


def test_a_good_package_has_no_fault(package):
    assert verify.faults(package) == []


TAMPERED = {
    "a flipped bit in the weights": (
        lambda p: flip(p / "model/model.safetensors"), "model/model.safetensors: "),
    "a flipped bit in the tokenizer": (
        lambda p: flip(p / "model/tokenizer.json"), "model/tokenizer.json: "),
    "a changed template": (
        lambda p: files.write(p / "Modelfile", "FROM evil"), "Modelfile: "),
    "a missing file": (lambda p: (p / "serve/vllm.yaml").unlink(), "serve/vllm.yaml: missing"),
    "an added file": (
        lambda p: files.write(p / "serve/more.md", "x"), "serve/more.md: not in the manifest"),
    "a renamed file": (
        lambda p: (p / "Modelfile").rename(p / "modelfile.md"), "Modelfile: missing"),
    "a path out of the package": (
        lambda p: rewrite(p, "../../etc/passwd"), "../../etc/passwd: missing"),
}  # fmt: skip


def rewrite(folder: Path, name: str) -> None:
    path = folder / "manifest.json"
    facts = files.read_json(path)
    facts["files"][name] = {"bytes": 0, "sha256": "0" * 64}
    files.write(path, jsonio.pretty(facts))


@pytest.mark.parametrize("name", TAMPERED)
def test_what_was_changed_after_sealing_is_named(package, name):
    tamper, message = TAMPERED[name]
    tamper(package)

    assert any(line.startswith(message) for line in verify.faults(package))


HOSTILE = {
    "a pickle": (
        lambda p: files.write(p / "model/optimizer.pt", b"\x80\x04"), "a kind of file no package"),
    "code of its own": (
        lambda p: files.write(p / "model/x.py", "import os"), "a kind of file no package"),
    "an auto_map": (
        lambda p: edit_config(p, auto_map={"AutoModel": "x.Y"}), "auto_map asks for foreign code"),
    "a kernel from elsewhere": (
        lambda p: edit_config(p, _attn_implementation="evil/kernel"), "asks for foreign code"),
    "weights that are not finite": (poison, "is not finite"),
    "weights that are no safetensors": (
        lambda p: files.write(p / "model/model.safetensors", b"\xff" * 64), "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_package_that_was_sealed_with_something_hostile_is_refused(package, name):
    plant, message = HOSTILE[name]
    plant(package)
    seal(package)

    assert any(message in line for line in verify.faults(package))


def test_a_link_is_refused(package):
    (package / "model" / "link.json").symlink_to("/etc/passwd")

    with pytest.raises(SemError, match="a link"):
        verify.faults(package)


def test_a_package_without_a_manifest_is_unfinished(package):
    (package / "manifest.json").unlink()

    with pytest.raises(SemError, match="unfinished"):
        verify.faults(package)

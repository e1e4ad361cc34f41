"""Previews, baselines and finished fits that were made before, by the hash of what they come from.

What counts is content: the contribution, the base rows, the benchmark, the options, this program.
A file that is damaged is made again. The fits of a preview lie in a folder of its own until it is
done, so that one that is killed goes on. Nothing is removed but what is named by a hash.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from sem.core import console, files, jsonio, schema
from sem.core.errors import SemError
from sem.core.project import ROOT
from sem.preview.linear import linear_models
from sem.preview.linear.learners import Model
from sem.preview.stats import decision

HERE = ROOT / "sem" / "preview"
FOLDER = ".preview"  # below data/SEM/
MOST_BYTES = 2**30  # of all that is kept
# Larger weights are not kept: writing them takes as long as the fit.
MOST_OF_A_FIT = 2**27
# Seconds that the fits of a killed preview wait for it.
LONGEST = 7 * 24 * 3600.0
# Seconds after which a file is nobody's that was never finished.
TORN = 3600.0
NAME = r"[0-9a-f]{64}"
PARTS = re.compile(rf"{NAME}\.parts")
OWN = re.compile(rf"(\.tmp-)?{NAME}\.(json|safetensors)(-\w+)?")
SHAPE = {
    "type": "object",
    "required": ["preview_metadata", "estimate", "rows", "disclaimer", "delta_computation"],
    "properties": {"preview_metadata": {"type": "object"}},
}
Value = TypeVar("Value")


def cache_key(parts: list[Any]) -> str:
    """Return what names a result of `parts`, made by this program as it is now."""
    fitted = files.sha256_file(decision.CURVE) if decision.CURVE.exists() else None
    return files.sha256_json([_program(), fitted, parts])


@cache
def _program() -> list[str]:
    """Return the hashes of this program's files, read once: a preview asks for dozens of names."""
    return [files.sha256_file(path) for path in sorted(HERE.rglob("*.py"))]


def find_preview(folder: Path | None, name: str) -> dict[str, Any] | None:
    """Return the document called `name` in `folder`, None where there is none that can be used."""
    document = _sealed(folder / f"{name}.json") if folder else None
    return None if document is None or schema.schema_problems(document, SHAPE) else document


def keep_preview(folder: Path | None, name: str, document: dict[str, Any]) -> None:
    """Keep `document` as `name` in `folder`."""
    if folder:
        _seal(folder, folder / f"{name}.json", document)


def load_kept_baseline(folder: Path | None, name: str, rows_sha256: str) -> Model | None:
    """Return the kept baseline of `rows_sha256`, None where there is none that can be used."""
    path = folder / f"{name}.safetensors" if folder else None
    if path is None or not path.is_file():
        return None
    try:
        model, learnt_sha256 = linear_models.read_linear_model(path)
    except SemError:
        return None
    return model if learnt_sha256 == rows_sha256 else None


def keep_baseline(folder: Path, name: str, model: Model, rows_sha256: str) -> None:
    """Keep `model` of the rows `rows_sha256` as `name`, unless it is too large to be worth it."""
    if model.weights is None or model.weights.nbytes <= MOST_OF_A_FIT:
        _write(
            folder,
            folder / f"{name}.safetensors",
            linear_models.linear_model_bytes(model, rows_sha256),
        )


def partial_fits_folder(folder: Path | None, name: str) -> Path | None:
    """Return where the fits of the preview `name` are kept until it is done."""
    return folder / f"{name}.parts" if folder and name else None


def find_part(parts: Path | None, inputs: list[Any]) -> Any:
    """Return what was found for `inputs`, None where it is not kept or damaged."""
    return _sealed(parts / f"{cache_key(inputs)}.json") if parts else None


def keep_part(parts: Path | None, inputs: list[Any], value: Value) -> Value:
    """Return `value`, which is kept for `inputs`."""
    if parts:
        _seal(parts.parent, parts / f"{cache_key(inputs)}.json", value)
    return value


def count_kept_parts(parts: Path | None) -> int:
    """Return how many results of a preview that was stopped are kept in `parts`."""
    paths = parts.iterdir() if parts and parts.is_dir() else ()
    return sum(not path.name.startswith(".") for path in paths)


def forget_parts(parts: Path | None) -> None:
    """Remove `parts`: the preview is done."""
    if parts:
        shutil.rmtree(parts, ignore_errors=True)


def remove_stale_previews(folder: Path | None, now: float) -> None:
    """Remove what killed previews left in `folder` and nobody came back for by `now` (epoch,
    s).
    """
    for path, stat in _own(folder) if folder else ():
        age = now - stat.st_mtime
        is_part, is_torn = PARTS.fullmatch(path.parent.name), path.name.startswith(".tmp-")
        if (is_part and age > LONGEST) or (is_torn and age > TORN):
            path.unlink(missing_ok=True)
    for place in _places(folder) if folder else ():
        if not any(place.iterdir()):
            place.rmdir()


def _sealed(path: Path) -> Any:
    """Return the value sealed in `path`.

    None where there is none, or it is damaged and is made again.
    """
    try:
        record = files.read_json(path) if path.is_file() else None
    except SemError:
        return None
    if not isinstance(record, dict) or record.get("sha256") != files.sha256_json(
        record.get("value")
    ):
        return None
    return record["value"]


def _seal(folder: Path, path: Path, value: Any) -> None:
    """Write `value` and its hash as `path` in `folder`."""
    _write(folder, path, jsonio.pretty_json({"value": value, "sha256": files.sha256_json(value)}))


def _write(folder: Path, path: Path, content: str | bytes) -> None:
    """Write `content` as `path`; in `folder` the oldest give way beyond MOST_BYTES."""
    entries = sorted((stat.st_mtime, stat.st_size, entry) for entry, stat in _own(folder))
    total, removals = sum(size for _, size, _ in entries) + len(content), 0
    for _, size, entry in entries:
        if total <= MOST_BYTES:
            break
        entry.unlink(missing_ok=True)
        total, removals = total - size, removals + 1
    if removals:
        console.print_note(
            f"cache: removed its {removals} oldest files to stay under {MOST_BYTES // 2**20:,} MiB"
        )
    try:
        files.write_file(path, content)
    except OSError as error:  # a full disk must not cost the result
        console.print_note(f"cache: not kept: {error.strerror}")


def _places(folder: Path) -> list[Path]:
    """Return the folders of unfinished previews in `folder`."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return [p for p in paths if PARTS.fullmatch(p.name) and p.is_dir() and not p.is_symlink()]


def _own(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield every file in `folder` that this module has named.

    Another preview may take some away.
    """
    for place in (folder, *_places(folder)):
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            if OWN.fullmatch(path.name) and path.is_file() and not path.is_symlink():
                with contextlib.suppress(FileNotFoundError):
                    yield path, path.stat()

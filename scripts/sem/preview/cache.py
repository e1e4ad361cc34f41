"""Previews and baselines that were made before, by the hash of everything they come from.

What counts is content: the contribution, the base rows, the benchmark, the options, this program.
A file that is damaged is made again.
"""

from pathlib import Path
from typing import Any

from sem.core import files, jsonio, schema
from sem.core.errors import SemError
from sem.preview import decision, models
from sem.preview.learners import Model

HERE = Path(__file__).resolve().parent
FOLDER = ".preview"  # below data/SEM/
SHAPE = {
    "type": "object",
    "required": ["preview_metadata", "estimate", "rows", "disclaimer", "delta_computation"],
    "properties": {"preview_metadata": {"type": "object"}},
}


def key(parts: list[Any]) -> str:
    """What names a result of PARTS, made by this program as it is now."""
    program = [files.sha256(path) for path in sorted(HERE.glob("*.py"))]
    fitted = files.sha256(decision.CURVE) if decision.CURVE.exists() else None
    return files.sha256_json([program, fitted, parts])


def find(folder: Path | None, name: str) -> dict[str, Any] | None:
    """The document called NAME in FOLDER, None where there is none that can be used."""
    path = folder / f"{name}.json" if folder else None
    if path is None or not path.is_file():
        return None
    try:
        made = files.read_json(path)
    except SemError:
        return None  # damaged: made again, and written over
    return None if schema.problems(made, SHAPE) else made


def keep(folder: Path | None, name: str, made: dict[str, Any]) -> None:
    """Keep the document MADE as NAME in FOLDER."""
    if folder:
        files.write(folder / f"{name}.json", jsonio.pretty(made))


def baseline(folder: Path | None, name: str, learnt: str) -> Model | None:
    """The kept baseline of the rows LEARNT, None where there is none that can be used."""
    path = folder / f"{name}.safetensors" if folder else None
    if path is None or not path.is_file():
        return None
    try:
        model, told = models.read(path)
    except SemError:
        return None
    return model if told == learnt else None

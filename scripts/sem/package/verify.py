"""Is a package what its manifest says, and does it answer as the run that was proven?"""

from pathlib import Path

from sem.core import manifest, schema, taint
from sem.core.errors import SemError
from sem.eval import answers, subject
from sem.eval.subject import Subject
from sem.lm import model
from sem.package.bundle import MANIFEST_SCHEMA

SUFFIXES = {".safetensors", ".json", ".jinja", ".md", ".yaml", ".lock"}
NAMES = {"Modelfile"}


def faults(folder: Path) -> list[str]:
    """What is wrong with the package in FOLDER, a line each; reads files, runs nothing.

    SemError when a takedown tainted it: then nothing in it may be used, whole or not.
    """
    taint.refuse(folder, f"package {folder.name}")
    facts = manifest.read(folder)
    found = [f"manifest.json: {line}" for line in schema.problems(facts, MANIFEST_SCHEMA)]
    found += manifest.faults(folder)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in SUFFIXES and path.name not in NAMES:
            found.append(f"{path.relative_to(folder)}: a kind of file no package holds")
    if not found:
        found += _weights(folder / "model")
    return found


def _weights(folder: Path) -> list[str]:
    import torch
    from safetensors import safe_open

    try:
        model.refuse_foreign_code(folder)
        with safe_open(folder / "model.safetensors", framework="pt") as tensors:
            return [
                f"model.safetensors: {name} is not finite"
                for name in tensors.keys()  # noqa: SIM118 - a handle, not a dict
                if not torch.isfinite(tensors.get_tensor(name)).all()
            ]
    except SemError as error:
        return [error.message]
    except Exception as error:  # safetensors raises its own types on malformed headers
        return [f"model.safetensors: cannot be read: {error}"]


def answers_again(proven: Subject, folder: Path, count: int) -> tuple[int, int]:
    """Let the packaged model answer COUNT proven prompts again: (byte-equal, asked).

    Whole batches of the evaluation are repeated, because padding changes the last bits.
    """
    recorded = answers.read(proven.book.path)
    packaged = subject.from_folder(proven, folder / "model")
    pairs = answers.prompts(proven.examples, proven.tasks, packaged.chat, proven.settings)
    size = proven.settings.batch
    # The shortest prompts come last and are the quickest to repeat.
    first = max(0, (len(pairs) - count) // size * size)
    asked = equal = 0
    for start in range(first, len(pairs), size):
        batch = pairs[start : start + size]
        said = packaged.generate([prompt for _, prompt in batch])
        for (example, _), completion in zip(batch, said, strict=True):
            asked += 1
            equal += example.id in recorded and recorded[example.id].text == completion.text
    return equal, asked

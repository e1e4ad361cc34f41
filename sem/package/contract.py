"""What a package says of how it is asked: tasks, cleaner, room for an answer.

Written at export as `cleaner.json` and `generation.json`, read by whatever answers for it.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sem.core import files, jsonio, manifest, schema, settings
from sem.core.errors import SemError, suggest_nearest_name
from sem.core.taskspec import TaskSpec
from sem.dataset.clean.row_cleaning import CleaningPlan
from sem.dataset.config import Clean
from sem.dataset.html import markup

CLEANER = "cleaner.json"
GENERATION = "generation.json"
CLEANER_FORMAT = "cleaner.v1"
GENERATION_FORMAT = "generation.v1"
MAX_MANIFEST_BYTES = 1_000_000
_CLEANER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["format", "fingerprint", "clean"],
    "properties": {
        "format": {"const": CLEANER_FORMAT},
        "fingerprint": {"type": "string"},
        "clean": {"type": "object"},
    },
}
_GENERATION_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["format", "max_new_tokens", "context", "decoding"],
    "properties": {
        "format": {"const": GENERATION_FORMAT},
        "max_new_tokens": {"type": "integer", "minimum": 1, "maximum": 1 << 20},
        "context": {"type": "integer", "minimum": 1, "maximum": 1 << 24},
        "decoding": {"enum": ["constrained", "free"]},
    },
}


@dataclass(frozen=True)
class PackageContract:
    """How a package is asked."""

    tasks: dict[str, TaskSpec]
    clean: Clean
    # Tokens of an answer, and of prompt and answer together.
    max_new_tokens: int
    context: int
    # `constrained`: held to the task's schema; an encoder-decoder answers `free`.
    decoding: str

    def task(self, name: str | None) -> TaskSpec:
        """Return the task called `name`, or the only one; raise SemError when there is none."""
        if name is None and len(self.tasks) == 1:
            return next(iter(self.tasks.values()))
        if name is None:
            raise SemError(
                f"this package answers {len(self.tasks)} tasks, and none was named",
                f"name one: {', '.join(sorted(self.tasks))}",
            )
        if name not in self.tasks:
            raise SemError(
                f"this package has no task {name!r}", suggest_nearest_name(name, self.tasks)
            )
        return self.tasks[name]

    def cleaning_plan(self, tokenizer: str) -> CleaningPlan:
        """Return what cleans a page; `tokenizer`: the text of the package's tokenizer.json."""
        return CleaningPlan(self.clean, self.tasks, tokenizer=tokenizer)


def write_contract(folder: Path, contract: PackageContract) -> None:
    """Write cleaner.json and generation.json of `contract` into the package `folder`."""
    cleaner = {
        "format": CLEANER_FORMAT,
        "fingerprint": markup.FINGERPRINT,
        "clean": cleaner_settings(contract.clean),
    }
    generation = {
        "format": GENERATION_FORMAT,
        "max_new_tokens": contract.max_new_tokens,
        "context": contract.context,
        "decoding": contract.decoding,
    }
    files.write_file(folder / CLEANER, jsonio.pretty_json(cleaner))
    files.write_file(folder / GENERATION, jsonio.pretty_json(generation))


def cleaner_settings(clean: Clean) -> dict[str, Any]:
    """Return `clean` as a package holds it: plain JSON."""
    return jsonio.parse_json(jsonio.canonical_json(asdict(clean)))


def read_contract(folder: Path) -> PackageContract:
    """Return how the package in `folder` is asked; raise SemError when it does not say."""
    cleaner = _read(folder / CLEANER, _CLEANER_SCHEMA)
    generation = _read(folder / GENERATION, _GENERATION_SCHEMA)

    where = f"{folder / CLEANER}: clean"
    return PackageContract(
        tasks=read_tasks(folder),
        clean=settings.build_settings(Clean, cleaner["clean"], where),
        max_new_tokens=generation["max_new_tokens"],
        context=generation["context"],
        decoding=generation["decoding"],
    )


def refuse_older_package(folder: Path) -> None:
    """Raise SemError when the manifest in `folder` knows no contract: an older version's.

    Of a package that lost one of its files, the manifest still knows it: that is a fault. So is
    a manifest that cannot be read, and `package.verify` names it.
    """
    path = folder / manifest.NAME
    if not path.is_file() or path.stat().st_size > MAX_MANIFEST_BYTES:
        return
    try:
        named = manifest.read_manifest(folder)["files"]
    except (SemError, OSError, KeyError, TypeError, RecursionError):
        return
    for name in (CLEANER, GENERATION):
        if name not in named and not (folder / name).exists():
            raise _older_package(folder, name)


def refuse_other_cleaner(folder: Path) -> None:
    """Raise SemError when the pages of the package in `folder` were cleaned by other rules."""
    fingerprint = _read(folder / CLEANER, _CLEANER_SCHEMA)["fingerprint"]
    if fingerprint != markup.FINGERPRINT:
        raise SemError(
            f"{folder.name}: its pages were cleaned by another version of the cleaner "
            f"({fingerprint}, here {markup.FINGERPRINT})",
            "install the version that made it, or train and export it again with this one",
        )


def read_tasks(folder: Path) -> dict[str, TaskSpec]:
    """Return the tasks in the package's task_spec.json, by name."""
    path = folder / "task_spec.json"
    document = files.read_object(path, "restore the file, or export the package again")
    specs = document["tasks"] if document.get("format") == "task_specs.v1" else [document]
    tasks = [settings.build_settings(TaskSpec, spec, str(path)) for spec in specs]
    return {spec.task_id: spec for spec in tasks}


def _older_package(folder: Path, name: str) -> SemError:
    return SemError(
        f"{folder.name}: no {name}: an older version made this package",
        "export it again with `fab package.export`, and ask the new one",
    )


def _read(path: Path, expected: dict[str, Any]) -> dict[str, Any]:
    if not path.exists():
        raise _older_package(path.parent, path.name)
    content = files.read_object(path, "restore the file, or export the package again")
    problems = schema.schema_problems(content, expected, limit=1)
    if problems:
        raise SemError(f"{path}: {problems[0]}", "export the package again")
    return content

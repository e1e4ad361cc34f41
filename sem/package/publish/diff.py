"""What differs between two packages, in the order in which a person asks.

    for difference in diff.diff_packages(before, after):
        print(difference.section, difference.name, difference.before, difference.after)

Everything is read from the packages themselves, whose files must be those that their manifests
name. Weights are compared by their hashes; only files that differ are opened, tensor by tensor.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from sem.core import files, manifest, settings
from sem.core.errors import SemError
from sem.package.export import documents
from sem.package.verify import verify
from sem.package.verify.package_checks import WEIGHTS

# Of tuned in scores.json, beside the share of each slot that passes.
FIGURES = ("n", "domains", "accuracy", "row_exact", "json_valid", "schema_valid")
# Of changed tensors in a table; JSON holds all.
MAX_TENSORS = 20
ABSENT = "-"


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same; None where a package does not have it."""

    section: str
    name: str
    before: Any
    after: Any
    # How far a changed tensor moved: the norm of the difference over the norm before.
    moved: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @property
    def shown_before(self) -> str:
        return _shown(self.before)

    @property
    def shown_after(self) -> str:
        moved = f", moved by {self.moved:.2%}" if self.moved is not None else ""
        return _shown(self.after) + moved


def _shown(value: Any) -> str:
    if value is None:
        return ABSENT
    return value[:60] if isinstance(value, str) else str(settings.shorten_value(value))


def by_section(differences: Sequence[Difference]) -> Iterator[tuple[str, list[Difference]]]:
    """Yield each section with its differences, of tensors those that moved most."""
    for section, group in groupby(differences, key=lambda each: each.section):
        entries = list(group)
        if section != "weights" or len(entries) <= MAX_TENSORS:
            yield section, entries
            continue
        entries.sort(key=lambda each: -(each.moved if each.moved is not None else float("inf")))
        left = len(entries) - MAX_TENSORS
        yield section, [*entries[:MAX_TENSORS], Difference(section, f"{left} more", None, None)]


def diff_packages(before: Path, after: Path) -> list[Difference]:
    """Return what differs between two packages, in order; empty when they hold the same.

    Raise SemError for a package whose files are not those of its manifest.
    """
    for folder in (before, after):
        faults = verify.tree_faults(folder)
        faults = faults or manifest.manifest_faults(folder, (verify.SIGNATURE,))
        if faults:
            raise SemError(f"{folder}: {faults[0]}", "see all faults with `fab package.verify`")
    sections = [dict(_sections(folder)) for folder in (before, after)]
    differences = [
        Difference(name, key, sections[0][name].get(key), sections[1][name].get(key))
        for name in sections[0]
        for key in sorted(sections[0][name].keys() | sections[1][name].keys())
        if sections[0][name].get(key) != sections[1][name].get(key)
    ]
    return [*differences, *_weights(before, after), *_files(before, after)]


def _sections(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each section before weights and files, as plain values by their dotted names."""
    facts = files.read_object(folder / manifest.NAME)
    lineage = facts.get("lineage", {})
    named = {key: facts.get(key) for key in ("sem", "run_id", "created_at", "targets")}
    yield "run", _flat({**named, "source": lineage.get("source")})
    yield "base model", _flat(lineage.get("base_model"))
    specs = _read(folder / "task_spec.json")
    tasks = specs.get("tasks", [specs])
    yield "tasks", _flat({str(task.get("task_id")): task for task in tasks})
    yield "snapshot", _flat(lineage.get("snapshot"))
    yield "proof", dict(_proof(folder))
    yield "training", _flat(_read(folder / "run.json").get("recipe"))
    yield "cleaner", _flat(_read(folder / "cleaner.json"))
    generation = (folder / "generation.json", folder / "model" / "generation_config.json")
    yield "generation", _flat({path.stem: _read(path) for path in generation})


def _read(path: Path) -> dict[str, Any]:
    return files.read_object(path) if path.is_file() else {}


def _proof(folder: Path) -> Iterator[tuple[str, Any]]:
    """Yield the verdicts, and the figures of the tuned model, slot by slot."""
    scores = _read(folder / "scores.json")
    tuned = scores.get("tuned", {})
    yield "gate", _read(folder / documents.GATE).get("verdict")
    yield "verdict", scores.get("verdict")
    yield from ((name, tuned.get(name)) for name in FIGURES)
    for slot, figures in tuned.get("fields", {}).items():
        yield f"slot {slot}", figures.get("pass")


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Return the leaves of `value` by their dotted names; a list is one leaf, and so is {}.

    A schema {} allows anything, and null is no missing key.
    """
    if not isinstance(value, dict) or not value:
        return {name: "null" if value is None else value} if name else {}
    leaves: dict[str, Any] = {}
    for key, inner in value.items():
        leaves |= _flat(inner, f"{name}.{key}" if name else str(key))
    return leaves


def _weights(before: Path, after: Path) -> Iterator[Difference]:
    for name in WEIGHTS:
        paths = (before / name, after / name)
        if all(path.is_file() for path in paths) and _digest(before, name) != _digest(after, name):
            yield from _tensors(name, *paths)


def _tensors(name: str, before: Path, after: Path) -> Iterator[Difference]:
    """Yield the tensors that only one of two files has, of another shape, or other numbers."""
    import torch
    from safetensors import safe_open

    with safe_open(before, framework="pt") as old, safe_open(after, framework="pt") as new:
        headers = [{key: _header(file, key) for key in file.keys()} for file in (old, new)]  # noqa: SIM118 - a handle, not a dict
        for key in sorted(headers[0].keys() | headers[1].keys()):
            shape, other = (header.get(key) for header in headers)
            if shape != other:
                yield Difference("weights", f"{name}: {key}", shape, other)
                continue
            first, second = old.get_tensor(key), new.get_tensor(key)
            if not torch.equal(first, second):
                change = (second.double() - first.double()).norm()
                moved = float(change / first.double().norm().clamp_min(1e-12))
                yield Difference("weights", f"{name}: {key}", shape, other, moved)


def _header(file: Any, key: str) -> str:
    part = file.get_slice(key)
    return f"{part.get_dtype()} {'x'.join(map(str, part.get_shape()))}"


def _digest(folder: Path, name: str) -> str | None:
    entry = manifest.read_manifest(folder)["files"].get(name)
    return entry["sha256"] if entry else None


def _files(before: Path, after: Path) -> Iterator[Difference]:
    listed = [manifest.read_manifest(folder)["files"] for folder in (before, after)]
    for folder, entries in zip((before, after), listed, strict=True):
        if (folder / verify.SIGNATURE).is_file():
            digest = files.sha256_file(folder / verify.SIGNATURE)
            entries[verify.SIGNATURE] = {"sha256": digest}
    for name in sorted(listed[0].keys() | listed[1].keys()):
        old, new = (
            entries[name]["sha256"][:16] if name in entries else None for entries in listed
        )
        if old != new:
            yield Difference("files", name, old, new)

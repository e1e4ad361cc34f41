"""What is installed, what this machine is, and what is missing, read without loading torch."""

import os
import platform
import re
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sem.core import files
from sem.lm.local import hardware

SHOWN = ("torch", "transformers", "trl", "peft", "duckdb", "fabric")
# A lock with hashes goes on after a backslash.
PIN = re.compile(r"([A-Za-z0-9][\w.-]*)==([^\s;]+)(?:\s*;\s*([^\\]*[^\\\s]))?")
KEYS = ("HF_TOKEN", "WANDB_API_KEY")
Row = tuple[str, str]


def find_version_mismatches(lock: Path) -> list[str]:
    """Return each package of `lock` that is absent or differs here: `name: installed, locked`."""
    differences = []
    for name, locked, marker in read_lock_pins(lock):
        try:
            installed = version(name)
        except PackageNotFoundError:
            installed = "absent"
        # 2.13.0+cpu is a build of 2.13.0.
        if installed.partition("+")[0] != locked and not (marker and installed == "absent"):
            differences.append(f"{name}: {installed}, locked is {locked}")
    return differences


def read_lock_pins(lock: Path) -> list[tuple[str, str, str]]:
    """Return name, version and platform marker (often empty) of every line of `lock` that pins."""
    lines = files.read_text(lock).splitlines()
    return [(m[1], m[2], m[3] or "") for line in lines if (m := PIN.match(line))]


def environment_versions(lock: Path | None) -> list[Row]:
    """Python, the packages that matter most, and how many differ from `lock`, if there is one."""
    rows = [("python", platform.python_version())]
    rows += [(name, _version(name)) for name in SHOWN]
    if lock is None:
        return rows
    odd = find_version_mismatches(lock)
    state = "as locked" if not odd else f"{len(odd)} differ: {'; '.join(odd[:3])}"
    return [*rows, (f"{len(read_lock_pins(lock))} packages of {lock.name}", state)]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def describe_machine(root: Path) -> list[Row]:
    """Processor, memory and free disk at `root`, and the kind of GPU when there is one."""
    free = shutil.disk_usage(root).free / 2**30
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return [
        ("system", f"{platform.system()} {platform.machine()}"),
        ("processor", f"{hardware.cpu_name()}, {os.cpu_count()} threads"),
        ("memory", f"{memory:.1f} GiB"),
        ("free disk", f"{free:.1f} GiB"),
        ("gpu", _gpu()),
    ]


def _gpu() -> str:
    if list(Path("/dev").glob("nvidia[0-9]*")):
        return "NVIDIA"
    return "AMD" if Path("/dev/kfd").exists() else "none: everything runs on the CPU"


def list_models_and_keys(root: Path) -> list[Row]:
    """Base models on this disk, and which keys are set (never their values)."""
    models = sorted(path.parent.name for path in root.glob("models/base/*/SOURCE.json"))
    rows = [("base models", ", ".join(models) or "none yet; `fab env.weights` fetches one")]
    return [*rows, *((key, "set" if os.environ.get(key) else "not set") for key in KEYS)]

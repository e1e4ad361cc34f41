"""Where a result comes from: commit, package versions, time."""

import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "datasets",
    "tokenizers",
    "safetensors",
    "duckdb",
    "selectolax",
    "unsloth",
)


def utc_now() -> datetime:
    """Return the time, UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def read_git_commit(root: Path) -> dict[str, Any]:
    """Return the git commit of `root` and whether files differ from it.

    Empty outside a checkout.
    """
    head = _git(root, "rev-parse", "HEAD")
    if not head:
        return {"commit": None, "dirty": None}
    return {"commit": head, "dirty": bool(_git(root, "status", "--porcelain", "-uno"))}


def package_versions() -> dict[str, str]:
    """Installed versions of what decides a result."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _git(root: Path, *argv: str) -> str:
    try:
        process = subprocess.run(
            ["git", *argv], cwd=root, capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return process.stdout.strip() if process.returncode == 0 else ""

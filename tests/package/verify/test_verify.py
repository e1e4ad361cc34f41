"""A package is what its manifest says, or verify names the file and the fault."""

import shutil
from pathlib import Path

import hostilecontents
import hostilepackages
import pytest

from sem.core import files, jsonio, run
from sem.core.errors import SemError
from sem.package.verify import package_checks, verify

CASES = hostilepackages.CASES | hostilecontents.CASES
UNTELLABLE = [name for name, case in CASES.items() if case.words is None]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def list_file(folder: Path, name: str) -> None:
    path = folder / "manifest.json"
    facts = files.read_json(path)
    facts["files"][name] = {"bytes": 0, "sha256": "0" * 64}
    files.write_file(path, jsonio.pretty_json(facts))


def faults(folder: Path) -> list[str]:
    """Return what verify says of `folder`, refusals included; never a traceback."""
    try:
        return verify.package_faults(folder)
    except SemError as error:
        return [error.message]


def test_a_good_package_has_no_fault(package):
    assert verify.package_faults(package) == []


TAMPERED = {
    "a flipped bit in the weights": (
        lambda p: flip(p / "model/model.safetensors"),
        "model/model.safetensors: ",
    ),
    "a flipped bit in the tokenizer": (
        lambda p: flip(p / "model/tokenizer.json"),
        "model/tokenizer.json: ",
    ),
    "a changed template": (
        lambda p: files.write_file(p / "Modelfile", "FROM evil"),
        "Modelfile: ",
    ),
    "a missing file": (lambda p: (p / "serve/vllm.yaml").unlink(), "serve/vllm.yaml: missing"),
    "an added file": (
        lambda p: files.write_file(p / "serve/more.md", "x"),
        "serve/more.md: not in the manifest",
    ),
    "a renamed file": (
        lambda p: (p / "Modelfile").rename(p / "modelfile.md"),
        "Modelfile: missing",
    ),
    "a path out of the package": (
        lambda p: list_file(p, "../../etc/passwd"),
        "../../etc/passwd: missing",
    ),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_what_was_changed_after_sealing_is_named(package, name):
    tamper, message = TAMPERED[name]
    tamper(package)

    assert any(line.startswith(message) for line in verify.package_faults(package))


# Before: 32 of 44 such packages were accepted and five more were tracebacks, among them a
# Modelfile FROM /etc/passwd, `trust-remote-code` in vllm.yaml, a nested auto_map and an adapter
# that is not the lineage's.
@pytest.mark.parametrize("name", [name for name in CASES if name not in UNTELLABLE])
def test_a_package_that_was_sealed_with_something_hostile_is_refused(package, name, monkeypatch):
    monkeypatch.setattr(verify, "CPU_S", 3)
    CASES[name].plant(package)

    found = faults(package)

    assert any(CASES[name].words in line for line in found), found
    assert all(line.isprintable() for line in found)


@pytest.mark.slow
@pytest.mark.parametrize("name", UNTELLABLE)
def test_what_follows_from_nothing_in_a_package_only_a_signature_can_tell(package, name):
    CASES[name].plant(package)

    assert faults(package) == []


def test_a_takedown_while_a_package_is_looked_at_is_not_missed(package, monkeypatch):
    # A takedown between the first look and the last hash left "every file is as it says".
    usual = package_checks._weights

    def meanwhile(folder, facts):
        run.mark_tainted(folder, "t1", "2026-01-01T00:00:00+00:00", {})
        return usual(folder, facts)

    monkeypatch.setitem(package_checks.DEEP, "model/model.safetensors", meanwhile)
    with pytest.raises(SemError, match="is tainted"):
        verify.package_faults(package)


def test_a_check_that_ends_by_a_signal_is_a_fault():
    def die() -> list[str]:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)
        return []

    assert verify.run_check(die) == [verify.TOO_MUCH]
    assert verify.run_check(lambda: ["a line"]) == ["a line"]


def test_a_package_is_known_wherever_it_was_copied_to(package, tmp_path):
    shutil.move(package, tmp_path / "elsewhere")

    assert verify.package_faults(tmp_path / "elsewhere") == []

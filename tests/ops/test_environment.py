"""The environment is described as it is, and a package that differs from the lock is named."""

from importlib.metadata import version
from pathlib import Path

from paths import ROOT

from sem.ops import environment


def lock(folder: Path, *lines: str) -> Path:
    path = folder / "requirements.lock"
    path.write_text("\n".join(("# made by hand", *lines)) + "\n")
    return path


def test_a_package_of_another_version_or_absent_is_named(tmp_path):
    made = lock(
        tmp_path,
        "rich==0.1",
        "no-such-package==1.0",
        f"pytest=={version('pytest')}",
        "    # via x",
    )

    assert environment.find_version_mismatches(made) == [
        f"rich: {version('rich')}, locked is 0.1",
        "no-such-package: absent, locked is 1.0",
    ]


def test_a_package_for_another_system_may_be_absent(tmp_path):
    assert not environment.find_version_mismatches(
        lock(tmp_path, "pywin32==9 ; sys_platform == 'win32'")
    )


def test_a_cpu_build_counts_as_its_version(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "version", lambda name: "2.13.0+cpu")

    assert not environment.find_version_mismatches(lock(tmp_path, "torch==2.13.0"))


def test_no_key_is_ever_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_canary")

    assert ("HF_TOKEN", "set") in environment.list_models_and_keys(tmp_path)
    assert "hf_canary" not in str(environment.list_models_and_keys(tmp_path))


def test_this_environment_is_the_locked_one():
    assert environment.find_version_mismatches(ROOT / "requirements.lock") == []

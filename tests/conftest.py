"""Fixtures: a tiny real model, a small project on it, the shared real data."""

import gc
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from paths import ROOT
from toy import SPEC, TRAIN, make_model, make_store

from sem.core import console, files, jsonio

SHARED = ROOT.parent / "shared"
# Tiny models compute fastest in one thread, and a process of `warm` inherits no pool of threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# As jobs have it: threads that spin make a test ten times slower beside any other work.
for name in ("OMP_WAIT_POLICY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
    os.environ.setdefault(name, console.DEFAULT_ENVIRONMENT[name])

# The same examples in every run: a suite that fails by luck is believed by nobody. New ones are
# looked for with `pytest --hypothesis-profile explore`.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.register_profile("explore", max_examples=2_000, deadline=None)
hypothesis.settings.load_profile("repeatable")


# Folders whose files take longest come first, so that no process is left alone with one of them.
SLOWEST = ("train", "jobs", "optimizer", "package", "ops", "dataset")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        folder = item.path.relative_to(ROOT / "tests").parts[0]
        return SLOWEST.index(folder) if folder in SLOWEST else len(SLOWEST)

    items.sort(key=place)


def pytest_collection_finish() -> None:
    # The tests and the libraries they import stay to the end: the collector need not walk them.
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    # Else libraries that count their objects at the end report them as leaked.
    gc.unfreeze()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data that nobody here wrote; absent outside development machines."""
    if not SHARED.is_dir():
        pytest.skip(f"no shared data at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer Llama with a ChatML tokenizer, about 200 kB."""
    return make_model(tmp_path_factory.mktemp("weights") / "tiny")


@pytest.fixture(scope="session")
def toy_master(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """What every `toy` is a copy of."""
    root = tmp_path_factory.mktemp("toy")
    configs = root / "configs" / "toy"
    spec = SPEC | {"base_model_id": str(tiny_model)}
    files.write_file(configs / "tasks" / "price.json", jsonio.pretty_json(spec))
    files.write_file(configs / "train.yaml", TRAIN)
    files.write_file(configs / "eval.yaml", "batch: 4\nmax_new_tokens: 8\ndraws: 500\n")
    make_store(root / "data" / "toy" / "raw" / "dataset.duckdb")
    return root


@pytest.fixture(scope="session")
def cut_master(tmp_path_factory: pytest.TempPathFactory, toy_master: Path) -> Path:
    """What every `cut_toy` is a copy of."""
    from sem.core import provenance
    from sem.core.project import Project
    from sem.dataset.clean import clean
    from sem.dataset.split import snapshot

    root = shutil.copytree(toy_master, tmp_path_factory.mktemp("cut"), dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        _live_in(root, patch)
        project = Project.load("toy")
        clean.clean_store(project)
        snapshot.freeze_snapshot(project, provenance.utc_now())
    return root


@pytest.fixture(scope="session")
def package_master(tmp_path_factory: pytest.TempPathFactory, cut_master: Path) -> Path:
    """A whole package of four steps on the toy project; what every `package` is a copy of."""
    from tinymodels import HELD, pass_whole_path

    from sem.core.project import Project

    root = shutil.copytree(cut_master, tmp_path_factory.mktemp("packaged"), dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        _live_in(root, patch)
        pass_whole_path(lambda settings: Project.load("toy", settings), "llama", "chatml", HELD)
        project = Project.load("toy")
    return next(project.packages.glob("2*"))


@pytest.fixture
def package(tmp_path: Path, package_master: Path) -> Path:
    """A package that verify finds no fault in."""
    return shutil.copytree(package_master, tmp_path / package_master.name)


def _live_in(root: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("SEM_ROOT", str(root))
    patch.setenv("SEM_DEVICE", "cpu")
    patch.delenv("SEM", raising=False)
    patch.delenv("DATASET_DB_PATH", raising=False)


@pytest.fixture
def toy(tmp_path: Path, toy_master: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project called `toy` with a store of 60 pages of 12 shops; the root folder."""
    _live_in(tmp_path, monkeypatch)
    return shutil.copytree(toy_master, tmp_path, dirs_exist_ok=True)


@pytest.fixture
def cut_toy(toy: Path, cut_master: Path) -> Any:
    """The toy project, cleaned and split."""
    from sem.core.project import Project

    shutil.copytree(cut_master, toy, dirs_exist_ok=True)
    return Project.load("toy")


@pytest.fixture
def prepared_toy(cut_toy: Any) -> tuple[Any, Any]:
    """The toy project with a prepared run."""
    from sem.train.run import plan

    return cut_toy, plan.prepare_training(cut_toy, None)


@pytest.fixture
def trained_toy(prepared_toy, monkeypatch) -> Callable[..., tuple[Any, Any]]:
    """A run of the toy project that the system asked to stop after a step."""

    from sem.train.engine import fit
    from sem.train.run import plan

    def until(stop_after: int) -> tuple[Any, Any]:
        project, made = prepared_toy
        usual = fit._callbacks

        def with_signal(job, stage, stop, *more):
            from transformers import TrainerCallback

            class Ask(TrainerCallback):
                def on_step_begin(self, args, state, control, **_):
                    if state.global_step + 1 == stop_after:
                        stop._hear(15, None)

            return [Ask(), *usual(job, stage, stop, *more)]

        with monkeypatch.context() as patch:
            patch.setattr(fit, "_callbacks", with_signal)
            with pytest.raises(fit.PreemptedError, match="stopped at step"):
                plan.train_prepared(project, made, resume=False)
        return project, made

    return until

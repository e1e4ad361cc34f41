"""Fixtures: a tiny real model, a small project on it, the shared real data."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sem.core import files, jsonio
from toy import SPEC, make_model, make_store

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


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


@pytest.fixture
def toy(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project called `toy` with a store of 60 pages of 12 shops; the root folder."""
    monkeypatch.setenv("SEM_ROOT", str(tmp_path))
    monkeypatch.setenv("SEM_DEVICE", "cpu")
    monkeypatch.delenv("SEM", raising=False)
    monkeypatch.delenv("DATASET_DB_PATH", raising=False)
    configs = tmp_path / "configs" / "toy"
    spec = SPEC | {"base_model_id": str(tiny_model)}
    files.write(configs / "tasks" / "price.json", jsonio.pretty(spec))
    files.write(configs / "train.yaml", TRAIN)
    files.write(configs / "eval.yaml", "batch: 4\nmax_new_tokens: 8\ndraws: 500\n")
    make_store(tmp_path / "data" / "toy" / "raw" / "dataset.duckdb")
    return tmp_path


@pytest.fixture
def cut_toy(toy: Path) -> Any:
    """The toy project, cleaned and split."""
    from sem.core import provenance
    from sem.core.project import Project
    from sem.dataset import clean, snapshot

    project = Project.load("toy")
    clean.run(project)
    snapshot.freeze(project, provenance.now())
    return project


@pytest.fixture
def prepared_toy(cut_toy: Any) -> tuple[Any, Any]:
    """The toy project with a prepared run."""
    from sem.train import plan

    return cut_toy, plan.prepare(cut_toy, None)


@pytest.fixture
def trained_toy(prepared_toy, monkeypatch) -> Callable[..., tuple[Any, Any]]:
    """A run of the toy project that the system asked to stop after a step."""

    from sem.train import callbacks, fit, plan

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
            with pytest.raises(callbacks.Preempted, match="stopped at step"):
                plan.train(project, made, resume=False)
        return project, made

    return until


TRAIN = """epochs: 1
effective_batch: 4
micro_batch: 2
learning_rate: 1e-2
checkpoint_steps: 3
log_steps: 1
val_examples: 4
lora: {rank: 4, alpha: 8, dropout: 0.1}
"""


def rows(path: Path) -> list[dict[str, object]]:
    """The JSON lines of PATH."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]

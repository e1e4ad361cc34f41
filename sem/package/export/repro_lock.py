"""repro.lock: the versions that a package needs to be asked, and nothing of the tests.

The packages that `opensem[train]` requires, with all that those require, at the versions that it
was made with. Who requires whom is read from the installed packages' own metadata.
"""

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distributions, requires
from typing import Any

from sem.core import files
from sem.core.project import ROOT
from sem.core.projects import IS_CHECKOUT

EXTRA = "train"
# NAME, EXTRAS, the marker's extra: `requests[socks]>=2; extra == "http"`.
_REQUIREMENT = re.compile(
    r"\s*(?P<name>[A-Za-z0-9._-]+)\s*(?:\[(?P<extras>[^\]]*)\])?[^;]*(?:;(?P<marker>.*))?"
)
_MARKER_EXTRA = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")
_PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?:\[[^\]]*\])?==(?P<version>[A-Za-z0-9.+!_-]+)")


def write_lock(plan: dict[str, Any]) -> str:
    """Return the text of repro.lock for the run that `plan` (run.json) describes."""
    version = ".".join(map(str, sys.version_info[:3]))
    source = plan["source"]
    head = [
        f"# Python {version}; commit {source['commit']} (dirty: {source['dirty']})",
        *(f"# trained with {name} {number}" for name, number in sorted(plan["packages"].items())),
    ]
    names = _closure(_roots(), {EXTRA})
    return "\n".join([*head, *_locked_lines(names)]) + "\n"


def read_pins(text: str) -> list[tuple[str, str]]:
    """Return the (name, version) pairs that the lock `text` pins, sorted, each once."""
    pins = (_PIN.match(line) for line in text.splitlines())
    return sorted({(canonical_name(pin["name"]), pin["version"]) for pin in pins if pin})


def canonical_name(name: str) -> str:
    """Return the name of a package as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _roots() -> list[str]:
    """Return what this project requires to train and ask, as requirement lines."""
    if not IS_CHECKOUT:
        return [f"opensem[{EXTRA}]"]
    project = tomllib.loads(files.read_text(ROOT / "pyproject.toml"))["project"]
    return [*project["dependencies"], *project["optional-dependencies"][EXTRA]]


def _closure(requirements: Iterable[str], extras: set[str]) -> set[str]:
    """Return the canonical names of `requirements` and of all that those require."""
    waiting = list(_wanted(requirements, extras))
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        entry = waiting.pop()
        if entry in seen:
            continue
        seen.add(entry)
        name, wanted_extras = entry
        try:
            waiting += _wanted(requires(name) or [], set(wanted_extras))
        except PackageNotFoundError:
            # Of another system or Python: its marker holds nowhere here.
            continue
    return {name for name, _ in seen}


def _wanted(lines: Iterable[str], extras: set[str]) -> Iterator[tuple[str, frozenset[str]]]:
    for line in lines:
        match = _REQUIREMENT.fullmatch(line.partition("@")[0] if " @ " in line else line)
        if not match:
            continue
        conditions = _MARKER_EXTRA.findall(match["marker"] or "")
        if conditions and not extras.intersection(conditions):
            continue
        own = {each.strip() for each in (match["extras"] or "").split(",") if each.strip()}
        yield canonical_name(match["name"]), frozenset(own)


def _locked_lines(names: set[str]) -> list[str]:
    """Return the lines that pin `names`: of requirements.lock with its hashes, else installed."""
    if not IS_CHECKOUT:
        installed = {
            canonical_name(d.metadata["Name"]): f"{d.metadata['Name']}=={d.version}"
            for d in distributions()
            if d.metadata["Name"]
        }
        return [installed[name] for name in sorted(names & installed.keys())]
    lines: list[str] = []
    is_wanted = False
    for line in files.read_text(ROOT / "requirements.lock").splitlines():
        pin = _PIN.match(line)
        is_wanted = canonical_name(pin["name"]) in names if pin else is_wanted
        if is_wanted and not line.lstrip().startswith("#"):
            lines.append(line)
    return lines

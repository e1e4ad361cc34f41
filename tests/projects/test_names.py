"""Which names a project may have, and that no other one reaches the disk."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

from sem.core import console, projects
from sem.core.errors import SemError
from sem.jobs import verbs

HOSTILE = [
    *("", " ", ".", "..", "...", "../x", "x/..", "/", "/etc", "a/b", "a\\b", "..\\x", "C:\\x"),
    *("a..b", ".hidden", ".lm", "x.", "x ", " x", "x\n", "x\r", "x\t", "\nx", "x\0y", "x\x1b[2J"),
    *("-x", "_x", "X", "Rust", "rüst", "ru\u0455t", "rust\u200b", "\u202etsur", "rust\ufe0f"),
    *("ｒｕｓｔ", "１２", "日本", "a" * 65, "a" * 4096, "~", "~root", "$HOME", "$(id)", "`id`"),
    *("a;b", "a|b", "a&b", "a*b", "a?b", "a:b", 'a"b', "a'b", "a<b", "%2e%2e", "file:///etc"),
    *("base", "strong", "schemas", "templates", "configs", "data", "models", "reports", "evals"),
    *("con", "prn", "aux", "nul", "com1", "lpt9", "con.txt", "nul.md", "aux.tar.gz"),
    *("\ud800", "a\udce9b"),
]
CALLS = {
    "new": lambda name, _: ["new", name],
    "delete": lambda name, _: ["delete", name, "--yes"],
    "status": lambda name, _: ["status", f"--project={name}"],
    "set-project": lambda name, _: ["set-project", name],
    "add-data": lambda name, file: ["add-data", f"--project={name}", str(file)],
    "run-forge": lambda name, _: ["run-forge", f"--sem={name}", "--dry-run"],
    "train": lambda name, _: ["train", "--project", name],
}


def fingerprint(folder: Path) -> str:
    """Return a hash of every path, kind and content below `folder`."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() else b"folder"
        digest.update(str(path.relative_to(folder)).encode("utf-8", "surrogateescape") + content)
    return digest.hexdigest()


def code_of(argv: list[str]) -> int:
    """Return the exit code of `opensem` on `argv`."""
    with pytest.raises(SystemExit) as end:
        console.run_main(lambda: verbs.run_verb(argv))
    return int(end.value.code or 0)


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A tree with one project, `rust`, which is not the current one."""
    root = tmp_path / "tree"
    monkeypatch.setenv("SEM_ROOT", str(root))
    monkeypatch.delenv("SEM", raising=False)
    monkeypatch.chdir(tmp_path)
    assert code_of(["new", "rust"]) == 0
    (root / projects.CURRENT).unlink()
    (root / "data" / "rust" / "raw" / "a.md").write_text("# A\n")
    return root


def test_there_are_enough_of_them():
    assert len(HOSTILE) == len(set(HOSTILE)) > 70


@pytest.mark.parametrize("verb", CALLS)
def test_a_hostile_name_is_refused_and_nothing_changes(tree, verb, capsys):
    page = tree.parent / "page.md"
    page.write_text("# Page\n")
    before = fingerprint(tree.parent)

    codes = {name: code_of(CALLS[verb](name, page)) for name in HOSTILE}

    assert {name: code for name, code in codes.items() if code not in (1, 2)} == {}
    assert fingerprint(tree.parent) == before
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["rust", "a", "0", "x-1", "x_1", "x.y", "a" * 64, "com10", "conx"]
)
def test_a_plain_name_is_taken(name):
    assert projects.check_project_name(name) == name


@pytest.mark.parametrize("name", ["../x", "con", "schemas", "x\n"])
def test_a_dot_file_with_a_hostile_name_is_refused(tree, name, monkeypatch):
    for file in (projects.CURRENT, projects.OLDER_CURRENT):
        (tree / file).write_text(f"{name}/" if name == "x\n" else name)

        with pytest.raises(SemError, match=r"_project: names no usable sem"):
            projects.choose_project(None, tree)

        (tree / file).unlink()


def test_what_names_the_project_is_asked_in_order(tree, monkeypatch):
    assert projects.choose_project(None, tree) == ("demo", "fabric.yaml")
    (tree / projects.OLDER_CURRENT).write_text("older\n")
    assert projects.choose_project(None, tree) == ("older", ".openssme_project")
    (tree / projects.CURRENT).write_text("rust\n")
    assert projects.choose_project(None, tree) == ("rust", ".opensem_project")
    monkeypatch.setenv("SEM", "other")
    assert projects.choose_project(None, tree) == ("other", "$SEM")
    assert projects.choose_project("named", tree) == ("named", "--sem")


def test_jobs_and_scripts_agree_on_the_current_project(tree):
    (tree / projects.CURRENT).write_text("rust\n")
    fab = str(Path(sys.executable).parent / "fab")
    done = subprocess.run([fab, "sem.status"], cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("project rust")


def test_a_current_project_that_is_gone_is_named_with_its_file(tree):
    (tree / projects.CURRENT).write_text("gone\n")

    with pytest.raises(SemError) as caught:
        projects.find_place(tree, *projects.choose_project(None, tree))

    assert str(caught.value) == (
        f"no sem called 'gone' under {tree / 'configs'} (named by .opensem_project)\n"
        "       one of: rust"
    )

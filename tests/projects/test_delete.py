"""A delete takes one project and nothing else, asks first, and can be run again after a kill."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sem.core import console, files, projects
from sem.core.errors import Busy, SemError
from sem.jobs import verbs
from sem.projects import delete, new


def fingerprint(root: Path, without: str = "") -> dict[str, str]:
    """Return every file and folder of `root` by path with its content, those of `without` left
    out.
    """
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if not without or f"/{without}/" not in f"/{name}/":
            found[name] = files.sha256_file(path) if path.is_file() else "folder"
    return found


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A tree with the projects `mine` and `yours`, both with files everywhere."""
    tree = tmp_path / "tree"
    monkeypatch.setenv("SEM_ROOT", str(tree))
    monkeypatch.delenv("SEM", raising=False)
    for name in ("mine", "yours"):
        new.create_from_template(tree, name)
        for place in (
            f"data/{name}/raw/a.md",
            f"data/{name}/processed/v1.json",
            f"models/{name}/adapters/r1/run.json",
            f"reports/{name}/r1/report.md",
            f"models/{name}/packages/r1/manifest.json",
            f"models/{name}/promoted.json",
        ):
            files.write_file(tree / place, name)
    files.write_file(tree / "data" / ".lm" / "calls.sqlite", "shared")
    files.write_file(tree / "configs" / "gate.yaml", "shared")
    return tree


def run(argv: list[str], answer: str, monkeypatch) -> int:
    """Return the exit code of `opensem` on `argv` with `answer` typed."""
    read, write = os.pipe()
    os.write(write, answer.encode())
    os.close(write)
    with os.fdopen(read) as typed:
        monkeypatch.setattr(sys, "stdin", typed)
        with pytest.raises(SystemExit) as end:
            console.run_main(lambda: verbs.run_verb(argv))
    return int(end.value.code or 0)


def test_it_takes_one_project_and_leaves_every_other_file(root):
    before = fingerprint(root, without="mine")

    delete.remove_project_folders(delete.list_deletion(root, "mine"))

    assert fingerprint(root) == before
    assert [place.name for place in projects.find_projects(root)] == ["yours"]


def test_it_shows_what_goes(root):
    files.write_file(root / projects.CURRENT, "mine\n")
    listing = delete.list_deletion(root, "mine")

    assert [(s.folder.relative_to(root).as_posix(), s.files) for s in listing.shares] == [
        *(("models/mine", 3), ("reports/mine", 1), ("data/mine", 2), ("configs/mine", 5))
    ]
    assert (listing.runs, listing.packages, listing.promoted) == (1, 1, True)
    assert listing.is_current


@pytest.mark.parametrize("answer", ["n\n", "\n", "", "no\n", "yes please\n", "Y\0\n"])
def test_without_a_yes_nothing_goes_and_the_exit_code_says_so(root, answer, monkeypatch, capsys):
    before = fingerprint(root)

    assert run(["delete", "mine"], answer, monkeypatch) == 1

    assert fingerprint(root) == before
    said = capsys.readouterr()
    assert "delete mine? [y/N]" in said.err
    assert "error: nothing was deleted\n       answer y, or add --yes\n" in said.err
    assert "configs/mine" in said.out


@pytest.mark.parametrize("answer", ["y\n", "YES\n"])
def test_with_a_yes_it_goes_and_is_no_longer_the_current_one(root, answer, monkeypatch):
    projects.set_current_project(root, "mine")

    assert run(["delete", "mine"], answer, monkeypatch) == 0

    assert projects.current_project(root) is None
    assert [place.name for place in projects.find_projects(root)] == ["yours"]


@pytest.mark.parametrize("kind", projects.KINDS)
def test_a_folder_that_leads_elsewhere_is_refused_and_untouched(root, tmp_path, kind):
    outside = tmp_path / "outside"
    files.write_file(outside / "precious.txt", "precious")
    folder = root / kind / "mine"
    folder.rename(tmp_path / "moved")
    folder.symlink_to(outside)
    before = fingerprint(tmp_path)

    with pytest.raises(SemError, match=f"{kind}/mine is a link to"):
        delete.list_deletion(root, "mine")

    assert fingerprint(tmp_path) == before


def test_a_link_inside_goes_and_what_it_points_to_stays(root, tmp_path):
    files.write_file(tmp_path / "outside" / "precious.txt", "precious")
    (root / "data" / "mine" / "raw" / "link").symlink_to(tmp_path / "outside")
    (root / "data" / "mine" / "raw" / "other").symlink_to(root / "data" / "yours")
    before = fingerprint(tmp_path / "outside") | fingerprint(root, without="mine")

    delete.remove_project_folders(delete.list_deletion(root, "mine"))

    assert fingerprint(tmp_path / "outside") | fingerprint(root) == before


@pytest.mark.parametrize(
    "lock", ["data/mine/processed/.snapshot.lock", "models/mine/adapters/.r1.lock"]
)
def test_while_a_job_holds_a_lock_nothing_goes(root, lock):
    listing = delete.list_deletion(root, "mine")
    with files.lock_file(root / lock, "a job"):
        before = fingerprint(root)
        with pytest.raises(Busy, match="something of mine is being written by another process"):
            delete.remove_project_folders(listing)

        assert fingerprint(root) == before

    delete.remove_project_folders(delete.list_deletion(root, "mine"))
    assert not (root / "configs" / "mine").exists()


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from sem.projects import delete
left, real = [int(sys.argv[2])], os.unlink
def counted(*given, **named):
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return real(*given, **named)
os.unlink = counted
delete.delete(delete.list_deletion(Path(sys.argv[1]), "mine"))
"""


@pytest.mark.parametrize("after", [0, 1, 3, 4, 5, 7, 8])
def test_a_killed_delete_is_run_again_to_its_end(root, after):
    before = fingerprint(root, without="mine")
    words = [sys.executable, "-P", "-c", KILLED, str(root), str(after)]
    assert subprocess.run(words).returncode == -signal.SIGKILL

    delete.remove_project_folders(delete.list_deletion(root, "mine"))

    assert fingerprint(root) == before
    with pytest.raises(SemError, match="no sem called 'mine'"):
        delete.list_deletion(root, "mine")


def test_a_project_of_the_older_layout_can_go_too(root):
    files.write_file(root / "configs" / "old" / "data_config.yaml", "params: {}\n")
    files.write_file(root / "data" / "old" / "raw" / "a.md", "a")

    delete.remove_project_folders(delete.list_deletion(root, "old"))

    assert not (root / "configs" / "old").exists()
    assert not (root / "data" / "old").exists()

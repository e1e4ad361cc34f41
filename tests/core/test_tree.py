"""Which folder is the tree, and whose settings are read there."""

import os

import pytest

from sem.core import console, projects
from sem.core.errors import SemError


def test_the_nearest_marked_folder_above_is_the_tree(tmp_path, monkeypatch):
    (tmp_path / ".opensem").write_text("opensem\n")
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.delenv("SEM_ROOT", raising=False)
    monkeypatch.chdir(tmp_path / "a" / "b")

    assert projects.project_tree() == tmp_path


def test_a_deleted_working_folder_is_one_error_in_an_installed_package(tmp_path, monkeypatch):
    # It was a FileNotFoundError with a traceback.
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.delenv("SEM_ROOT", raising=False)
    monkeypatch.setattr(projects, "IS_CHECKOUT", False)
    monkeypatch.chdir(gone)
    gone.rmdir()

    with pytest.raises(SemError, match="the working folder was deleted"):
        projects.project_tree()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_the_env_file_of_a_stranger_is_not_read(tmp_path, monkeypatch):
    # A marked folder above the working one, as /tmp, may be anybody's.
    (tmp_path / ".env").write_text("SEM_PLANTED=1\n")
    monkeypatch.setenv("SEM_ROOT", str(tmp_path))
    monkeypatch.setattr(projects, "IS_CHECKOUT", False)
    monkeypatch.setattr(console, "DEFAULT_ENVIRONMENT", {})
    monkeypatch.delenv("SEM_PLANTED", raising=False)
    os.chown(tmp_path / ".env", 4321, 4321)
    monkeypatch.setattr(os, "getuid", lambda: 1234)
    console._set_environment()
    assert "SEM_PLANTED" not in os.environ

    os.chown(tmp_path / ".env", 1234, 1234)
    console._set_environment()
    assert os.environ.pop("SEM_PLANTED") == "1"

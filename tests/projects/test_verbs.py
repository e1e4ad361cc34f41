"""opensem-cli names every verb, says what is wrong with one, and src/ keeps the older commands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

from sem.core import console, projects
from sem.jobs import load_jobs, path, verbs


def run(program: list[str], tree: Path, **more: str) -> subprocess.CompletedProcess:
    environment = {n: v for n, v in os.environ.items() if n not in ("SEM", "SEM_TYPED")}
    environment |= {"SEM_ROOT": str(tree), **more}
    return subprocess.run(
        [sys.executable, *program],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


VERBS = [*verbs.VERBS, *(name for name in load_jobs() if "." not in name and name != "pipeline")]


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_names_every_verb(verb, capsys):
    verbs.run_verb([])

    assert f"opensem {verb}" in capsys.readouterr().out


@pytest.mark.parametrize("verb", [*VERBS, "dataset.split"])
def test_a_flag_that_is_none_is_a_usage_error(verb, capsys):
    with pytest.raises(SystemExit) as end:
        console.run_main(lambda: verbs.run_verb([verb, "--definitely-unknown", "x"]))

    assert end.value.code == 2
    assert f"usage: opensem {verb}" in capsys.readouterr().err


def test_a_verb_that_is_none_is_a_usage_error_with_the_nearest(capsys):
    with pytest.raises(SystemExit) as end:
        verbs.run_verb(["stauts"])

    assert end.value.code == 2
    assert capsys.readouterr().err == "error: no verb 'stauts'\n       did you mean 'status'?\n"


def test_the_clouds_name_may_be_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SEM_ROOT", str(tmp_path))
    monkeypatch.delenv("SEM", raising=False)
    with pytest.raises(SystemExit) as end:
        console.run_main(lambda: verbs.run_verb(["launch", "--cloud", "--project", "nope"]))

    assert end.value.code == 1
    assert "no sem called 'nope'" in capsys.readouterr().err


def test_the_console_script_is_the_module(tmp_path):
    done = run(["-m", "sem", "status", "nope"], tmp_path)

    assert done.returncode == 1
    assert done.stderr == (
        f"error: no sem called 'nope' under {tmp_path / 'configs'}\n"
        "       make it with `opensem-cli new nope`\n"
    )


@pytest.mark.parametrize("name", ["opensem", "opensem-cli"])
def test_a_hint_names_the_command_that_was_typed(name, tmp_path):
    # `opensem status nope` ended with "make it with `opensem-cli new nope`".
    done = run(["-m", "sem", "status", "nope"], tmp_path, SEM_TYPED=name)

    assert f"make it with `{name} new nope`\n" in done.stderr


@pytest.mark.parametrize(
    ("words", "pointer"),
    [
        (["forge.py"], "src/forge.py is `fab forge.run`, and `opensem-cli run-forge`"),
        (["train.py"], "src/train.py is `fab train.prepare train.run`, and `opensem-cli train`"),
        (["judge.py", "--mode", "baseline"], "--mode baseline is `opensem-cli baseline`"),
        (["judge.py", "--mode", "fine-tuned"], "--mode fine-tuned is `opensem-cli eval`"),
    ],
)
def test_the_older_commands_point_to_the_jobs_and_fail_like_them(tmp_path, words, pointer):
    (tmp_path / projects.CURRENT).write_text("gone\n")
    done = run([str(ROOT / "src" / words[0]), *words[1:]], tmp_path)

    assert done.returncode == 1
    assert pointer in done.stderr
    assert "no sem called 'gone'" in done.stderr
    assert "(named by .opensem_project)" in done.stderr


def test_init_makes_the_folders_and_copies_what_is_shared_once(tmp_path, capsys):
    path.initialise_tree(tmp_path / "tree")
    kept = tmp_path / "tree" / "configs" / "gate.yaml"
    kept.write_text("mine\n")
    path.initialise_tree(tmp_path / "tree")

    made = {p.name for p in (tmp_path / "tree").iterdir()}
    assert made == {*projects.KINDS, projects.MARKER}
    assert kept.read_text() == "mine\n"
    assert (tmp_path / "tree" / "configs" / "judge.yaml").is_file()
    assert f"export SEM_ROOT={tmp_path / 'tree'}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Accuracy improved by 5.0 points [+1.0, +9.0]",) * 2,
        (
            "no improvement shown: +1.0 points [-1.0, +3.0]",
            "No improvement shown: +1.0 points [-1.0, +3.0]",
        ),
    ],
)
def test_the_last_line_of_eval_is_the_verdict(said, shown):
    assert path._verdict({"verdict": said}) == shown

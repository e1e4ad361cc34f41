"""Completion in a shell: words and flags from the signatures."""

import shutil
import subprocess

import pytest

from sem.core.errors import SemError
from sem.jobs import completion, load_jobs
from sem.jobs.verbs import VERBS


def suggested(words: list[str]) -> set[str]:
    """Return what bash suggests for the last of `words`."""
    script = completion.completion_script("bash", load_jobs(), VERBS)
    quoted = " ".join(f"'{word}'" for word in words)
    code = f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _opensem; echo ${{COMPREPLY[@]}}"
    run = subprocess.run(["bash", "-c", f"{script}\n{code}"], capture_output=True, text=True)
    assert not run.stderr
    return set(run.stdout.split())


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["opensem", "eval.ga"], {"eval.gate"}),
        (["opensem", "list-p"], {"list-projects"}),
        (["opensem", "eval.plan", "--mar"], {"--margin"}),
        (["opensem", "nothing.like-it", "--"], {"--help"}),
    ],
)
def test_bash_suggests_verbs_then_their_flags(words, wanted):
    assert suggested(words) == wanted


def test_every_job_and_every_verb_is_suggested():
    assert suggested(["opensem", ""]) == {*load_jobs(), *VERBS}


def test_every_flag_of_a_job_is_suggested():
    flags = {p.flag for p in load_jobs()["dataset.import"].parameters if not p.positional}

    assert suggested(["opensem", "dataset.import", ""]) == {*flags, "--help"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_of_that_shell(shell):
    script = completion.completion_script(shell, load_jobs(), VERBS)

    assert "dataset.import" in script
    if shutil.which(shell):
        check = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True)
        assert check.returncode == 0, check.stderr


def test_another_shell_is_refused():
    with pytest.raises(SemError, match="no completion for the shell 'csh'"):
        completion.completion_script("csh", load_jobs(), VERBS)

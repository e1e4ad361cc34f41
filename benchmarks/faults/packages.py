"""Packages that somebody changed and sealed anew go through `package.verify`.

    python benchmarks/faults/packages.py

Every case of `tests/support/hostilepackages.py` and `hostilecontents.py` is planted in a copy of a
real package (tiny, and trained four steps) with the manifest's hashes written anew, as an attacker would; knowing ones
put the hashes of the lineage right, too. Each is refused by name, or stands in the list of those
that only a signature can tell; a traceback is neither.

Writes  benchmarks/results/faults_packages.md
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from sem.core import console, files
from sem.core.errors import SemError

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "support"), str(Path(__file__).parent)]


def make_package(root: Path) -> Path:
    """Return a good package below `root`."""
    from tinymodels import make_base, pass_whole_path

    from benchmarks.faults import architectures
    from sem.core.project import Project

    architectures.make_project(root)
    architectures.name_base(root, make_base(root / "models" / "base" / "tiny", "llama", "chatml"))
    pass_whole_path(lambda each: Project.load("toy", each), "llama", "chatml", [])
    return next(Project.load("toy").packages.glob("2*"))


def outcome(folder: Path) -> tuple[str, list[str]]:
    """Return what verify does with `folder` (accepted, refused, traceback), and its lines."""
    from sem.package.verify import verify

    try:
        faults = verify.package_faults(folder)
    except SemError as error:
        return "refused", [error.message]
    except Exception as error:
        return "traceback", [f"{type(error).__name__}: {error}"]
    return ("refused" if faults else "accepted"), faults


def signed_outcome(folder: Path, public: Path) -> tuple[str, list[str]]:
    """Return what the signature says of `folder`: accepted, refused or traceback, and lines."""
    from sem.package.publish import signature

    try:
        faults = signature.signature_faults(folder, public)
    except SemError as error:
        return "refused", [error.message]
    except Exception as error:
        return "traceback", [f"{type(error).__name__}: {error}"]
    return ("refused" if faults else "accepted"), faults


def main(argv: list[str] | None = None) -> None:
    parser: argparse.ArgumentParser = console.make_argument_parser(__doc__)
    parser.parse_args(argv)
    import hostilecontents
    import hostilepackages
    import signers

    from sem.package.publish import signature

    rows, signed_rows, slowest = [], [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"SEM_DEVICE": "cpu", "WANDB_MODE": "disabled", "SEM_ROOT": folder}
        good = make_package(Path(folder))
        before = outcome(good)
        key, public = signers.write_keys(Path(folder))
        signed = shutil.copytree(good, Path(folder) / "signed" / good.name)
        signature.sign_package(signed, key)
        signed_before = signed_outcome(signed, public)[0]
        for name, case in (hostilepackages.CASES | hostilecontents.CASES).items():
            copy = shutil.copytree(good, Path(folder) / "copies" / good.name)
            case.plant(copy)
            began = time.perf_counter()
            what, said = outcome(copy)
            slowest = max(slowest, time.perf_counter() - began)
            shutil.rmtree(copy)
            copy = shutil.copytree(signed, copy)
            case.plant(copy)
            signed_rows.append((name, *signed_outcome(copy, public)))
            shutil.rmtree(copy)
            wanted = "accepted" if case.words is None else "refused"
            is_named = case.words is None or any(case.words in line for line in said)
            first = (said or [""])[0].replace(str(copy), "PACKAGE").replace("|", "\\|")[:110]
            rows.append((name, what, first, what == wanted and is_named))
    text = written(before[0], rows, slowest, signed_before, signed_rows)
    path = ROOT / "benchmarks" / "results" / "faults_packages.md"
    console.print_output_path(files.write_file(path, text + "\n"))


def written(
    before: str,
    rows: list[tuple[str, str, str, bool]],
    slowest: float,
    signed_before: str,
    signed_rows: list[tuple[str, str, list[str]]],
) -> str:
    """Return the report over `rows`; `before`: what verify says of the good package.

    `signed_rows`: what the signature says of the same cases.
    """
    counts = {
        what: sum(row[1] == what for row in rows) for what in ("refused", "accepted", "traceback")
    }
    untold = [name for name, what, _, _ in rows if what == "accepted"]
    unexpected = [name for name, _, _, as_wanted in rows if not as_wanted]
    missed = [name for name, what, _ in signed_rows if what != "refused"]
    by_signature = sum(what == "refused" for _, what, _ in signed_rows)
    lines = [
        "# Hostile packages (C4)",
        "Command: `python benchmarks/faults/packages.py`; a tiny trained package, every case",
        "sealed anew by the attacker.",
        "",
        f"- The package that nobody changed: {before}.",
        f"- Of {len(rows)} changed ones {counts['refused']} are refused by name, "
        f"{counts['traceback']} are tracebacks, {counts['accepted']} are accepted.",
        f"- Not as the catalogue says: {', '.join(unexpected) or 'none'}.",
        f"- The slowest took {slowest:.0f} s (what renders may take 30 s of processor time).",
        "- Only a signature can tell these, because nothing else in a package follows from them: "
        f"{', '.join(untold)}.",
        f"- Signed before, and asked for with `--signed-by`: the good one is {signed_before}, "
        f"{by_signature} of {len(signed_rows)} changed ones are refused by name; not refused: "
        f"{', '.join(missed) or 'none'}.",
        "",
        "| change | outcome | first line |",
        "|---|---|---|",
        *(f"| {name} | {what} | {line} |" for name, what, line, _ in rows),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    console.run_main(main)

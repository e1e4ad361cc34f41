"""R13: hostile inputs from public suites; each must be handled or refused, typed and in time.

    python benchmarks/faults/inputs.py

A case is handled when the reader returns a value, or refuses with this project's own error, within
2 seconds. Anything else (another exception, a hang) is a fault. Cases a suite calls `reject` must
be refused and `accept` must be read. Inputs come from ../shared/data/hostile.

Writes  benchmarks/results/faults_inputs.md
"""

import base64
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sem.core import console, files, jsonio, schema, settings
from sem.core.errors import SemError

HERE = Path(__file__).resolve().parent
HOSTILE = HERE.parents[2] / "shared" / "data" / "hostile"
Case = tuple[str, str, Callable[[], object]]  # name, expected (accept, reject, either), the call


def main(argv: list[str] | None = None) -> None:
    console.parser(__doc__).parse_args(argv)
    if not HOSTILE.is_dir():
        raise SemError(f"{HOSTILE}: no such folder", "this benchmark needs the shared data")
    rows = [tally(name, suite()) for name, suite in SUITES.items()]
    total = [sum(row[i] for row in rows) for i in range(1, 6)]
    columns = ("suite", "cases", "handled", "other than expected", "untyped", "over 2 s")
    shown = [*rows, ("all", *total)]
    console.table("hostile inputs", columns, shown)
    lines = ["# Hostile inputs (R13)", "Command: `python benchmarks/faults/inputs.py`", ""]
    lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in shown]
    console.done(
        files.write(HERE.parent / "results" / "faults_inputs.md", "\n".join(lines) + "\n")
    )
    if total[3] or total[4]:
        raise SemError(f"{total[3]} untyped faults, {total[4]} over time", "see stderr for names")


def tally(suite: str, cases: Iterator[Case]) -> tuple[str, int, int, int, int, int]:
    """Counts of one suite; every fault is named on stderr."""
    count = handled = unexpected = untyped = slow = 0
    for name, expected, call in cases:
        began = time.monotonic()
        count += 1
        try:
            call()
            outcome = "accept"
        except (SemError, ValueError) as error:
            typed = isinstance(error, SemError) or suite == "json"
            outcome = "reject" if typed else "fault"
        except Exception:
            outcome = "fault"
        late = time.monotonic() - began > 2
        untyped += outcome == "fault"
        slow += late
        handled += outcome != "fault" and not late
        wrong = expected in ("accept", "reject") and outcome != expected
        unexpected += wrong
        if wrong or late or outcome == "fault":
            console.note(f"{suite}: {name}: {outcome}, expected {expected}")
    return suite, count, handled, unexpected, untyped, slow


def rows(name: str) -> Iterator[dict[str, Any]]:
    with (HOSTILE / f"{name}.jsonl").open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def json_cases() -> Iterator[Case]:
    for row in rows("json_parsing"):
        data = base64.b64decode(row["bytes_base64"])
        yield row["name"], row["expected"], lambda data=data: jsonio.loads(data.decode("utf-8"))


def yaml_cases() -> Iterator[Case]:
    # Settings take plain YAML only: no aliases, no tags, text keys; so any case may be refused.
    for row in rows("yaml_cases"):
        expected = "either"
        yield row["id"], expected, lambda row=row: settings.parse_yaml(row["yaml"], row["id"])


def schema_cases() -> Iterator[Case]:
    for number, row in enumerate(rows("json_schema_cases")):
        yield f"{row['file']}#{number}", "either", lambda row=row: judge(row)


def judge(row: dict[str, Any]) -> None:
    if isinstance(row["schema"], dict):
        schema.check(row["schema"], row["file"])
        schema.problems(row["data"], row["schema"])


def names() -> Iterator[Case]:
    for number, row in enumerate(rows("naughty_strings")):
        text = row["text"]
        yield str(number), "either", lambda text=text: inside(text)


def inside(text: str) -> None:
    """A name that is accepted stays one folder below its parent."""
    import os

    accepted = files.safe_name("sem", text)
    path = os.path.normpath(os.path.join("/configs", accepted))
    if os.path.dirname(path) != "/configs":
        raise AssertionError(f"{text!r} escapes")


def pages() -> Iterator[Case]:
    from sem.dataset import markup

    for number, row in enumerate(rows("html5_tokenizer")):
        page = f"<html><body>{row['input']}</body></html>"
        yield str(number), "accept", lambda page=page: markup.simplify(page)
    for number, row in enumerate(rows("prompt_injection")):
        page = f"<html><body><p>{row['text']}</p></body></html>"
        yield f"injection {number}", "accept", lambda page=page: markup.simplify(page)


SUITES = {
    "json": json_cases,
    "yaml": yaml_cases,
    "json schema": schema_cases,
    "names": names,
    "html": pages,
}

if __name__ == "__main__":
    console.run(main)

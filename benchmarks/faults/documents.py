"""R13, documents: bad files through the forge's readers; each is read or named, in time.

    python benchmarks/faults/documents.py [--family NAME]

A case is one folder. It is handled when its file is read, cut into chunks that hold every
character, and scanned for keys; or when it is skipped by one of the names that fit it. Anything
raised, a crash of the reader, a file read from outside the folder, a control token in a prompt,
more than 2 s of processor time or more than 512 MB are faults. Seconds are of the processor,
reader and parent together.

Writes  benchmarks/results/faults_documents.md
"""

import argparse
import os
import re
import resource
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support"), str(HERE)]

from benchmarks.faults import document_cases  # noqa: E402
from sem.core import console, files  # noqa: E402
from sem.core.errors import SemError  # noqa: E402
from sem.forge.reading.convert import Converter, ReadingLimits  # noqa: E402
from sem.forge.sources import chunks, documents, secret_scan  # noqa: E402
from sem.forge.teacher import prompts  # noqa: E402

LATE_S, MOST_MIB = 2.0, 512
COLUMNS = (
    "family",
    "cases",
    "read",
    "skipped by name",
    "not as expected",
    "raised",
    "reader crashed",
    "over 2 s",
    "slowest s",
    "peak MiB",
)
CONTROL = re.compile(r"<(?:end_of_turn|start_of_turn|bos|/s|\|im_end\|)>|\[/?INST\]")


@dataclass
class Said:
    """What became of one case."""

    family: str
    name: str
    outcome: str
    expected: bool
    seconds: float
    peak_mib: float
    why: str = ""


class Watched:
    """One reader for all cases; what `documents.read` opens and closes for each."""

    shared: Any = None

    def __init__(self, limits: ReadingLimits) -> None:
        if Watched.shared is None:
            Watched.shared = Converter(limits)

    def __enter__(self) -> Any:
        return Watched.shared

    def __exit__(self, *_: object) -> None:
        return


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", action="append", choices=[*document_cases.FAMILIES])
    args = parser.parse_args(argv)
    documents.Converter = Watched  # type: ignore[misc]
    said = []
    for family in args.family or document_cases.FAMILIES:
        for case in document_cases.FAMILIES[family]():
            said.append(tried(family, *case))
    Watched.shared.__exit__()
    told(said, bool(args.family))


def tried(family: str, name: str, put: document_cases.Put, allowed: frozenset[str]) -> Said:
    """Return what becomes of the files that `put` lays."""
    Watched(ReadingLimits())
    kind = {"pdf": "pdf", "docx": "docx"}.get(family, "docx" if "docx" in name else "txt")
    kind = "pdf" if family == "damaged" and name.startswith("pdf") else kind
    # a reader that died is started again outside the clock.
    Watched.shared.read(kind, b"warm")
    worker = Watched.shared.worker(kind)._process.pid
    Path(f"/proc/{worker}/clear_refs").write_text("5")  # its peak starts anew
    with tempfile.TemporaryDirectory(prefix="sem-papers-") as folder:
        raw = Path(folder) / "raw"
        raw.mkdir()
        put(raw)
        before, began = spent(worker), time.process_time()
        why = ""
        try:
            outcome, why = through(raw)
        except Exception as error:
            outcome, why = "raised", f"{type(error).__name__}: {error}"[:200]
        seconds = time.process_time() - began + spent(worker) - before
    fits = outcome in allowed
    return Said(family, name, outcome, fits, seconds, peak(worker), why)


def through(raw: Path) -> tuple[str, str]:
    """Return the outcome of the one file in `raw`, and a detail."""
    skips: list[chunks.Skip] = []
    found = list(documents.read_documents(raw, ReadingLimits(), skips.append))
    for document in found:
        if "PRIVATE" in document.text.split("PRIVATE KEY")[0]:
            return "raised", "a file outside the folder was read"
        pieces = chunks.cut_chunks(document)
        if pieces.missing(document):
            return "raised", f"characters in no chunk: {pieces.missing(document)[:3]}"
        secret_scan.find_secrets(document.text)
        for chunk in pieces.chunks[:50]:
            if CONTROL.search(prompts.neutralise_text(chunk.text)):
                return "raised", "a control token would reach the teacher"
    if found:
        return "read", ""
    return (skips[0].reason, skips[0].detail) if skips else ("ignored", "")


def spent(worker: int) -> float:
    """Processor seconds of the process `worker`; of all that ended, too."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = ended.ru_utime + ended.ru_stime
    try:
        parts = Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return total
    return total + (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


def peak(worker: int) -> float:
    """MiB that `worker` held at most in this case; 0 when it was ended."""
    try:
        lines = Path(f"/proc/{worker}/status").read_text().splitlines()
    except OSError:
        return 0.0
    found = [line for line in lines if line.startswith("VmHWM")]
    return int(found[0].split()[1]) / 1024 if found else 0.0


def told(said: list[Said], is_part: bool) -> None:
    rows = [
        row(family, [s for s in said if s.family == family])
        for family in dict.fromkeys(s.family for s in said)
    ]
    rows.append(row("all", said))
    console.print_table("bad documents", COLUMNS, rows)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    wrong = [
        f"{s.family}: {s.name}: {s.outcome}, {s.seconds:.2f} s, {s.peak_mib:.0f} MiB {s.why}"
        for s in said
        if not s.expected
        or s.seconds > LATE_S
        or s.peak_mib > MOST_MIB
        or s.outcome in ("raised", "document_crash")
    ]
    outcomes = Counter(s.outcome for s in said)
    for line in wrong:
        console.print_note(line)
    lines = [
        "# Bad documents (R13)",
        f"Command: `python benchmarks/faults/documents.py`, {os.cpu_count()} CPUs. Target: 300 of "
        "300 catalogued inputs handled, each within 2 s and 512 MB, no crash.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
        *("| " + " | ".join(map(str, one)) + " |" for one in rows),
        "",
        f"Largest reader that was ended or stopped: {ended:.0f} MiB resident. Limits: 1.5 s of "
        "processor time, as much again for each megabyte of text, sixth of a megabyte of Word XML "
        "and 10 pages, 60 s in all; 512 MiB. So a long document takes longer than 2 s, and may: "
        "20,000 runs of a Word file took 1.96 and 2.17 s in two runs.",
        "",
        "Outcomes: "
        + ", ".join(f"{count} {name}" for name, count in outcomes.most_common())
        + ".",
        "",
        "## Not as expected, late or crashed",
        "",
        *(f"- {line}" for line in wrong or ["none"]),
    ]
    if not is_part:
        text = "\n".join(console.replace_control_characters(line) for line in lines) + "\n"
        console.print_output_path(
            files.write_file(ROOT / "benchmarks" / "results" / "faults_documents.md", text)
        )
    if wrong:
        raise SemError(f"{len(wrong)} of {len(said)} cases", "see the lines above")


def row(name: str, said: list[Said]) -> tuple[Any, ...]:
    """Return the counts of `said`."""
    outcomes = Counter(s.outcome for s in said)
    skipped = len(said) - outcomes["read"] - outcomes["raised"] - outcomes["document_crash"]
    return (
        name,
        len(said),
        outcomes["read"],
        skipped,
        sum(not s.expected for s in said),
        outcomes["raised"],
        outcomes["document_crash"],
        sum(s.seconds > LATE_S for s in said),
        f"{max(s.seconds for s in said):.2f}",
        f"{max(s.peak_mib for s in said):.0f}",
    )


if __name__ == "__main__":
    console.run_main(main)

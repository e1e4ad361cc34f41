"""The local teachers: tokens a second, and how many replies to the forge's own prompts are usable.

    python benchmarks/quality/local_teacher.py [--chunks 20] [--pairs 1] [--model smollm2]

Each reply is held to the JSON Schema of its request. Kept: pairs that the default quality checks
keep, near-duplicates among themselves included.

Reads   ../shared/data/forge/rust_book, models/base/gguf/
Writes  benchmarks/results/local_teacher.md
"""

import argparse
import random
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.speed.clean import machine
from sem.forge.base import Chunk, Document
from sem.forge.checks import pair_quality
from sem.forge.sources import chunks
from sem.forge.teacher import prompts
from sem.forge.teacher.presets import TeacherSettings
from sem.forge.teacher.teacher import Teacher
from sem.forge.teacher.teacher import make_teacher as teacher_of
from sem.lm.api.provider import Calls, Price, Provider
from sem.lm.local import llamacpp
from sem.lm.weights import gguf_files

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT.parent / "shared" / "data" / "forge" / "rust_book" / "raw"
COLUMNS = (
    *("teacher", "chunks", "usable replies", "faults", "pairs", "kept", "dropped"),
    *("tokens in, mean", "tokens out, mean", "tokens/s written", "seconds a chunk"),
)


def passages(count: int) -> list[Chunk]:
    """Return `count` chunks of the book, drawn over all of its chapters."""
    found: list[Chunk] = []
    for path in sorted(BOOK.rglob("*.md")):
        document = Document(path.name, "0" * 64, path.read_text("utf-8"), "md")
        found += chunks.cut_chunks(document).chunks
    long = [chunk for chunk in found if len(chunk.text) > 500]
    return random.Random(42).sample(long, count)


def asked(teacher: Teacher, given: list[Chunk], pairs: int) -> tuple[object, ...]:
    """Return one row of the table."""
    brief = prompts.PromptBrief(pairs=pairs)
    made, faults = [], Counter()
    began, usable = time.monotonic(), 0
    requests = ((chunk, prompts.pairs_request(chunk, brief, teacher)) for chunk in given)
    for chunk, request, outcome in teacher.answered(requests):
        usable += outcome.is_usable
        good, bad = prompts.pairs_of_reply(chunk, request, outcome, brief)
        made += good
        faults.update(row.reason for row in bad)
    took = time.monotonic() - began
    verdicts = list(
        pair_quality.sift_pairs(made, pair_quality.QualityContext(pair_quality.Quality()))
    )
    dropped = Counter(str(v.reason) for v in verdicts if not v.kept)
    spent, count = teacher.spending, len(given)
    return (
        count,
        usable,
        counted(faults),
        len(made),
        sum(v.kept for v in verdicts),
        counted(dropped),
        round(spent.tokens_in / count),
        round(spent.tokens_out / count),
        f"{spent.tokens_out / took:.1f}",
        f"{took / count:.0f}",
    )


def counted(found: Counter[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in found.most_common()) or "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--model", action="append", help="default: both")
    args = parser.parse_args()
    given, rows = passages(args.chunks), []
    for name in args.model or ["smollm2", "qwen2.5-coder-0.5b"]:
        path = gguf_files.locate_gguf(name, ROOT)
        server = llamacpp.Server(llamacpp.Serving(path, port=0))
        here = Provider(
            "openai/local", api_base=server.address, price=Price(0, 0), json_mode="schema"
        )
        calls = Calls((here,), workers=1, timeout_s=900)
        with tempfile.TemporaryDirectory() as folder:
            settings = TeacherSettings(calls=calls, max_tokens=400, reasks=0, pilot=0)
            made = teacher_of(settings, Path(folder), datetime.now(UTC))
            rows.append((path.stem, *asked(made, given, args.pairs)))
        print(rows[-1], flush=True)
        del server
    lines = [
        "# Local teachers",
        f"Command: `python benchmarks/quality/local_teacher.py`, {machine()}",
        "",
    ]
    lines += [
        f"{args.pairs} pair(s) asked of each chunk, at most 400 tokens a reply, no second try.",
        "",
    ]
    lines += ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    text = "\n".join(lines) + "\n"
    print(text)
    (ROOT / "benchmarks" / "results" / "local_teacher.md").write_text(text, "utf-8")


if __name__ == "__main__":
    main()

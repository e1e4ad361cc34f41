"""Chunking: coverage, sizes and where chunks end, against splitters of a fixed size.

    python benchmarks/quality/chunking.py [--chars 2000]

A chunk ends inside a sentence when the text goes on after it without a full stop, a paragraph's
end or another block; inside code when both sides of its end are lines of one fence. Judged by
rules of this file, not by the cutter's own. The peers: every N characters, as many splitters do,
and a recursive one (paragraph, line, space, letter) as others ship it, written out in 20 lines.
All in one run, on one core.

Reads   ../shared/data/forge (all documents)
Writes  benchmarks/results/chunking.md
"""

import argparse
import re
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.speed.clean import machine
from sem.forge.base import Document
from sem.forge.reading.convert import Converter
from sem.forge.sources import chunks, secret_scan
from sem.forge.sources.chunks import Sizes

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT.parent / "shared" / "data" / "forge"
CLOSERS = "\"'”’»)\\]*_`」』）"
ENDS = re.compile(
    rf"[.!?…:。！？：][{CLOSERS}]*$|[|}}>]$|^#.*$|^\s*(?:[-*+]|\d+\.)\s.*$|^-{{3,}}$"
)
BEGINS = re.compile(r"#|\s*[-*+>|]|\s*\d+\.\s|```|<|\[|---")
FENCE = re.compile(r"^[ \t]*(?:```|~~~)[^\n]*$", re.M)
SEPARATORS = ("\n\n", "\n", " ", "")
Spans = list[tuple[int, int]]
Splitter = Callable[[Document], Spans]


@dataclass
class Measured:
    """What a splitter made of all documents."""

    chunks: int = 0
    sizes: list[int] = field(default_factory=list)
    mid_sentence: int = 0
    mid_code: int = 0
    # Of chunks that are not the last of their document.
    ends: int = 0
    uncovered: int = 0
    seconds: float = 0.0


def fixed(size: int) -> Splitter:
    return lambda document: [
        (start, min(start + size, len(document.text)))
        for start in range(0, len(document.text), size)
    ]


def recursive(size: int) -> Splitter:
    """Paragraphs, else lines, else words, else letters, joined again up to `size`."""

    def pieces(text: str, start: int, separators: tuple[str, ...]) -> Spans:
        first, *rest = separators
        parts = re.split(f"(?<={re.escape(first)})", text) if first else list(text)
        made: Spans = []
        for part in parts:
            end = start + len(part)
            if len(part) > size and rest:
                made += pieces(part, start, tuple(rest))
            elif made and end - made[-1][0] <= size:
                made[-1] = (made[-1][0], end)
            elif part:
                made.append((start, end))
            start = end
        return made

    return lambda document: pieces(document.text, 0, SEPARATORS)


def ours(size: int, overlap: int) -> Splitter:
    cut = Sizes(size, overlap)

    def split(document: Document) -> Spans:
        pieces = chunks.cut_chunks(document, cut)
        spans = [(chunk.start, chunk.end) for chunk in pieces.chunks]
        return spans + [skip.span for skip in pieces.skips if skip.span]

    return split


def measured(splitter: Splitter, documents: list[Document]) -> Measured:
    made, found = Measured(), []
    began = time.process_time()
    for document in documents:
        found.append(splitter(document))
    made.seconds = time.process_time() - began
    for document, spans in zip(documents, found, strict=True):
        text, code = document.text, fences(document.text)
        reached = 0
        for start, end in sorted(spans):
            made.uncovered += max(0, start - reached)
            reached = max(reached, end)
            made.chunks += 1
            made.sizes.append(end - start)
            if text[end:].strip():
                made.ends += 1
                inside = any(a < end < b for a, b in code)
                made.mid_code += inside
                made.mid_sentence += not inside and is_mid_sentence(text, end)
        made.uncovered += len(text) - reached
    return made


def fences(text: str) -> Spans:
    """Spans from an opening fence to the end of its closing one."""
    marks = [match.span() for match in FENCE.finditer(text)]
    return [(marks[n][0], marks[n + 1][1]) for n in range(0, len(marks) - 1, 2)]


def is_mid_sentence(text: str, end: int) -> bool:
    before, after = text[max(0, end - 400) : end], text[end : end + 80]
    space = re.search(r"\s*$", before)[0] + re.match(r"\s*", after)[0]  # type: ignore[index]
    if space.count("\n") >= 2:
        return False
    last = before.rstrip().rsplit("\n", 1)[-1]
    if ENDS.search(last) and (space or last[-1:] in "。！？」』）"):
        return False
    return not ("\n" in space and BEGINS.match(after.lstrip("\n")))


def row(name: str, made: Measured) -> str:
    share = [f"{100 * count / made.ends:.1f} %" for count in (made.mid_sentence, made.mid_code)]
    sizes = sorted(made.sizes)
    spread = [sizes[len(sizes) * p // 100] for p in (5, 50, 95)]
    return (
        f"| {name} | {made.chunks:,} | {spread[0]:,} / {spread[1]:,} / {spread[2]:,} | "
        f"{max(sizes):,} | {made.uncovered:,} | {share[0]} | {share[1]} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chars", type=int, nargs="+", default=[2_000, 1_000, 500])
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    paths = sorted(SOURCES.glob("*/raw/*"))
    began = spent()
    documents = []
    with Converter() as converter:
        for path in paths:
            made = converter.read("md", path.read_bytes())
            assert made.reason is None, path
            documents.append(Document(path.name, "0" * 64, made.text, "md"))
    reading = spent() - began
    characters = sum(len(document.text) for document in documents)
    said = " ".join(map(str, args.chars))
    lines = [
        "# Chunking",
        "",
        f"{len(documents)} documents of ../shared/data/forge (rust_book, opensource_guides in "
        f"four languages), {characters:,} characters. {machine()}.",
        "",
        f"Command: `python benchmarks/quality/chunking.py --chars {said} --repeat {args.repeat}`",
    ]
    for chars in args.chars:
        lines += table(documents, chars)
    lines += speed(documents, args.chars[0], args.repeat, reading)
    text = "\n".join(lines) + "\n"
    (ROOT / "benchmarks" / "results" / "chunking.md").write_text(text, "utf-8")
    print(text)


def spent() -> float:
    """Processor seconds of this process and of those that ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def splitters(chars: int) -> dict[str, Splitter]:
    return {
        "**ours**": ours(chars, chars // 10),
        "ours, no overlap": ours(chars, 0),
        "recursive": recursive(chars),
        "every N characters": fixed(chars),
    }


def table(documents: list[Document], chars: int) -> list[str]:
    """Return lines on chunks of at most `chars` characters."""
    found = {name: measured(splitter, documents) for name, splitter in splitters(chars).items()}
    return [
        "",
        f"At most {chars:,} characters:",
        "",
        "| splitter | chunks | characters, p5 / p50 / p95 | longest | characters in none | "
        "end inside a sentence | end inside code |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(row(name, made) for name, made in found.items()),
    ]


def speed(documents: list[Document], chars: int, repeat: int, reading: float) -> list[str]:
    """Return how fast each splitter is in this run, and the steps before it."""
    size = sum(len(document.text.encode()) for document in documents) / 1e6
    times: dict[str, list[float]] = {name: [] for name in splitters(chars)}
    for _ in range(repeat):
        for name, splitter in splitters(chars).items():
            began = time.process_time()
            for document in documents:
                splitter(document)
            times[name].append(time.process_time() - began)
    began = time.process_time()
    for document in documents:
        secret_scan.find_secrets(document.text)
    scanning = time.process_time() - began
    speeds = {name: size / statistics.median(taken) for name, taken in times.items()}
    ratio = speeds["ours, no overlap"] / speeds["recursive"]
    return [
        "",
        f"Speed at {chars:,}, {size:.2f} MB, one core, one run, median of {repeat}: "
        + ", ".join(f"{name} {value:.1f} MB/s" for name, value in speeds.items())
        + f"; **{ratio:.2f}x** of the recursive one, which looks for no sentence, fence or "
        f"heading. The scan for keys takes {size / scanning:.1f} MB/s; reading all files in the "
        f"caged process, its start included, {size / reading:.2f} MB/s of processor time.",
    ]


if __name__ == "__main__":
    main()

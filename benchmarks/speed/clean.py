"""What cleaning keeps and costs: tokens, evidence, pages a second, memory.

    python benchmarks/speed/clean.py                          tokens, evidence and speed
    python benchmarks/speed/clean.py --memory 1000 50000      and the peak memory of dataset.clean

Reads   ../shared/data/html/examples.duckdb, models/base/*/tokenizer.json (or --tokenizer)
Writes  benchmarks/results/clean.md
"""

import argparse
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from sem.core import files, jsonio  # noqa: E402
from sem.core.project import Project  # noqa: E402
from sem.dataset.clean import clean, grounding  # noqa: E402
from sem.dataset.html import markup  # noqa: E402
from sem.dataset.store import store  # noqa: E402
from sem.dataset.store.store import RawRow  # noqa: E402

PAGES = ROOT.parent / "shared" / "data" / "html" / "examples.duckdb"
SPEC = {
    "task_version": "1.0.0",
    "base_model_id": "any/model",
    "system_prompt": "s",
    "instruction_template": "{{input_text}}",
    "io_schema": {"type": "object"},
    "rubric": {},
    "eval_split": {"strategy": "random"},
}


@dataclass(frozen=True)
class Page:
    """A raw page and the values of its reference that its annotators saw on it."""

    html: str
    values: list[object]


def pages(path: Path, limit: int | None) -> list[Page]:
    """Return the pages of the store at `path`, every n-th one when there are more than `limit`."""
    found = []
    with store.open_store(path) as opened:
        for row in opened.rows():
            where = jsonio.parse_json(row.metadata).get("evidence", {})
            leaves = grounding.scalar_leaves(jsonio.parse_json(row.reference))
            seen = [v for slot, v in leaves if where.get(slot, "label") in EVIDENCE]
            found.append(Page(row.input_text[row.input_text.index("<") :], seen))
    return found[:: max(1, len(found) // limit)] if limit else found


# Labels, derived values and values that annotators did not find on the page prove nothing.
EVIDENCE = ("visible", "attr", "attr_partial", "absent")


def ours(html: str) -> str:
    return markup.simplify_page(html).text


def ours_in_6000(html: str) -> str:
    return markup.simplify_page(html, budget=6_000).text


def ours_in_3000(html: str) -> str:
    return markup.simplify_page(html, budget=3_000).text


def first_6000(html: str) -> str:
    return ours(html)[:6_000]


def strip_tags(html: str) -> str:
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(html)
    tree.strip_tags(["script", "style", "svg", "noscript", "template"])
    return " ".join(tree.body.text(separator=" ").split()) if tree.body else ""


def lxml_text(html: str) -> str:
    from lxml import etree
    from lxml import html as parser

    try:
        utf8 = parser.HTMLParser(encoding="utf-8")
        tree = parser.document_fromstring(html.encode("utf-8", "replace"), parser=utf8)
    except etree.ParserError:  # it finds some real pages "empty"
        return ""
    for node in tree.xpath("//script|//style|//svg|//noscript|//template"):
        node.drop_tree()
    return " ".join(tree.text_content().split())


def soup_text(html: str) -> str:
    from bs4 import BeautifulSoup

    tree = BeautifulSoup(html, "html.parser")
    for node in tree(["script", "style", "svg", "noscript", "template"]):
        node.decompose()
    return " ".join(tree.get_text(" ").split())


def trafilatura_text(html: str) -> str:
    import trafilatura

    return trafilatura.extract(html, include_links=True, include_tables=True) or ""


METHODS: dict[str, Callable[[str], str]] = {
    "raw page": str,
    "this cleaner": ours,
    "this cleaner, 6,000 characters": ours_in_6000,
    "this cleaner, cut at 6,000": first_6000,
    "this cleaner, 3,000 characters": ours_in_3000,
    "tag strip (selectolax)": strip_tags,
    "tag strip (lxml)": lxml_text,
    "tag strip (BeautifulSoup)": soup_text,
    "trafilatura": trafilatura_text,
}


def measure(method: Callable[[str], str], sample: list[Page], count: Callable[[str], int]) -> dict:
    """Tokens, evidence and speed of `method` on `sample`."""
    start = time.process_time()
    texts = [method(page.html) for page in sample]
    seconds = time.process_time() - start
    before = kept = 0
    for page, text in zip(sample, texts, strict=True):
        whole, left = grounding.groundable_text(page.html), grounding.SearchableText(text)
        there = [value for value in page.values if grounding.is_grounded(value, whole)]
        before += len(there)
        # What the raw page holds is the measure, so it keeps all of it.
        kept += sum(method is str or grounding.is_grounded(value, left) for value in there)
    tokens = sum(map(count, texts))
    return {"tokens": tokens / len(sample), "before": before, "kept": kept, "seconds": seconds}


def table(sample: list[Page], count: Callable[[str], int]) -> Iterator[str]:
    yield "| method | tokens a page | of raw | evidence kept | pages/s on one core |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    raw = None
    for name, method in METHODS.items():
        try:
            found = measure(method, sample, count)
        except ImportError as error:
            print(f"{name}: left out: {error}", file=sys.stderr)
            continue
        raw = raw or found["tokens"]
        rate = "-" if method is str else f"{len(sample) / found['seconds']:.0f}"
        kept = f"{found['kept'] / found['before']:.2%} of {found['before']:,}"
        line = (
            f"| {name} | {found['tokens']:,.0f} | {found['tokens'] / raw:.1%} | {kept} | {rate} |"
        )
        print(line, file=sys.stderr)
        yield line


def memory(count: int) -> str:
    """Peak memory of dataset.clean on `count` pages, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="sem-bench-") as folder:
        subprocess.run([sys.executable, __file__, "--fill", folder, str(count)], check=True)
        command = [sys.executable, __file__, "--child", folder]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return (
        f"| {count:,} | {found['store_mib']:,.0f} | {found['main_mib']:,.0f} | "
        f"{found['worker_mib']:,.0f} | {found['seconds']:,.0f} | "
        f"{count / found['seconds']:.0f} |"
    )


def child(folder: str) -> None:
    """Clean the store in `folder`, and print what it took."""
    project = Project("bench", Path(folder))
    start = time.perf_counter()
    watch = Watch()
    watch.start()
    clean.clean_store(project)
    found = {
        "seconds": time.perf_counter() - start,
        "main_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "worker_mib": watch.peak_mib,
        "store_mib": project.store.stat().st_size / (1 << 20),
    }
    print(json.dumps(found))


class Watch(threading.Thread):
    """Remembers the largest peak among this process's children.

    Not RUSAGE_CHILDREN, and not before its own program runs: until then a child shares its
    parent's memory, and would be counted with the parent's peak.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_mib = 0.0

    def run(self) -> None:
        while True:
            for task in Path("/proc/self/task").glob("*/children"):
                for pid in task.read_text().split():
                    self.peak_mib = max(self.peak_mib, _peak_mib(Path("/proc") / pid))
            time.sleep(0.2)


def _peak_mib(process: Path) -> float:
    try:
        if b"serve()" not in (process / "cmdline").read_bytes():
            return 0.0
        found = re.search(r"VmHWM:\s+(\d+) kB", (process / "status").read_text())
    except OSError:  # it has just ended
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def fill(folder: Path, count: int) -> None:
    """Write a store of `count` different pages: the real ones, each time with another sentence."""
    project = Project("bench", folder)
    spec = jsonio.pretty_json({**SPEC, "task_id": "page"})
    files.write_file(project.configs / "tasks" / "page.json", spec)
    files.write_file(project.configs / "dataset.yaml", "clean: {conflicts: keep}\n")
    with store.open_store(PAGES) as opened:
        real = [row for row in opened.rows() if len(row.input_text) < 100_000]
    store.append_store_rows(project.store, varied(real, count))


def varied(real: list[RawRow], count: int) -> Iterator[RawRow]:
    for number in range(count):
        row = real[number % len(real)]
        text = row.input_text.replace("</body>", f"<p>Copy {number}</p></body>", 1)
        yield replace(row, id=f"{number:06}", task="page", input_text=f"{number}\n{text}")


def machine() -> str:
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


def tokenizer(path: Path | None) -> Callable[[str], int]:
    from tokenizers import Tokenizer

    found = path or next(
        iter(sorted((ROOT / "models" / "base").glob("smol*/tokenizer.json"))), None
    )
    if found is None:
        sys.exit("no tokenizer under models/base: run `fab env.weights`, or name one: --tokenizer")
    made = Tokenizer.from_file(str(found))
    return lambda text: len(made.encode(text, add_special_tokens=False).ids)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--limit", type=int, help="about so many pages")
    parser.add_argument("--memory", type=int, nargs="*", default=[1_000], help="store sizes")
    parser.add_argument("--tokenizer", type=Path, help="tokenizer.json to count with")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--fill", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.fill:
        return fill(Path(args.fill[0]), int(args.fill[1]))
    if args.child:
        return child(args.child)
    if not PAGES.exists():
        sys.exit(f"{PAGES}: no real pages beside this checkout")
    sample = pages(PAGES, args.limit)
    lines = [
        "# Cleaning of pages\n",
        f"{len(sample)} real pages; evidence: reference values that are in the raw page (code and",
        "comments left out), verbatim or after normalising case, spaces, numbers and dates.",
        f"Tokens by SmolLM2's tokenizer. {machine()}.\n",
        f"Command: `python benchmarks/speed/clean.py {' '.join(sys.argv[1:])}`\n",
        *table(sample, tokenizer(args.tokenizer)),
        "\nMemory of `dataset.clean` with 2 workers on stores of real pages under 100,000",
        "characters, each varied by a sentence:\n",
        "| pages | store MiB | peak MiB, main | peak MiB, largest worker | seconds | pages/s |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
        *(memory(count) for count in args.memory),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    print(files.write_file(ROOT / "benchmarks" / "results" / "clean.md", text).relative_to(ROOT))


if __name__ == "__main__":
    main()

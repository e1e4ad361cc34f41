"""What each way to show a page to a small model keeps, slot by slot, whole and in 1,500 tokens.

    python benchmarks/representations.py [--limit 300]

Peers: trafilatura as text and as HTML, a plain tag-stripper, and this project's first cleaner,
taken from its git history. In 1,500 tokens a peer that knows no budget is cut at its end.

Reads   ../shared/data/html/examples.duckdb, models/base/*/tokenizer.json (or --tokenizer)
Writes  benchmarks/results/representations.md
"""

import argparse
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import clean as cleaning

from sem.core import jsonio
from sem.dataset import grounding, markup, store
from sem.dataset.config import TaskOptions
from sem.dataset.html.prune import Budget

ROOT = Path(__file__).resolve().parents[1]
FIRST = "daa59eb"
BUDGET = 1_500
Count = Callable[[str], int]


@dataclass(frozen=True)
class Page:
    """A raw page of a task and the values, by slot, that annotators saw on it."""

    task: str
    html: str
    values: list[tuple[str, object]]


def pages(limit: int | None) -> list[Page]:
    found = []
    with store.reading(cleaning.PAGES) as opened:
        for row in opened.rows():
            where = jsonio.loads(row.metadata).get("evidence", {})
            leaves = grounding.leaves(jsonio.loads(row.reference))
            seen = [(s, v) for s, v in leaves if where.get(s, "label") in cleaning.EVIDENCE]
            html = row.input_text[row.input_text.index("<") :]
            found.append(Page(row.task or "", html, seen))
    return found[:: max(1, len(found) // limit)] if limit else found


def cut(text: str, count: Count) -> str:
    """The longest start of TEXT that takes BUDGET tokens at most."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count(text[:middle]) <= BUDGET else (low, middle - 1)
    return text[:low]


def trafilatura_html(html: str) -> str:
    import trafilatura

    made = trafilatura.extract(
        html, output_format="html", include_links=True, include_tables=True, include_images=True,
        include_formatting=True,
    )  # fmt: skip
    return made or ""


class First:
    """The first cleaner of this project, in a process of its own."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="sem-first-")
        packed = subprocess.run(
            ["git", "-C", str(ROOT), "archive", FIRST, "scripts/sem"], stdout=subprocess.PIPE,
            check=True,
        ).stdout  # fmt: skip
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(self._folder.name, filter="data")
        code = (
            "import json, sys\nfrom sem.dataset import markup\n"
            "for line in sys.stdin:\n"
            "    page, budget = json.loads(line)\n"
            "    print(json.dumps(markup.simplify(page, budget=budget).text), flush=True)\n"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={"PYTHONPATH": f"{self._folder.name}/scripts"},
        )  # fmt: skip

    def __call__(self, html: str, budget: int | None = None) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([html, budget]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def within(self, html: str, count: Count) -> str:
        """Its own pruning, by the largest budget in characters that meets the one in tokens."""
        whole = self(html)
        if count(whole) <= BUDGET:
            return whole
        low, high, best = 500, 8_000, ""
        for _ in range(6):
            middle = (low + high) // 2
            made = self(html, middle)
            if count(made) <= BUDGET:
                low, best = middle, made
            else:
                high = middle
        return best


def methods(count: Count) -> dict[str, Callable[[str], str]]:
    first, addressed = First(), TaskOptions(form="addressed")
    budget = (Budget(BUDGET, count),)
    whole: dict[str, Callable[[str], str]] = {
        "lines (ours)": lambda page: markup.simplify(page).text,
        "address \\| text (ours)": lambda page: markup.simplify(page, addressed).text,
        "first version": first,
        "tag strip": cleaning.strip_tags,
        "trafilatura": cleaning.trafilatura_text,
        "trafilatura HTML": trafilatura_html,
    }
    return whole | {
        "lines, 1,500": lambda page: markup.simplify(page, None, None, budget).text,
        "address, 1,500": lambda page: markup.simplify(page, addressed, None, budget).text,
        "first, 1,500": lambda page: first.within(page, count),
        "tag strip, 1,500": lambda page: cut(cleaning.strip_tags(page), count),
        "trafilatura, 1,500": lambda page: cut(cleaning.trafilatura_text(page), count),
        "trafilatura HTML, 1,500": lambda page: cut(trafilatura_html(page), count),
    }


@dataclass
class Seen:
    """What one method kept: values by slot, and tokens by page."""

    kept: dict[str, int]
    tokens: list[int]


def measure(sample: list[Page], count: Count) -> tuple[dict[str, int], list[int], dict[str, Seen]]:
    ways = methods(count)
    found = {name: Seen(defaultdict(int), []) for name in ways}
    there: dict[str, int] = defaultdict(int)
    raw = []
    for number, page in enumerate(sample, 1):
        whole = grounding.of_page(page.html)
        values = [(s, v) for s, v in page.values if grounding.found(v, whole)]
        raw.append(count(page.html))
        for slot, _ in values:
            there[f"{page.task}.{slot}"] += 1
        for name, way in ways.items():
            made = way(page.html)
            left = grounding.Text(made)
            found[name].tokens.append(count(made))
            for slot, value in values:
                found[name].kept[f"{page.task}.{slot}"] += grounding.found(value, left)
        if number % 50 == 0:
            print(f"{number} of {len(sample)} pages", file=sys.stderr, flush=True)
    return there, raw, found


def quantile(values: list[int], share: float) -> int:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def render(there: dict[str, int], raw: list[int], found: dict[str, Seen]) -> Iterator[str]:
    total = sum(there.values())
    yield "| representation | tokens a page | of raw | p95 | evidence kept |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for name, seen in {"raw page": Seen(there, raw), **found}.items():
        share = sum(seen.tokens) / sum(raw)
        kept = sum(seen.kept.values())
        yield (
            f"| {name} | {sum(seen.tokens) / len(raw):,.0f} | {share:.1%} | "
            f"{quantile(seen.tokens, 0.95):,} | {kept / total:.2%} of {total:,} |"
        )
    yield ""
    yield f"| slot | values | {' | '.join(found)} |"
    yield f"| --- | ---: |{' ---: |' * len(found)}"
    for slot, values in sorted(there.items()):
        cells = (f"{seen.kept[slot] / values:.1%}" for seen in found.values())
        yield f"| {slot} | {values:,} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, help="so many pages, spread over the set")
    parser.add_argument("--tokenizer", type=Path)
    args = parser.parse_args()
    sample = pages(args.limit)
    made = measure(sample, cleaning.tokenizer(args.tokenizer))
    limit = f" --limit {args.limit}" if args.limit else ""
    lines = [
        "# Representations of real pages",
        "",
        f"{len(sample)} real pages; evidence: reference values that annotators saw on the page",
        "and that its HTML holds. Tokens by SmolLM2's tokenizer. Cells are shares of those values",
        f"that what the model reads still holds. {cleaning.machine()}.",
        "",
        f"Command: `python benchmarks/representations.py{limit}`",
        "",
        *render(*made),
    ]
    text = "\n".join(lines) + "\n"
    (ROOT / "benchmarks" / "results" / "representations.md").write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()

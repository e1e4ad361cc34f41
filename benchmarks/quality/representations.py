"""What each way to show a page to a small model keeps: whole, in 1,500, 750 and 420 tokens.

    python benchmarks/quality/representations.py [--limit 300]

Ours comes from `pruning.py`: each page by weights that have not seen its site. Beside it stand a
plain tag strip and trafilatura, which know no budget and are cut at its end. Evidence: reference
values that annotators saw on the page and that its HTML holds.

Reads   ../shared/data/{html,html2}/pages.parquet, benchmarks/results/pruning.jsonl,
        models/base/*/tokenizer.json (or --tokenizer)
Writes  benchmarks/results/representations.md
"""

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path
from typing import Any

from benchmarks.quality import pruning
from benchmarks.speed import clean as cleaning
from sem.core import jsonio
from sem.dataset.clean import grounding
from sem.dataset.html import markup

ROOT = Path(__file__).resolve().parents[2]
PEERS: dict[str, Callable[[str], str]] = {
    "tag strip": cleaning.strip_tags,
    "trafilatura": cleaning.trafilatura_text,
}
OURS = "lines (ours)"


@dataclass(frozen=True)
class Measured:
    """A page's values, and per way and budget how many of them are left, and the tokens."""

    id: str
    task: str
    site: str
    there: int
    kept: dict[str, list[int]]
    tokens: dict[str, int]


def cut(text: str, limit: int | None) -> str:
    """Return the longest start of `text` that takes `limit` tokens at most."""
    count = pruning.counter()
    if limit is None or count(text) <= limit:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count(text[:middle]) <= limit else (low, middle - 1)
    return text[:low]


def measure(row: dict[str, Any]) -> Measured | None:
    """Return what the peers keep of a page; None where it holds no value."""
    values = pruning.values_of(row)
    if not values:
        return None
    kept, tokens = {}, {}
    count = pruning.counter()
    for name, method in PEERS.items():
        whole = method(row["html"])
        tokens[name] = count(whole)
        shown = [grounding.SearchableText(cut(whole, limit)) for limit in pruning.BUDGETS]
        kept[name] = [sum(grounding.is_grounded(v, text) for _, v in values) for text in shown]
    tokens[OURS] = count(markup.simplify_page(row["html"], pruning.options_of(row["task"])).text)
    tokens["raw page"] = count(row["html"])
    return Measured(row["id"], row["task"], row["site"] or row["id"], len(values), kept, tokens)


def with_ours(pages: Sequence[Measured]) -> list[Measured]:
    """Return `pages` with what `pruning.py` counted on them."""
    lines = pruning.ROWS.read_text("utf-8").splitlines()
    ours = {row["id"]: row["kept"] for row in map(jsonio.parse_json, lines)}
    for page in pages:
        page.kept[OURS] = ours[page.id]
    return list(pages)


def render(pages: Sequence[Measured]) -> Iterator[str]:
    """Yield the tables: tokens of whole pages, then what is kept by budget and task."""
    ways = [OURS, *PEERS]
    raw = sum(page.tokens["raw page"] for page in pages)
    yield "| representation | tokens a page | of raw | p95 |"
    yield "| --- | ---: | ---: | ---: |"
    for name in ("raw page", *ways):
        sizes = sorted(page.tokens[name] for page in pages)
        mean = sum(sizes) / len(sizes)
        p95 = sizes[len(sizes) * 95 // 100]
        yield f"| {name} | {mean:,.0f} | {sum(sizes) / raw:.1%} | {p95:,} |"
    tasks = sorted({page.task for page in pages})
    groups = {task: [page for page in pages if page.task == task] for task in tasks}
    groups["all"] = list(pages)
    groups["all but article bodies"] = [p for p in pages if p.task != pruning.BODY]
    for number, limit in enumerate(pruning.BUDGETS):
        yield ""
        yield f"## {f'Within {limit:,} tokens' if limit else 'Whole pages'}"
        yield ""
        yield f"| task | pages | sites | values | {' | '.join(ways)} |"
        yield f"| --- | ---: | ---: | ---: |{' ---: |' * len(ways)}"
        for task, part in groups.items():
            sites = [page.site for page in part]
            cells = [
                pruning.cell([(page.kept[way][number], page.there) for page in part], sites)
                for way in ways
            ]
            values = sum(page.there for page in part)
            yield (
                f"| {task} | {len(part):,} | {len(set(sites)):,} | {values:,} | "
                f"{' | '.join(cells)} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, help="so many pages, spread over the set")
    parser.add_argument("--tokenizer", type=Path)
    args = parser.parse_args()
    if args.tokenizer:
        os.environ["PRUNING_TOKENIZER"] = str(args.tokenizer)
    with Pool(os.cpu_count()) as pool:
        made = pool.map(measure, pruning.rows(args.limit), chunksize=10)
    pages = with_ours([page for page in made if page is not None])
    limit = f" --limit {args.limit}" if args.limit else ""
    lines = [
        "# Representations of real pages",
        "",
        f"{len(pages):,} real pages; evidence: reference values that annotators saw on the page",
        "and that its HTML holds. Each cell: the mean over pages of the share that is left, its",
        "95 % interval by site (jackknife), and the share of all values. Ours is cross-validated",
        f"by site; pages of {pruning.BODY} are cleaned with `prose: true`. Tokens by SmolLM2's",
        f"tokenizer. {cleaning.machine()}.",
        "",
        f"Commands: `python benchmarks/quality/pruning.py`, `python benchmarks/quality/representations.py{limit}`",
        "",
        *render(pages),
    ]
    text = "\n".join(lines) + "\n"
    (ROOT / "benchmarks" / "results" / "representations.md").write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()

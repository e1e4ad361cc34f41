"""What a line of a page is worth: fits `dataset/html/worth.py`, and compares the pruning.

    python benchmarks/pruning.py [--limit 300]

The fit sees the pages of half of the registered domains (SHA-256 of the domain, even); the other
half says whether it holds. A logistic regression over `prune.traits`: does this line hold a
reference value. Where several lines of a page hold one, the points set by hand say which counts.
Compared with those points, which the fit replaced, taken from this project's git history.

Reads   ../shared/data/html/examples.duckdb, models/base/*/tokenizer.json (or --tokenizer)
Writes  benchmarks/results/pruning.md
"""

import argparse
import hashlib
import subprocess
import sys
import time
import types
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import clean as cleaning

from sem.core import jsonio
from sem.dataset import grounding, markup, rows, store
from sem.dataset.config import TaskOptions
from sem.dataset.html import prune, worth
from sem.dataset.html.prune import Budget, Line

ROOT = Path(__file__).resolve().parents[1]
HAND = "48e267e"  # the last prune.py whose points were set by hand
BUDGETS = (1_500, 750)
FORMS = "navpage_forms"  # its answers are labels: the fields they tell of are its evidence
FIELD = 0.5  # what a form field counts there, a value being 1
RARE = 15  # lines; a trait of fewer gets no weight
SCALE = 10
C = 1.0  # by two folds of the fitted half, as the choice of traits
Count = Callable[[str], int]


@dataclass(frozen=True)
class Page:
    """A page as lines, and the values, by slot, that its raw HTML holds."""

    task: str
    domain: str
    lines: list[Line]
    tokens: int
    values: list[tuple[str, Any]]

    @property
    def is_fitted(self) -> bool:
        return int(hashlib.sha256(self.domain.encode()).hexdigest(), 16) % 2 == 0


def pages(limit: int | None, count: Count) -> list[Page]:
    with store.reading(cleaning.PAGES) as opened:
        found = list(opened.rows())
    found = found[:: max(1, len(found) // limit)] if limit else found
    return [_page(row, count) for row in found]


def _page(row: store.RawRow, count: Count) -> Page:
    from selectolax.lexbor import LexborHTMLParser

    told = jsonio.loads(row.metadata)
    where = told.get("evidence", {})
    html = row.input_text[row.input_text.index("<") :]
    whole = grounding.of_page(html)
    leaves = grounding.leaves(jsonio.loads(row.reference))
    seen = [(s, v) for s, v in leaves if where.get(s, "label") in cleaning.EVIDENCE]
    lines = prune.unique(markup._lines(LexborHTMLParser(html), TaskOptions())[0])
    domain = rows.registered_domain(told.get("url") or told.get("domain") or "")
    shown = "\n".join(line.render() for line in lines)
    there = [(s, v) for s, v in seen if grounding.found(v, whole)]
    return Page(row.task or "", domain, lines, count(shown), there)


def by_hand() -> Any:
    """The prune module of HAND, for today's lines."""
    source = subprocess.run(
        ["git", "-C", str(ROOT), "show", f"{HAND}:scripts/sem/dataset/prune.py"],
        stdout=subprocess.PIPE, check=True, text=True,
    ).stdout  # fmt: skip
    made = types.ModuleType("prune_by_hand")
    sys.modules[made.__name__] = made
    exec(compile(source, "prune_by_hand", "exec"), made.__dict__)
    made.Address, made.Line = prune.Address, prune.Line
    return made


def examples(page: Page, hand: Any) -> Iterator[tuple[list[str], bool, float]]:
    """Traits, target and weight of the lines of PAGE that say something about the target.

    A value counts 1 / sqrt(values of its slot on the page): ten ingredients are not ten titles.
    Other lines that hold a value too are left out: they are no counter-examples.
    """
    chosen = prune._best_images(page.lines, prune.IMAGES)
    bare = [line.without(prune.LINK) for line in chosen]
    texts = [line.render() for line in bare]
    worths, others = _credit(page, texts, hand.scores(bare, texts))
    for number, (line, found) in enumerate(zip(chosen, prune.traits(chosen, texts), strict=True)):
        if page.task == FORMS and line.kind == "field":
            worths[number] = max(worths[number], FIELD)
        if worths[number]:
            yield found, True, min(3.0, worths[number])
        elif texts[number] and number not in others:
            yield found, False, 1.0


def _credit(
    page: Page, texts: list[str], points: list[float]
) -> tuple[dict[int, float], set[int]]:
    """What the values of PAGE add to each line, and every line that holds one."""
    prepared = [grounding.Text(text) for text in texts]
    slots = Counter(slot for slot, _ in page.values)
    worths: dict[int, float] = defaultdict(float)
    others: set[int] = set()
    for slot, value in page.values:
        share = slots[slot] ** -0.5
        holders = [n for n, text in enumerate(prepared) if grounding.found(value, text)]
        others.update(holders)
        if holders:
            worths[max(holders, key=lambda n: (points[n], -n))] += share
        elif isinstance(value, str) and len(value) > grounding.LONG:
            packed = grounding.Text(value).packed
            parts = [n for n, text in enumerate(prepared) if 20 <= len(text.packed) < len(packed)]
            parts = [n for n in parts if prepared[n].packed in packed]
            for number in parts:
                worths[number] += 2 * share / len(parts)
    return worths, others


def fit(sample: list[Page], hand: Any) -> tuple[dict[str, int], int, int]:
    """The table of weights from SAMPLE, and how many lines and positive ones it was fitted on."""
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression

    made = [found for page in sample for found in examples(page, hand)]
    often = Counter(trait for traits, _, _ in made for trait in traits)
    names = sorted(trait for trait, times in often.items() if times >= RARE)
    number = {name: n for n, name in enumerate(names)}
    where = [(r, number[t]) for r, (found, _, _) in enumerate(made) for t in found if t in number]
    cells = ([1.0] * len(where), tuple(zip(*where, strict=True)))
    matrix = csr_matrix(cells, shape=(len(made), len(names)))
    model = LogisticRegression(C=C, max_iter=500)
    model.fit(matrix, [is_one for _, is_one, _ in made], [weight for _, _, weight in made])
    table = {n: round(SCALE * float(w)) for n, w in zip(names, model.coef_[0], strict=True)}
    return {n: w for n, w in table.items() if w}, len(made), sum(y for _, y, _ in made)


@dataclass
class Kept:
    """Of the pages of one half under one budget: values, by slot, and what is left of them."""

    there: Counter[str]
    left: Counter[str]
    tokens: list[int]
    fields: list[int]

    def share(self) -> float:
        return sum(self.left.values()) / sum(self.there.values())

    def slots(self) -> float:
        return sum(self.left[s] / n for s, n in self.there.items()) / len(self.there)


def measure(sample: Sequence[Page], pruning: Any, limit: int, count: Count) -> Kept:
    kept = Kept(Counter(), Counter(), [], [0, 0])
    for page in sample:
        texts = pruning.fit(page.lines, (Budget(limit, count),), TaskOptions()).texts
        shown = grounding.Text("\n".join(texts))
        kept.tokens.append(count(shown.value))
        for slot, value in page.values:
            kept.there[f"{page.task}.{slot}"] += 1
            kept.left[f"{page.task}.{slot}"] += grounding.found(value, shown)
        if page.task == FORMS and page.tokens > limit:
            fields = [line.render() for line in page.lines if line.kind == "field"]
            kept.fields[0] += len(fields)
            kept.fields[1] += len(fields) - sum((Counter(fields) - Counter(texts)).values())
    return kept


def speed(sample: Sequence[Page], ways: dict[str, Any], count: Count) -> dict[str, float]:
    """Milliseconds of CPU a page that is over 1,500 tokens, the best of 5 rounds in turn."""
    budgets, best = (Budget(BUDGETS[0], count),), dict.fromkeys(ways, float("inf"))
    for _ in range(5):
        for name, pruning in ways.items():
            start = time.process_time()
            for page in sample:
                pruning.fit(page.lines, budgets, TaskOptions())
            spent = 1_000 * (time.process_time() - start) / len(sample)
            best[name] = min(best[name], spent)
    return best


def render(found: dict[tuple[str, str, int], Kept], times: dict[str, float]) -> Iterator[str]:
    yield "| pages | budget | points | evidence kept | mean of slots | p95 tokens | form fields |"
    yield "| --- | ---: | --- | ---: | ---: | ---: | ---: |"
    for (half, name, limit), kept in found.items():
        p95 = sorted(kept.tokens)[int(0.95 * len(kept.tokens))]
        fields = f"{kept.fields[1]:,} of {kept.fields[0]:,}"
        values = sum(kept.there.values())
        yield (
            f"| {half} | {limit:,} | {name} | {kept.share():.2%} of {values:,} | "
            f"{kept.slots():.2%} | {p95:,} | {fields} |"
        )
    yield ""
    yield (
        "CPU time of `prune.fit` with this tokenizer, pages over 1,500 tokens: "
        + ", ".join(f"{name} {ms:.1f} ms" for name, ms in times.items())
        + " a page (best of 5 rounds in turn)."
    )
    yield ""
    yield "Held-out half, slot by slot (values left at each budget):"
    yield ""
    columns = [(name, limit) for half, name, limit in found if half == "held out"]
    yield f"| slot | values | {' | '.join(f'{name}, {limit:,}' for name, limit in columns)} |"
    yield f"| --- | ---: |{' ---: |' * len(columns)}"
    there = found["held out", *columns[0]].there
    for slot, values in sorted(there.items()):
        cells = (f"{found['held out', *column].left[slot]:,}" for column in columns)
        yield f"| {slot} | {values:,} | {' | '.join(cells)} |"


def _shipped(table: dict[str, int]) -> str:
    if table == worth.WEIGHTS:
        return "The table in `dataset/html/worth.py` is this fit."
    changed = sorted(
        t for t in table.keys() | worth.WEIGHTS if table.get(t) != worth.WEIGHTS.get(t)
    )
    return f"The table in `dataset/html/worth.py` differs from this fit in {len(changed)} weights."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, help="so many pages, spread over the set")
    parser.add_argument("--tokenizer", type=Path)
    args = parser.parse_args()
    bare = cleaning.tokenizer(args.tokenizer)
    count = lru_cache(maxsize=None)(bare)
    sample = pages(args.limit, count)
    halves = {"fitted": [p for p in sample if p.is_fitted]}
    halves["held out"] = [p for p in sample if not p.is_fitted]
    long = [page for page in halves["fitted"] if page.tokens > min(BUDGETS)]
    ways = {"by hand": by_hand(), "fitted": prune}
    table, lines, ones = fit(long, ways["by hand"])
    shipped = _shipped(table)
    worth.WEIGHTS = table
    found = {
        (half, name, limit): measure(part, pruning, limit, count)
        for half, part in halves.items()
        for limit in BUDGETS
        for name, pruning in ways.items()
    }
    over = [page for page in sample if page.tokens > BUDGETS[0]]
    times = speed(over[:: max(1, len(over) // 60)], ways, bare)
    limit = f" --limit {args.limit}" if args.limit else ""
    sites = {half: len({page.domain for page in part}) for half, part in halves.items()}
    text = "\n".join(
        [
            "# Pruning to a budget",
            "",
            f"{len(sample)} real pages, {len(over)} over 1,500 tokens; evidence: reference values",
            "that annotators saw on the page and that its HTML holds. Fitted on "
            f"{len(long)} pages over {min(BUDGETS)}",
            f"tokens ({lines:,} lines, {ones:,} of them with a value), of the "
            f"{len(halves['fitted'])} pages of {sites['fitted']}",
            f"registered domains; held out: {len(halves['held out'])} pages of "
            f"{sites['held out']} others. Tokens by SmolLM2's tokenizer.",
            f"{cleaning.machine()}. {shipped}",
            "",
            f"Command: `python benchmarks/pruning.py{limit}`",
            "",
            *render(found, times),
            "",
            "The fit:",
            "",
            "```",
            *(f'    "{name}": {weight},' for name, weight in table.items()),
            "```",
        ]
    )
    (ROOT / "benchmarks" / "results" / "pruning.md").write_text(text + "\n", "utf-8")
    print(text)


if __name__ == "__main__":
    main()

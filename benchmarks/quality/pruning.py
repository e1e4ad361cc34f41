"""What a line of a page is worth: fits `dataset/html/weights.json`, and says how well it holds.

    python benchmarks/quality/pruning.py [--limit 300] [--write]

A logistic regression over `prune.piece_traits`: does this piece of a page hold a reference value.
Where several pieces hold one, the fit before says which counts, first the shipped one. Every
figure is of sites that its weights have not seen: the sites are dealt into five folds by their
names (a shop under two top-level domains is one), each is measured with weights fitted to the
other four. `--write` fits all sites once more, and that is the table that is shipped.

Reads   ../shared/data/{html,html2}/pages.parquet, models/base/*/tokenizer.json (or --tokenizer)
Writes  benchmarks/results/pruning.{md,jsonl}, --write: sem/dataset/html/weights.json
"""

import argparse
import hashlib
import json
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import Pool
from pathlib import Path
from typing import Any

from benchmarks.speed import clean as cleaning
from sem.core import files, jsonio
from sem.dataset.clean import grounding
from sem.dataset.config import TaskOptions
from sem.dataset.html import markup, prune
from sem.dataset.html.line import LINK, PageLine
from sem.dataset.html.prune import LinePiece, PageBudget, pieces_of
from sem.eval.stats import clusters

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
SETS = ("html", "html2")
TABLE = ROOT / "sem" / "dataset" / "html" / "weights.json"
ROWS = ROOT / "benchmarks" / "results" / "pruning.jsonl"
BUDGETS = (None, 1_500, 750, 420)
FOLDS = 5
# Its answers are labels: the fields they tell of are its evidence, each half a value.
FORMS = "navpage.forms"
FIELD = 0.5
# Few pages of these tasks are there, and their evidence is easily outvoted by ingredients.
TASK_WEIGHTS = {
    "navpage.pagination": 3.0,
    "navpage.listing": 2.0,
    "navpage.first_event": 3.0,
    "productpage.extract": 2.0,
    "productpage.extract_property": 2.0,
    "contactpage.extract": 1.3,
}
# Its answer is the page's running text: one value, of which half is worth nothing.
BODY = "articlepage.body"
# Ten ingredients are not ten titles: a value counts by the values of its slot to this power. On
# a page of many values they are what the page is about.
SHARE_POWER = -0.5
MANY_VALUES = 20
MANY_SHARE_POWER = -0.3
# What a sentence of a long value counts, beside its share of it.
PARTS = 2.0
MAX_PART = 0.5
# Letters and digits of a part of a long value.
MIN_PART = 12
MAX_WORTH = 3.0
# pieces; a trait of fewer gets no weight.
RARE = 15
SCALE = 10
C = 0.2
PROSE_C = 0.02
# Characters of a piece that count as one example.
PROSE_UNIT = 100
ROUNDS = 2
# Values kept, values there.
Share = tuple[int, int]


@dataclass(frozen=True)
class Page:
    """A page as lines, what is known of its pieces, and the values that its raw HTML holds."""

    id: str
    task: str
    site: str
    lines: list[PageLine]
    tokens: int
    values: list[tuple[str, Any]]
    kind: str
    traits: list[list[str]]
    # Characters of each piece.
    sizes: list[int]
    fields: list[bool]
    # By value: the pieces that hold it, else the pieces that are part of it and their share.
    holders: list[tuple[list[int], list[tuple[int, float]]]]
    # By piece, where the task asks for running text: whether it belongs to it.
    prose: list[bool]

    @property
    def options(self) -> TaskOptions:
        """Return how the page is cleaned."""
        return options_of(self.task)

    @property
    def fold(self) -> int:
        return int(hashlib.sha256(self.site.encode()).hexdigest(), 16) % FOLDS


def options_of(task: str) -> TaskOptions:
    """Return how the pages of `task` are cleaned, as dataset.yaml would have it."""
    return TaskOptions(prose=task == BODY)


def rows(limit: int | None) -> list[dict[str, Any]]:
    """Return the rows of both sets of pages, in the order of their ids."""
    import pyarrow.parquet as pq

    columns = ["id", "task", "site", "reference", "evidence", "html"]
    found = [
        row
        for name in SETS
        for row in pq.read_table(DATA / name / "pages.parquet", columns=columns).to_pylist()
    ]
    found.sort(key=lambda row: row["id"])
    return found[:: max(1, len(found) // limit)] if limit else found


@lru_cache(maxsize=1)
def counter() -> Callable[[str], int]:
    """Return the tokens of a text.

    The tokenizer's path stands in the environment of the workers.
    """
    path = os.environ.get("PRUNING_TOKENIZER")
    return cleaning.tokenizer(Path(path) if path else None)


def values_of(row: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return the values of a row that annotators saw on the page and that its HTML holds."""
    where = jsonio.parse_json(row["evidence"]) if row["evidence"] else {}
    reference = jsonio.parse_json(row["reference"]) if row["reference"] else {}
    page = grounding.groundable_text(row["html"])
    return [
        (slot, value)
        for slot, value in grounding.scalar_leaves(reference)
        if where.get(slot, "label") in cleaning.EVIDENCE and grounding.is_grounded(value, page)
    ]


def prepare(row: dict[str, Any]) -> Page | None:
    """Return the page of a row; None where nothing on it could be lost."""
    values = values_of(row)
    if not values and row["task"] != FORMS:
        return None
    lines = markup.drop_repeats(markup.read_lines(row["html"], TaskOptions())[0])
    if not lines:
        return None
    is_prose = options_of(row["task"]).prose
    chosen = prune.best_images(lines, 0 if is_prose else prune.IMAGES)
    bare = [line.without(prune.ADDRESSES if is_prose else LINK) for line in chosen]
    texts = [line.render() for line in bare]
    pieces = [p for n, line in enumerate(bare) for p in pieces_of(n, line, texts[n])]
    kind, found = prune.piece_traits(lines if is_prose else chosen, texts, pieces)
    prepared = [grounding.SearchableText(piece.text) for piece in pieces]
    return Page(
        id=row["id"],
        task=row["task"],
        site=row["site"] or row["id"],
        lines=lines,
        tokens=counter()("\n".join(line.render() for line in lines)),
        values=values,
        kind=kind,
        traits=[list(map(sys.intern, known)) for known in found],
        sizes=[len(piece.text) for piece in pieces],
        fields=[bare[piece.line].kind == "field" for piece in pieces],
        holders=[] if is_prose else [_holders(value, prepared) for _, value in values],
        prose=_running(values, bare, pieces) if is_prose else [],
    )


def _running(
    values: Sequence[tuple[str, Any]], lines: Sequence[PageLine], pieces: Sequence[LinePiece]
) -> list[bool]:
    """Return for each piece whether it belongs to `values`; a fact that repeats text does not."""
    packed = "".join(grounding.SearchableText(value).packed for _, value in values)
    shown = grounding.SearchableText(
        "\n".join(piece.text for piece in pieces if lines[piece.line].kind != "fact")
    ).packed
    is_prose = []
    for piece in pieces:
        # `description: Three cases …` is the text under a name of ours.
        bare = piece.text.partition(": ")[2]
        readings = [grounding.SearchableText(text).packed for text in (piece.text, bare)]
        is_repeat = lines[piece.line].kind == "fact" and readings[1] in shown
        is_part = any(len(text) >= MIN_PART and text in packed for text in readings)
        is_prose.append(is_part and not is_repeat)
    return is_prose


def _holders(
    value: Any, pieces: Sequence[grounding.SearchableText]
) -> tuple[list[int], list[tuple[int, float]]]:
    holders = [n for n, text in enumerate(pieces) if grounding.is_grounded(value, text)]
    if holders or not isinstance(value, str) or len(value) <= grounding.LONG // 2:
        return holders, []
    packed = grounding.SearchableText(value).packed
    sizes = [
        (n, len(text.packed)) for n, text in enumerate(pieces) if len(text.packed) >= MIN_PART
    ]
    return [], [(n, size / len(packed)) for n, size in sizes if pieces[n].packed in packed]


def scores(page: Page) -> list[float]:
    """Return what the table in use says of each piece."""
    return [
        prune.line_worth(known, page.kind) - prune.LENGTH * math_log(size)
        for known, size in zip(page.traits, page.sizes, strict=True)
    ]


@lru_cache(maxsize=4096)
def math_log(size: int) -> float:
    import math

    return math.log(max(prune.SHORTEST, size))


def examples(page: Page) -> Iterator[tuple[list[str], bool, float]]:
    """Traits, target and weight of the pieces of `page` that say something about the target.

    A value counts less the more of its slot the page holds (see SHARE_POWER).
    Other pieces that hold a value too are left out: they are no counter-examples.
    """
    points = scores(page)
    slots = Counter(slot for slot, _ in page.values)
    power = MANY_SHARE_POWER if len(page.values) >= MANY_VALUES else SHARE_POWER
    worths: dict[int, float] = defaultdict(float)
    others: set[int] = set()
    for (slot, _), (holders, parts) in zip(page.values, page.holders, strict=True):
        share = TASK_WEIGHTS.get(page.task, 1.0) * slots[slot] ** power
        others.update(holders, (n for n, _ in parts))
        if holders:
            worths[max(holders, key=lambda n: (points[n], -n))] += share
        for number, part in parts:
            worths[number] += min(MAX_PART, PARTS * share * part)
    for number, known in enumerate(page.traits):
        # The second form with the same fields says no more of what the page can be asked for.
        if page.task == FORMS and page.fields[number] and "again" not in known:
            worths[number] = max(worths[number], FIELD)
        if worths[number]:
            yield known, True, min(MAX_WORTH, worths[number])
        elif number not in others:
            yield known, False, 1.0


def fit(sample: Sequence[Page]) -> tuple[dict[str, dict[str, int]], int, int]:
    """Return the weights fitted to `sample`, the number of its pieces and of positive ones."""
    shipped = json.loads(TABLE.read_text("utf-8"))
    records = [page for page in sample if not page.prose]
    texts = [(prune.PROSE, *found) for page in sample if page.prose for found in running(page)]
    prose = _regress(texts, PROSE_C, fit_intercept=False)
    prune.use_weights(shipped)
    table: dict[str, dict[str, int]] = {}
    for _ in range(ROUNDS):
        made = [(page.kind, *found) for page in records for found in examples(page)]
        table = {**_regress(made, C), **prose}
        prune.use_weights(table)
    prune.use_weights(shipped)
    return table, len(made) + len(texts), sum(is_one for *_, is_one, _ in (*made, *texts))


def running(page: Page) -> Iterator[tuple[list[str], bool, float]]:
    """Yield traits, target and weight of the pieces of `page`: each character counts alike."""
    for known, is_text, size in zip(page.traits, page.prose, page.sizes, strict=True):
        yield known, is_text, size / PROSE_UNIT


def _regress(
    made: Sequence[tuple[str, list[str], bool, float]], penalty: float, fit_intercept: bool = True
) -> dict[str, dict[str, int]]:
    """Return the points of the traits in `made`: (page kind, traits, target, weight) by piece."""
    import numpy as np
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression

    if not made:
        return {}
    often: Counter[tuple[str, str]] = Counter()
    for kind, known, _, _ in made:
        for about in prune.tables_of(kind):
            often.update((about, trait) for trait in set(known))
    names = sorted(name for name, times in often.items() if times >= RARE)
    place = {name: number for number, name in enumerate(names)}
    cells: list[int] = []
    ends = [0]
    for kind, known, _, _ in made:
        pairs = ((about, trait) for trait in known for about in prune.tables_of(kind))
        cells += [place[pair] for pair in pairs if pair in place]
        ends.append(len(cells))
    shape = (len(made), len(names))
    matrix = csr_matrix((np.ones(len(cells), "float32"), cells, ends), shape=shape)
    model = LogisticRegression(C=penalty, max_iter=300, fit_intercept=fit_intercept)
    model.fit(matrix, [is_one for *_, is_one, _ in made], [weight for *_, weight in made])
    table: dict[str, dict[str, int]] = {}
    for (kind, trait), value in zip(names, model.coef_[0], strict=True):
        if points := round(SCALE * float(value)):
            table.setdefault(kind, {})[trait] = points
    return table


def measure(job: tuple[Page, dict[str, dict[str, int]]]) -> dict[int | None, Share]:
    """Values that PAGE keeps under each budget with the weights of its fold."""
    page, table = job
    if table != prune.WEIGHTS:
        prune.use_weights(table)
    kept = {}
    for limit in BUDGETS:
        budget = PageBudget(limit, counter() if limit else len)
        texts = prune.prune_lines(page.lines, (budget,), page.options).texts
        shown = grounding.SearchableText("\n".join(texts))
        kept[limit] = (
            sum(grounding.is_grounded(v, shown) for _, v in page.values),
            len(page.values),
        )
    return kept


def held_out(pages: Sequence[Page], pool: Any) -> tuple[list[dict[int | None, Share]], int, int]:
    """Return what each page keeps under each budget, by weights that have not seen its site."""
    tables = {}
    pieces = ones = 0
    for fold in range(FOLDS):
        tables[fold], *counts = fit([p for p in pages if p.fold != fold and is_long(p)])
        pieces, ones = max(pieces, counts[0]), max(ones, counts[1])
        print(f"fold {fold + 1} of {FOLDS}: {counts[0]:,} pieces", file=sys.stderr, flush=True)
    order = sorted(range(len(pages)), key=lambda n: pages[n].fold)
    done = pool.map(measure, [(pages[n], tables[pages[n].fold]) for n in order], chunksize=20)
    found: list[Any] = [None] * len(pages)
    for number, kept in zip(order, done, strict=True):
        found[number] = kept
    return found, pieces, ones


def is_long(page: Page) -> bool:
    return page.tokens > min(limit for limit in BUDGETS if limit)


def cell(shares: Sequence[Share], sites: Sequence[str]) -> str:
    """Return the mean over pages with its 95 % interval by site, and the share of values."""
    means = [kept / there for kept, there in shares]
    gathered = clusters.sum_by_cluster(means, list(sites))
    low, high = clusters.confidence_bounds(gathered)
    by_value = sum(kept for kept, _ in shares) / sum(there for _, there in shares)
    mean = sum(means) / len(means)
    return f"{mean:.1%} [{max(0.0, low):.1%}, {min(1.0, high):.1%}], {by_value:.1%}"


def speed(pages: Sequence[Page]) -> float:
    """Milliseconds of CPU that `prune.fit` takes on a page over 1,500 tokens, best of three."""
    long = [page for page in pages if page.tokens > 1_500]
    long = long[:: max(1, len(long) // 60)]
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        for page in long:
            prune.prune_lines(page.lines, (PageBudget(1_500, counter()),), page.options)
        best = min(best, 1_000 * (time.process_time() - start) / len(long))
    return best


def load(limit: int | None, pool: Any) -> list[Page]:
    """Return the pages that anything can be lost of."""
    made = pool.imap(prepare, rows(limit), chunksize=10)
    return [page for page in made if page is not None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, help="so many pages, spread over the set")
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--write", action="store_true", help="write weights.json as well")
    args = parser.parse_args()
    if args.tokenizer:
        os.environ["PRUNING_TOKENIZER"] = str(args.tokenizer)
    with Pool(os.cpu_count()) as pool:
        pages = load(args.limit, pool)
        valued = [page for page in pages if page.values]
        found, pieces, ones = held_out(pages, pool)
        kept = {page.id: shares for page, shares in zip(pages, found, strict=True)}
    # `representations.py` sets these beside other cleaners.
    texts = (
        jsonio.canonical_json(
            {"id": page.id, "kept": [kept[page.id][limit][0] for limit in BUDGETS]}
        )
        for page in valued
    )
    files.write_file(ROWS, "".join(f"{text}\n" for text in texts))
    table, *_ = fit([page for page in pages if is_long(page)])
    if args.write:
        text = json.dumps(table, ensure_ascii=False, indent=0, sort_keys=True)
        files.write_file(TABLE, text + "\n")
    is_shipped = table == json.loads(TABLE.read_text("utf-8"))
    prune.use_weights(table)
    sites = {page.site for page in pages}
    names = ["whole", *(f"{limit:,} tokens" for limit in BUDGETS if limit)]
    lines = [
        "# Pruning to a budget",
        "",
        f"{len(valued)} real pages of {len({p.site for p in valued})} sites with "
        f"{sum(len(p.values) for p in valued):,} values that annotators saw on them and that "
        "their HTML holds.",
        f"Weights: {sum(map(len, table.values())):,} for traits of a page's pieces, fitted on up "
        f"to {pieces:,} pieces, {ones:,} with a value, of pages over "
        f"{min(limit for limit in BUDGETS if limit)} tokens, of {len(sites)} sites in {FOLDS} "
        "folds.",
        "Each cell is of sites its weights have not seen: evidence kept as the mean over pages,",
        "its 95 % interval by site (jackknife), and by value. Tokens by SmolLM2's tokenizer.",
        f"Pages of {BODY} are cleaned with `prose: true`. {cleaning.machine()}.",
        f"`dataset/html/weights.json` is {'' if is_shipped else 'not '}the fit of all of them.",
        "",
        "Command: `python benchmarks/quality/pruning.py" + (" --write`" if args.write else "`"),
        "",
        f"| task | pages | sites | {' | '.join(names)} |",
        f"| --- | ---: | ---: |{' ---: |' * len(names)}",
    ]
    for task in [*sorted({page.task for page in valued}), "all", "all but article bodies"]:
        part = [
            page
            for page in valued
            if page.task == task
            or task == "all"
            or (task.startswith("all but") and page.task != BODY)
        ]
        homes = [page.site for page in part]
        cells = [cell([kept[page.id][limit] for page in part], homes) for limit in BUDGETS]
        lines.append(f"| {task} | {len(part)} | {len(set(homes))} | {' | '.join(cells)} |")
    lines += [
        "",
        f"CPU time of `prune.fit` with this tokenizer in 1,500 tokens: {speed(valued):.1f} ms a "
        "page over it.",
    ]
    text = "\n".join(lines) + "\n"
    (ROOT / "benchmarks" / "results" / "pruning.md").write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()

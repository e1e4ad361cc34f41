"""Which items of a forge are worked on: all, or some that a seed draws; counted on the way."""

import hashlib
import heapq
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass, field
from typing import Any

from sem.core.errors import Insufficient
from sem.core.project import Project
from sem.dataset.config import Dataset
from sem.dataset.split import splits
from sem.dataset.store import store_writer


@dataclass
class Count:
    """What one pass over the items met."""

    items: int = 0
    # That --limit did not draw.
    left_out: int = 0
    # Of the items, where the forge tells them.
    sources: set[str] = field(default_factory=set)


def draw_items(items: Iterable[Any], limit: int | None, seed: int, count: Count) -> Iterator[Any]:
    """Yield `limit` of `items` in their order, drawn by `seed` from all of them.

    All without a limit.
    """
    if limit is None:
        yield from items
        return
    heap: list[tuple[int, int, Any]] = []
    for number, item in enumerate(items):
        lot = hashlib.sha256(b"%d %d" % (seed, number)).digest()
        heapq.heappush(heap, (-int.from_bytes(lot[:8], "big"), number, item))
        if len(heap) > limit:
            heapq.heappop(heap)
            count.left_out += 1
    yield from (item for _, _, item in sorted(heap, key=lambda entry: entry[1]))


def count_items(
    items: Iterable[Any], source_of: Callable[[Any], str | None], count: Count
) -> Iterator[Any]:
    """Yield `items` as they are; `count` learns how many, and of which sources."""
    for item in items:
        count.items += 1
        source = source_of(item)
        if source is not None:
            count.sources.add(source)
        yield item


def check_selection(project: Project, sources: Set[str], origin: str) -> None:
    """Insufficient when `sources` cannot fill the parts of a split: nobody need be asked first.

    Rows of another origin than `origin` may fill them, and without any source it is not known yet.
    """
    split, options = project.split, project.settings("dataset", Dataset).split
    ratios = (split.train_ratio, split.val_ratio, split.test_ratio)
    parts = [part for part, ratio in zip(splits.PARTS, ratios, strict=True) if ratio > 0]
    is_free = options.group_by == "row" and options.leaks.source != "repair"
    if not sources or len(sources) >= len(parts) or is_free:
        return
    if store_writer.count_other_origins(project.store, origin):
        return
    raise Insufficient(
        f"{len(sources)} of {len(parts)} sources: {', '.join(sorted(sources))} cannot fill "
        f"{', '.join(parts)}, and none stands on two sides; nobody was asked",
        "bring more documents (ten or more make a test worth reading), or raise --limit",
    )

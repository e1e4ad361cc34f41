"""The demo store: rows of the examples table, written whole or not at all."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sem.core import files, jsonio
from sem.core.taskspec import TaskSpec
from sem.dataset.demo import seeded
from sem.dataset.demo.page import DemoPage, make_page
from sem.dataset.demo.shops import COUNT, make_shops
from sem.dataset.demo.templates import TEMPLATES
from sem.dataset.store import store
from sem.dataset.store.store import RawRow

EXAMPLES = 1200
DUPLICATE_SHARE = 0.03
CAPTURED_AT = "2026-01-15T09:00:00Z"


def demo_rows(
    tasks: Mapping[str, TaskSpec], seed: int = 42, count: int = EXAMPLES
) -> list[RawRow]:
    """Return `count` rows for `seed`, sorted by id.

    About 3 % repeat another row's page and reference.
    """
    repeated = int(count * DUPLICATE_SHARE)
    all_shops = make_shops(seed, tuple(TEMPLATES))
    rows = [
        _row(tasks, seed, number, make_page(seed, all_shops[number % COUNT], number // COUNT))
        for number in range(count - repeated)
    ]
    again = seeded.seeded_random(seed, "duplicates").sample(range(len(rows)), repeated)
    rows += [_again(rows[number], seed) for number in again]
    return sorted(rows, key=lambda row: row.id or "")


def write_demo_rows(path: Path, rows: Sequence[RawRow]) -> Path:
    """Replace the store at `path` by one with `rows` rows; readers never see half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        files.lock_file(path.with_name(path.name + ".lock"), str(path)),
        tempfile.TemporaryDirectory(dir=path.parent, prefix=".tmp-demo-") as folder,
    ):
        fresh = Path(folder) / path.name
        store.append_store_rows(fresh, rows)
        files.move_into_place(fresh, path)
    return path


def _row(tasks: Mapping[str, TaskSpec], seed: int, number: int, page: DemoPage) -> RawRow:
    spec = tasks[page.task]
    return RawRow(
        id=f"ex-{seeded.seeded_hex(seed, number, size=12)}",
        task=page.task,
        input_text=page.prompt,
        reference=jsonio.canonical_json(page.reference),
        metadata=jsonio.canonical_json(_metadata(page, number)),
        slot_specs=jsonio.canonical_json(spec.rubric["slots"]),
        system_prompt=spec.system_prompt,
    )


def _metadata(page: DemoPage, number: int) -> dict[str, str]:
    return {
        "domain": page.shop.host.removeprefix("www."),
        "url": page.url,
        "page_type": page.kind,
        "language": page.shop.market.language,
        "template": page.shop.template,
        "captured_at": CAPTURED_AT,
        "consent": "generated",
        "source_id": f"demo/{page.shop.host}/{number}",
    }


def _again(row: RawRow, seed: int) -> RawRow:
    return replace(row, id=f"ex-{seeded.seeded_hex(seed, 'again', row.id, size=12)}")

"""A small shop of kettles: pages with lists, cards, prices and breadcrumbs, cleaned and cut."""

import json
from datetime import UTC, datetime
from pathlib import Path

from toy import SPEC

from sem.core import files, jsonio
from sem.core.project import Project
from sem.dataset.clean import clean
from sem.dataset.split import snapshot
from sem.dataset.store import store
from sem.dataset.store.examples_table import RawRow

AT = datetime(2026, 1, 1, tzinfo=UTC)
KIND = {"type": "array", "items": {"type": "string"}}


def page(shop: int, number: int) -> RawRow:
    """Return a product page with lists, cards, a price and breadcrumbs."""
    title, price = f"Kettle {shop}-{number}", 10 + shop + number / 4
    steps = "".join(f"<li>{verb} the kettle</li>" for verb in ("Fill", "Boil", "Pour"))
    links = "".join(f'<li class="n"><a href="/{c}">{c} things</a></li>' for c in "abcd")
    cards = "".join(f'<div class="card"><p>Idea {w}</p></div>' for w in ("one", "two", "six"))
    html = (
        f"<html lang=en><head><title>{title}</title></head><body><div><ul>{links}</ul></div>"
        f"<h1>{title}</h1><p>Now {str(f'{price:.2f}').replace('.', ',')} € only</p>"
        f"<ul class=crumbs><li>Home</li><li>Kitchen</li><li>Shop {shop}</li></ul>"
        f"<ol>{steps}</ol><section>{cards}</section></body></html>"
    )
    reference = {"title": title, "price": price, "crumbs": ["Home", "Kitchen", f"Shop {shop}"]}
    meta = {"domain": f"shop{shop}.example", "language": "en"}
    prompt = f"URL: https://shop{shop}.example/{number}\n\n{html}"
    row = (json.dumps(reference), json.dumps(meta))
    return RawRow(f"p{shop:02}-{number}", "price", prompt, *row)


def make(root: Path) -> Project:
    """Return a cleaned and cut project of 36 product pages of 12 shops, under `root`."""
    properties = {**SPEC["io_schema"]["properties"], "crumbs": KIND}
    spec = {
        **SPEC,
        "base_model_id": "any/model",
        "io_schema": {**SPEC["io_schema"], "properties": properties},
    }
    files.write_file(root / "configs" / "shop" / "tasks" / "price.json", jsonio.pretty_json(spec))
    made = Project("shop", root)
    store.append_store_rows(made.store, [page(shop, n) for shop in range(12) for n in range(3)])
    clean.clean_store(made)
    snapshot.freeze_snapshot(made, AT)
    return made


def rows(made: Project, part: str) -> dict[str, dict]:
    """Return the rows of `part` by id."""
    return {row["id"]: row for row in files.read_rows(made.processed / f"{part}.v1.jsonl")}

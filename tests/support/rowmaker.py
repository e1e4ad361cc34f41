"""Small projects and stores for the dataset tests."""

import json
import shutil
from pathlib import Path
from typing import Any

from sem.core import files, jsonio
from sem.core.project import Project
from sem.dataset.store import store
from sem.dataset.store.store import RawRow

SPEC: dict[str, Any] = {
    "task_id": "product",
    "task_version": "1.0.0",
    "base_model_id": "any/model",
    "system_prompt": "Answer with one JSON object.",
    "instruction_template": "Title and price?\n{{input_text}}",
    "io_schema": {
        "type": "object",
        "additionalProperties": False,
        "required": ["title", "price"],
        "properties": {"title": {"type": "string"}, "price": {"type": ["number", "null"]}},
    },
    "rubric": {},
    "eval_split": {"strategy": "random", "seed": 7},
}


def project(root: Path, settings: str = "", **changes: Any) -> Project:
    """Return a sem called `shop` with the task `product`, no rows yet."""
    configs = root / "configs" / "shop"
    files.write_file(configs / "tasks" / "product.json", jsonio.pretty_json(SPEC | changes))
    files.write_file(configs / "dataset.yaml", settings)
    return Project("shop", root)


def row(name: str, **changes: Any) -> RawRow:
    """Return a good row of a shop named after the first letter of `name`."""
    shop = f"shop{name[0]}.example"
    page = f"<html lang=en><body><h1>Mug {name}</h1><p>Price $4.50</p></body></html>"
    made = {
        "id": name,
        "task": "product",
        "input_text": f"URL: https://www.{shop}/p/{name}\n\n{page}",
        "reference": json.dumps({"title": f"Mug {name}", "price": 4.5}),
        "metadata": json.dumps({"url": f"https://www.{shop}/p/{name}", "page_type": "product"}),
    }
    return RawRow(**(made | changes))


def copied(made: Project, root: Path) -> Project:
    """Return a copy of `made`, which took seconds to make, under `root`."""
    return Project(made.sem, shutil.copytree(made.root, root, dirs_exist_ok=True))


def fill(made: Project, *rows: RawRow) -> Project:
    """Return `made` with `rows` in its store."""
    store.append_store_rows(made.store, rows)
    return made


def shops(count: int, pages: int = 3) -> list[RawRow]:
    """Return `count` shops with `pages` good rows each."""
    return [row(f"{chr(97 + shop)}{page}") for shop in range(count) for page in range(pages)]


def read(path: Path) -> list[Any]:
    """Return the JSON lines of `path`."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]

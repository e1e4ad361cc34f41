"""R1, R2, R3: training is killed, damaged, poisoned, stopped, starved; then it goes on.

    python benchmarks/faults/training.py --kills 50

A tiny real model (two layers, CPU) trains 54 steps with a checkpoint every third. The undisturbed
run's adapter, checkpoint files and losses are what every disturbed one must end with, bit for
bit. Runs are forks of one process that has imported the libraries.

Writes  benchmarks/results/faults_training.md
"""

import argparse
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sem.core import console, files, jsonio
from sem.core.errors import SemError

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))
LAST = "checkpoint-54"
TRAIN = """epochs: 6
effective_batch: 4
micro_batch: 2
learning_rate: 1e-2
checkpoint_steps: 3
keep_checkpoints: 3
log_steps: 1
val_examples: 4
val_answers: 0
select: last
lora: {rank: 4, alpha: 8, dropout: 0.1}
"""


class Bench:
    """A prepared run, what it ends with undisturbed, and a way to run it in a child."""

    def __init__(self, root: Path, recipe: str = TRAIN, compiles: bool = False) -> None:
        self.root = root
        # Also a run as short as this one.
        self.compiles = compiles
        os.environ["SEM_ROOT"] = str(root)
        make_project(root, recipe)
        from sem.core.project import Project
        from sem.train.run import plan

        self.project = Project.load("toy")
        self.made = plan.prepare_training(self.project, None)
        self.folder = self.made.folder
        self.child(lambda: None)
        self.whole = self.result()
        shutil.copytree(self.folder, root / "undisturbed")  # with its times
        self.clean = {p.name: p for p in sorted((root / "undisturbed" / LAST).iterdir())}

    def result(self) -> tuple[str, str]:
        """(adapter sha256, sha256 of the losses by step); empty where there is no adapter."""
        path = self.folder / "adapter" / "adapter_model.safetensors"
        if not path.exists():
            return "", ""
        rows = [r for r in files.read_rows(self.folder / "metrics.jsonl") if "loss" in r]
        losses = [(row["step"], row["loss"]) for row in rows]
        return files.sha256_file(path), files.sha256_text(jsonio.canonical_json(losses))

    def start(self, first: Callable[[], object]) -> int:
        """Return a child that trains; `first` is called in it before. Its exit code.

        99 is an own error.
        """
        pid = os.fork()
        if pid:
            return pid
        code = 98
        try:
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1), os.dup2(quiet, 2)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            from sem.train.fast import layers
            from sem.train.run import plan

            if self.compiles:
                layers.COMPILES_FROM = 1
            first()
            plan.train_prepared(self.project, self.made, resume=True)
            code = 0
        except SemError as error:
            files.write_file(self.root / "said", str(error))
            code = 75 if error.exit_code == 75 else 99
        finally:
            os._exit(code)

    def child(self, first: Callable[[], object]) -> int:
        """Return the exit code of a child that trains to its end."""
        return os.waitstatus_to_exitcode(os.waitpid(self.start(first), 0)[1])

    def fresh(self) -> None:
        """The run as it was prepared."""
        for path in self.folder.iterdir():
            if path.name != "run.json":
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def as_ended(self) -> None:
        """The run with its checkpoints, as if killed just before the adapter was written."""
        shutil.rmtree(self.folder)
        shutil.copytree(self.root / "undisturbed", self.folder)
        shutil.rmtree(self.folder / "adapter")
        (self.folder / "manifest.json").unlink()

    def is_equal_after(self) -> bool:
        """Return whether the same command, run again, ends as the undisturbed run."""
        return self.child(lambda: None) == 0 and self.result() == self.whole


def make_project(root: Path, recipe: str) -> None:
    from toy import SPEC, make_model, make_store

    configs = root / "configs" / "toy"
    tiny = make_model(root / "weights")
    files.write_file(
        configs / "tasks" / "price.json", jsonio.pretty_json(SPEC | {"base_model_id": str(tiny)})
    )
    files.write_file(configs / "train.yaml", recipe)
    make_store(root / "data" / "toy" / "raw" / "dataset.duckdb")
    from sem.core import provenance
    from sem.core.project import Project
    from sem.dataset.clean import clean
    from sem.dataset.split import snapshot

    project = Project.load("toy")
    clean.clean_store(project)
    snapshot.freeze_snapshot(project, provenance.utc_now())


def killed(bench: Bench, count: int, dice: random.Random, how: str = "") -> tuple[str, str, str]:
    """kill -9 at random: half at any moment, half while a checkpoint is being written."""
    equal = inside = 0
    for number in range(count):
        bench.fresh()
        pid = bench.start(lambda: None)
        in_checkpoint = number % 2 == 0
        wait(bench, dice, in_checkpoint)
        inside += any(
            not (p / "manifest.json").exists() for p in bench.folder.glob("checkpoint-*")
        )
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        equal += bench.is_equal_after()
    return (
        f"R1 random kill -9{how}, resumed and bit-equal",
        f"{equal} of {count}",
        (f"{inside} had an unsealed checkpoint"),
    )


def wait(bench: Bench, dice: random.Random, in_checkpoint: bool) -> None:
    """Until a random moment of the run, or of the writing of one of its checkpoints."""
    target = 3 * dice.randint(1, 16)
    folder = bench.folder / f"checkpoint-{target}"
    limit = time.monotonic() + 300
    while not folder.exists() and time.monotonic() < limit:
        time.sleep(0.0005)
    time.sleep(dice.random() * (0.02 if in_checkpoint else 0.4))


def half_written(bench: Bench) -> tuple[str, str, str]:
    """Return the disk as a kill leaves it at every file of a checkpoint.

    Before it, and half of it.
    """
    equal = tried = 0
    order = sorted(bench.clean.values(), key=lambda path: path.stat().st_mtime_ns)
    order.sort(key=lambda p: p.name == "manifest.json")
    for place, path in enumerate(order):
        for half in (False, True):
            bench.as_ended()
            for later in order[place + 1 :]:
                (bench.folder / LAST / later.name).unlink()
            torn = bench.folder / LAST / path.name
            data = torn.read_bytes()
            torn.unlink()
            if half:
                torn.write_bytes(data[: len(data) // 2])
            tried += 1
            equal += bench.is_equal_after()
    return "R1 checkpoint cut at each file, before and half", f"{equal} of {tried}", ""


def damaged(bench: Bench) -> tuple[str, str, str]:
    """Return each file of the last checkpoint deleted, or one of its bits turned."""
    noticed = equal = tried = 0
    for name in bench.clean:
        if name == "manifest.json":
            continue
        for flip in (False, True):
            bench.as_ended()
            path = bench.folder / LAST / name
            data = bytearray(path.read_bytes())
            path.unlink()
            if flip:
                data[len(data) // 2] ^= 1
                path.write_bytes(data)
            tried += 1
            equal += bench.is_equal_after()
            noticed += bool(list(bench.folder.glob("quarantine-54-*")))
    return (
        "R2 damaged or missing checkpoint files noticed",
        f"{noticed} of {tried}",
        (f"{equal} fell back to the older one and ended bit-equal"),
    )


def poisoned(bench: Bench, dice: random.Random, count: int = 10) -> tuple[str, str, str]:
    """Make a loss or a weight NaN at a random step."""
    stopped = published = later = 0
    for number in range(count):
        bench.fresh()
        step = dice.randint(2, 53)
        code = bench.child(lambda step=step, number=number: poison(step, weights=number % 2 == 1))
        stopped += code == 99
        published += bench.folder.joinpath("adapter").exists() + nans(bench.folder)
        rows = list(files.read_rows(bench.folder / "metrics.jsonl"))
        later += any(row["step"] > step for row in rows)
    return (
        "R3 NaN runs stopped",
        f"{stopped} of {count}",
        (f"{published} adapters or checkpoints with NaN, {later} runs logged a later step"),
    )


def poison(step: int, weights: bool) -> None:
    import torch

    from sem.train.engine import loss

    usual, calls = loss.LOSSES["answer"], []

    def bad(model: object, inputs: object, *more: object) -> object:
        calls.append(1)
        if len(calls) == 2 * step - 1 and weights:
            first = next(p for p in model.parameters() if p.requires_grad)
            with torch.no_grad():
                first.view(-1)[0] = float("nan")
        value = usual(model, inputs, *more)
        return value * float("nan") if len(calls) == 2 * step - 1 else value

    loss.LOSSES["answer"] = bad


def nans(folder: Path) -> int:
    """Adapter files below `folder` that hold a value that is not finite."""
    import torch
    from safetensors.torch import load_file

    found = 0
    for path in folder.glob("*/adapter_model.safetensors"):
        if (path.parent / "manifest.json").exists() or path.parent.name == "adapter":
            found += not all(torch.isfinite(t).all() for t in load_file(path).values())
    return found


def terminated(bench: Bench, dice: random.Random, count: int = 10) -> tuple[str, str, str]:
    """SIGTERM at a random moment."""
    left = equal = 0
    for _ in range(count):
        bench.fresh()
        pid = bench.start(lambda: None)
        wait(bench, dice, False)
        os.kill(pid, signal.SIGTERM)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        left += code == 75
        equal += bench.is_equal_after() if code == 75 else 0
    return "SIGTERM: sealed checkpoint, exit 75", f"{left} of {count}", f"{equal} bit-equal after"


def starved(bench: Bench, dice: random.Random, count: int = 10) -> tuple[str, str, str]:
    """No file may grow beyond a random size: what a full disk or a quota does to a write."""
    said = equal = 0
    for _ in range(count):
        bench.fresh()
        most = dice.randint(200, max(p.stat().st_size for p in bench.clean.values()) - 1)
        code = bench.child(lambda most=most: limit(most))
        text = (bench.root / "said").read_text() if code == 99 else ""
        said += code == 99 and "was not written" in text and "train.resume" in text
        equal += bench.is_equal_after()
    return (
        "checkpoint that does not fit: one clear line",
        f"{said} of {count}",
        (f"{equal} bit-equal once there is room"),
    )


def limit(most: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))


def doubled(bench: Bench, count: int = 20) -> tuple[str, str, str]:
    """Many starts of one run at once."""
    bench.fresh()
    pids = [bench.start(lambda: None) for _ in range(count)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    same = bench.result() == bench.whole
    return (
        "parallel starts that train",
        f"{codes.count(0)} of {count}",
        (f"{codes.count(99)} refused, result {'bit-equal' if same else 'DIFFERS'}"),
    )


def main(argv: list[str] | None = None) -> None:
    parser: argparse.ArgumentParser = console.make_argument_parser(__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    dice = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"SEM_DEVICE": "cpu", "WANDB_MODE": "disabled"}
        import trl  # noqa: F401  before the forks

        bench = Bench(Path(folder) / "plain")
        if bench.child(lambda: None) != 99:
            raise SystemExit("a finished run was trained again")
        bench.fresh()
        if not bench.is_equal_after():
            raise SystemExit("two undisturbed runs differ")
        rows = [
            killed(bench, args.kills, dice),
            half_written(bench),
            damaged(bench),
            poisoned(bench, dice),
            terminated(bench, dice),
            starved(bench, dice),
            doubled(bench),
        ]
        quick = Bench(Path(folder) / "quick", TRAIN.replace("dropout: 0.1", "dropout: 0"), True)
        rows.insert(1, killed(quick, max(4, args.kills // 10), dice, ", compiled, no dropout"))
    columns = ("what", "result", "and")
    console.print_table("training under faults", columns, rows)
    lines = [
        "# Training under faults (R1, R2, R3)",
        f"Command: `python benchmarks/faults/training.py --kills {args.kills}`; a 2-layer model,",
        "54 steps, a checkpoint every 3, CPU. Bit-equal: the adapter's sha256, every logged loss.",
        "",
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
    path = ROOT / "benchmarks" / "results" / "faults_training.md"
    console.print_output_path(files.write_file(path, "\n".join(lines) + "\n"))


if __name__ == "__main__":
    console.run_main(main)

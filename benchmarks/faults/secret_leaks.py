"""R18: ten canary secrets through training and evaluation; where one of them turns up.

    python benchmarks/faults/secret_leaks.py

Eight canaries stand in variables of the environment, one in the path of the program (argv), one
in an address with a password. A sandbox with a tiny model goes through every script of training,
evaluation, packaging and sweeping, also through runs that fail, are killed and cannot reach their
tracker. Afterwards every byte of every file below the sandbox (project, home, temporary files:
W&B and MLflow folders, logs, reports, manifests, checkpoints) and of stdout and stderr is
searched. The path of the project is searched for in W&B's and MLflow's files only: its own
files may name it. The tiny model is made here; MLflow is part of it where the extra is there.

Writes  benchmarks/results/faults_secret_leaks.md
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from sem.core import console, files, jsonio  # noqa: E402
from sem.lm.local import hardware  # noqa: E402

MARK = "cnry"
IN_ENVIRONMENT = (
    *("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY"),
    *("SEM_WEBHOOK_SECRET", "GITHUB_TOKEN", "MLFLOW_TRACKING_PASSWORD", "WANDB_API_KEY"),
)
CANARIES = {
    **{name: f"{MARK}{number}{'x7q' * 11}" for number, name in enumerate(IN_ENVIRONMENT)},
    "argv": f"{MARK}8argv5hk2",
    "address": f"{MARK}9addr7wm3",
}
TRAIN = "epochs: 1\neffective_batch: 4\nmicro_batch: 2\ncheckpoint_steps: 3\nlog_steps: 1\n"
SWEEP = "metric: loss\nseeds: [1, 2]\nspace: {learning_rate: [1e-3]}\n"
FAILING = (
    "--set=train.learning_rate=0.99",
    "--set=train.max_grad_norm=1e30",
    f"--set=train.lora.alpha={10**30}",
)
# W&B as it comes: what the search finds there shows that it can find something.
PLAIN = "import wandb; r = wandb.init(mode='offline', project='p'); print('{}'); r.finish()"
OFFLINE = {"SEM_WANDB": "offline"}
NOWHERE = {"WANDB_BASE_URL": "http://127.0.0.1:9", "SEM_WANDB": "online"}


def main(argv: list[str] | None = None) -> None:
    argparse.ArgumentParser(description=__doc__).parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="sem-secrets-") as folder:
        sandbox = Sandbox(Path(folder))
        rows = [(name, *sandbox.done(name)) for name in sandbox.plan()]
        found, size = sandbox.hits(), sandbox.size()
        told(rows, found, size, sandbox.control())


class Sandbox:
    """A project, a home and a temporary folder; every script runs in it with all canaries."""

    def __init__(self, folder: Path) -> None:
        from toy import SPEC, make_model, make_store

        self.folder, self.root = folder, folder / "project"
        for part in ("home", "tmp", "said"):
            (folder / part).mkdir()
        # argv[0] of every script.
        os.symlink(ROOT / "scripts", folder / CANARIES["argv"])
        spec = SPEC | {"base_model_id": str(make_model(folder / "tiny"))}
        configs = self.root / "configs" / "toy"
        files.write_file(configs / "tasks" / "price.json", jsonio.pretty_json(spec))
        files.write_file(configs / "train.yaml", TRAIN)
        files.write_file(configs / "sweep.yaml", SWEEP)
        files.write_file(configs / "eval.yaml", "batch: 4\nmax_new_tokens: 8\ndraws: 500\n")
        make_store(self.root / "data" / "toy" / "raw" / "dataset.duckdb")
        self.steps: dict[str, tuple[list[str], dict[str, str]]] = {}

    def plan(self) -> list[str]:
        """Return the names of what is done, in order."""
        mlflow = {"SEM_MLFLOW": "offline"} if find_spec("mlflow") else {}
        away = {"MLFLOW_TRACKING_URI": f"http://me:{CANARIES['address']}@127.0.0.1:9"}
        self.steps = {
            "clean": (["dataset_clean"], {}),
            "split": (["dataset_split"], {}),
            "prepare": (["train_prepare"], OFFLINE | mlflow),
            "train, killed": (["train_run"], OFFLINE | mlflow),
            "resume": (["train_run", "--resume"], OFFLINE | mlflow),
            "prepare, a rate that fails": (["train_prepare", *FAILING], OFFLINE),
            "train, not finite": (["train_run"], OFFLINE | mlflow),
            "prepare, no tracker in reach": (["train_prepare", "--set=train.seed=7"], NOWHERE),
            "train, no tracker in reach": (["train_run"], NOWHERE | (away if mlflow else {})),
            "sweep": (["train_sweep"], OFFLINE | mlflow),
            "generate, base": (["eval_generate", "--run=base"], {}),
            "generate": (["eval_generate"], {}),
            "report": (["eval_report"], {}),
            "gate": (["eval_gate"], {}),
            "judge, nobody in reach": (["eval_judge"], {"OPENAI_BASE_URL": "http://127.0.0.1:9"}),
            "package": (["package_export"], {}),
            "verify": (["package_verify"], {}),
            "a usage error": (["train_run", f"--run={'x' * 99}"], OFFLINE),
        }
        return list(self.steps)

    def done(self, name: str) -> tuple[int, float]:
        """(exit code, seconds) of the step `name`."""
        words, extra = self.steps[name]
        script = self.folder / CANARIES["argv"] / f"{words[0]}.py"
        secret = {key: CANARIES[key] for key in IN_ENVIRONMENT}
        given = {
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "SEM_ROOT": str(self.root),
            "SEM_DEVICE": "cpu",
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            **secret,
            **extra,
        }
        began = time.monotonic()
        path = self.folder / "said" / name.replace(" ", "-").replace(",", "")
        with path.open("wb") as said:
            argv = [sys.executable, str(script), "--sem=toy", *words[1:]]
            with subprocess.Popen(argv, env=given, stdout=said, stderr=said, cwd=self.root) as one:
                if "killed" in name:
                    self.kill(one)
                one.wait(timeout=600)
        return one.returncode, time.monotonic() - began

    def kill(self, process: subprocess.Popen) -> None:
        """End `process` without a word after its first checkpoint."""
        until = time.monotonic() + 300
        while time.monotonic() < until and process.poll() is None:
            if list(self.root.glob("models/toy/adapters/*/checkpoint-*/manifest.json")):
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)

    def control(self) -> list[str]:
        """Return the canaries that are found after a plain `wandb.init`.

        It records argv and stdout.
        """
        code, home = PLAIN.format(CANARIES["address"]), self.folder / "plain"
        home.mkdir()
        argv = [sys.executable, "-c", code, CANARIES["argv"]]
        subprocess.run(
            argv,
            cwd=home,
            capture_output=True,
            env={"PATH": os.environ["PATH"], "HOME": str(home)},
        )
        return [name for name, paths in self.hits().items() if paths and name != "project path"]

    def files(self) -> list[Path]:
        """Return every file, links apart: the one of argv leads out of the sandbox."""
        return [
            Path(at) / name
            for at, _, names in os.walk(self.folder)
            for name in names
            if not (Path(at) / name).is_symlink()
        ]

    def size(self) -> tuple[int, int]:
        """Return files and bytes that are searched."""
        sizes = [path.stat().st_size for path in self.files()]
        return len(sizes), sum(sizes)

    def hits(self) -> dict[str, list[str]]:
        """Return files by canary; `project path` in trackers' files only."""
        found: dict[str, list[str]] = {name: [] for name in (*CANARIES, "project path")}
        for path in self.files():
            held, shown = path.read_bytes(), str(path.relative_to(self.folder))
            for name, canary in CANARIES.items():
                if canary.encode() in held or canary in shown:
                    found[name].append(shown)
            tracks = any(part in ("wandb", "mlflow") for part in path.parts)
            if tracks and str(self.root).encode() in held:
                found["project path"].append(shown)
        return found


def told(
    rows: list[tuple], found: dict[str, list[str]], size: tuple[int, int], control: list[str]
) -> None:
    """Print the counts and write them down."""
    total = sum(len(found[name]) for name in CANARIES)
    lines = [
        "# R18: secrets in what training and evaluation write",
        "",
        f"{total} hits of {len(CANARIES)} canaries in {size[0]:,} files ({size[1]:,} bytes) after "
        f"{len(rows)} steps; MLflow {'was' if find_spec('mlflow') else 'was not'} part of it.",
        "",
        "| canary | files it is in |",
        "| --- | --- |",
        *(f"| {name} | {', '.join(paths) or '0'} |" for name, paths in found.items()),
        "",
        "| step | exit | seconds |",
        "| --- | --- | --- |",
        *(f"| {name} | {code} | {seconds:.1f} |" for name, code, seconds in rows),
        "",
        f"Control: after a plain `wandb.init` with two of them in argv and stdout the same search "
        f"finds {len(control)} ({', '.join(control) or 'none'}).",
        "The last canary row is no secret: the path of the project in W&B's and MLflow's files.",
        f"Machine: {hardware.cpu_name()}. Command: `python benchmarks/faults/secret_leaks.py`.",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    files.write_file(ROOT / "benchmarks" / "results" / "faults_secret_leaks.md", text)
    if total:
        sys.exit(1)


if __name__ == "__main__":
    console.run_main(main)

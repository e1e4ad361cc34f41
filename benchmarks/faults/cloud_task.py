"""Hand the tasks that `ops.launch` writes to SkyPilot's own reader, in its own environment.

    python benchmarks/faults/cloud_task.py --python VENV/bin/python

VENV holds `skypilot[runpod]==0.14.1`, as `uv venv VENV` and `uv pip install -p VENV` make it.
Nothing is rented: `sky.Task.from_yaml` reads and validates each file. Each field that SkyPilot
understood is compared with what was asked; a misspelt key must be refused (the control).

Writes  benchmarks/results/cloud_task.md
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from sem.core import console, files  # noqa: E402
from sem.core.project import Project  # noqa: E402
from sem.core.run import Run  # noqa: E402
from sem.ops.cloud import cloud_task  # noqa: E402
from sem.ops.cloud.cloud_task import CloudMachine  # noqa: E402

READ = """
import json, sys, sky
task = sky.Task.from_yaml(sys.argv[1])
(found,) = task.resources
print(json.dumps([sky.__version__, found.to_yaml_config(), task.setup, task.run, task.workdir]))
"""
CASES = {
    "one GPU": CloudMachine(max_cost=5),
    "spot": CloudMachine(spot=True, max_cost=5, max_hours=4),
    "four H100": CloudMachine(gpu="H100", count=4, max_cost=80, max_hours=5, disk_gb=200),
    "no limit yet": CloudMachine(),
    "another cloud and region": CloudMachine(cloud="aws/us-east-1", gpu="A10G", max_cost=9),
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", required=True, help="of an environment with skypilot 0.14.1")
    args = parser.parse_args(argv)
    project, run = Project("demo", ROOT), Run("20261121-000000-abcd", None)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path, workdir = Path(folder) / "task.yaml", Path(folder) / "workdir"
        workdir.mkdir()
        for name, wanted in CASES.items():
            made = cloud_task.build_cloud_task(project, run, wanted, workdir)
            files.write_file(path, cloud_task.task_yaml(made))
            rows.append((name, *read(args.python, path, made)))
        broken = cloud_task.build_cloud_task(project, run, CloudMachine(), workdir) | {
            "setpu": "x"
        }
        files.write_file(path, cloud_task.task_yaml(broken))
        rows.append(("control: a misspelt key", *read(args.python, path, broken)))
    lines = [
        "# Tasks for SkyPilot, read by SkyPilot",
        "",
        "| task | version | read | differs |",
        "| --- | --- | --- | --- |",
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
        "Command: `python benchmarks/faults/cloud_task.py --python VENV/bin/python`.",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    files.write_file(ROOT / "benchmarks" / "results" / "cloud_task.md", text)


def read(python: str, path: Path, asked: cloud_task.Json) -> tuple[str, str, str]:
    """(version, whether it was read, fields that SkyPilot understands otherwise)."""
    done = subprocess.run([python, "-P", "-c", READ, str(path)], capture_output=True, text=True)
    if done.returncode:
        return "-", "refused", " ".join(done.stderr.strip().splitlines()[-1].split())[:90]
    version, resources, *rest = json.loads(done.stdout.strip().splitlines()[-1])
    wanted = {**asked["resources"]}
    other = [f"{k}: {resources.get(k)}" for k, v in wanted.items() if resources.get(k, False) != v]
    names = ("setup", "run", "workdir")
    other += [name for name, value in zip(names, rest, strict=True) if value != asked[name]]
    return version, "yes", ", ".join(other) or "nothing"


if __name__ == "__main__":
    console.run_main(main)

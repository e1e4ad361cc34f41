"""The wheel in empty environments: the base and each extra alone, and what then works.

    python benchmarks/install/extras.py                 every extra but gpu and mlflow
    python benchmarks/install/extras.py base train      these only

Builds the wheel of this checkout, makes an empty virtual environment for each extra, installs the
wheel with it in the locked versions, and runs commands in an empty folder, with nothing of this
checkout in sight. Needs `uv` and a package index.

Writes  benchmarks/results/install.md
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.speed.clean import machine
from sem.core import console, files

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = (
    *("train", "serve", "judge", "documents", "cluster", "sweep", "track", "local", "mcp"),
    *("publish", "test"),
)
# What must work with the base alone, and so with every extra.
COMMANDS = (
    "opensem init",
    "opensem new mails",
    "opensem status",
    "opensem --version",
    "opensem demo.data --examples 200",
    "opensem dataset.clean --sem demo",
    "opensem dataset.split --sem demo",
    "opensem eval.plan --sem demo",
    "hokusai-preview --data-path rows.csv --help",
    "python -m sem status",
)
# What an extra is for, shown by its imports through the library's own doors.
OWN = {
    "train": "opensem train.prepare --help",
    "serve": "opensem optimizer.serve --help",
    "sweep": "opensem train.sweep --help",
    "local": "opensem forge.serve --help",
    "mcp": "opensem mcp --help",
    "publish": "opensem package.publish --help",
}
IMPORTS = {
    "train": "torch transformers trl peft datasets safetensors gguf onnx llguidance",
    "serve": "fastapi uvicorn prometheus_client ctranslate2 torch",
    "judge": "litellm",
    "documents": "pypdf mammoth py3langid litellm",
    "cluster": "ray",
    "sweep": "optuna torch",
    "track": "wandb",
    "local": "xllamacpp",
    "mcp": "mcp fastapi torch",
    "publish": "model_signing boto3 huggingface_hub",
    "test": "pytest hypothesis mypy playwright torch",
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("extras", nargs="*", default=["base", *EXTRAS])
    args = parser.parse_args(argv)
    uv = shutil.which("uv") or sys.exit("error: no uv on PATH\n       pip install uv")
    with tempfile.TemporaryDirectory() as work:
        wheel = build_wheel(Path(work))
        rows = [tried(uv, Path(work), wheel, extra) for extra in args.extras]
    lines = [
        "# The wheel in empty environments",
        "",
        "Command: `python benchmarks/install/extras.py`. The base and each extra alone, in the locked",
        f"versions, each in an empty environment and an empty folder. {machine()}.",
        "",
        "| extra | packages | MiB of the environment | install, s (warm cache) | commands that end well |",
        "|---|---|---|---|---|",
        *rows,
        "",
        "Commands: " + "; ".join(f"`{command}`" for command in COMMANDS) + "; and per extra the",
        "imports that it is for. An absent package is one line that names its extra:",
        "`error: this job needs torch, which is not installed here`.",
    ]
    path = ROOT / "benchmarks" / "results" / "install.md"
    console.print_output_path(files.write_file(path, "\n".join(lines) + "\n"))


def build_wheel(work: Path) -> Path:
    """Return the wheel of the committed state."""
    source = work / "source"
    source.mkdir()
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True)
    subprocess.run(["tar", "xf", "-"], cwd=source, input=archive.stdout, check=True)
    alone = ("-q", "--no-deps", "--no-build-isolation", "-w", str(work))
    subprocess.run([sys.executable, "-m", "pip", "wheel", *alone, str(source)], check=True)
    return next(work.glob("opensem-*.whl"))


def tried(uv: str, work: Path, wheel: Path, extra: str) -> str:
    """Return a line of the table: the environment of `extra` and what works in it."""
    home, folder = work / f"env-{extra}", work / f"folder-{extra}"
    folder.mkdir()
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(home)], check=True)
    wanted = str(wheel) if extra == "base" else f"{wheel}[{extra}]"
    lock = str(ROOT / "requirements.lock")
    began = time.monotonic()
    install = [uv, "pip", "install", "-q", "-c", lock, *links(), wanted]
    subprocess.run(install, env={**os.environ, "VIRTUAL_ENV": str(home)}, check=True)
    seconds = time.monotonic() - began
    packages = list((home / "lib").glob("python*/site-packages/*.dist-info"))
    size = sum(p.lstat().st_size for p in home.rglob("*") if p.is_file() and not p.is_symlink())
    good, commands = 0, [*COMMANDS, *filter(None, [OWN.get(extra)])]
    if extra in IMPORTS:
        commands.append("python -c import," + IMPORTS[extra].replace(" ", ","))
    for command in commands:
        words = command.split()
        if words[:2] == ["python", "-c"]:
            words = ["python", "-c", re.sub("^import,", "import ", words[2])]
        run = subprocess.run(
            [str(home / "bin" / words[0]), *words[1:]],
            cwd=folder,
            env={"PATH": f"{home / 'bin'}:/usr/bin:/bin", "HOME": str(folder)},
            capture_output=True,
            text=True,
        )
        good += run.returncode == 0
        if run.returncode:
            console.print_note(f"{extra}: {command}: {run.stderr.strip()[-300:]}")
    console.print_note(f"{extra}: {good} of {len(commands)}, {size / 2**20:.0f} MiB")
    return (
        f"| {extra} | {len(packages)} | {size / 2**20:,.0f} | {seconds:.0f} | "
        f"{good} of {len(commands)} |"
    )


def links() -> list[str]:
    """Return where wheels lie that no index has: a CPU build of torch."""
    places = os.environ.get("PIP_FIND_LINKS") or os.environ.get("UV_FIND_LINKS") or ""
    return ["--find-links", places.split()[0]] if places else []


if __name__ == "__main__":
    main()

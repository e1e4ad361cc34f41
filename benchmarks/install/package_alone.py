"""A package alone: in an empty folder, in an environment made of its own repro.lock.

    python benchmarks/install/package_alone.py models/demo/packages/RUN
    python benchmarks/install/package_alone.py --tiny

Copies PACKAGE to an empty folder, makes an empty virtual environment, installs what repro.lock pins
and the wheel of this checkout without anything else, and asks there what the package's README says:
`package.verify --kit`, and one page. Needs `uv` and a package index.

Reads   PACKAGE
Writes  benchmarks/results/package_alone.md
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]
from benchmarks.faults.served_requests import tiny_package  # noqa: E402
from benchmarks.install.extras import build_wheel, links  # noqa: E402
from benchmarks.speed.clean import machine  # noqa: E402
from sem.core import console, files  # noqa: E402
from sem.package import contract as contracts  # noqa: E402
from sem.package import kit  # noqa: E402
from sem.package.export import repro_lock  # noqa: E402

PAGE = "<html><body><h1>Red mug</h1><p class=price>12.50 EUR</p></body></html>"


@dataclass(frozen=True)
class Environment:
    """An empty folder and a virtual environment; a command in it sees nothing else."""

    home: Path
    folder: Path

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Return what became of the command `words` of this environment."""
        return subprocess.run(
            [str(self.home / "bin" / words[0]), *words[1:]],
            cwd=self.folder,
            env={"PATH": f"{self.home / 'bin'}:/usr/bin:/bin", "HOME": str(self.folder)},
            capture_output=True,
            text=True,
        )


def make_environment(work: Path, package: Path) -> tuple[Environment, float]:
    """Return an environment of what `package` pins and this wheel, and how long that took, s."""
    uv = shutil.which("uv") or sys.exit("error: no uv on PATH\n       pip install uv")
    home, folder = work / "env", work / "empty"
    folder.mkdir()
    shutil.copytree(package, folder / package.name)
    lock = folder / package.name / "repro.lock"
    wheel = build_wheel(work)
    began = time.monotonic()
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(home)], check=True)
    variables = {**os.environ, "VIRTUAL_ENV": str(home)}
    for wanted in (["-r", str(lock)], [str(wheel)]):
        # No dependencies beyond what the lock names: it must be whole by itself.
        install = [uv, "pip", "install", "-q", "--no-deps", *links(), *wanted]
        subprocess.run(install, env=variables, check=True)
    return Environment(home, folder), time.monotonic() - began


def measure(package: Path, words: str) -> None:
    """Ask `package` alone, and write what came of it."""
    task = sorted(contracts.read_contract(package).tasks)[0]
    rows = len(kit.read_kit(package))
    pins = repro_lock.read_pins((package / "repro.lock").read_text("utf-8"))
    with tempfile.TemporaryDirectory() as place:
        environment, seconds = make_environment(Path(place), package)
        files.write_file(environment.folder / "page.html", PAGE)
        verify = environment.run("opensem", "package.verify", "--path", package.name, "--kit")
        ask_words = ("ask", "page.html", "--path", package.name, "--task", task)
        asked = environment.run("opensem", *ask_words)
        size = sum(p.lstat().st_size for p in environment.home.rglob("*") if p.is_file())
    for ended in (verify, asked):
        console.print_note(f"{ended.args[1:]}: {ended.returncode} {ended.stderr[-500:]}")
    lines = [
        "# A package alone, in an environment of its own repro.lock",
        "",
        f"Command: `python benchmarks/install/package_alone.py {words}`. {machine()}; package "
        f"{package.name},",
        f"{rows} rows in its kit. Nothing but the copied package lies in the folder, and nothing of "
        "this checkout is",
        "in sight but its wheel.",
        "",
        "| what | measured | target |",
        "|---|---|---|",
        f"| packages that repro.lock pins | {len(pins)} | |",
        f"| the environment | {seconds:.0f} s, {size / 2**20:,.0f} MiB | |",
        f"| `opensem package.verify --path PACKAGE --kit` | exit {verify.returncode}: "
        f"{_last_lines(verify)} | exit 0 |",
        f"| `opensem ask page.html --path PACKAGE --task {task}` | exit {asked.returncode}: "
        f"{_last_lines(asked)} | exit 0 |",
    ]
    path = ROOT / "benchmarks" / "results" / "package_alone.md"
    console.print_output_path(files.write_file(path, "\n".join(lines) + "\n"))


def _last_lines(ended: subprocess.CompletedProcess[str]) -> str:
    text = ended.stdout if ended.returncode == 0 else ended.stderr
    lines = [line for line in text.splitlines() if not line.startswith("/")]
    return "; ".join(f"`{line}`" for line in lines[-2:]).replace("|", "\\|")


def main(argv: list[str] | None = None) -> None:
    parser = console.make_argument_parser(__doc__)
    parser.add_argument("package", type=Path, nargs="?")
    parser.add_argument("--tiny", action="store_true", help="make and ask a tiny package")
    args = parser.parse_args(argv)
    words = " ".join(argv or sys.argv[1:])
    if args.tiny:
        with tiny_package() as package:
            measure(package, words)
    else:
        measure(args.package.resolve(), words)


if __name__ == "__main__":
    main()

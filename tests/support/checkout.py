"""A checkout of its own, in which commands run as a user types them after the set-up.

What lies on the other side of a line stands in: `ssh` reaches an sshd of this user, whatever the
host is called, and `./scripts/setup_env.sh WORDS` starts WORDS in the environment that is there.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from paths import ROOT
from sshd import Server

# As scripts/setup_env.sh writes them.
COMMANDS = {"opensem": "sem", "opensem-cli": "sem", "hokusai-preview": "sem.preview"}
# What the environment of these tests must not decide.
FOREIGN = ("SEM", "SEM_ROOT", "DATASET_DB_PATH", "PYTHONPATH", "VIRTUAL_ENV")


@dataclass
class Checkout:
    """A checkout at `root`, and the folder that commands are typed in."""

    root: Path
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    seconds: list[tuple[float, str]] = field(default_factory=list)

    def run(self, command: str, codes: Sequence[int] = (0,), timeout_s: float = 560) -> str:
        """Run `command` as it is typed, with one of the exit `codes`; return its output."""
        began = time.monotonic()
        with self.started(command) as process:
            output = process.communicate(timeout=timeout_s)[0]
        self.seconds.append((time.monotonic() - began, command))
        assert process.returncode in codes, f"{command}: {process.returncode}\n{output[-6000:]}"
        return output

    @contextmanager
    def started(self, command: str) -> Iterator[subprocess.Popen[str]]:
        """Start `command` in a session of its own, which has ended afterwards."""
        environment = {k: v for k, v in os.environ.items() if k not in FOREIGN}
        bin_folders = (self.root / ".venv" / "bin", Path(sys.executable).parent)
        environment["PATH"] = os.pathsep.join([*map(str, bin_folders), os.environ["PATH"]])
        process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment | {"SEM_DEVICE": "cpu"} | self.environment,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()

    def serve(self, command: str, ask: Callable[[], bool], codes: Sequence[int]) -> None:
        """Start `command`, a server, `ask` it once it answers, and end it by SIGTERM."""
        began = time.monotonic()
        with self.started(command) as process:
            while not ask() and process.poll() is None:
                assert time.monotonic() < began + 120, command
                time.sleep(0.2)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
            output = process.communicate(timeout=60)[0]
        self.seconds.append((time.monotonic() - began, command))
        assert process.returncode in codes, f"{command}: {process.returncode}\n{output[-6000:]}"

    def replace(self, path: str, *pairs: tuple[str, str]) -> None:
        """Replace texts in the file at `path`, each of which occurs there."""
        text = (self.root / path).read_text("utf-8")
        for old, new in pairs:
            assert old in text, (path, old)
            text = text.replace(old, new, 1)
        (self.root / path).write_text(text, "utf-8")


def make_checkout(root: Path) -> Path:
    """Write what git knows of this checkout to `root`, set up, as a repository of its own."""
    listed = subprocess.check_output(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT
    )
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    _write_script(root / "scripts" / "setup_env.sh", 'exec "$@"')
    bin_folder = root / ".venv" / "bin"
    _write_script(bin_folder / "python", f'exec "{sys.executable}" "$@"')
    _write_script(bin_folder / "activate", f'PATH="{bin_folder}:$PATH"')
    for name, module in COMMANDS.items():
        # The tests' own environment knows the checkout that they run in, not this one.
        line = f'SEM_TYPED={name} PYTHONPATH="{root}" exec "{sys.executable}" -m {module} "$@"'
        _write_script(bin_folder / name, line)
    git = ("git", "-c", "user.name=tests", "-c", "user.email=tests@example.org")
    for words in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "as it is")):
        subprocess.run([*git, *words], cwd=root, check=True)
    return root


def reach_hosts(checkout: Checkout, server: Server) -> None:
    """Let `ssh` reach `server` under every name and user; /data there lies in its folder."""
    folder = server.folder
    (folder / "data").mkdir()
    line = f'exec sh -c "$(printf %s "$SSH_ORIGINAL_COMMAND" | sed "s#/data/#{folder}/data/#g")"'
    _write_script(folder / "there", line)
    with (folder / "sshd_config").open("a") as file:
        file.write(f"ForceCommand {folder}/there\n")
    server.restart()
    config = server.config.read_text().replace("Host far", "Host *")
    server.config.write_text(config)
    user = next(line.split()[1] for line in config.splitlines() if line.startswith(" User "))
    ssh = shutil.which("ssh")
    _write_script(
        checkout.root / ".venv" / "bin" / "ssh",
        f'exec "{ssh}" -F "{server.config}" -o User={user} "$@"',
    )


def _write_script(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(f"#!/bin/sh\n{line}\n", "utf-8")
    path.chmod(0o755)

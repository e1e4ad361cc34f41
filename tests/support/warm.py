"""Processes of this project's scripts that start in milliseconds.

    done = warm.run([sys.executable, "scripts/train_run.py", "--sem=toy"], capture_output=True)

Importing torch, transformers, TRL and PEFT takes 7 s of a core, and a test of one step of training
pays it again in every process. Here one server per test session has them imported, and each
process is forked from it: its own pid, environment, folder, pipes, signals and exit code, as
`subprocess` gives them. A test whose subject is the start itself uses `subprocess`.
"""

import atexit
import io
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from multiprocessing import forkserver, get_context, reduction
from typing import Any

# What the server imports; all of it is the project's own third-party set.
LIBRARIES = (
    *("torch", "transformers", "transformers.models.llama.modeling_llama", "trl", "peft"),
    *("trl.trainer.sft_trainer", "datasets", "duckdb", "numpy", "sklearn.linear_model"),
    *("scipy.stats", "llguidance", "tokenizers", "rich.table", "rich.progress", "yaml"),
    *("pydantic", "jsonschema", "filelock", "dotenv", "jinja2"),
)


@lru_cache(maxsize=1)
def _context() -> Any:
    """Return the fork server, running. It swallows a module that it cannot import.

    It needs the path.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(["warm_libraries"])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    try:
        forkserver.ensure_running()
    finally:
        del os.environ["PYTHONPATH"]
        if before is not None:
            os.environ["PYTHONPATH"] = before
    return context


class Popen:
    """`subprocess.Popen` of [PYTHON, (-P,) SCRIPT, *WORDS], started warm."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        stdin: Any = None,
        stdout: Any = None,
        stderr: Any = None,
        env: Mapping[str, str] | None = None,
        cwd: Any = None,
        text: bool = False,
        start_new_session: bool = False,
    ) -> None:
        words = [str(word) for word in argv[1:] if word != "-P"]
        self.args, self.returncode = list(argv), None
        self._files: dict[str, Any] = {}
        ends = [
            self._end(name, wanted, text)
            for name, wanted in (("stdout", stdout), ("stderr", stderr))
        ]
        if stderr == subprocess.STDOUT:
            ends[1] = os.dup(ends[0])
        ends.insert(0, os.open(os.devnull, os.O_RDONLY))
        self._process = _context().Process(
            target=_child,
            args=(
                words,
                [reduction.DupFd(end) for end in ends],
                dict(os.environ if env is None else env),
                str(cwd or os.getcwd()),
                start_new_session,
            ),
        )
        self._process.start()
        for end in ends:
            os.close(end)
        self.pid = self._process.pid

    def _end(self, name: str, wanted: Any, text: bool) -> int:
        """Return the child's end of one stream.

        A pipe's other end becomes the attribute `name`.
        """
        setattr(self, name, None)
        if wanted == subprocess.PIPE:
            here, there = os.pipe()
            setattr(self, name, open(here, "r" if text else "rb"))  # noqa: SIM115
            return there
        if wanted == subprocess.DEVNULL:
            return os.open(os.devnull, os.O_WRONLY)
        if wanted in (None, subprocess.STDOUT):
            return os.dup(1 if name == "stdout" else 2)
        return os.dup(wanted if isinstance(wanted, int) else wanted.fileno())

    def poll(self) -> int | None:
        self.returncode = self._process.exitcode
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.poll() is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[Any, Any]:
        texts: dict[str, Any] = {}
        streams = {n: s for n in ("stdout", "stderr") if (s := getattr(self, n)) is not None}
        readers = [
            threading.Thread(target=lambda n=n, s=s: texts.update({n: s.read()}), daemon=True)
            for n, s in streams.items()
        ]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join()
        for stream in streams.values():
            stream.close()
        return texts.get("stdout"), texts.get("stderr")

    def send_signal(self, kind: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, kind)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> "Popen":
        return self

    def __exit__(self, *_: object) -> None:
        for name in ("stdout", "stderr"):
            if (stream := getattr(self, name)) is not None:
                stream.close()
        self.wait()


def run(
    argv: Sequence[str],
    *,
    capture_output: bool = False,
    check: bool = False,
    timeout: float | None = None,
    **words: Any,
) -> subprocess.CompletedProcess:
    """Return `subprocess.run` of a script, started warm."""
    if capture_output:
        words |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = Popen(argv, **words)
    try:
        out, err = process.communicate(timeout)
    except BaseException:
        process.kill()
        raise
    done = subprocess.CompletedProcess(process.args, process.returncode, out, err)
    if check:
        done.check_returncode()
    return done


def _child(
    words: list[str], ends: list[Any], env: dict[str, str], cwd: str, new_session: bool
) -> None:
    if new_session:
        os.setsid()
    for target, end in enumerate(ends):
        os.dup2(end.detach(), target)
    for name in ("stdout", "stderr"):
        stream = io.TextIOWrapper(
            os.fdopen(1 if name == "stdout" else 2, "wb", -1, closefd=False),
            encoding="utf-8",
            line_buffering=name == "stderr",
        )
        setattr(sys, name, stream)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    # As Python itself: the script's own folder comes first.
    sys.path.insert(0, os.path.dirname(os.path.abspath(words[0])))
    sys.argv = words
    code = 1
    try:
        runpy.run_path(words[0], run_name="__main__")
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if code and not isinstance(ended.code, int):
            print(ended.code, file=sys.stderr)
    except BaseException:
        import traceback

        traceback.print_exc()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

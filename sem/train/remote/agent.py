"""The file that works for us on the host: built here, sent once by its hash, asked in JSON.

What is asked and what is answered goes through stdin and stdout; the command line holds the
folder, the hash, the interpreter and a verb, nothing of the user's data and no secret.
"""

import io
import json
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

from sem.core import console, files
from sem.core.errors import SemError
from sem.core.net.ssh import (
    HASH,
    ConnectionCutError,
    SshHost,
    check_room,
    copy_over_cuts,
    retry_after_cuts,
)
from sem.train.remote.far import parcel
from sem.train.remote.far.disk import HostRefusalError
from sem.train.remote.far.verbs import ANSWER, STREAM

FOLDER = Path(__file__).parent / "far"
MAIN = """import sys
if sys.version_info < (3, 9):
    sys.exit("Python 3.9 or newer is needed, this is %d.%d" % sys.version_info[:2])
from far.verbs import main
main()
"""
ENTER = 'cd && cd -- "$1" >/dev/null 2>&1 || exit 97; '
CALL = (
    HASH + ENTER + 'case "$(h <"agent/$2.pyz" 2>/dev/null)" in "$2"*) ;; *) exit 97 ;; esac; '
    'command -v "$3" >/dev/null || exit 96; exec "$3" -I "agent/$2.pyz" "$4"'
)
INSTALL = (
    HASH + 'umask 077; cd && mkdir -p -- "$1/agent" && cd -- "$1/agent" >/dev/null && '
    'cat >".tmp-$2-$$" && case "$(h <".tmp-$2-$$")" in "$2"*) mv ".tmp-$2-$$" "$2.pyz" ;; '
    '*) rm ".tmp-$2-$$"; exit 95 ;; esac'
)
ABSENT, NO_PYTHON, DAMAGED = "(exit 97)", "(exit 96)", "(exit 95)"
ASK_S = 30.0
TRIES, PATIENCE_S = 3, 60.0
Json = dict[str, Any]


class Unreachable(SemError):
    """The host did not answer; what runs there may well go on. Exit 75: try again later."""

    exit_code = 75


@dataclass(frozen=True)
class Agent:
    """Our file on a host: `folder` there, and the interpreter that runs it."""

    far: SshHost
    # Below the home folder, or absolute.
    folder: str = "sem"
    python: str = "python3"
    ask_s: float = ASK_S
    patience_s: float = PATIENCE_S
    # Its name in hosts.yaml.
    alias: str = ""

    @property
    def named(self) -> str:
        """Return what -H takes."""
        return self.alias or self.far.host

    def ask(self, verb: str, request: Json, more_s: float = 0.0) -> Json:
        """Return what the host answers to `verb`; a cut line is tried again, then Unreachable."""
        return self.patient(lambda: self._once(verb, request, more_s))

    def patient(self, ask: Callable[[], Any]) -> Any:
        """Return what `ask` gives, asked again after each cut of the connection.

        Raise Unreachable after at least TRIES tries and `patience_s` seconds.
        """
        began, cuts = time.monotonic(), []

        def note(cut: ConnectionCutError) -> None:
            if not cuts:
                console.print_note(f"{cut.message}: trying for {self.patience_s:.0f} s more")
            cuts.append(cut)

        try:
            return retry_after_cuts(ask, tries=TRIES, patience_s=self.patience_s, note=note)
        except ConnectionCutError as cut:
            raise Unreachable(
                f"{cut.message} ({len(cuts)} tries in {time.monotonic() - began:.0f} s); "
                "its state is unknown",
                f"what runs there continues: ask again with `fab -H {self.named} train.attach`",
            ) from cut

    def _once(self, verb: str, request: Json, more_s: float) -> Json:
        line = json.dumps(request).encode("ascii") + b"\n"
        for attempt in range(2):
            try:
                reply = self.far.ask(
                    CALL, *self._words(verb), stdin=line, timeout_s=self.ask_s + more_s
                )
                return self.answer(reply)
            except SemError as error:
                self._install(error, attempt)
        raise AssertionError("unreachable")

    def _words(self, verb: str) -> tuple[str, str, str, str]:
        return self.folder, agent_name(), self.python, verb

    def _install(self, error: SemError, attempt: int) -> None:
        """Send our file when it was not there; raise `error` when that is not what it says."""
        if NO_PYTHON in error.message:
            raise SemError(
                f"{self.far.host}: no {self.python!r} there",
                "install Python 3.11, or name one under `python:` in configs/hosts.yaml",
            ) from error
        if attempt or ABSENT not in error.message:
            raise error
        self.far.ask(
            INSTALL, self.folder, agent_name(), stdin=build_agent_zip(), timeout_s=self.ask_s
        )

    def answer(self, reply: bytes) -> Json:
        """Return the answer in what came, whatever a login script printed before it."""
        lines = [line for line in reply.splitlines() if line.startswith(ANSWER)]
        if not lines:
            raise ConnectionCutError(f"{self.far.host}: it sent no answer", "run it again")
        answer = json.loads(lines[-1].removeprefix(ANSWER))
        if "error" in answer:
            raise SemError(f"{self.far.host}: {answer['error']}", answer["hint"])
        return answer

    def push(self, request: Json, root: Path, label: str) -> int:
        """Send the files of `request` below `root`; return how many bytes were sent.

        Bytes sent before a cut are counted too.
        """
        by_path = {entry["path"]: entry for entry in request["listed"]}
        sent, reply = 0, None

        def missing() -> Any:
            nonlocal reply
            answer = reply or self.ask("offer", request, more_s=600)
            reply = None
            return answer["needed"]

        def send(needed: Any) -> None:
            nonlocal sent, reply
            pieces = [(by_path[path], offset) for path, offset in needed]
            size = sum(entry["size"] - offset for entry, offset in pieces)
            console.print_note(f"{label}: sending {len(pieces):,} files, {size:,} bytes")
            sent += size
            reply = self._send(request, root, pieces)

        self._copy(missing, send)
        return sent

    def _copy(self, missing: Callable[[], Any], copy: Callable[[Any], object]) -> None:
        try:
            copy_over_cuts(missing, copy)
        except ConnectionCutError as cut:
            raise Unreachable(
                cut.message, "run the same command again: it continues from there"
            ) from cut

    def _send(self, request: Json, root: Path, pieces: list[tuple[Json, int]]) -> Json:
        with self.stream("receive", request) as (process, target, source):
            try:
                parcel.write_parcel(target, root, pieces)
                target.close()
            except BrokenPipeError:
                # The exit code and the answer say why.
                pass
            except HostRefusalError as refusal:
                raise SemError(refusal.message, refusal.hint) from refusal
            reply = source.read()
            self.far.check_end(process)
            return self.answer(reply)

    def fetch(self, request: Json, folder: Path, label: str) -> None:
        """Bring the files that `request` lists into `folder`, over cut lines."""
        listed = request["listed"]

        def receive(needed: Any) -> None:
            size = sum(entry["size"] - offset for entry, offset in needed)
            check_room(folder, size)
            console.print_note(f"{label}: fetching {len(needed):,} files, {size:,} bytes")
            self._receive({**request, "wanted": needed}, folder)

        self._copy(lambda: parcel.list_missing_pieces(folder, listed), receive)

    def _receive(self, request: Json, folder: Path) -> None:
        listed = request.pop("listed")
        with self.stream("send", request) as (process, target, source):
            target.close()
            while (line := source.readline()) and line != STREAM:
                if line.startswith(ANSWER):
                    self.answer(line)
            rest = StreamTail(source)
            if line:
                try:
                    parcel.unpack_stream(rest, folder, listed)
                except HostRefusalError as refusal:
                    raise SemError(
                        f"{self.far.host}: {refusal.message}", refusal.hint
                    ) from refusal
            rest.read(1 << 20)
            self.far.check_end(process)
            self.answer(rest.end)

    @contextmanager
    def stream(
        self, verb: str, request: Json
    ) -> Iterator[tuple["subprocess.Popen[bytes]", IO[bytes], IO[bytes]]]:
        """A running `verb`: the process, what it reads and what it writes; killed at the end."""
        with self.far.open_process(CALL, *self._words(verb)) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(json.dumps(request).encode("ascii") + b"\n")
                yield process, process.stdin, process.stdout
            except BrokenPipeError:
                self.far.check_end(process)
                raise ConnectionCutError(
                    f"{self.far.host}: the connection was lost", "run it again"
                ) from None


class StreamTail:
    """A stream whose last bytes are kept: behind the files stands how it went."""

    def __init__(self, source: IO[bytes]) -> None:
        self.source, self.end = source, b""

    def read(self, size: int) -> bytes:
        data = self.source.read(size)
        self.end = (self.end + data)[-65_536:]
        return data


@cache
def build_agent_zip() -> bytes:
    """Our file: the modules of `far` as one zip that Python runs; the same bytes every time."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        _add(archive, "__main__.py", MAIN.encode())
        for path in sorted(FOLDER.glob("*.py")):
            _add(archive, f"far/{path.name}", path.read_bytes())
    return buffer.getvalue()


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), content)


@cache
def agent_name() -> str:
    """Return the hash of our file, which is its name there."""
    return files.hashlib.sha256(build_agent_zip()).hexdigest()

"""Hosts over OpenSSH's own `ssh`: how it is called, and what its refusals mean.

OpenSSH rather than a library: ProxyJump, agents, certificates and hashed known_hosts are then
those of the user's own `ssh`. Host keys must be known, nothing is asked of a person, and what
runs there is one shell-quoted line. A file comes over a line that is cut: the copy goes on from
the byte where it was.
"""

import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sem.core import files, jsonio
from sem.core.errors import SemError

HOST = re.compile(r"(?:\w[\w.-]*@)?(?:[A-Za-z0-9][\w.-]*|\[[0-9a-f:]+\])", re.ASCII)
# a hash of a large file on a slow disk.
ANSWER_S = 3_600.0
# One program argument is at most 128 KiB on Linux, and the far shell gets the line as one.
LONGEST_LINE = 120_000
SSH = (
    *("ssh", "-T", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"),
    *("-o", "ConnectTimeout=10", "-o", "ServerAliveCountMax=3"),
    *("-o", "ForwardAgent=no", "-o", "ForwardX11=no", "-o", "PermitLocalCommand=no"),
    *("-o", "UpdateHostKeys=no", "-o", "ClearAllForwardings=yes"),
)
# The `ssh` of a jump host gets none of these options: without a terminal it cannot ask either.
ALONE: dict[str, Any] = {"start_new_session": True}
HASH = "h(){ if command -v sha256sum >/dev/null 2>&1; then sha256sum; else shasum -a 256; fi; }; "


class ConnectionCutError(SemError):
    """The line to a host ended; the same call may succeed later."""


@dataclass(frozen=True)
class SshHost:
    """A host as `user@host` or a name of the user's ssh configuration."""

    host: str
    # An ssh configuration other than the user's own.
    config: str | None = None
    port: int | None = None
    # a silent line is given up after three of these.
    alive_s: int = 10

    def argv(self, script: str, *words: str) -> list[str]:
        """Return the argv that runs the shell `script` on the host with `words` as "$1", "$2", ….

        The words are not expanded.
        """
        line = shlex.join(["sh", "-c", script, "sem", *words])
        if "\0" in line or len(line.encode("utf-8", "surrogateescape")) > LONGEST_LINE:
            raise SemError(f"{self.host}: an argument holds a NUL or is too long", "shorten it")
        return [*self.words(), "--", self.host.replace("[", "").replace("]", ""), line]

    def words(self) -> list[str]:
        """Return `ssh` and its options, before the host."""
        config = ("-F", self.config) if self.config else ()
        port = ("-p", str(self.port)) if self.port else ()
        return [*SSH, "-o", f"ServerAliveInterval={self.alive_s}", *config, *port]

    def ask(
        self, script: str, *words: str, stdin: bytes = b"", timeout_s: float = ANSWER_S
    ) -> bytes:
        """Return what `script` prints on the host, given `stdin`.

        Raise ConnectionCutError when no answer comes in time.
        """
        with self.open_process(script, *words) as process:
            try:
                reply, message = process.communicate(stdin, timeout_s)
            except subprocess.TimeoutExpired as error:
                raise ConnectionCutError(
                    f"{self.host}: no answer for {timeout_s:.0f} s", "run it again"
                ) from error
        self.check(process.returncode, message.decode("utf-8", "replace"))
        return reply

    @contextmanager
    def open_process(self, script: str, *words: str) -> Iterator["subprocess.Popen[bytes]"]:
        """Run `script`, its three streams as pipes; kill it at the end of the block."""
        pipe = subprocess.PIPE
        argv = self.argv(script, *words)
        try:
            process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, **ALONE)
        except FileNotFoundError as error:
            raise SemError("no `ssh` on this machine", "install the OpenSSH client") from error
        with process:
            try:
                yield process
            finally:
                process.kill()
                assert process.stdin is not None
                # Closing flushes what the line did not take.
                with suppress(BrokenPipeError):
                    process.stdin.close()

    def check_end(self, process: "subprocess.Popen[bytes]") -> None:
        """Wait for `process` and raise what its end means."""
        assert process.stderr is not None
        message = process.stderr.read().decode("utf-8", "replace")
        self.check(process.wait(), message)

    def check(self, code: int, stderr: str) -> None:
        """Raise what exit `code` and the text on `stderr` mean; nothing when `code` is 0."""
        if code == 0:
            return
        last = " ".join((stderr.strip().splitlines() or ["no reason given"])[-1].split())[:200]
        if code != 255:
            raise SemError(
                f"{self.host}: {last} (exit {code})",
                "that message comes from the host: check there",
            )
        for mark, message, hint in REFUSALS:
            if mark in stderr:
                raise SemError(f"{self.host}: {message}", hint)
        for mark, message in KEYS:
            if mark in stderr:
                raise self._unverified(message)
        if "ssh: connect to host" in stderr:
            raise ConnectionCutError(
                f"{self.host}: cannot be reached: {last.rpartition(': ')[2]}",
                "check the host and its port, then run it again",
            )
        raise ConnectionCutError(
            f"{self.host}: the connection was lost: {last}",
            "run it again: it continues from there",
        )

    def _unverified(self, message: str) -> SemError:
        """Return the refusal of a host key, with the fingerprint that was shown and how to add
        it.
        """
        log = self._look()
        key = re.findall(r"Server host key: (?:ssh-)?(\S+) (SHA256:\S+)", log)
        # A jump host that may ask, and cannot, does not name itself: the last place then does.
        pattern = r"(?:No \S+ host key is known for|[Hh]ost key for) (\S+)"
        addresses = re.findall(r"Authenticating to (\S+):(\d+) as ", log)
        where = re.findall(pattern, log) or [known_hosts_label(*place) for place in addresses]
        if not key or not where:
            return SemError(
                f"{self.host}: {message}",
                "compare the fingerprint with its owner's, then log in once by hand with `ssh`",
            )
        kind, fingerprint = key[-1]
        return SemError(
            f"{self.host}: {message}: {where[-1]} shows {kind} {fingerprint}",
            f"ask its owner whether that is right; only then: {_add(where[-1], kind, log)}",
        )

    def _look(self) -> str:
        """Return what `ssh -v` says up to the refusal of the key.

        Nothing is proven to the host.
        """
        argv = [*self.words(), "-v", "-o", "PreferredAuthentications=none", "--", self.host, ":"]
        try:
            process = subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, **ALONE
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return process.stderr.decode("utf-8", "replace")


def check_host(host: str) -> str:
    """Return `host` when ssh can only read it as a host.

    Raise SemError for options, spaces and shell text.
    """
    if not HOST.fullmatch(host):
        raise SemError(f"host {host!r} is not [user@]host", "write it as for ssh, without options")
    return host


def known_hosts_label(name: str, port: str) -> str:
    """Return what known_hosts calls a host."""
    return name if port == "22" else f"[{name}]:{port}"


def _add(named: str, kind: str, log: str) -> str:
    """Return the commands that put the key of `named` into the known hosts, replacing an older
    one.
    """
    match = re.fullmatch(r"\[(.+)\]:(\d+)", named)
    name, port = (match[1], match[2]) if match else (named, "22")
    addresses = re.findall(r"Connecting to (\S+) \[\S+ port (\d+)", log)
    through = "Executing proxy command" in log
    scan = f"ssh-keyscan -t {kind.lower().split('-')[0]} -p {port} {name} >> ~/.ssh/known_hosts"
    if through and (name, port) not in addresses:
        scan = f"ssh JUMP {scan}"
    forget = f"ssh-keygen -R {shlex.quote(named)} && " if "HAS CHANGED" in log else ""
    return f"`{forget}{scan}`"


KEYS = (
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", "its host key differs from the known one"),
    ("Host key verification failed", "its host key is not known here"),
)
# What OpenSSH says when trying again cannot help.
REFUSALS = (
    (
        "Permission denied",
        "it refuses the login",
        "give the host this machine's public key, or name the right key in ~/.ssh/config",
    ),
    ("Could not resolve hostname", "no host of that name", "check the name"),
    ("Bad configuration option", "the ssh configuration cannot be read", "correct that file"),
    ("Can't open user config file", "the ssh configuration does not exist", "check the path"),
)


# Copies over a line that may be cut: asked again, continued from the byte, whole or absent.
#
#     fetch_file(source, FileFacts(size, sha256), path)
#
# What came before a cut stays in `path.part`, beside a note of what it is a part of; the next
# copy of the same content goes on behind it, in this process or in a later one.

# In a row, without an answer or a byte gained.
CUTS = 5
PAUSE_S, LONGEST_PAUSE_S = 0.5, 5.0
# Bytes of disk that stay free.
SPARE = 1 << 26
Sleep = Callable[[float], Any]
T = TypeVar("T")


class SourceChangedError(SemError):
    """The file became another one while it was copied."""


@dataclass(frozen=True)
class FileFacts:
    """A file as its place says it is now."""

    size: int
    sha256: str


class FileSource(Protocol):
    """A file elsewhere, by the name that messages give it."""

    def __str__(self) -> str: ...

    def blocks(self, offset: int, length: int) -> Iterator[bytes]:
        """Yield its bytes from `offset`, at most `length`; ConnectionCutError when it is cut."""


def retry_after_cuts(
    ask: Callable[[], T],
    sleep: Sleep = time.sleep,
    tries: int = CUTS,
    patience_s: float = 0.0,
    note: Callable[[ConnectionCutError], object] | None = None,
) -> T:
    """Return what `ask` answers, asked again after each cut of the line, which `note` is told.

    Raise the last cut after at least `tries` tries and `patience_s` seconds.
    """
    began, cuts = time.monotonic(), 0
    while True:
        try:
            return ask()
        except ConnectionCutError as cut:
            if note:
                note(cut)
            cuts += 1
            if cuts >= tries and time.monotonic() - began >= patience_s:
                raise
            _pause(sleep, cuts)


def copy_over_cuts(
    missing: Callable[[], T], copy: Callable[[T], object], sleep: Sleep = time.sleep
) -> None:
    """Call `copy` with what is `missing` until nothing is; after a cut it goes on from there.

    Raise the cut after CUTS in a row that left as much missing as before.
    """
    cuts, rest = 0, missing()
    while rest:
        cut = ConnectionCutError("the other end sent nothing", "run it again")
        try:
            copy(rest)
        except ConnectionCutError as error:
            cut = error
            _pause(sleep, cuts)
        before, rest = rest, missing()
        cuts = cuts + 1 if rest == before else 0
        if cuts >= CUTS:
            raise cut


def _pause(sleep: Sleep, cuts: int) -> None:
    sleep(min(PAUSE_S * 2**cuts, LONGEST_PAUSE_S))


def fetch_file(
    source: FileSource, facts: FileFacts, path: Path, sleep: Sleep = time.sleep
) -> None:
    """Bring `source`, of which `facts` are known, to `path`; a part of it is continued.

    Raise SourceChangedError when what came is not what `facts` say, and ConnectionCutError when
    the line stays cut: the part then waits for the next call.
    """
    if path.exists() and files.sha256_file(path) == facts.sha256:
        return
    part, note = _part(path), _note(path)
    origin = {"source": str(source), **asdict(facts)}
    if not part.exists() or not note.exists() or files.read_json(note) != origin:
        part.unlink(missing_ok=True)
        files.write_file(note, jsonio.pretty_json(origin))
    _fill(part, source, facts.size, sleep)
    if files.sha256_file(part) != facts.sha256:
        drop_partial_copy(path)
        raise SourceChangedError(f"{source} was written while it was copied", "copy it again")
    files.move_into_place(part, path)
    note.unlink()


def fetch_growing_file(source: FileSource, size: int, path: Path, sleep: Sleep) -> None:
    """Bring the first `size` bytes of `source`, which may grow meanwhile, to `path`."""
    drop_partial_copy(path)
    _fill(_part(path), source, size, sleep)
    files.move_into_place(_part(path), path)


def _fill(part: Path, source: FileSource, size: int, sleep: Sleep) -> None:
    """Bring `part` to `size` bytes of `source`, going on where it stands after every cut."""

    def copy(rest: int) -> None:
        start = file.tell()
        try:
            for block in source.blocks(start, rest):
                file.write(block)
        except FileNotFoundError as error:
            raise SourceChangedError(f"{source} is gone", "copy it again") from error
        if file.tell() == start:
            raise SourceChangedError(f"{source} became shorter", "copy it again")

    with part.open("ab") as file:
        check_room(part.parent, size - file.tell())
        copy_over_cuts(lambda: max(0, size - file.tell()), copy, sleep)


def check_room(folder: Path, size: int) -> None:
    """Raise SemError when the disk of `folder` cannot take `size` more bytes."""
    free = shutil.disk_usage(folder).free
    if size + SPARE > free:
        raise SemError(
            f"{folder}: {free:,} bytes are free, {size + SPARE:,} are needed",
            "free space, then run again",
        )


def drop_partial_copy(path: Path) -> None:
    """Remove the partial file of `path`."""
    _part(path).unlink(missing_ok=True)
    _note(path).unlink(missing_ok=True)


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.part.json")

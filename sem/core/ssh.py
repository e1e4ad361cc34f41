"""Hosts over OpenSSH's own `ssh`: how it is called, and what its refusals mean.

OpenSSH rather than a library: ProxyJump, agents, certificates and hashed known_hosts are then
those of the user's own `ssh`. Host keys must be known, nothing is asked of a person, and what
runs there is one shell-quoted line.
"""

import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

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

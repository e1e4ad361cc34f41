"""A real OpenSSH server of this user on a free port, and a line in front of it that can be cut."""

import os
import pwd
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
USER = pwd.getpwuid(os.getuid()).pw_name


@dataclass
class Server:
    """Where it listens, and the ssh configuration that reaches it under the name `far`."""

    folder: Path
    port: int
    config: Path
    process: subprocess.Popen | None = None

    def start(self) -> None:
        """Listen; its log goes on where it was."""
        argv = [SSHD, "-D", "-e", "-f", str(self.folder / "sshd_config")]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(argv, stderr=log)
        _wait_for(self.port)

    def stop(self) -> None:
        """End the server; sessions it has begun are processes of their own."""
        self.process.terminate()
        self.process.wait()

    def restart(self) -> None:
        """Listen anew, with the configuration as it is now."""
        self.stop()
        self.start()

    def sessions(self) -> list[int]:
        """Return the processes of the server that serve one line each."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def attempts(self) -> int:
        """Return how often somebody got as far as proving who they are."""
        said = (self.folder / "log").read_text("utf-8", "replace")
        return len(re.findall("Accepted |Failed |Postponed |authenticating user", said))

    def known(self, key: str) -> None:
        """Make `key` the host key that this machine knows."""
        kind, body = key.split()[:2]
        names = f"[127.0.0.1]:{self.port}"
        (self.folder / "known_hosts").write_text(f"{names} {kind} {body}\n" if key else "")

    def key(self, name: str = "host") -> str:
        return (self.folder / f"{name}.pub").read_text()

    def fingerprint(self, name: str = "host") -> str:
        """Return what ssh shows of the key `name`, as `ed25519 SHA256:…`."""
        argv = ["ssh-keygen", "-l", "-f", str(self.folder / f"{name}.pub")]
        return f"ed25519 {subprocess.check_output(argv, text=True).split()[1]}"

    def reach(self, port: int) -> None:
        """Write the configuration; `port` may be that of a line in between."""
        (self.folder / "config").write_text(
            f"Host far\n HostName 127.0.0.1\n Port {port}\n User {USER}\n"
            f" HostKeyAlias [127.0.0.1]:{self.port}\n IdentityFile {self.folder}/user\n"
            f" IdentitiesOnly yes\n UserKnownHostsFile {self.folder}/known_hosts\n"
            " GlobalKnownHostsFile /dev/null\n"
        )


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A server with keys of its own below `folder`; needs `sshd`, see SSHD."""
    assert SSHD
    folder.chmod(0o700)
    # nobody's login scripts run in tests.
    (folder / "homedir").mkdir()
    for name in ("host", "user", "other"):
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(argv, check=True)
    shutil.copy(folder / "user.pub", folder / "authorized")
    (folder / "authorized").chmod(0o600)
    if os.getuid() == 0:
        # Sshd wants it, and only root's sshd does.
        Path("/run/sshd").mkdir(exist_ok=True)
    port = _free_port()
    server = Server(folder, port, folder / "config")
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nPermitRootLogin prohibit-password\nMaxStartups 100\n"
        f"LogLevel VERBOSE\nSetEnv HOME={folder}/homedir\n"
    )
    server.known(server.key())
    server.reach(port)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


def _wait_for(port: int) -> None:
    for _ in range(100):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError("sshd did not start")


@dataclass
class Line:
    """A TCP line to `port` that is cut after so many bytes came back, once for each of `cuts`."""

    port: int
    cuts: list[int] = field(default_factory=list)
    made: int = 0  # cuts so far
    at: int = 0

    def __enter__(self) -> "Line":
        self._server = socket.create_server(("127.0.0.1", 0))
        self.at = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(("127.0.0.1", self.port))
                pair = ((near, far, False), (far, near, True))
                for source, target, counted in pair:
                    threading.Thread(
                        target=self._carry, args=(source, target, counted), daemon=True
                    ).start()

    def _carry(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        carried = 0
        with suppress(OSError):
            while data := source.recv(65_536):
                carried += len(data)
                if counted and self.cuts and carried > self.cuts[0]:
                    self.cuts.pop(0)
                    self.made += 1
                    break
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

"""Hosts are who they say: a key that is unknown or another one is refused before anything else."""

import re
import subprocess

import pytest
from sshd import SSHD, USER, serving

from sem.core.errors import SemError
from sem.core.net import ssh
from sem.core.net.ssh import ConnectionCutError, SshHost

NEEDS_SSHD = pytest.mark.skipif(SSHD is None, reason="no sshd on this machine")


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Two hosts, `far` and the jump host before it."""
    folders = [tmp_path_factory.mktemp(name) for name in ("far", "jump")]
    with serving(folders[0]) as far, serving(folders[1]) as jump:
        yield far, jump


def entry(server, key: str = "host") -> str:
    kind, body = server.key(key).split()[:2]
    return f"[127.0.0.1]:{server.port} {kind} {body}\n"


def reaching(tmp_path, servers, known: str, through: bool, hashed: bool = False) -> SshHost:
    """Return the host `far`, behind the jump host where `through`, with `known` as the known
    hosts.
    """
    far, jump = servers
    path = tmp_path / "known_hosts"
    path.write_text(known)
    if hashed:
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(path)], check=True)
        path.with_suffix(".old").unlink()
        assert "127.0.0.1" not in path.read_text()
    lines = [
        f"Host far\n Port {far.port}\n IdentityFile {far.folder}/user\n"
        + (" ProxyJump jump\n" if through else ""),
        f"Host jump\n Port {jump.port}\n IdentityFile {jump.folder}/user\n",
        f"Host *\n HostName 127.0.0.1\n User {USER}\n IdentitiesOnly yes\n"
        f" UserKnownHostsFile {path}\n GlobalKnownHostsFile /dev/null\n",
    ]
    (tmp_path / "config").write_text("".join(lines))
    return SshHost("far", str(tmp_path / "config"))


# What is known of the target and of the jump host: its own key, another's, or nothing.
REFUSED = {
    "unknown": ("", "host", False, False),
    "changed": ("other", "host", False, False),
    "unknown, behind a known jump host": ("", "host", True, False),
    "changed, behind a known jump host": ("other", "host", True, False),
    "a jump host that is unknown": ("host", "", True, False),
    "changed, hashed": ("other", "host", False, True),
}


@NEEDS_SSHD
@pytest.mark.parametrize("case", REFUSED)
def test_an_unknown_or_changed_key_is_refused_with_its_fingerprint(tmp_path, servers, case):
    target, jump, through, hashed = REFUSED[case]
    keys = [(servers[0], target), (servers[1], jump)]
    known = "".join(entry(server, key) for server, key in keys if key)
    far = reaching(tmp_path, servers, known, through, hashed)
    failing = servers[1] if not jump else servers[0]
    before = failing.attempts()

    with pytest.raises(SemError) as caught:
        far.ask("touch canary")

    kind = "differs from the known one" if target == "other" else "is not known here"
    where = f"[127.0.0.1]:{failing.port} shows {failing.fingerprint()}"
    assert caught.value.message == f"far: its host key {kind}: {where}"
    scan = f"ssh-keyscan -t ed25519 -p {failing.port} 127.0.0.1 >> ~/.ssh/known_hosts"
    assert scan in caught.value.hint
    assert ("ssh-keygen -R" in caught.value.hint) == (target == "other")
    assert not isinstance(caught.value, ConnectionCutError)
    assert failing.attempts() == before


@NEEDS_SSHD
@pytest.mark.parametrize("through", [False, True])
@pytest.mark.parametrize("kind", ["plain", "hashed", "authority"])
def test_a_known_key_is_taken_in_every_way_that_ssh_knows(tmp_path, servers, kind, through):
    known = entry(servers[0]) + entry(servers[1])
    if kind == "authority":
        known = certified(servers[0]) + entry(servers[1])
    far = reaching(tmp_path, servers, known, through, kind == "hashed")

    assert far.ask('printf "%s" "$1"', "a  'b'") == b"a  'b'"


def certified(server) -> str:
    """Return a line that trusts whoever signed the key of `server`.

    The server shows its certificate.
    """
    argv = ["ssh-keygen", "-q", "-s", str(server.folder / "other"), "-I", "far", "-h"]
    subprocess.run([*argv, str(server.folder / "host.pub")], check=True)
    config = server.folder / "sshd_config"
    line = f"HostCertificate {server.folder}/host-cert.pub\n"
    if line not in config.read_text():
        config.write_text(config.read_text() + line)
        server.restart()
    kind, body = server.key("other").split()[:2]
    return f"@cert-authority [127.0.0.1]:{server.port} {kind} {body}\n"


@NEEDS_SSHD
def test_a_key_that_the_host_does_not_take_is_said(tmp_path, servers):
    far = reaching(tmp_path, servers, entry(servers[0]), False)
    config = tmp_path / "config"
    config.write_text(re.sub(r"IdentityFile \S+", "IdentityFile /nowhere", config.read_text()))

    with pytest.raises(SemError) as caught:
        far.ask("true")

    assert caught.value.message == "far: it refuses the login"


HOSTILE = [
    "-oProxyCommand=touch x",
    "a b",
    "a;touch x",
    "u@-h",
    "h\n",
    "",
    "$(touch x)",
    "a`b`",
    "@",
]


@pytest.mark.parametrize("host", HOSTILE)
def test_what_ssh_could_read_as_something_else_is_no_host(host):
    with pytest.raises(SemError, match=r"is not \[user@\]host"):
        ssh.check_host(host)


def test_a_word_that_no_shell_can_carry_is_refused():
    for word in ("a\0b", "x" * 130_000):
        with pytest.raises(SemError, match="holds a NUL or is too long"):
            SshHost("far").argv("true", word)

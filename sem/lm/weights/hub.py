"""A hub model at one commit: its safetensors, configs and tokenizer, and nothing else."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sem.core.errors import SemError

WANTED = ["*.safetensors", "*.json", "*.model", "*.jinja"]
# Other formats of the same weights live there.
SUBFOLDERS = ["*/*"]


def download_model(name: str, commit: str, folder: Path) -> None:
    """Fetch the hub model `name` at `commit` into `folder`.

    Raise SemError when the hub gives it not.
    """
    if os.environ.get("SEM_OFFLINE") == "1":
        raise SemError(f"{name}@{commit} is not on this disk", "unset SEM_OFFLINE to fetch it")
    from huggingface_hub import HfApi

    # The endpoint is read here, not at import: HF_ENDPOINT names a mirror.
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    try:
        with _online():
            api.snapshot_download(
                name,
                revision=commit,
                local_dir=folder,
                allow_patterns=WANTED,
                ignore_patterns=SUBFOLDERS,
            )
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise SemError(
            f"cannot fetch {name}@{commit[:12]} from the hub: {reason[0]}",
            "check the network and HF_TOKEN, or name a local folder or a pip: weight package",
        ) from error
    shutil.rmtree(folder / ".cache", ignore_errors=True)


@contextmanager
def _online() -> Iterator[None]:
    # Every script starts with HF_HUB_OFFLINE=1, so that no library calls the hub by itself; this
    # is the one place that may.
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = False
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before

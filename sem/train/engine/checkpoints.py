"""Checkpoints that are complete or not there.

The stock trainer resumes from the highest number whether or not it was fully written (0 of 16
kills survived). Here a checkpoint counts when its manifest, written last, matches every file.
"""

import os
from pathlib import Path

from sem.core import console, files, manifest

STATE = {"optimizer.pt", "scheduler.pt", "trainer_state.json"}
# Of one process, or of the first of several.
RANDOM = {"rng_state.pth", "rng_state_0.pth"}
# Either kind of weights: an adapter, or every weight of a full fine-tune.
WEIGHTS = ({"adapter_model.safetensors", "adapter_config.json"}, {"model.safetensors"})


def seal_checkpoint(folder: Path) -> None:
    """Mark the checkpoint in `folder` as complete."""
    manifest.seal_folder(folder)
    files.sync_path(folder.parent)


def newest_checkpoint(run: Path) -> Path | None:
    """Return the newest complete checkpoint below `run`; broken ones are set aside and named."""
    numbers = sorted((int(p.name.split("-")[1]) for p in run.glob("checkpoint-*")), reverse=True)
    for number in numbers:
        folder = run / f"checkpoint-{number}"
        if is_complete(folder):
            return folder
        aside = run / f"quarantine-{number}-{os.getpid()}"
        folder.rename(aside)
        console.print_note(f"checkpoint {number} is incomplete: set aside as {aside.name}")
    return None


def is_complete(folder: Path) -> bool:
    """Return whether `folder` holds every file a resume needs, unchanged since it was sealed."""
    present = {path.name for path in folder.iterdir()}
    has_all = present >= STATE and present & RANDOM and any(present >= kind for kind in WEIGHTS)
    return bool(has_all) and manifest.matches_manifest(folder)

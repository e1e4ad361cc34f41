"""Publish a package that verifies, and fetch one back that does.

    publish.publish_package(folder, place, None, reason=None, at=now)
    publish.fetch_package(place, None, Path("models/shop/packages"), signer=Path("release.pub"))

Both go on where a killed start stopped. A reader sees a package whole or not at all, and a fetched
one takes its name once it is verified.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sem.core import files, run
from sem.core.errors import SemError
from sem.core.project import Project
from sem.package.publish import listing as listings
from sem.package.publish import signature
from sem.package.publish.listing import Listing
from sem.package.publish.places import BEGUN, Place
from sem.package.verify import verify

# Free space that a fetched package leaves on the disk.
SPARE_BYTES = 100_000_000
MAX_LINES = 20


@dataclass(frozen=True)
class PublishSettings:
    """publish.yaml; the defaults need no file."""

    # A public key or certificate, below the project's root: packages that its holder has not
    # signed are neither published nor fetched.
    signed_by: str | None = None


def find_signer(project: Project | None, named: Path | None) -> Path | None:
    """Return who must have signed: `named`, else what publish.yaml of `project` says."""
    if named is not None or project is None:
        return named
    text = project.settings("publish", PublishSettings).signed_by
    return project.root / text if text else None


def publish_package(
    folder: Path, place: Place, signer: Path | None, reason: str | None, at: datetime
) -> str:
    """Publish the package in `folder` to `place`, and return its address there.

    Raise SemError for one that does not verify, that `signer` has not signed, or whose gate did
    not pass, unless there is a `reason`, which is written down with it.
    """
    if signer is not None:
        signature.check_signature(folder, signer)
    refuse_faulty(folder, "not published", verify.package_faults(folder))
    listing = listings.describe_package(folder, reason, at)
    # A takedown may have come in between.
    run.refuse_tainted(folder, f"package {folder.name}")
    return place.publish(listing, folder)


def refuse_faulty(folder: Path, what: str, faults: list[str]) -> None:
    """Raise SemError that names the `faults` of the package in `folder`, where there are any."""
    if faults:
        raise SemError(
            f"{folder}: {what}: {len(faults)} faults:\n       "
            + "\n       ".join(faults[:MAX_LINES]),
            "do not use it: restore the files, or export it again",
        )


def fetch_package(
    place: Place, run_id: str | None, into: Path, signer: Path | None, runs: Path | None = None
) -> Path:
    """Fetch the package of `run_id` (default: the newest) to INTO/RUN and return that folder.

    It takes that name when every file is listed by its hash, `signer` has signed it, and it
    verifies; else nothing of it stays. Raise SemError when another folder has the name, and when
    a takedown tainted the run of that name in the folder `runs`.
    """
    place = place.pin()
    listing = place.read_listing(run_id)
    if runs is not None:
        run.refuse_tainted(runs / listing.run_id, f"run {listing.run_id}")
    folder = into / listing.run_id
    with files.lock_file(into / f".{listing.run_id}.lock", f"package {listing.run_id}"):
        if folder.exists():
            if _is_whole(folder, listing):
                return folder
            raise SemError(
                f"{folder}: is there, and differs from {place.address}",
                "compare them with `fab package.diff`, or move it away",
            )
        building = into / f".fetching-{listing.run_id}"
        building.mkdir(parents=True, exist_ok=True)
        _refuse_full_disk(building, listing)
        _remove_strangers(building, listing)
        for name, entry in sorted(listing.files.items()):
            if not _is_file(building / name, entry):
                place.read_file(name, entry, building / name)
            if not _is_file(building / name, entry):
                (building / name).unlink()
                raise SemError(
                    f"{place.address}: {name} is not the file that the listing names",
                    "do not use it: publish it again",
                )
        for path in list(building.rglob(BEGUN + "*")):
            shutil.rmtree(path)
        try:
            _check_fetched(building, listing, signer)
        except SemError:
            shutil.rmtree(building)
            raise
        building.rename(folder)
        files.sync_path(into)
    return folder


def _check_fetched(building: Path, listing: Listing, signer: Path | None) -> None:
    if signer is not None:
        signature.check_signature(building, signer)
    refuse_faulty(building, "not fetched", verify.package_faults(building))
    facts = files.read_object(building / "manifest.json")
    if (facts["sem"], facts["run_id"]) != (listing.sem, listing.run_id):
        raise SemError(
            f"{building}: not fetched: the listing calls it run {listing.run_id} of "
            f"{listing.sem}, its manifest run {facts['run_id']} of {facts['sem']}",
            "do not use it: publish it again",
        )


def _is_file(path: Path, entry: listings.FileEntry) -> bool:
    """Return True if `path` is the file of `entry`, and no link to one."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size != entry["bytes"]:
        return False
    return files.sha256_file(path) == entry["sha256"]


def _is_whole(folder: Path, listing: Listing) -> bool:
    names = {str(path.relative_to(folder)) for path in _files(folder)}
    return names == set(listing.files) and all(
        _is_file(folder / name, entry) for name, entry in listing.files.items()
    )


def _files(folder: Path) -> Iterator[Path]:
    yield from (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


def _remove_strangers(building: Path, listing: Listing) -> None:
    """Remove what an earlier start fetched of another package of the same name."""
    for path in list(_files(building)):
        name = str(path.relative_to(building))
        if name not in listing.files and f"/{BEGUN}" not in f"/{name}":
            path.unlink()
    for path in sorted(building.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
            path.rmdir()


def _refuse_full_disk(building: Path, listing: Listing) -> None:
    begun = sum(path.lstat().st_size for path in _files(building))
    free = shutil.disk_usage(building).free
    needed = max(0, listing.bytes - begun) + SPARE_BYTES
    if free < needed:
        raise SemError(
            f"{building}: {free:,} bytes are free, the package needs {needed:,}",
            "free space, then run the same command again",
        )

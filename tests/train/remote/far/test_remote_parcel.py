"""Parcels: what is on the list arrives with its hash; nothing else is written anywhere."""

import io
import os
import random
import tarfile
from pathlib import Path

import pytest

from sem.train.remote.far import parcel
from sem.train.remote.far.disk import HostRefusalError

HOSTILE = [
    *(
        "-rf",
        "--help",
        "$(touch canary)",
        "`touch canary`",
        "a;touch canary",
        "a b",
        "'",
        '"',
        "*",
    ),
    *("|", "&&touch canary", "日本", "\u202e", "~", "%s", "\\", "a\\b", "{a,b}", "#", "!", "=x"),
]
REFUSED = [
    "../x",
    "a/../../x",
    "/etc/x",
    "a//b",
    "",
    ".",
    "a/./b",
    "a\nb",
    "a\0b",
    "a\x1b[31m",
    ".parts/x",
    "\udce9",
    "x" * 300,
    "a\rb",
    "a\tb",
    7,
    None,
]


@pytest.fixture
def root(tmp_path) -> Path:
    """A tree of files of several sizes."""
    pick, made = random.Random(0), tmp_path / "here"
    for number, size in enumerate((0, 1, 511, 512, 70_000, 400_000, 0)):
        path = made / f"d{number % 3}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pick.randbytes(size))
    return made


def sent(root: Path, listed: list, folder: Path) -> bytes:
    out = io.BytesIO()
    parcel.write_parcel(out, root, parcel.list_missing_pieces(folder, listed))
    return out.getvalue()


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in parcel.paths_below(folder, ".parts")}


def test_a_parcel_arrives_byte_for_byte(root, tmp_path):
    listed, there = parcel.list_entries(root, parcel.paths_below(root)), tmp_path / "there"
    there.mkdir()

    assert parcel.unpack_stream(io.BytesIO(sent(root, listed, there)), there, listed) == 7
    assert contents(there) == contents(root)
    assert parcel.list_missing_pieces(there, listed) == []


def test_a_stream_cut_anywhere_goes_on_where_it_was(root, tmp_path):
    listed, pick, resumed = (
        parcel.list_entries(root, parcel.paths_below(root)),
        random.Random(1),
        0,
    )
    for number in range(30):
        there = tmp_path / f"there{number}"
        there.mkdir()
        for _ in range(40):
            stream = sent(root, listed, there)
            part = pick.randrange(len(stream) + 1)
            parcel.unpack_stream(io.BytesIO(stream[:part]), there, listed)
            resumed += any(offset for _, offset in parcel.list_missing_pieces(there, listed))
            for name, data in contents(there).items():
                assert data == (root / name).read_bytes()
            if not parcel.list_missing_pieces(there, listed):
                break
        assert contents(there) == contents(root)
    assert resumed > 10


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_a_name_and_nothing_else(tmp_path, name):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    (here / name).write_bytes(b"x")
    listed = parcel.list_entries(here, parcel.paths_below(here))

    parcel.unpack_stream(io.BytesIO(sent(here, listed, there)), there, listed)

    assert contents(there) == {name: b"x"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "there"]


@pytest.mark.parametrize("name", REFUSED, ids=repr)
def test_a_name_that_could_leave_its_folder_is_refused_on_both_ends(tmp_path, name):
    entry = {"path": name, "size": 0, "sha256": "0" * 64}
    with pytest.raises(HostRefusalError, match="is not sent"):
        parcel.list_entries(tmp_path, [name])
    with pytest.raises(HostRefusalError, match="is not sent"):
        parcel.check_entries([entry])


@pytest.mark.parametrize("kind", ["file", "folder", "out", "dangling"])
def test_a_link_is_refused_by_name(root, tmp_path, kind):
    targets = {"file": root / "d0/f0", "folder": root / "d0", "out": tmp_path, "dangling": "no"}
    (root / "link").symlink_to(targets[kind])

    with pytest.raises(HostRefusalError, match=r"'link' is a link or not a plain file"):
        parcel.list_entries(root, parcel.paths_below(root))
    if kind == "folder":
        with pytest.raises(HostRefusalError, match=r"'link/f0' is a link"):
            parcel.list_entries(root, ["link/f0"])


def member(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, **more) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo(name)
        info.type, info.size = kind, len(data)
        info.linkname = more.pop("link", "")
        info.pax_headers = more.pop("pax", {})
        tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


FORGED = {
    "another name": member("evil", b"abc"),
    "outside": member("../evil", b"abc"),
    "absolute": member("/tmp/evil", b"abc"),
    "symlink": member("good", kind=tarfile.SYMTYPE, link="/etc/passwd"),
    "hard link": member("good", kind=tarfile.LNKTYPE, link="../secret"),
    "device": member("good", kind=tarfile.CHRTYPE),
    "pipe": member("good", kind=tarfile.FIFOTYPE),
    "folder": member("good", kind=tarfile.DIRTYPE),
    "other bytes": member("good", b"abd"),
    "longer": member("good", b"abcd"),
    "shorter": member("good", b"ab"),
    "past the end of what is here": member("good", b"c", pax={parcel.OFFSET: "2"}),
    "before the beginning": member("good", b"abcd", pax={parcel.OFFSET: "-1"}),
}


@pytest.mark.parametrize("case", FORGED)
def test_what_was_not_announced_is_not_written(tmp_path, case):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    (here / "good").write_bytes(b"abc")
    (tmp_path / "secret").write_bytes(b"s")
    listed = parcel.list_entries(here, ["good"])

    with pytest.raises(HostRefusalError):
        parcel.unpack_stream(io.BytesIO(FORGED[case]), there, listed)

    assert contents(there) == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "secret", "there"]


def test_a_link_in_the_receiving_folder_is_not_followed(tmp_path):
    here, there, outside = tmp_path / "here", tmp_path / "there", tmp_path / "outside"
    for folder in (here / "d", there, outside):
        folder.mkdir(parents=True)
    (here / "d" / "f").write_bytes(b"x")
    listed = parcel.list_entries(here, ["d/f"])
    (there / "d").symlink_to(outside)

    with pytest.raises(HostRefusalError, match="leads out of its folder"):
        parcel.unpack_stream(io.BytesIO(sent(here, listed, there)), there, listed)

    assert list(outside.iterdir()) == []


def test_a_flipped_bit_is_named_and_the_file_is_sent_anew(root, tmp_path):
    listed, there = parcel.list_entries(root, ["d2/f5"]), tmp_path / "there"
    there.mkdir()
    whole = sent(root, listed, there)
    parcel.unpack_stream(io.BytesIO(whole[:200_000]), there, listed)
    part = next((there / ".parts").iterdir())
    part.write_bytes(b"\xff" + part.read_bytes()[1:])

    with pytest.raises(
        HostRefusalError, match=r"d2/f5 came as [0-9a-f]{12}…, its sender's list says"
    ):
        parcel.unpack_stream(io.BytesIO(sent(root, listed, there)), there, listed)

    assert parcel.list_missing_pieces(there, listed)[0][1] == 0
    parcel.unpack_stream(io.BytesIO(sent(root, listed, there)), there, listed)
    assert contents(there) == {"d2/f5": (root / "d2/f5").read_bytes()}


def test_a_folder_gets_its_name_only_when_every_hash_is_right(root, tmp_path):
    listed = parcel.list_entries(root, parcel.paths_below(root))
    staging, target = tmp_path / "staging", tmp_path / "target"
    staging.mkdir()
    parcel.unpack_stream(io.BytesIO(sent(root, listed, staging)), staging, listed)
    (staging / "d1/f4").write_bytes(b"flipped")

    with pytest.raises(HostRefusalError, match="d1/f4 has a different hash"):
        parcel.place_files(staging, target, listed)
    assert not target.exists()
    parcel.unpack_stream(io.BytesIO(sent(root, listed, staging)), staging, listed)
    parcel.place_files(staging, target, listed)

    assert contents(target) == contents(root)
    assert not staging.exists()


def test_a_file_that_changes_while_it_is_sent_is_named(root, tmp_path):
    listed = parcel.list_entries(root, ["d1/f1"])
    with (root / "d1/f1").open("ab") as file:
        file.write(b"more")

    with pytest.raises(HostRefusalError, match="d1/f1 changed while it was sent"):
        parcel.write_parcel(io.BytesIO(), root, [(listed[0], 0)])


@pytest.mark.parametrize(
    "listed",
    [
        None,
        {},
        [1],
        [{"path": "a"}],
        [{"path": "a", "size": -1, "sha256": "0" * 64}],
        [{"path": "a", "size": 0, "sha256": "../x"}],
        [{"path": "a", "size": 0, "sha256": "0" * 64}] * 2,
    ],
)
def test_a_list_that_is_none_is_refused(listed):
    with pytest.raises(HostRefusalError):
        parcel.check_entries(listed)


def test_the_part_of_a_cut_file_has_no_name_yet(root, tmp_path):
    listed, there = parcel.list_entries(root, ["d2/f5"]), tmp_path / "there"
    there.mkdir()
    parcel.unpack_stream(io.BytesIO(sent(root, listed, there)[:100_000]), there, listed)

    assert not (there / "d2").exists()
    assert 0 < os.stat(next((there / ".parts").iterdir())).st_size < 100_000

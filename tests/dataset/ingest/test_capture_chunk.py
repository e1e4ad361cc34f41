"""Archives that are not exactly a chunk are refused before, or while, they unpack."""

import json
import stat
import zipfile
from pathlib import Path

import pytest
from rowmaker import project, row

from sem.core.errors import SemError
from sem.dataset.ingest import capture_chunk
from sem.dataset.store import store

NAME = "llm_training_chunk_1"


@pytest.fixture
def inner(tmp_path) -> bytes:
    path = tmp_path / "made.duckdb"
    store.append_store_rows(path, [row("a1")])
    return path.read_bytes()


def entries(inner: bytes) -> dict[str, bytes]:
    return {f"{NAME}.duckdb": inner, f"{NAME}.json": json.dumps({"row_count": 1}).encode()}


def packed(path: Path, parts: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return path


def refused(path: Path) -> str:
    with pytest.raises(SemError) as caught, capture_chunk.unpack_chunk(path):
        pass
    assert caught.value.hint
    return caught.value.message


def test_a_chunk_is_unpacked_and_its_count_told(tmp_path, inner):
    with capture_chunk.unpack_chunk(packed(tmp_path / "a.zip", entries(inner))) as (path, count):
        with store.open_store(path) as opened:
            assert [one.id for one in opened.rows()] == ["a1"]
        assert count == 1
    assert not path.exists()


@pytest.mark.parametrize(
    "name", ["inner.zip", "readme.txt", "llm_training_chunk_2.duckdb", "llm_training_chunk_2.json"]
)
def test_anything_besides_the_two_files_is_refused(tmp_path, inner, name):
    path = packed(tmp_path / "a.zip", {**entries(inner), name: b"PK\x03\x04"})

    assert "not a chunk" in refused(path)


def test_an_entry_that_is_there_twice_is_refused(tmp_path, inner):
    path = packed(tmp_path / "a.zip", entries(inner))
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(f"{NAME}.json", '{"row_count": 9}')

    assert refused(path).endswith(f"entry '{NAME}.json' appears twice")


def test_a_link_is_refused(tmp_path, inner):
    path = packed(tmp_path / "a.zip", {f"{NAME}.duckdb": inner})
    link = zipfile.ZipInfo(f"{NAME}.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")

    assert "is in a folder, a link or encrypted" in refused(path)


def test_an_encrypted_entry_is_refused(tmp_path, inner):
    path = packed(tmp_path / "a.zip", entries(inner))
    data = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        at = data.find(mark)
        data[at + place] |= 1
    path.write_bytes(data)

    assert "is in a folder, a link or encrypted" in refused(path)


@pytest.mark.parametrize("change", [-100, 100])
def test_a_size_that_lies_is_refused(tmp_path, inner, change):
    path = packed(tmp_path / "a.zip", entries(inner))
    data = bytearray(path.read_bytes())
    at = data.find(b"PK\x01\x02") + 24
    data[at : at + 4] = (len(inner) + change).to_bytes(4, "little")
    path.write_bytes(data)

    assert f"{NAME}.duckdb is damaged" in refused(path)


def test_a_flipped_byte_is_noticed(tmp_path, inner):
    path = packed(tmp_path / "a.zip", entries(inner), zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[5_000] ^= 1
    path.write_bytes(data)

    assert f"{NAME}.duckdb is damaged: Bad CRC-32" in refused(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_rare_packers_are_refused(tmp_path, inner, method):
    assert "is compressed with method" in refused(
        packed(tmp_path / "a.zip", entries(inner), method)
    )


def test_a_long_list_of_entries_is_refused_before_it_is_read(tmp_path):
    path = packed(tmp_path / "a.zip", {f"{number:04}.txt": b"" for number in range(2_000)})

    assert "its list of entries is 108,000 bytes long" in refused(path)


@pytest.mark.parametrize(
    ("sidecar", "said"),
    [
        (b"{", "the sidecar is not JSON"),
        (b"[]", "names no row count"),
        (b'{"row_count": true}', "names no row count"),
        (b'{"row_counts": {"examples": 2}}', "holds 1 rows, its sidecar says 2"),
    ],
)
def test_a_sidecar_that_says_nothing_usable_is_refused(tmp_path, inner, sidecar, said):
    path = packed(tmp_path / "a.zip", {**entries(inner), f"{NAME}.json": sidecar})

    assert said in refused(path)


def test_nothing_is_written_outside_the_target(tmp_path, inner):
    made = project(tmp_path / "home")
    bad = {f"../{NAME}.duckdb": inner, f"{NAME}.json": b'{"row_count": 1}'}
    before = {one for one in tmp_path.rglob("*") if one.is_file()}
    refused(packed(tmp_path / "a.zip", bad))

    assert {one for one in tmp_path.rglob("*") if one.is_file()} - before == {tmp_path / "a.zip"}
    assert not made.store.exists()

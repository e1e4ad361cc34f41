"""Files of DuckDB's with a text in them that is not UTF-8, sound in everything else."""

from pathlib import Path

import duckdb
import numpy as np

# As long as what stands in its place, so that nothing moves.
TEXT, NOT_UTF8 = b"zzzzz", b"\xff\xfezzz"
HEADERS, BLOCK = 3 * 4096, 1 << 18


def write_parquet(path: Path, query: str) -> Path:
    """Write the rows of `query` to `path`, its zzzzz replaced by what is not UTF-8."""
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY ({query}) TO '{path}' (FORMAT parquet, COMPRESSION uncompressed)"
        )
    data = path.read_bytes()
    assert TEXT in data
    path.write_bytes(data.replace(TEXT, NOT_UTF8))
    return path


def write_store(path: Path, *statements: str) -> Path:
    """Write a DuckDB file by `statements`, its zzzzz replaced by what is not UTF-8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.execute("CHECKPOINT")
    data = bytearray(path.read_bytes())
    assert TEXT in data
    for start in range(HEADERS, len(data), BLOCK):
        body = bytes(data[start + 8 : start + BLOCK]).replace(TEXT, NOT_UTF8)
        data[start : start + BLOCK] = _checksum(body) + body
    path.write_bytes(data)
    return path


def _checksum(body: bytes) -> bytes:
    # DuckDB's own, by which it knows a damaged block.
    words = np.frombuffer(body, "<u8") * np.uint64(0xBF58476D1CE4E5B9)
    return int(np.bitwise_xor.reduce(words) ^ np.uint64(5381)).to_bytes(8, "little")

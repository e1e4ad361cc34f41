"""Chunks as production capture delivers them."""

import json
import zipfile
from pathlib import Path

import duckdb
from rowmaker import row

CAPTURE = {
    "llm_signature": "sig-1",
    "provider": "openrouter",
    "model_name": "qwen3-coder",
    "input_tokens": 812,
    "output_tokens": 33,
    "latency_ms": 1204,
    "created_at": "2026-01-02 03:04:05",
    "prompt_hash": None,
}


def chunk(
    folder: Path, stamp: str, names: str, hashes: list[str] | None = None, count=None
) -> Path:
    """Return a 15-column chunk with a row for each letter of `names`."""
    folder.mkdir(exist_ok=True)
    name = f"llm_training_chunk_{stamp}"
    inner = folder.parent / f"{name}.duckdb"
    with duckdb.connect(str(inner)) as connection:
        connection.execute(
            "CREATE TABLE examples (id TEXT PRIMARY KEY, task TEXT, prompt_text TEXT, "
            "response_strong JSON, metadata JSON, slot_specs JSON, system_prompt TEXT, "
            "llm_signature TEXT, provider TEXT, model_name TEXT, input_tokens BIGINT, "
            "output_tokens BIGINT, latency_ms BIGINT, created_at TIMESTAMP, prompt_hash TEXT)"
        )
        for number, letter in enumerate(names):
            values = [*row(f"{letter}1").columns(), *CAPTURE.values()]
            values[-1] = hashes[number] if hashes else None
            connection.execute(f"INSERT INTO examples VALUES ({','.join('?' * 15)})", values)
    path = folder / f"{name}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(inner, f"{name}.duckdb")
        told = {"row_count": len(names) if count is None else count, "timestamp": stamp}
        archive.writestr(f"{name}.json", json.dumps(told))
    inner.unlink()
    return path

"""The table `examples`: its columns, their older spellings, and one row of it."""

from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from typing import Any

from sem.core.errors import SemError
from sem.core.example import SPELLINGS

SCHEMA = (
    "CREATE TABLE examples (id VARCHAR PRIMARY KEY, task VARCHAR, prompt_text VARCHAR, "
    "response_strong JSON, metadata JSON, slot_specs JSON, system_prompt VARCHAR)"
)
SCHEMA_META = "CREATE TABLE IF NOT EXISTS schema_meta (version INTEGER NOT NULL)"
# Of a new store: storewrite.CURRENT.
SCHEMA_VERSION = "INSERT INTO schema_meta VALUES (2)"
COLUMNS = (
    "id",
    "task",
    "prompt_text",
    "response_strong",
    "metadata",
    "slot_specs",
    "system_prompt",
)
# Field of a raw row -> columns that may hold it; the first that is there wins.
FIELDS: dict[str, tuple[str, ...]] = {
    "id": ("id", "example_id"),
    "task": ("task", "task_id"),
    "page_type": ("page_type",),
    "input_text": ("prompt_text", *SPELLINGS["input_text"]),
    "reference": ("response_strong", *SPELLINGS["output_json"]),
    "metadata": ("metadata", *SPELLINGS["meta"]),
    "slot_specs": ("slot_specs",),
    "system_prompt": ("system_prompt",),
    "source_id": ("source_id",),
}
NEEDED = ("id", "input_text", "reference")
# What production capture stores beside the seven columns; kept under `capture` in the metadata.
CAPTURE = (
    "llm_signature",
    "provider",
    "model_name",
    "input_tokens",
    "output_tokens",
    "latency_ms",
    "created_at",
    "prompt_hash",
)


@dataclass(frozen=True)
class RawRow:
    """One row as stored: JSON columns are still text, anything may be missing."""

    id: str | None
    task: str | None = None
    input_text: str | None = None
    reference: str | None = None
    metadata: str | None = None
    slot_specs: str | None = None
    system_prompt: str | None = None
    page_type: str | None = None
    source_id: str | None = None
    capture: str | None = None

    def columns(self) -> tuple[Any, ...]:
        """Return the values of the seven columns, in their order."""
        return astuple(self)[: len(COLUMNS)]


@dataclass(frozen=True)
class Appended:
    """What an import did to the store."""

    added: int = 0
    already_there: int = 0
    replaced: int = 0
    skipped: int = 0


def import_outcome(where: str, old: Any, new: tuple[Any, ...], on_conflict: str) -> str:
    """Return which count of Appended the row `new` belongs to when `old` has its id."""
    if old is None:
        return "added"
    if old == new:
        return "already_there"
    if on_conflict == "error":
        raise SemError(
            f"{where}: id {new[0]!r} already exists with different content",
            "nothing was imported; choose with --on-conflict skip or --on-conflict replace",
        )
    return "skipped" if on_conflict == "skip" else "replaced"


def batch_items(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield `items` in lists of `size`, the last one shorter."""
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch

"""A contribution read in two passes: what it is, then a stratified sample of its rows.

CSV, TSV, JSON, JSON lines (each also .gz) and Parquet, streamed; a million rows take the memory
of the sample. Two kinds are told apart: `text` (a text and a label) and `table` (a list
`features`, or numeric columns, and a label). What is not a row is counted with its reason.
"""

import hashlib
import heapq
import math
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sem.core import jsonio
from sem.core.errors import SemError
from sem.dataset.ingest import csv_dialects, parquet_files, readers
from sem.dataset.ingest.readers import ReadReporter
from sem.preview.contribution.columns import (
    FEATURES,
    MOST_COLUMNS,
    Columns,
    ColumnShape,
    as_list,
    shape_of,
    too_wide,
    type_of,
)

MOST_CLASSES = 10_000
BLOCK = 1 << 20
# What CountVectorizer takes for one.
WORD = re.compile(r"\b\w\w+\b")
# Its square is still a number.
LARGEST = 1e100
TEXT_FILES = {
    "jsonl": readers.iter_jsonl_rows,
    "ndjson": readers.iter_jsonl_rows,
    "json": readers.iter_json_array,
    "csv": csv_dialects.read_csv_rows,
    "tsv": csv_dialects.read_csv_rows,
}


@dataclass(frozen=True)
class Sample:
    """One row as models see it; `features` hold NaN where the row says nothing."""

    # Its place in the file.
    where: str
    label: str
    text: str = ""
    features: tuple[float, ...] = ()

    def content(self) -> str:
        """Return what makes two rows the same, their labels apart."""
        return self.text or jsonio.canonical_json([repr(value) for value in self.features])

    def lot(self, salt: str) -> float:
        """Return where the row falls between 0 and 1.

        The same for the same content under one `salt`.
        """
        digest = hashlib.blake2b(f"{salt}:{self.content()}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64


@dataclass
class Contribution:
    """A sample of a file's usable rows, and what the whole file is."""

    shape: ColumnShape
    samples: list[Sample]
    # Usable rows in the file.
    size: int
    classes: Counter[str]  # of all usable rows
    # data_manifest of the legacy output.
    manifest: dict[str, Any]
    skipped: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)


def read_contribution(
    path: Path, most: int, seed: int, like: ColumnShape | None = None, target: str = "auto"
) -> Contribution:
    """Return at most `most` rows of `path`, its classes in their proportions, none lost.

    Raise SemError if none.

    `like`: the shape of the base data, which the contribution must have. `target`: as for
    `shape_of`.
    """
    if most < 1:
        raise SemError(f"--sample-size {most}", "ask for 1 row or more")
    columns = Columns()
    unpack_contribution(path)
    with _rows(path) as rows:
        for _, row in rows:
            columns.add(row, path)
    shape = shape_of(columns, path, like, target)
    counts, skipped, notes = _counted(path, shape)
    if not counts:
        reason = f": {skipped.most_common(1)[0][0]}" if skipped else ""
        raise SemError(f"{path}: none of its rows can be used{reason}", _wanted(shape))
    samples = _drawn(path, shape, _quotas(counts, most), seed)
    if shape.kind == "text" and not any(WORD.search(sample.text) for sample in samples):
        raise SemError(
            f"{path}: the texts hold no words to learn from",
            "check that the text column is the right one",
        )
    size = sum(counts.values())
    return Contribution(
        shape, samples, size, counts, columns.manifest(path), skipped, notes + columns.notes
    )


@contextmanager
def _rows(path: Path, report: ReadReporter | None = None) -> Iterator[Iterator[tuple[str, Any]]]:
    check_contribution(path)
    kind = path.name.lower().removesuffix(".gz").rsplit(".", 1)[-1]
    if kind == "parquet":
        with parquet_files.open_parquet(path) as rows:
            yield ((f"row {n}", row) for n, row in enumerate(rows, 1))
    elif kind in TEXT_FILES:
        yield TEXT_FILES[kind](path, report or ReadReporter(lambda *_: None))
    else:
        raise SemError(
            f"{path}: unknown kind of file {kind!r}",
            "known: .csv .tsv .json .jsonl .parquet, the text ones also .gz",
        )


def check_contribution(path: Path) -> None:
    """Raise SemError when `path` is not a plain file with something in it."""
    if path.exists() and not path.is_file():
        raise SemError(f"{path}: not a plain file", "name a file, not a folder, pipe or device")
    if not path.is_file():
        raise SemError(f"{path}: no such file", "check the path")
    if not path.stat().st_size:
        raise SemError(f"{path}: the file is empty", "copy it again, or export it again")


def unpack_contribution(path: Path) -> None:
    """Unpack `path` once: a bomb, or a row of a million keys, is found in a blink."""
    check_contribution(path)
    name = path.name.lower()
    if name.removesuffix(".gz").endswith(("jsonl", "ndjson")):
        # Parsing such a row takes seconds.
        with readers.open_unpacked(path) as file:
            if file.readline(readers.MAX_LINE).count(b'":') > 10 * MOST_COLUMNS:
                raise too_wide(path)
    if name.endswith(".gz"):
        with readers.open_unpacked(path) as file:
            while file.read(BLOCK):
                continue


def _wanted(shape: ColumnShape) -> str:
    what = shape.text or ", ".join(shape.features[:3])
    return f"a row needs {what} and {shape.label}"


def _counted(path: Path, shape: ColumnShape) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """Usable rows by class, others by reason, and notes."""
    skipped, notes = Counter[str](), Counter[str]()

    def refuse(_: str, reason: str) -> None:
        skipped[reason.partition(":")[0]] += 1

    counts: Counter[str] = Counter()
    with _rows(path, ReadReporter(refuse, lambda note: notes.update((note,)))) as rows:
        for where, row in rows:
            sample = read_sample(where, row, shape, notes)
            if isinstance(sample, Sample):
                counts[_stratum(sample, shape)] += 1
                _check_classes(counts, path)
            else:
                skipped[sample] += 1
    return counts, skipped, notes


def _stratum(sample: Sample, shape: ColumnShape) -> str:
    """Return what `sample` is drawn among.

    Rows of its class, or all rows where the target is a number.
    """
    return "number" if shape.is_of_numbers else sample.label


def _check_classes(counts: Counter[str], path: Path) -> None:
    if len(counts) > MOST_CLASSES:
        raise SemError(
            f"{path}: more than {MOST_CLASSES:,} different labels",
            "check that the label column is the right one: a preview needs classes",
        )


def read_sample(where: str, row: Any, shape: ColumnShape, notes: Counter[str]) -> Sample | str:
    """Return `row`, found at `where`, as models see it, or the reason why it is none."""
    if not isinstance(row, dict):
        return "no_object"
    label = as_label(row.get(shape.label))
    if label is None:
        return "no_label"
    if shape.is_of_numbers:
        value = _number(label, Counter())
        if not abs(value) < LARGEST:  # NaN is not, either
            return "label_is_no_number"
        label = repr(value)
    if shape.kind == "text":
        text = row.get(shape.text)
        if not isinstance(text, str) or not text.strip():
            return "no_text"
        return Sample(where, label, text=text.strip())
    features = as_list(row.get(FEATURES)) if shape.features == (FEATURES,) else None
    values = features if features is not None else [row.get(name) for name in shape.features]
    if len(values) != shape.width:
        return f"has {len(values)} features, not {shape.width}"
    numbers = tuple(_number(value, notes) for value in values)
    return "no_features" if all(map(math.isnan, numbers)) else Sample(where, label, "", numbers)


def as_label(value: Any) -> str | None:
    """Return `value` as the name of a class: `1`, `1.0` and `"1"` are one.

    None where it says nothing.
    """
    if value is None or isinstance(value, list | dict):
        return None
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return str(int(value)) if value.is_integer() else repr(value)
    text = str(value).strip()
    if not text or text.casefold() in ("nan", "null", "none"):
        return None
    return str(int(float(text))) if type_of(text) == "float" and float(text).is_integer() else text


def _number(value: Any, notes: Counter[str]) -> float:
    if value is None or value == "":
        notes["values missing"] += 1
        return math.nan
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        notes["values that are no number"] += 1
        return math.nan
    if not math.isfinite(number):
        notes["values that are NaN or infinite"] += 1
        return math.nan
    if abs(number) > LARGEST:
        notes["values beyond 1e100, taken for it"] += 1
        return math.copysign(LARGEST, number)
    return number


def _quotas(counts: Counter[str], most: int) -> dict[str, int]:
    """Return rows taken of each class.

    In proportion by the largest remainder, one of each at least.

    Where `most` is below the number of classes, the largest classes have one each.
    """
    total = sum(counts.values())
    if total <= most:
        return dict(counts)
    order = sorted(counts, key=lambda name: (-counts[name], name))
    if most <= len(order):
        return dict.fromkeys(order[:most], 1)
    exact = {name: counts[name] * most / total for name in order}
    quotas = {name: max(1, int(exact[name])) for name in order}
    while sum(quotas.values()) > most:
        largest = max(order, key=lambda name: quotas[name])
        quotas[largest] -= 1
    remainder = most - sum(quotas.values())
    rest = sorted(order, key=lambda name: (quotas[name] - exact[name], name))
    for name in [n for n in rest if quotas[n] < counts[n]][:remainder]:
        quotas[name] += 1
    return quotas


def _drawn(path: Path, shape: ColumnShape, quotas: dict[str, int], seed: int) -> list[Sample]:
    """Return the rows whose keyed digest is smallest in each class.

    The same whatever the order.
    """
    heaps: dict[str, list[tuple[float, int, Sample]]] = {name: [] for name in quotas}
    nothing: Counter[str] = Counter()
    with _rows(path) as rows:
        for number, (where, row) in enumerate(rows):
            sample = read_sample(where, row, shape, nothing)
            if not isinstance(sample, Sample) or _stratum(sample, shape) not in heaps:
                continue
            heap = heaps[_stratum(sample, shape)]
            item = (-sample.lot(f"sample {seed}"), -number, sample)
            if len(heap) < quotas[_stratum(sample, shape)]:
                heapq.heappush(heap, item)
            elif item > heap[0]:
                heapq.heapreplace(heap, item)
    items = [item for heap in heaps.values() for item in heap]
    return [sample for _, _, sample in sorted(items, key=lambda item: -item[1])]

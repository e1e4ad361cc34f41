"""Examples of a sem's own task as a contribution: one JSON object a line, checked by its TaskSpec.

Spellings of older files are read (`prompt_text`, `response_strong`, …). A row whose answer does
not fit the task's schema teaches a wrong form: it is refused and counted, not trained on.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sem.core import jsonio, schema
from sem.core.errors import SemError
from sem.core.example import SPELLINGS, Example
from sem.core.taskspec import TaskSpec
from sem.dataset.ingest import readers
from sem.dataset.ingest.readers import ReadReporter
from sem.preview.contribution import contribution
from sem.preview.contribution.contribution import Sample


@dataclass(frozen=True)
class Examples:
    """A sample of a file's usable examples, and what was not usable."""

    kept: tuple[Example, ...]
    # Usable rows in the file.
    size: int
    refused: Counter[str] = field(default_factory=Counter)


def read_examples(path: Path, tasks: Mapping[str, TaskSpec], most: int, seed: int) -> Examples:
    """Return at most `most` examples of `path` by lot.

    Raise SemError when it holds none for one of `tasks`.
    """
    contribution.unpack_contribution(path)
    if path.name.lower().removesuffix(".gz").rsplit(".", 1)[-1] not in ("jsonl", "ndjson"):
        raise SemError(
            f"{path}: the examples of a task must be JSON lines",
            "write one object per line (.jsonl)",
        )
    refused: Counter[str] = Counter()
    report = ReadReporter(lambda _, reason: refused.update((reason.partition(":")[0],)))
    examples: dict[str, Example] = {}
    for where, row in readers.iter_jsonl_rows(path, report):
        example = read_example_row(where, row, tasks)
        if isinstance(example, Example):
            example = replace(example, id=where) if example.id in examples else example
            examples[example.id] = example
        else:
            refused[example] += 1
    if not examples:
        reason = f": {refused.most_common(1)[0][0]}" if refused else ""
        raise SemError(
            f"{path}: none of its rows is an example of {', '.join(sorted(tasks))}{reason}",
            "a row needs input_text, output_json and, in a sem of several tasks, task",
        )
    order = sorted(
        examples.values(), key=lambda example: sample_from_example(example).lot(f"sample {seed}")
    )
    return Examples(tuple(order[:most]), len(examples), refused)


def read_example_row(where: str, row: Any, tasks: Mapping[str, TaskSpec]) -> Example | str:
    """Return `row`, found at `where`, as an example, or the reason why it is none."""
    if not isinstance(row, dict):
        return "no_object"
    fields = {
        name: next((row[spelling] for spelling in spelled if spelling in row), None)
        for name, spelled in SPELLINGS.items()
    }
    only = next(iter(tasks)) if len(tasks) == 1 else ""
    task = str(row.get("task") or row.get("task_id") or only)
    if task not in tasks:
        return "no_such_task"
    prompt, answer = fields["input_text"], fields["output_json"]
    if not isinstance(prompt, str) or not prompt.strip():
        return "no_input_text"
    answer = _parsed(answer) if isinstance(answer, str) else answer
    if answer is None or schema.schema_problems(answer, tasks[task].io_schema, 1):
        return "answer_breaks_schema"
    meta = fields["meta"] if isinstance(fields["meta"], dict) else {}
    domain = row.get("domain") or meta.get("domain")
    meta = {**meta, "domain": domain} if isinstance(domain, str) else meta
    return Example(str(row.get("id") or where), task, prompt, answer, meta)


def _parsed(text: str) -> Any:
    """Return the JSON value in `text`; `text` itself where it is none."""
    try:
        return jsonio.parse_json(text)
    except ValueError:
        return text


def sample_from_example(example: Example) -> Sample:
    """Return `example` as the overlap sees it: its input, under its answer."""
    return Sample(
        example.id, jsonio.canonical_json([example.task, example.output_json]), example.input_text
    )


def as_samples(examples: Sequence[Example]) -> tuple[Sample, ...]:
    """Return all of `examples`."""
    return tuple(map(sample_from_example, examples))

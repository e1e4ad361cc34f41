"""Golden sets: hand-made questions with their answers, never trained on.

`data/SEM/golden/golden_set.json`, or the flat `evals/golden_set.json`, which belongs to one
project (`is_of`): a list of objects, or an object with one under `examples`. Each names its input
and its answer in any of the spellings below; what has no id or task gets one. They are checked and
kept as rows in golden.jsonl.
"""

from pathlib import Path
from typing import Any

from sem.core import files, jsonio, projects, schema, shape
from sem.core.errors import SemError, suggest_nearest_name
from sem.core.example import SPELLINGS, Example, from_json
from sem.core.project import Project
from sem.core.taskspec import TaskSpec
from sem.dataset.store import tombstones

INPUT = (*SPELLINGS["input_text"], "question", "input", "instruction")
ANSWER = (*SPELLINGS["output_json"], "golden_answer", "output", "reference")
OTHER = (
    "id",
    "task",
    "task_id",
    "meta",
    "metadata",
    "domain",
    "source_id",
    "slot_specs",
    "system_prompt",
    "alternatives",
)
LISTS = ("examples", "items", "questions", "golden_set")


def golden_examples(project: Project) -> list[Example]:
    """Return the golden examples of `project`.

    The SemError names the entry that cannot be used.
    """
    source = find_golden_set(project)
    if source is not None:
        examples = tombstones.filter_remaining_examples(
            project, _read(source, project.tasks), str(source)
        )
        files.write_rows(project.golden, [example.as_json() for example in examples])
        return examples
    if not project.golden.exists():
        raise SemError(
            f"{project.sem} has no golden set",
            f"write {project.golden.with_name('golden_set.json')}: a list of input and answer",
        )
    rows = enumerate(files.read_rows(project.golden), 1)
    return [from_json(row, f"{project.golden}:{number}") for number, row in rows]


def find_golden_set(project: Project) -> Path | None:
    """Return the golden set that a person wrote for `project`: its own, else the flat one.

    The flat one is of one project, although every project of the tree could read it.
    """
    own = project.golden.with_name("golden_set.json")
    flat = project.root / "evals" / "golden_set.json"
    if own.exists():
        return own
    return flat if flat.exists() and belongs_to_project(project, flat) else None


def belongs_to_project(project: Project, path: Path) -> bool:
    """Return True if the flat golden set at `path` belongs to `project`.

    Its key `sem` decides, else the tasks that its entries name, else it is the current project's,
    or that of the only project there is.
    """
    value = files.read_json(path)
    named = value.get("sem") if isinstance(value, dict) else None
    if named is not None:
        return bool(named == project.sem)
    task_names = {str(item.get("task") or item.get("task_id") or "") for item in _objects(path)}
    if task_names - {""}:
        return task_names - {""} <= set(project.tasks)
    project_names = [place.name for place in projects.find_projects(project.root) if place.exists]
    return project.sem in (
        projects.current_project(project.root),
        *(project_names if len(project_names) == 1 else ()),
    )


def _objects(path: Path) -> list[dict[str, Any]]:
    return [item for item in golden_entries(path) if isinstance(item, dict)]


def golden_entries(path: Path) -> list[Any]:
    """Return the entries of the golden set in `path`, as they are written.

    Raise SemError when it is not a list.
    """
    value = files.read_json(path)
    if isinstance(value, dict):
        value = next((value[name] for name in LISTS if name in value), None)
    if not isinstance(value, list) or not value:
        raise SemError(f"{path}: holds no list of examples", "write [{input_text, output_json}]")
    return value


def _read(path: Path, tasks: dict[str, TaskSpec]) -> list[Example]:
    examples: dict[str, Example] = {}
    for number, item in enumerate(golden_entries(path), 1):
        example = parse_golden_entry(item, f"{path}: entry {number}", number, tasks)
        if example.id in examples:
            raise SemError(
                f"{path}: entry {number}: id {example.id!r} appears twice", "rename one"
            )
        examples[example.id] = example
    return [examples[name] for name in sorted(examples)]


def parse_golden_entry(item: Any, where: str, number: int, tasks: dict[str, TaskSpec]) -> Example:
    """Return the entry `item` as an Example; raise SemError at `where` when it cannot be used."""
    if not isinstance(item, dict):
        raise SemError(f"{where} is not an object", "write input_text and output_json")
    unknown = sorted(set(item) - {*INPUT, *ANSWER, *OTHER})
    if unknown:
        raise SemError(
            f"{where}: unknown key {unknown[0]!r}", suggest_nearest_name(unknown[0], OTHER + INPUT)
        )
    task = _task(item, where, tasks)
    input_text = _one_of(item, INPUT, where)
    if "instruction" in item and "input" in item:
        input_text = f"{item['instruction']}\n\n{item['input']}"
    reference = _one_of(item, ANSWER, where)
    spec = tasks[task]
    if isinstance(reference, str) and not shape.is_text(spec.io_schema, spec.io_schema):
        reference = _in_shape(reference, spec.io_schema)
    wrong = schema.schema_problems(reference, spec.io_schema, limit=1)
    if wrong:
        raise SemError(f"{where}: the answer breaks io_schema of {task}: {wrong[0]}", "correct it")
    meta = item.get("meta") or item.get("metadata") or {}
    if not isinstance(meta, dict):
        raise SemError(f"{where}: meta is not an object", 'write {"domain": …} or leave it out')
    named = {key: item[key] for key in ("domain", "alternatives") if item.get(key)}
    return Example(
        id=str(item.get("id") or f"golden-{number:04}"),
        task=task,
        input_text=str(input_text),
        output_json=reference,
        meta={"reference_source": "human", **meta, **named},
        system_prompt=item.get("system_prompt"),
        slot_specs=item.get("slot_specs"),
        source_id=item.get("source_id"),
    )


def _task(item: dict[str, Any], where: str, tasks: dict[str, TaskSpec]) -> str:
    named = item.get("task") or item.get("task_id")
    if named is None and len(tasks) == 1:
        return next(iter(tasks))
    if str(named) not in tasks:
        raise SemError(
            f"{where}: this sem has no task {named!r}", suggest_nearest_name(str(named), tasks)
        )
    return str(named)


def _one_of(item: dict[str, Any], names: tuple[str, ...], where: str) -> Any:
    value = next((item[name] for name in names if name in item), None)
    if value is None or value == "":
        raise SemError(f"{where}: {names[0]} is missing", f"name it {', '.join(names[:3])} or so")
    return value


def _in_shape(text: str, io_schema: dict[str, Any]) -> Any:
    """Return the answer `text` as `io_schema` wants it.

    Its JSON, or itself as the one text that is asked.

    "42" is JSON, and the answer {"answer": "42"} all the same.
    """
    try:
        value = jsonio.parse_json(text)
    except ValueError:
        value = text
    name = only_text(io_schema)
    return {name: text} if name and not isinstance(value, dict) else value


def only_text(io_schema: dict[str, Any]) -> str | None:
    """Return the only field that `io_schema` requires, when it is a text.

    Otherwise return None.
    """
    held = shape.resolve_shape(io_schema, io_schema) or {}
    required = held.get("required") or []
    fields = held.get("properties") or {}
    is_one = len(required) == 1 and required[0] in fields
    return required[0] if is_one and shape.is_text(fields[required[0]], io_schema) else None

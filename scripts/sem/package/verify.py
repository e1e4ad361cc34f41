"""Is a package what its manifest says, and does it answer as the run that was proven?

A package comes from strangers: whoever changed it can also write its manifest anew. So everything
in it that follows from something else in it is worked out again: the adapter and the scores from
their hashes in the lineage, the report from the scores, what runtimes read from the writers that
wrote it, names and shapes of tensors from the model's own config. What follows from nothing (other
weights of the same shape, other vocabulary under the same template) only a signature can tell.
"""

import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sem.core import files, jsonio, manifest, schema, settings, taint
from sem.core.errors import SemError
from sem.core.taskspec import TaskSpec
from sem.eval import answers, report, subject
from sem.eval.subject import Subject
from sem.lm import chat
from sem.lm import model as models
from sem.package import cage, targets
from sem.package.bundle import MANIFEST_SCHEMA, generation_config
from sem.package.targets import Served

SUFFIXES = {".safetensors", ".json", ".jinja", ".md", ".yaml", ".lock"}
NAMES = {"Modelfile"}
MAX_TEXT_BYTES = 64_000_000  # a tokenizer.json of 262k tokens has 33 MB
MAX_MANIFEST_BYTES = 1_000_000
WEIGHTS = ("adapter/adapter_model.safetensors", "model/model.safetensors")
REQUIRED = (
    "adapter/adapter_config.json",
    *WEIGHTS,
    "model/config.json",
    "model/tokenizer.json",
    "model/tokenizer_config.json",
    "task_spec.json",
    "scores.json",
    "eval_report.md",
    "repro.lock",
)
OPTIONAL = (
    "model/special_tokens_map.json",
    "model/chat_template.jinja",
    "model/generation_config.json",
    "serve/spelling.json",
)
FORMATS = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
# A line of a lock: a comment, NAME==VERSION with a marker, or the hash of a file.
_LOCK_LINE = re.compile(
    r"\s*(#.*|[A-Za-z0-9._-]+(\[[A-Za-z0-9_,-]+\])?==[A-Za-z0-9.+!_-]+(\s*;[^\\]*)?\s*\\?"
    r"|--hash=sha256:[0-9a-f]{64}\s*\\?)?"
)
_NAME = {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"}
_SHA256 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
# What every value of a manifest is; MANIFEST_SCHEMA says which there are.
MANIFEST_VALUES: dict[str, Any] = {
    "properties": {
        "sem": _NAME,
        "run_id": _NAME,
        "targets": {"uniqueItems": True},
        "lineage": {
            "additionalProperties": False,
            "required": ["renderer", "source"],
            "properties": {
                "run_json": _SHA256,
                "adapter": _SHA256,
                "renderer": _SHA256,
                "snapshot": {
                    "type": "object",
                    "required": ["version", "sha256"],
                    "properties": {"version": {"type": "integer"}, "sha256": _SHA256},
                },
                "base_model": {
                    "type": "object",
                    "required": ["base_model_id", "revision"],
                    "additionalProperties": {"type": ["string", "null"]},
                },
                "tasks": {"type": "object", "minProperties": 1, "additionalProperties": _SHA256},
                "source": {"type": "object"},
            },
        },
        "scores": {
            "additionalProperties": False,
            "properties": {"verdict": {"type": "string"}, "scores_json": _SHA256},
        },
        "files": {
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "required": ["bytes", "sha256"],
                "properties": {"bytes": {"type": "integer", "minimum": 0}, "sha256": _SHA256},
            },
        },
    },
}
Check = Callable[[Path, dict[str, Any]], Iterator[str]]


def faults(folder: Path) -> list[str]:
    """What is wrong with the package in FOLDER, a line each; reads files, runs nothing.

    SemError when a takedown tainted it, before or meanwhile: then nothing in it may be used.
    """
    _refuse_taint(folder)
    found = list(_tree(folder))
    if found:  # nothing is opened in a folder that holds pipes or devices
        return [_printable(line) for line in found]
    facts, problems = _manifest(folder, {"allOf": [MANIFEST_SCHEMA, MANIFEST_VALUES]})
    if problems:
        return [_printable(line) for line in problems]
    found += _guarded("manifest.json", lambda: manifest.faults(folder))
    found += _guarded("manifest.json", lambda: list(_names(facts)))
    found += _checked(BASIC, folder, facts)
    # What renders or reads weights is spared for a package without another fault.
    found += [] if found else _checked(DEEP, folder, facts)
    models.import_classes()  # once here, not in each cage
    for name, check in CAGED.items():
        found += [] if found else cage.run(lambda one={name: check}: _checked(one, folder, facts))
    _refuse_taint(folder)
    return [_printable(line) for line in dict.fromkeys(found)]


def model_faults(folder: Path) -> list[str]:
    """What is wrong with the model in the package FOLDER, for whoever takes nothing else of it.

    Taint, the files and their hashes, foreign code and weights that are not finite.
    """
    _refuse_taint(folder)
    found = list(_tree(folder))
    if not found:
        _, found = _manifest(folder, MANIFEST_SCHEMA)
    if found:
        return [_printable(line) for line in found]
    found += _guarded("manifest.json", lambda: manifest.faults(folder))
    found += _guarded("model/config.json", lambda: _refused_code(folder / "model"))
    if not found:
        found += _guarded(WEIGHTS[1], lambda: list(_infinite(folder, WEIGHTS[1])))
    return [_printable(line) for line in found]


def _refused_code(folder: Path) -> list[str]:
    models.refuse_foreign_code(folder)
    return []


def _refuse_taint(folder: Path) -> None:
    path = folder / taint.NAME
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise _unreadable(folder)
    try:
        taint.refuse(folder, f"package {folder.name}")
    except SemError:
        raise
    except Exception as error:
        raise _unreadable(folder) from error


def _unreadable(folder: Path) -> SemError:
    # A mark that cannot be read is a mark all the same.
    return SemError(f"package {folder.name}: {taint.NAME} cannot be read", "do not use it")


def _checked(checks: dict[str, Check], folder: Path, facts: dict[str, Any]) -> list[str]:
    return [
        line
        for name, check in checks.items()
        for line in _guarded(name, lambda check=check: list(check(folder, facts)))
    ]


def _guarded(where: str, check: Callable[[], list[str]]) -> list[str]:
    """The lines of CHECK; a line as well where it stumbles over what it reads."""
    try:
        return check()
    except SemError as error:
        is_placed = Path(where).name in error.message
        return [error.message if is_placed else f"{where}: {error.message}"]
    except Exception as error:  # hostile files break every reader in ways of their own
        reason = (str(error).splitlines() or [""])[0][:200]
        return [f"{where}: cannot be read: {type(error).__name__}: {reason}"]


def _printable(line: str) -> str:
    """LINE without what a terminal would obey; names in a package are a stranger's."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


def _tree(folder: Path) -> Iterator[str]:
    """Entries that no package holds; SemError for a link, which leads out of it."""
    for path in sorted(folder.rglob("*")):
        name, mode = path.relative_to(folder), path.lstat().st_mode
        if stat.S_ISLNK(mode):
            raise SemError(_printable(f"{path}: a link"), "a sealed folder holds plain files only")
        if stat.S_ISDIR(mode):
            if not any(path.iterdir()):
                yield f"{name}: an empty folder"
        elif not stat.S_ISREG(mode):
            yield f"{name}: not a plain file"
        elif path.suffix not in SUFFIXES and path.name not in NAMES:
            yield f"{name}: a kind of file no package holds"
        elif path.name.startswith(".tmp-"):
            yield f"{name}: what a killed writer left, or somebody hid"
        elif str(name) not in WEIGHTS and path.stat().st_size > MAX_TEXT_BYTES:
            yield f"{name}: larger than any file of its kind"


def _manifest(folder: Path, wanted: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The manifest of FOLDER and how it breaks the schema WANTED; SemError when there is none."""
    path = folder / manifest.NAME
    if path.is_file() and path.stat().st_size > MAX_MANIFEST_BYTES:
        return {}, ["manifest.json: larger than any manifest"]
    facts: Any = manifest.read(folder)
    problems = [f"manifest.json: {line}" for line in schema.problems(facts, wanted)]
    return facts if isinstance(facts, dict) else {}, problems


def _names(facts: dict[str, Any]) -> Iterator[str]:
    """Files that are missing, or that belong to no target of the manifest."""
    listed, wanted = set(facts["files"]), set(REQUIRED)
    for name in facts["targets"]:
        wanted |= set(targets.FILES[name])
    yield from (f"{name}: missing, a package holds it" for name in sorted(wanted - listed))
    for name in sorted(listed - wanted - set(OPTIONAL)):
        yield f"{name}: a kind of file no package holds for {', '.join(facts['targets'])}"


def _lineage(folder: Path, facts: dict[str, Any]) -> Iterator[str]:
    """The adapter and the scores are those that the lineage names."""
    for name, digest in (
        (WEIGHTS[0], facts["lineage"]["adapter"]),
        ("scores.json", facts["scores"]["scores_json"]),
    ):
        if files.sha256(folder / name) != digest:
            yield f"{name}: not the file that the manifest's lineage names"


def _proof(folder: Path, facts: dict[str, Any]) -> Iterator[str]:
    """The scores are of this run on its snapshot, and the report is what they make."""
    scores, lineage = files.read_json(folder / "scores.json"), facts["lineage"]
    claims = {
        "verdict": (scores["verdict"], facts["scores"]["verdict"]),
        "sem": (scores["sem"], facts["sem"]),
        "run": (scores["tuned"]["run"], facts["run_id"]),
        "snapshot": (
            [scores["snapshot"][key] for key in ("version", "sha256")],
            [lineage["snapshot"][key] for key in ("version", "sha256")],
        ),
        "base model": (scores["base_model"]["revision"], lineage["base_model"]["revision"]),
    }
    for what, (here, there) in claims.items():
        if here != there:
            yield f"scores.json: its {what} is not that of the manifest"
    if report.markdown(scores) != files.read_text(folder / "eval_report.md"):
        yield "eval_report.md: not the report of scores.json"


def _contract(folder: Path, facts: dict[str, Any]) -> Iterator[str]:
    """The tasks are those that the lineage names."""
    tasks = {task.task_id: task.fingerprint() for task in _tasks(folder)}
    if tasks != facts["lineage"]["tasks"]:
        yield "task_spec.json: not the tasks that the manifest's lineage names"


def _tasks(folder: Path) -> list[TaskSpec]:
    value = files.read_json(folder / "task_spec.json")
    return [
        settings.build(TaskSpec, each, "task_spec.json") for each in value.get("tasks", [value])
    ]


def _adapter_config(folder: Path, facts: dict[str, Any]) -> Iterator[str]:
    """The adapter is one that evaluation would merge, of the base model of the lineage."""
    config = files.read_json(folder / "adapter" / "adapter_config.json")
    if config["base_model_name_or_path"] != facts["lineage"]["base_model"]["base_model_id"]:
        yield "adapter/adapter_config.json: names another base model than the lineage"
    if config.get("method") == "full":
        return
    if config["peft_type"] != "LORA":
        yield "adapter/adapter_config.json: no LoRA"
    for key in ("auto_mapping", "modules_to_save", "layer_replication", "target_parameters"):
        if config.get(key):
            yield f"adapter/adapter_config.json: {key} is set, which training never does"
    if not 0 < models.scale(config) < 1e4:
        yield "adapter/adapter_config.json: a scale that training never sets"


def _foreign(folder: Path, _: dict[str, Any]) -> Iterator[str]:
    """Nothing in the configs asks for code, kernels or weights from elsewhere."""
    for path in sorted(folder.glob("*/*.json")):
        if not isinstance(files.read_json(path), dict):
            yield f"{path.relative_to(folder)}: not a JSON object"
    models.refuse_foreign_code(folder / "adapter")
    models.refuse_foreign_code(folder / "model")
    config = files.read_json(folder / "model" / "config.json")
    if "quantization_config" in config:
        yield "model/config.json: quantization_config is set, merged weights are whole"
    tokenizer = files.read_json(folder / "model" / "tokenizer_config.json")
    if "chat_template" in tokenizer and (folder / "model" / "chat_template.jinja").exists():
        yield "model/tokenizer_config.json: a second chat template"


def _lock(folder: Path, _: dict[str, Any]) -> Iterator[str]:
    """repro.lock holds exact versions and nothing that an installer would obey beside."""
    for number, line in enumerate(files.read_text(folder / "repro.lock").splitlines(), 1):
        if not _LOCK_LINE.fullmatch(line):
            yield f"repro.lock:{number}: neither a version nor a comment"


def _weights(folder: Path, _: dict[str, Any]) -> Iterator[str]:
    """Every tensor can be read, is of one precision, and is finite."""
    from safetensors import safe_open

    for name in WEIGHTS:
        with safe_open(folder / name, framework="pt") as tensors:
            formats = {tensors.get_slice(key).get_dtype() for key in tensors.keys()}  # noqa: SIM118
        if not formats <= FORMATS.keys() or len(formats) != 1:
            yield f"{name}: tensors of {', '.join(sorted(formats)) or 'no format'}"
        elif name == WEIGHTS[1] and FORMATS[next(iter(formats))] != _dtype(folder):
            yield f"{name}: its precision is not that of config.json"
        yield from _infinite(folder, name)


def _infinite(folder: Path, name: str) -> Iterator[str]:
    import torch
    from safetensors import safe_open

    with safe_open(folder / name, framework="pt") as tensors:
        for key in tensors.keys():  # noqa: SIM118 - a handle, not a dict
            if not torch.isfinite(tensors.get_tensor(key)).all():
                yield f"{name}: {key} is not finite"


def _dtype(folder: Path) -> str:
    config = files.read_json(folder / "model" / "config.json")
    return config.get("dtype") or config["torch_dtype"]


def _shapes(folder: Path, _: dict[str, Any]) -> Iterator[str]:
    """The tensors are those that config.json's architecture has, by name and shape."""
    for kind, keys in models.misfits(folder / "model").items():
        yield from (f"model/model.safetensors: {key}: {kind}" for key in sorted(keys)[:5])


def _adapter_shapes(folder: Path, _: dict[str, Any]) -> Iterator[str]:
    """The adapter fits the model it was merged into."""
    model = models.skeleton(folder / "model")
    problem = models.adapter_misfit(model, folder / "adapter")
    if problem:
        yield f"adapter/adapter_model.safetensors: {problem}"


def _served(folder: Path, facts: dict[str, Any]) -> Iterator[str]:
    """Template, ends and what runtimes read are what export would write of this model."""
    if chat.stored_fingerprint(folder / "model") != facts["lineage"]["renderer"]:
        yield "model/chat_template.jinja: not the renderer that the manifest's lineage names"
        return
    speaker = chat.load(folder / "model")
    if speaker.turns:
        path = folder / "model" / "generation_config.json"
        strangers = set(speaker.stop_ids) - speaker.control_ids
        if strangers or files.read_json(path) != jsonio.loads(
            jsonio.dumps(generation_config(speaker))
        ):
            yield "model/generation_config.json: not the greedy decoding that was proven"
    served = Served(
        facts["sem"], speaker, _dtype(folder), _max_tokens(folder), tuple(_tasks(folder))
    )
    for name in facts["targets"]:
        for path, text in targets.TARGETS[name](served).items():
            if not (folder / path).exists() or files.read_text(folder / path) != text:
                yield f"{path}: not what export writes for this model"
        spelled = "serve/spelling.json"
        if (folder / spelled).exists() and speaker.spelling is None:
            yield f"{spelled}: this tokenizer spells everything itself"


def _max_tokens(folder: Path) -> int:
    """The context that the package was made for; what else its files say is worked out of it."""
    found = set()
    for name, pattern in (
        ("serve/vllm.yaml", r"^max-model-len: ([1-9][0-9]{0,8})$"),
        ("Modelfile", r"^PARAMETER num_ctx ([1-9][0-9]{0,8})$"),
    ):
        if (folder / name).exists():
            found.update(re.findall(pattern, files.read_text(folder / name), re.M))
    if len(found) > 1:
        raise SemError(f"two contexts: {' and '.join(sorted(found))} tokens", "export it again")
    return int(next(iter(found), 1))


BASIC: dict[str, Check] = {
    "model/config.json": _foreign,
    "manifest.json": _lineage,
    "scores.json": _proof,
    "task_spec.json": _contract,
    "adapter/adapter_config.json": _adapter_config,
    "repro.lock": _lock,
}
DEEP: dict[str, Check] = {"model/model.safetensors": _weights}
CAGED: dict[str, Check] = {
    "model/tokenizer.json": _served,
    "model/config.json": _shapes,
    "adapter/adapter_model.safetensors": _adapter_shapes,
}


def answers_again(proven: Subject, folder: Path, count: int) -> tuple[int, int]:
    """Let the packaged model answer COUNT proven prompts again: (byte-equal, asked).

    Whole batches of the evaluation are repeated, because padding changes the last bits.
    """
    recorded = answers.read(proven.book.path)
    packaged = subject.from_folder(proven, folder / "model")
    pairs = answers.prompts(proven.examples, proven.tasks, packaged.chat, proven.settings)
    size = proven.settings.batch
    # The shortest prompts come last and are the quickest to repeat.
    first = max(0, (len(pairs) - count) // size * size)
    asked = equal = 0
    for start in range(first, len(pairs), size):
        batch = pairs[start : start + size]
        completions = packaged.generate([prompt for _, prompt in batch])
        for (example, _), completion in zip(batch, completions, strict=True):
            asked += 1
            equal += example.id in recorded and recorded[example.id].text == completion.text
    return equal, asked

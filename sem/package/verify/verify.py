"""Is a package what its manifest says, and does it answer as the run that was proven?

A package comes from strangers: whoever changed it can also write its manifest anew. So everything
in it that follows from something else in it is worked out again: the adapter and the scores from
their hashes in the lineage, the report from the scores, what runtimes read from the writers that
wrote it, names and shapes of tensors from the model's own config. What follows from nothing (other
weights of the same shape, other vocabulary under the same template) only a signature can tell.
"""

import os
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from sem.core import manifest, run, sandbox, schema
from sem.core.errors import SemError
from sem.eval.answers import answers, subject
from sem.eval.answers.subject import EvalSubject
from sem.lm.local import model as models
from sem.lm.local.ollama import schema_file
from sem.package import kit
from sem.package.contract import MAX_MANIFEST_BYTES
from sem.package.export import documents, targets
from sem.package.export.bundle import MANIFEST_SCHEMA
from sem.package.verify.package_checks import (
    BASIC,
    DEEP,
    LAST,
    SANDBOXED,
    WEIGHTS,
    Check,
    find_non_finite_tensors,
)

# Chat templates are programs, and a config can ask for a million layers: both are tried where
# processor time and memory have an end.
CPU_S = 30
EXTRA_BYTES = 4 << 30
TOO_MUCH = "a check took more time or memory than any package needs"


def run_check(check: Callable[[], list[str]]) -> list[str]:
    """Return the lines of `check`, run in a fork; a line as well when it does not come back."""

    def run_alone() -> dict[str, Any]:
        # A pool of threads does not survive a fork: what it would do is done by this one.
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        import torch

        torch.set_num_threads(1)
        return {"faults": check()}

    answer = sandbox.run_forked(run_alone, CPU_S, EXTRA_BYTES)
    return [TOO_MUCH] if answer is None else answer["faults"]


SUFFIXES = {
    *(".safetensors", ".json", ".jinja", ".md", ".yaml", ".lock", ".jsonl", ".gguf"),
    ".Modelfile",
}
NAMES = {"Modelfile", "LICENSE.base"}
# What `package.sign` writes beside the manifest: it signs the manifest, so it is not in it.
SIGNATURE = "model.sig"
# a tokenizer.json of 262k tokens has 33 MB.
MAX_TEXT_BYTES = 64_000_000
MAX_SIGNATURE_BYTES = 1_000_000
REQUIRED = (
    "adapter/adapter_config.json",
    *WEIGHTS,
    "model/config.json",
    "model/tokenizer.json",
    "model/tokenizer_config.json",
    "cleaner.json",
    "generation.json",
    "run.json",
    "task_spec.json",
    "scores.json",
    "eval_report.md",
    "repro.lock",
    *documents.DOCUMENTS,
)
OPTIONAL = (
    documents.GATE,
    kit.KIT,
    "LICENSE.base",
    "model/special_tokens_map.json",
    "model/chat_template.jinja",
    "model/generation_config.json",
    "serve/spelling.json",
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


def package_faults(folder: Path) -> list[str]:
    """Return what is wrong with the package in `folder`, a line each.

    Files are read; the chat template alone is run, in a process with limits.
    Raise SemError when a takedown tainted it, before or meanwhile: then nothing in it may be used.
    """
    _refuse_taint(folder)
    faults = tree_faults(folder)
    # Nothing is opened in a folder that holds pipes or devices.
    if faults:
        return faults
    facts, problems = _manifest(folder, {"allOf": [MANIFEST_SCHEMA, MANIFEST_VALUES]})
    if problems:
        return [_printable(line) for line in problems]
    faults += _guarded("manifest.json", lambda: manifest.manifest_faults(folder, (SIGNATURE,)))
    faults += _guarded("manifest.json", lambda: list(_names(facts)))
    faults += _checked(BASIC, folder, facts)
    # What renders or reads weights is spared for a package without another fault.
    faults += [] if faults else _checked(DEEP, folder, facts)
    # Once here, not in each fork.
    models.import_classes()
    for name, check in SANDBOXED.items():
        faults += [] if faults else run_check(partial(_checked, {name: check}, folder, facts))
    faults += [] if faults else _checked(LAST, folder, facts)
    _refuse_taint(folder)
    return [_printable(line) for line in dict.fromkeys(faults)]


def model_faults(folder: Path) -> list[str]:
    """Return what is wrong with the model in `folder`, for whoever takes nothing else of it.

    Taint, the files and their hashes, foreign code and weights that are not finite.
    """
    _refuse_taint(folder)
    faults = tree_faults(folder)
    if not faults:
        _, faults = _manifest(folder, MANIFEST_SCHEMA)
    if faults:
        return [_printable(line) for line in faults]
    faults += _guarded("manifest.json", lambda: manifest.manifest_faults(folder, (SIGNATURE,)))
    faults += _guarded("model/config.json", lambda: _refused_code(folder / "model"))
    if not faults:
        faults += _guarded(WEIGHTS[1], lambda: list(find_non_finite_tensors(folder, WEIGHTS[1])))
    return [_printable(line) for line in faults]


def _refused_code(folder: Path) -> list[str]:
    models.refuse_foreign_code(folder)
    return []


def _refuse_taint(folder: Path) -> None:
    path = folder / run.TAINTED_JSON
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise _unreadable(folder)
    try:
        run.refuse_tainted(folder, f"package {folder.name}")
    except SemError:
        raise
    except Exception as error:
        raise _unreadable(folder) from error


def _unreadable(folder: Path) -> SemError:
    # A mark that cannot be read is a mark all the same.
    return SemError(f"package {folder.name}: {run.TAINTED_JSON} cannot be read", "do not use it")


def _listed(check: Check, folder: Path, facts: dict[str, Any]) -> list[str]:
    return list(check(folder, facts))


def _checked(checks: dict[str, Check], folder: Path, facts: dict[str, Any]) -> list[str]:
    return [
        line
        for name, check in checks.items()
        for line in _guarded(name, partial(_listed, check, folder, facts))
    ]


def _guarded(where: str, check: Callable[[], list[str]]) -> list[str]:
    """Return the lines of `check`; a line as well where it stumbles over what it reads."""
    try:
        return check()
    except SemError as error:
        is_placed = Path(where).name in error.message
        return [error.message if is_placed else f"{where}: {error.message}"]
    except Exception as error:  # hostile files break every reader in ways of their own
        reason = (str(error).splitlines() or [""])[0][:200]
        return [f"{where}: cannot be read: {type(error).__name__}: {reason}"]


def _printable(line: str) -> str:
    """Return `line` without what a terminal would obey: names in a package are a stranger's."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


def tree_faults(folder: Path) -> list[str]:
    """Return the entries of `folder` that no package holds, a line each; nothing is opened.

    Raise SemError for a link, which leads out of it.
    """
    return [_printable(line) for line in _tree(folder)]


def _tree(folder: Path) -> Iterator[str]:
    """Yield entries that no package holds; raise SemError for a link, which leads out of it."""
    for path in sorted(folder.rglob("*")):
        name, mode = path.relative_to(folder), path.lstat().st_mode
        if stat.S_ISLNK(mode):
            raise SemError(_printable(f"{path}: a link"), "replace it with the file itself")
        if stat.S_ISDIR(mode):
            if not any(path.iterdir()):
                yield f"{name}: an empty folder"
        elif not stat.S_ISREG(mode):
            yield f"{name}: not a plain file"
        elif str(name) == SIGNATURE and path.stat().st_size <= MAX_SIGNATURE_BYTES:
            continue
        elif path.suffix not in SUFFIXES and path.name not in NAMES:
            yield f"{name}: a kind of file no package holds"
        elif path.name.startswith(".tmp-"):
            yield f"{name}: what a killed writer left, or somebody hid"
        elif str(name) not in WEIGHTS and path.stat().st_size > _most_bytes(folder, path):
            yield f"{name}: larger than any file of its kind"


def _most_bytes(folder: Path, path: Path) -> int:
    """Return how large the file `path` may be: a GGUF file as its model, written anew."""
    weights = folder / WEIGHTS[1]
    is_weights = path.suffix == ".gguf" and weights.exists()
    return MAX_TEXT_BYTES + (2 * weights.stat().st_size if is_weights else 0)


def _manifest(folder: Path, expected_schema: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the manifest and how it breaks the schema `expected_schema`.

    Raise SemError when there is none.
    """
    path = folder / manifest.NAME
    if path.is_file() and path.stat().st_size > MAX_MANIFEST_BYTES:
        return {}, ["manifest.json: larger than any manifest"]
    facts: Any = manifest.read_manifest(folder)
    problems = [
        f"manifest.json: {line}" for line in schema.schema_problems(facts, expected_schema)
    ]
    return facts if isinstance(facts, dict) else {}, problems


def _names(facts: dict[str, Any]) -> Iterator[str]:
    """Yield files that are missing, or that belong to no task or target of the manifest."""
    tasks = sorted(facts["lineage"]["tasks"])
    listed, expected_files = set(facts["files"]), {*REQUIRED, *map(schema_file, tasks)}
    for name in facts["targets"]:
        expected_files |= targets.list_target_files(name, tasks)
    yield from (f"{name}: missing, a package holds it" for name in sorted(expected_files - listed))
    for name in sorted(listed - expected_files - set(OPTIONAL)):
        yield f"{name}: a kind of file no package holds for {', '.join(facts['targets'])}"


def answers_again(proven: EvalSubject, folder: Path, count: int) -> tuple[int, int]:
    """Let the packaged model answer `count` proven prompts again: (byte-equal, asked).

    Whole batches of the evaluation are repeated, because padding changes the last bits.
    """
    recorded = answers.read_answers(proven.book.path)
    packaged = subject.from_folder(proven, folder / "model")
    pairs = answers.ordered_prompts(proven.examples, proven.tasks, packaged.chat, proven.settings)
    size = proven.settings.batch
    # The shortest prompts come last and are the quickest to repeat.
    first = max(0, (len(pairs) - count) // size * size)
    prompt_count = equal = 0
    for start in range(first, len(pairs), size):
        batch = pairs[start : start + size]
        completions = packaged.generate([prompt for _, prompt in batch])
        for (example, _), completion in zip(batch, completions, strict=True):
            prompt_count += 1
            equal += example.id in recorded and recorded[example.id].text == completion.text
    return equal, prompt_count

"""What in a package follows from something else in it, worked out again.

Each check takes the folder and its manifest and yields a line for each fault. SANDBOXED
ones render the package's own template and build its own architecture: they run in a fork.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sem.core import files, jsonio, settings, state
from sem.core.taskspec import TaskSpec
from sem.eval.report import report
from sem.lm.local import chat, gguf_writer
from sem.lm.local import model as models
from sem.package import contract, kit
from sem.package.export import documents, targets
from sem.package.export.bundle import adapter_base, generation_config
from sem.package.export.targets import ServedPackage

Check = Callable[[Path, dict[str, Any]], Iterator[str]]
WEIGHTS = ("adapter/adapter_model.safetensors", "model/model.safetensors")
FORMATS = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
# A line of a lock: a comment, NAME==VERSION with a marker, or the hash of a file.
_LOCK_LINE = re.compile(
    r"\s*(#.*|[A-Za-z0-9._-]+(\[[A-Za-z0-9_,-]+\])?==[A-Za-z0-9.+!_-]+(\s*;[^\\]*)?\s*\\?"
    r"|--hash=sha256:[0-9a-f]{64}\s*\\?)?"
)


def _lineage(folder: Path, facts: dict[str, Any]) -> Iterator[str]:
    """Check that the adapter, the plan and the scores are those that the lineage names."""
    for name, digest in (
        (WEIGHTS[0], facts["lineage"]["adapter"]),
        ("run.json", facts["lineage"]["run_json"]),
        ("scores.json", facts["scores"]["scores_json"]),
    ):
        if files.sha256_file(folder / name) != digest:
            yield f"{name}: not the file that the manifest's lineage names"


def _proof(folder: Path, facts: dict[str, Any]) -> Iterator[str]:
    """Check that the scores are of this run, and that the report is what they make."""
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
    for what, (own, listed) in claims.items():
        if own != listed:
            yield f"scores.json: its {what} is not that of the manifest"
    if report.report_markdown(scores) != files.read_text(folder / "eval_report.md"):
        yield "eval_report.md: not the report of scores.json"


def _contract(folder: Path, facts: dict[str, Any]) -> Iterator[str]:
    """Check that the tasks are those that the lineage names."""
    tasks = {task.task_id: task.fingerprint() for task in _tasks(folder)}
    if tasks != facts["lineage"]["tasks"]:
        yield "task_spec.json: not the tasks that the manifest's lineage names"


def _asked(folder: Path, facts: dict[str, Any]) -> Iterator[str]:
    """Check that the package says how it is asked, within what its model can hold."""
    asked = contract.read_contract(folder)
    limit = files.read_json(folder / "model" / "config.json").get("max_position_embeddings")
    if limit and asked.context > limit:
        yield f"generation.json: a context of {asked.context:,} tokens, the model holds {limit:,}"
    for name in sorted(facts["targets"]):
        for path in targets.list_target_files(name, sorted(asked.tasks)):
            for number in _contexts(folder / path):
                if number != asked.context:
                    yield f"{path}: two contexts: {number:,} and {asked.context:,} tokens"
    if asked.max_new_tokens >= asked.context:
        yield "generation.json: answers as long as the context leave no room for a page"


def _tasks(folder: Path) -> list[TaskSpec]:
    value = files.read_json(folder / "task_spec.json")
    return [
        settings.build_settings(TaskSpec, entry, "task_spec.json")
        for entry in value.get("tasks", [value])
    ]


def _adapter_config(folder: Path, facts: dict[str, Any]) -> Iterator[str]:
    """Check that evaluation would merge the adapter, and that its base is the lineage's."""
    config = files.read_json(folder / "adapter" / "adapter_config.json")
    base = adapter_base(facts["lineage"]["base_model"]["base_model_id"])
    named = {key: config.get(key) for key in ("base_model_name_or_path", "revision")}
    if named != {"revision": None, **base}:
        yield "adapter/adapter_config.json: names another base model than the lineage"
    if config.get("method") == "full":
        return
    if config["peft_type"] != "LORA":
        yield "adapter/adapter_config.json: no LoRA"
    for key in ("auto_mapping", "modules_to_save", "layer_replication", "target_parameters"):
        if config.get(key):
            yield f"adapter/adapter_config.json: {key} is set, which training never does"
    if not 0 < models.lora_scale(config) < 1e4:
        yield "adapter/adapter_config.json: a scale that training never sets"


def _foreign(folder: Path, _: dict[str, Any]) -> Iterator[str]:
    """Check that no config asks for code, kernels or weights from elsewhere."""
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
    """Check that repro.lock holds exact versions and nothing else that an installer obeys."""
    for number, line in enumerate(files.read_text(folder / "repro.lock").splitlines(), 1):
        if not _LOCK_LINE.fullmatch(line):
            yield f"repro.lock:{number}: neither a version nor a comment"


def _weights(folder: Path, _: dict[str, Any]) -> Iterator[str]:
    """Check that every tensor can be read, is of one precision, and is finite."""
    from safetensors import safe_open

    for name in WEIGHTS:
        with safe_open(folder / name, framework="pt") as tensors:
            formats = {tensors.get_slice(key).get_dtype() for key in tensors.keys()}  # noqa: SIM118
        if not formats <= FORMATS.keys() or len(formats) != 1:
            yield f"{name}: tensors of {', '.join(sorted(formats)) or 'no format'}"
        elif name == WEIGHTS[1] and FORMATS[next(iter(formats))] != _dtype(folder):
            yield f"{name}: its precision is not that of config.json"
        yield from find_non_finite_tensors(folder, name)


def find_non_finite_tensors(folder: Path, name: str) -> Iterator[str]:
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
    """Check that the tensors have the names and shapes of config.json's architecture."""
    for kind, keys in models.find_misfit_tensors(folder / "model").items():
        yield from (f"model/model.safetensors: {key}: {kind}" for key in sorted(keys)[:5])


def _adapter_shapes(folder: Path, _: dict[str, Any]) -> Iterator[str]:
    """Check that the adapter fits the model it was merged into."""
    model = models.load_skeleton(folder / "model")
    problem = models.adapter_misfit(model, folder / "adapter")
    if problem:
        yield f"adapter/adapter_model.safetensors: {problem}"


def _served(folder: Path, facts: dict[str, Any]) -> Iterator[str]:
    """Check that template, ends and what runtimes read are what export would write."""
    if chat.stored_fingerprint(folder / "model") != facts["lineage"]["renderer"]:
        yield "model/chat_template.jinja: not the renderer that the manifest's lineage names"
        return
    speaker = chat.load_chat(folder / "model")
    if speaker.turns:
        path = folder / "model" / "generation_config.json"
        strangers = set(speaker.stop_ids) - speaker.control_ids
        if strangers or files.read_json(path) != jsonio.parse_json(
            jsonio.canonical_json(generation_config(speaker))
        ):
            yield "model/generation_config.json: not the greedy decoding that was proven"
    served = ServedPackage(
        facts["sem"],
        speaker,
        _dtype(folder),
        contract.read_contract(folder).context,
        tuple(_tasks(folder)),
        _checked_texts(folder),
    )
    for name in facts["targets"]:
        for written, text in targets.TARGETS[name](served).items():
            if not (folder / written).exists() or files.read_text(folder / written) != text:
                yield f"{written}: not what export writes for this model"
        spelled = "serve/spelling.json"
        if (folder / spelled).exists() and speaker.spelling is None:
            yield f"{spelled}: this tokenizer spells everything itself"


def _contexts(path: Path) -> list[int]:
    """Return the contexts that the file `path` tells a runtime."""
    pattern = r"^(?:max-model-len:|PARAMETER num_ctx) ([1-9][0-9]{0,8})$"
    if path.suffix in (".md", ".gguf") or not path.exists():
        return []
    return [int(number) for number in re.findall(pattern, files.read_text(path), re.M)]


def _checked_texts(folder: Path) -> int:
    """Return on how many texts export compared llama.cpp's token ids, taken from its note."""
    path = folder / "serve" / "LLAMACPP.md"
    pattern = r"^- Token ids: equal to the package's tokenizer on ([1-9][0-9]?) texts\.$"
    notes = re.findall(pattern, files.read_text(path), re.M) if path.exists() else []
    return int(notes[0]) if notes else 0


def _documents(folder: Path, facts: dict[str, Any]) -> Iterator[str]:
    """Check that card, licences, schemas and bills of materials are what the rest makes them."""
    for name, text in documents.write_documents(folder).items():
        # One that is missing is named by the manifest's check.
        if name in facts["files"] and files.read_text(folder / name) != text:
            yield f"{name}: not what export writes for this package"


def _gate(folder: Path, facts: dict[str, Any]) -> Iterator[str]:
    """Check that a gate's verdict is of this run."""
    path = folder / documents.GATE
    if not path.exists():
        return
    gate = state.read_state_file(path, state.Gate)
    for what, own, listed in (
        ("sem", gate.get("sem"), facts["sem"]),
        ("run", gate["run"], facts["run_id"]),
        ("split", gate.get("split"), "test"),
    ):
        if own != listed:
            yield f"{documents.GATE}: its {what} is not that of the manifest"


def _kit(folder: Path, _: dict[str, Any]) -> Iterator[str]:
    """Check that the kit's prompts and token ids are those of the package's own tokenizer."""
    if not (folder / kit.KIT).exists():
        return
    speaker, tasks = chat.load_chat(folder / "model"), contract.read_tasks(folder)
    for row in kit.read_kit(folder):
        if not row.matches(speaker, tasks):
            yield f"{kit.KIT}: {row.id}: not the prompt and ids that this tokenizer writes"


def _gguf_headers(folder: Path, facts: dict[str, Any]) -> Iterator[str]:
    """Check that the metadata of GGUF files are what this model and tokenizer make them."""
    for path, kind in _gguf_files(facts):
        for fault in gguf_writer.header_faults(
            folder / "model", folder / path, kind, facts["sem"]
        ):
            yield f"{path}: {fault}"


def _gguf_tensors(folder: Path, facts: dict[str, Any]) -> Iterator[str]:
    """Check that every tensor of GGUF files is that of the model, byte for byte."""
    for path, kind in _gguf_files(facts):
        for fault in gguf_writer.tensor_faults(folder / "model", folder / path, kind):
            yield f"{path}: {fault}"


def _gguf_files(facts: dict[str, Any]) -> list[tuple[str, gguf_writer.Kind]]:
    return [targets.GGUF[name] for name in facts["targets"] if name in targets.GGUF]


BASIC: dict[str, Check] = {
    "model/config.json": _foreign,
    "manifest.json": _lineage,
    "scores.json": _proof,
    "task_spec.json": _contract,
    "generation.json": _asked,
    "adapter/adapter_config.json": _adapter_config,
    "repro.lock": _lock,
    documents.GATE: _gate,
}
DEEP: dict[str, Check] = {"model/model.safetensors": _weights}
SANDBOXED: dict[str, Check] = {
    "model/tokenizer.json": _served,
    "model/config.json": _shapes,
    "adapter/adapter_model.safetensors": _adapter_shapes,
    kit.KIT: _kit,
    "gguf": _gguf_headers,
}
# What reads the weights once more, by a config that the checks above let pass.
LAST: dict[str, Check] = {"gguf": _gguf_tensors, documents.CARD: _documents}

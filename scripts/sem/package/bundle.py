"""The deliverable: adapter, merged model, contract, proof, lock and manifest in one folder."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sem.core import files, jsonio, manifest, provenance, run, schema, state, taint
from sem.core.errors import SemError
from sem.core.project import ROOT, Project
from sem.core.run import Run
from sem.lm import chat, pinned, turns
from sem.lm import model as models
from sem.package import targets

FORMAT = "package.v1"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
)
MANIFEST_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["format", "sem", "run_id", "targets", "lineage", "files", "scores"],
    "properties": {
        "format": {"const": FORMAT},
        "sem": {"type": "string"},
        "run_id": {"type": "string"},
        "created_at": {"type": "string", "format": "date-time"},
        "targets": {"type": "array", "items": {"enum": list(targets.TARGETS)}, "minItems": 1},
        "lineage": {
            "type": "object",
            "required": ["run_json", "snapshot", "base_model", "tasks", "adapter"],
        },
        "scores": {"type": "object", "required": ["verdict", "scores_json"]},
        "files": {"type": "object", "minProperties": 1},
    },
}


def export(project: Project, target: Run, wanted: Sequence[str]) -> Path:
    """Build the package of TARGET, whole or not at all; its folder.

    WANTED: runtimes; none means every one that serves such a model.
    """
    if target.folder is None:
        raise SemError("the run 'base' has nothing to package", "name a trained run with --run")
    taint.refuse(target.folder, f"run {target.id}")
    for name in wanted:
        if name not in targets.TARGETS:
            raise SemError(f"target {name!r} is unknown", f"use {', '.join(targets.TARGETS)}")
    base = pinned.resolve(target.plan()["base_model"], project.root).folder
    suited = targets.suited(base)
    for name in wanted:
        if name not in suited:
            raise SemError(f"{name} does not serve an encoder-decoder", f"use {', '.join(suited)}")
    wanted = wanted or suited
    folder = project.packages / target.id
    wanted = sorted({*wanted, *_present(folder)})
    _check_adapter(target)
    report = _report(project, target)
    building = project.packages / f".building-{target.id}"
    with files.lock(project.packages / f".{target.id}.lock", f"package {target.id}"):
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        _fill(project, target, building, report, wanted)
        _replace(building, folder)
    return folder


def _fill(
    project: Project, target: Run, folder: Path, report: Path, wanted: Sequence[str]
) -> None:
    plan = target.plan()
    base = pinned.resolve(plan["base_model"], project.root)
    # File by file: copytree gathers a full disk into an error without its number.
    (folder / "adapter").mkdir()
    for path in sorted(target.adapter.iterdir()):
        shutil.copyfile(path, folder / "adapter" / path.name)
    merged = models.merged(models.load(base.folder, plan["hardware"]["dtype"]), target.adapter)
    models.save(merged, folder / "model")
    for name in TOKENIZER_FILES:
        if (base.folder / name).exists():
            shutil.copyfile(base.folder / name, folder / "model" / name)
    renderer = plan["recipe"].get("renderer", turns.TEMPLATE)
    if renderer != turns.TEMPLATE:
        turns.save(chat.load(base.folder, renderer).tokenizer.chat_template, folder / "model")
    shutil.copyfile(report, folder / "eval_report.md")
    shutil.copyfile(report.parent / "scores.json", folder / "scores.json")
    files.write(folder / "task_spec.json", jsonio.pretty(_specs(plan)))
    files.write(folder / "repro.lock", _lock(project, plan))
    for name in wanted:
        targets.TARGETS[name](folder, plan)
    facts = _facts(project, target, folder, wanted)
    manifest.seal(folder, facts)
    found = schema.problems(manifest.read(folder), MANIFEST_SCHEMA)
    if found:
        raise AssertionError(f"the manifest breaks its own schema: {found}")


def _specs(plan: dict[str, Any]) -> Any:
    specs = [plan["tasks"][name] for name in sorted(plan["tasks"])]
    return specs[0] if len(specs) == 1 else {"format": "task_specs.v1", "tasks": specs}


def _facts(project: Project, target: Run, folder: Path, wanted: Sequence[str]) -> dict[str, Any]:
    plan = target.plan()
    scores = files.read_json(folder / "scores.json")
    return {
        "format": FORMAT,
        "sem": project.sem,
        "run_id": target.id,
        "created_at": provenance.now().isoformat(),
        "targets": list(wanted),
        "lineage": {
            "run_json": files.sha256(target.folder / "run.json"),
            "snapshot": plan["snapshot"],
            "base_model": plan["base_model"],
            "tasks": plan["task_hashes"],
            "adapter": files.sha256(target.adapter / "adapter_model.safetensors"),
            "renderer": plan["renderer"],
            "source": plan["source"],
        },
        "scores": {
            "verdict": scores["verdict"],
            "scores_json": files.sha256(folder / "scores.json"),
        },
    }


def _check_adapter(target: Run) -> None:
    sealed = manifest.read(target.folder, state.RunManifest)["adapter"]
    for name, digest in sealed.items():
        path = target.adapter / name
        if not path.exists() or files.sha256(path) != digest:
            raise SemError(
                f"{path}: not the file that training sealed", "restore it, or train again"
            )


def _report(project: Project, target: Run) -> Path:
    path = project.reports / target.id / "report.md"
    if not path.exists() or not path.with_name("scores.json").exists():
        raise SemError(
            f"run {target.id} has no report: {path}",
            "a package carries its proof: run `fab eval.generate eval.report` first",
        )
    return path


def _lock(project: Project, plan: dict[str, Any]) -> str:
    lock = files.read_text(ROOT / "requirements.lock")
    version = ".".join(map(str, sys.version_info[:3]))
    source = plan["source"]
    head = [
        f"# Python {version}; commit {source['commit']} (dirty: {source['dirty']})",
        *(f"# trained with {name} {number}" for name, number in sorted(plan["packages"].items())),
    ]
    return "\n".join(head) + "\n" + lock


def _present(folder: Path) -> list[str]:
    return manifest.read(folder)["targets"] if (folder / manifest.NAME).exists() else []


def _replace(building: Path, folder: Path) -> None:
    if folder.exists():
        old = folder.with_name(f".old-{folder.name}")
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        building.rename(folder)
        shutil.rmtree(old)
    else:
        building.rename(folder)
    files.sync(folder.parent)


def latest(project: Project, run_id: str | None) -> Path:
    """The package of RUN_ID (default: the latest run's); SemError when there is none."""
    target = run.find(project, run_id)
    folder = project.packages / target.id
    if not folder.is_dir():
        raise SemError(f"run {target.id} has no package", "make it with `fab package.export`")
    return folder

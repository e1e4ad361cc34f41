"""The deliverable: adapter, merged model, contract, proof, lock and manifest in one folder."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sem.core import console, files, jsonio, manifest, provenance, run, schema, settings, state
from sem.core.errors import SemError
from sem.core.project import Project
from sem.core.run import Run
from sem.dataset.config import Clean, Dataset
from sem.dataset.split.snapshot import Snapshot
from sem.eval.answers import answers, subject
from sem.eval.answers.subject import EvalSubject
from sem.eval.report import eval_report_v1
from sem.eval.report import report as reports
from sem.lm.local import chat, gguf_writer, turns
from sem.lm.local import model as models
from sem.lm.local.chat import Chat
from sem.lm.weights import pinned_base, weights
from sem.package import contract, kit
from sem.package.contract import PackageContract
from sem.package.export import documents, repro_lock, targets
from sem.package.export.targets import ServedPackage

FORMAT = "package.v1"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
# Files that are copied where they are, and what each is called in a package.
COPIES = {documents.GATE: documents.GATE, "LICENSE": "LICENSE.base"}
# That the packaged tokenizer must encode as the proven one did.
PROVEN_PROMPTS = 64
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


def build_package(project: Project, target: Run, requested: Sequence[str]) -> Path:
    """Build the package of `target`, whole or not at all, and return its folder.

    `requested`: runtimes; none means every one that can be told how to serve such a model.
    """
    if target.folder is None:
        raise SemError("the run 'base' has nothing to package", "name a trained run with --run")
    run.refuse_tainted(target.folder, f"run {target.id}")
    for name in requested:
        if name not in targets.TARGETS:
            raise SemError(f"target {name!r} is unknown", f"use {', '.join(targets.TARGETS)}")
    plan = target.plan()
    base = pinned_base.resolve_pinned_base(plan["base_model"], project.root)
    speaker = chat.load_chat(base.folder, _renderer(plan))
    suited = targets.list_suitable_runtimes(speaker)
    for name in requested:
        if name not in suited:
            raise SemError(f"{name} does not serve an encoder-decoder", f"use {', '.join(suited)}")
        if name in targets.GGUF:
            gguf_writer.check_writable(models.read_config(base.folder / "config.json"), speaker)
    folder = project.packages / target.id
    asked = _contract(project, target)
    served = ServedPackage(
        plan["sem"],
        speaker,
        plan["hardware"]["dtype"],
        asked.context,
        tuple(asked.tasks.values()),
    )
    usual = [name for name in suited if name in targets.DEFAULT]
    target_names = _writable(served, {*(requested or usual), *_present(folder)}, set(requested))
    _check_adapter(target)
    report = _report(project, target)
    building = project.packages / f".building-{target.id}"
    with files.lock_file(project.packages / f".{target.id}.lock", f"package {target.id}"):
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        try:
            _fill(project, target, building, report, served, asked, target_names)
        except SemError:
            shutil.rmtree(building, ignore_errors=True)
            # A takedown that came in between withdraws what is read here: it is the reason.
            run.refuse_tainted(target.folder, f"run {target.id}")
            raise
        _publish(project, target, building, folder)
    return folder


def _publish(project: Project, target: Run, building: Path, folder: Path) -> None:
    """Give the built package its name, unless a takedown came in between."""
    with run.hold_publish_lock(project.models):
        try:
            run.refuse_tainted(target.folder, f"run {target.id}")
            _check_adapter(target)
        except SemError:
            shutil.rmtree(building, ignore_errors=True)
            raise
        _replace(building, folder)


def _renderer(plan: dict[str, Any]) -> str:
    return plan["recipe"].get("renderer", turns.TEMPLATE)


def _writable(served: ServedPackage, names: set[str], requested: set[str]) -> list[str]:
    """Return the `names` that can be written; others are said, or refused when `requested`."""
    writable = []
    for name in sorted(names):
        try:
            targets.TARGETS[name](served)
            writable.append(name)
        except SemError as error:
            if name in requested:
                raise
            console.print_note(error.message)
    return writable


def _fill(
    project: Project,
    target: Run,
    folder: Path,
    report: Path,
    served: ServedPackage,
    asked: PackageContract,
    target_names: Sequence[str],
) -> None:
    plan = target.plan()
    # First, because merging the weights takes minutes.
    scores = eval_report_v1.read_scores(report.parent / "scores.json")
    base = pinned_base.resolve_pinned_base(plan["base_model"], project.root)
    # File by file: copytree gathers a full disk into an error without its number.
    (folder / "adapter").mkdir()
    assert target.adapter is not None
    for path in sorted(target.adapter.iterdir()):
        shutil.copyfile(path, folder / "adapter" / path.name)
    _name_base(folder / "adapter" / "adapter_config.json", plan["base_model"]["base_model_id"])
    merged = models.merge_adapter(
        models.load_model(base.folder, plan["hardware"]["dtype"]), target.adapter
    )
    models.save_weights(merged, folder / "model")
    _write_tokenizer(base.folder, served.chat, folder / "model")
    _prove_tokenizer(project, target, served.chat, folder / "model")
    shutil.copyfile(report.parent / "scores.json", folder / "scores.json")
    # Written anew: an older version's report would not be the one that these scores make.
    files.write_file(folder / "eval_report.md", reports.report_markdown(scores))
    files.write_file(folder / "task_spec.json", jsonio.pretty_json(_specs(plan)))
    assert target.folder is not None
    shutil.copyfile(target.folder / "run.json", folder / "run.json")
    contract.write_contract(folder, asked)
    files.write_file(folder / "repro.lock", repro_lock.write_lock(plan))
    for origin, name in ((report.parent, documents.GATE), (base.folder, "LICENSE")):
        if (origin / name).is_file():
            shutil.copyfile(origin / name, folder / COPIES[name])
    tested = subject.resolve_answered_subject(project, target.id, "test")
    rows = kit.build_kit(tested, served.chat)
    if rows:
        kit.write_kit(folder, rows)
    else:
        console.print_note("no kit.jsonl: the test part has no answers by today's settings")
    texts = targets.texts_to_check(served.chat, [e.input_text for e in tested.examples])
    for name in target_names:
        targets.write_target(name, folder, served, texts)
    for name, text in documents.write_documents(folder).items():
        files.write_file(folder / name, text)
    facts = _facts(project, target, folder, target_names)
    manifest.seal_folder(folder, facts)
    problems = schema.schema_problems(manifest.read_manifest(folder), MANIFEST_SCHEMA)
    if problems:
        raise AssertionError(f"the manifest breaks its own schema: {problems}")


def adapter_base(base_model_id: str) -> dict[str, str]:
    """Return how an adapter_config.json names `base_model_id`: so that PEFT finds it on the hub.

    What is on no hub keeps its id; the card says how it is loaded.
    """
    reference = weights.hub_reference(base_model_id)
    if reference is None:
        return {"base_model_name_or_path": base_model_id}
    name, commit = reference
    return {"base_model_name_or_path": name, "revision": commit}


def _name_base(path: Path, base_model_id: str) -> None:
    config = files.read_object(path)
    named = config | adapter_base(base_model_id)
    if named != config:
        files.write_file(path, jsonio.pretty_json(named))


def _write_tokenizer(base: Path, speaker: Chat, folder: Path) -> None:
    """Write the tokenizer of `base` as `speaker` uses it: template pinned, greedy, every end."""
    if (base / "tokenizer.json").exists():
        for name in TOKENIZER_FILES:
            if (base / name).exists():
                shutil.copyfile(base / name, folder / name)
    else:  # vocab.json and merges.txt, or a sentencepiece model
        speaker.tokenizer.save_pretrained(folder)
    if speaker.turns:
        turns.save_template(speaker.tokenizer.chat_template, folder)
        files.write_file(
            folder / "generation_config.json", jsonio.pretty_json(generation_config(speaker))
        )
    elif (base / "generation_config.json").exists():
        shutil.copyfile(base / "generation_config.json", folder / "generation_config.json")


def generation_config(speaker: Chat) -> dict[str, Any]:
    """Return what a runtime must know of how answers were proven: greedily, and where one ends."""
    tokenizer = speaker.tokenizer
    config = {
        "bos_token_id": tokenizer.bos_token_id,
        "do_sample": False,
        "eos_token_id": speaker.stop_ids,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return {name: value for name, value in config.items() if value is not None}


def _prove_tokenizer(project: Project, target: Run, speaker: Chat, folder: Path) -> None:
    """Check that the tokenizer in `folder` gives the proven ids.

    Raise SemError when it does not.
    """
    packaged = chat.load_chat(folder)
    if packaged.fingerprint() != target.plan()["renderer"]:
        raise SemError(
            f"run {target.id}: the packaged tokenizer renders differently from the trained one",
            "if the base model was changed, prepare and train again",
        )
    tested = subject.resolve_subject(project, target.id, "test", None)
    sample = tested.examples[:PROVEN_PROMPTS]
    proven, served = (
        [
            pair[1].ids
            for pair in answers.ordered_prompts(sample, tested.tasks, renderer, tested.settings)
        ]
        for renderer in (speaker, packaged)
    )
    if proven != served:
        raise SemError(
            f"run {target.id}: the packaged tokenizer gives different ids from the proven one",
            "report this base model: its tokenizer does not come back from its files",
        )


def _specs(plan: dict[str, Any]) -> Any:
    specs = [plan["tasks"][name] for name in sorted(plan["tasks"])]
    return specs[0] if len(specs) == 1 else {"format": "task_specs.v1", "tasks": specs}


def _contract(project: Project, target: Run) -> PackageContract:
    """Return how the package is asked: as its run was trained and proven."""
    plan = target.plan()
    tasks = run.tasks_of(plan)
    tested = subject.resolve_answered_subject(project, target.id, "test")
    recorded = tested.book.recorded()
    room = recorded.get("max_new_tokens", tested.settings.max_new_tokens)
    return PackageContract(
        tasks=tasks,
        clean=_cleaned_with(project, tested.frozen),
        max_new_tokens=room,
        context=_context(tested, plan["recipe"]["max_tokens"], room),
        decoding=tested.settings.decoding,
    )


def _context(tested: EvalSubject, trained: int, room: int) -> int:
    """Return how long prompt and answer may be together: what is proven, and the model holds.

    Longer prompts than any that it was trained or proven on are not promised to work.
    """
    path = tested.book.path
    recorded = answers.read_answers(path).values() if path.exists() else ()
    proven = max(
        (answer.tokens_in for answer in recorded if answer.finish != "refused"), default=0
    )
    holds = models.read_config(tested.weights.folder / "config.json").get(
        "max_position_embeddings"
    )
    context = max(trained, proven) + room
    # An encoder-decoder has no limit of its own.
    return min(holds, context) if holds else context


def _cleaned_with(project: Project, frozen: Snapshot) -> Clean:
    """Return the settings that cleaned the rows of the snapshot `frozen`."""
    noted = frozen.facts.get("cleaned_with")
    if noted:
        return settings.build_settings(Clean, noted, f"{frozen.name}.json: cleaned_with")
    console.print_note(
        f"snapshot {frozen.name} was cut before cleaner settings were noted: the package reads "
        "pages by today's dataset.yaml"
    )
    return project.settings("dataset", Dataset).clean


def _facts(
    project: Project, target: Run, folder: Path, target_names: Sequence[str]
) -> dict[str, Any]:
    assert target.folder is not None
    assert target.adapter is not None
    plan = target.plan()
    scores = state.read_state_file(folder / "scores.json", state.Scores)
    return {
        "format": FORMAT,
        "sem": project.sem,
        "run_id": target.id,
        "created_at": provenance.utc_now().isoformat(),
        "targets": list(target_names),
        "lineage": {
            "run_json": files.sha256_file(target.folder / "run.json"),
            "snapshot": plan["snapshot"],
            "base_model": plan["base_model"],
            "tasks": plan["task_hashes"],
            "adapter": files.sha256_file(target.adapter / "adapter_model.safetensors"),
            "renderer": plan["renderer"],
            "source": plan["source"],
        },
        "scores": {
            "verdict": scores["verdict"],
            "scores_json": files.sha256_file(folder / "scores.json"),
        },
    }


def _check_adapter(target: Run) -> None:
    assert target.folder is not None
    assert target.adapter is not None
    sealed = manifest.read_manifest(target.folder, state.RunManifest)["adapter"]
    for name, digest in sealed.items():
        path = target.adapter / name
        if not path.exists() or files.sha256_file(path) != digest:
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


def _present(folder: Path) -> list[str]:
    return manifest.read_manifest(folder)["targets"] if (folder / manifest.NAME).exists() else []


def _replace(building: Path, folder: Path) -> None:
    if folder.exists():
        old = folder.with_name(f".old-{folder.name}")
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        building.rename(folder)
        shutil.rmtree(old)
    else:
        building.rename(folder)
    files.sync_path(folder.parent)


def latest_package(project: Project, run_id: str | None) -> Path:
    """Return the package of `run_id` (default: the latest run's).

    Raise SemError when there is none.
    """
    target = run.find_run(project, run_id)
    folder = project.packages / target.id
    if not folder.is_dir():
        raise SemError(f"run {target.id} has no package", "make it with `fab package.export`")
    return folder

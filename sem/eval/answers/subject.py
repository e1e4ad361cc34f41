"""What is evaluated: a run's model, its tasks, and the examples of one split.

Reading answers asks nothing of a machine: a Subject is made of run.json, the snapshot and the
settings. The machine that generates (weights, precision, tokenizer) comes in with `answer`, and
what it was is recorded beside the answers as a fact.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from sem.core import console, files, jsonio, manifest, run, slotspec
from sem.core.errors import SemError
from sem.core.example import Example
from sem.core.project import Project
from sem.core.run import Run
from sem.core.slotspec import SlotFile
from sem.core.taskspec import TaskSpec
from sem.dataset.split import snapshot
from sem.eval.answers import answers, golden
from sem.eval.config import EvalSettings
from sem.lm.local import chat, constrain, hardware, model, turns
from sem.lm.local.hf import HfGenerator
from sem.lm.weights import pinned_base, weights

PARTS = ("val", "test", "golden")
WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True)
class EvalSubject:
    """A run on a split, resolved; `header` is what its answers depend on."""

    project: Project
    run: Run
    split: str
    settings: EvalSettings
    # As run.json describes the base model; of the untouched one what its id alone says.
    base: dict[str, Any]
    tasks: dict[str, TaskSpec]
    frozen: Any  # the Snapshot
    examples: Sequence[Example]
    # Levels of judge_slots.yaml.
    shared: SlotFile = field(default_factory=SlotFile)
    # The renderer's name: whose turns a prompt is written in.
    turns: str = turns.TEMPLATE

    @property
    def header(self) -> dict[str, Any]:
        """Return what the answers depend on, as far as every machine knows it.

        No dtype, no batch.
        """
        facts: dict[str, Any] = {}
        # Free decoding and the template's turns have no key: older answers stay what they are.
        if self.settings.decoding != "free":
            facts["decoding"] = self.settings.decoding
        if self.turns != turns.TEMPLATE:
            facts["turns"] = self.turns
        if self.base.get("revision"):
            facts["base_model"] = self.base["revision"]
        if not self.run.is_base:
            facts["renderer"] = self.run.plan().get("renderer")
        return {
            "format": "answers.v1",
            "run": self.run.id,
            "split": self.split,
            "snapshot": {"version": self.frozen.version, "sha256": self.frozen.sha256},
            "tasks": {name: spec.fingerprint() for name, spec in self.tasks.items()},
            "adapter": self._adapter_sha256,
            "max_new_tokens": self.settings.max_new_tokens,
            "examples": files.sha256_json([e.id for e in self.examples]),
            **facts,
        }

    @property
    def book(self) -> answers.AnswerFile:
        return answers.answers_book(self.project.reports / self.run.id, self.split, self.header)

    @cached_property
    def weights(self) -> weights.Weights:
        """Return the base model on this disk, at the run's own revision."""
        if self.run.is_base:
            return weights.resolve_weights(self.project.base_model_id, self.project.root)
        return pinned_base.resolve_pinned_base(self.base, self.project.root)

    @cached_property
    def speaker(self) -> chat.Chat:
        """Return what writes this run's prompts; imports transformers."""
        return chat.load_chat(self.weights.folder, self.turns)

    @property
    def renderer(self) -> str:
        """Fingerprint of what turns an example into token ids, here."""
        return self.speaker.fingerprint()

    @cached_property
    def _adapter_sha256(self) -> str | None:
        if self.run.folder is None:
            return None
        path = f"adapter/{WEIGHTS}"
        if (self.run.folder / path).exists():
            return files.sha256_file(self.run.folder / path)
        # A machine that only reads reports need not hold the weights: the run's manifest does.
        return manifest.read_manifest(self.run.folder).get("files", {}).get(path, {}).get("sha256")


def resolve_subject(
    project: Project, run_id: str | None, split: str, version: int | None
) -> EvalSubject:
    """Return the Subject of `run_id` on `split`.

    The snapshot is `version`, the run's own, or the latest.
    """
    if split not in PARTS:
        raise SemError(f"split {split!r} is not evaluated", f"use one of {', '.join(PARTS)}")
    target = run.find_run(project, run_id)
    settings = project.settings("eval", EvalSettings)
    if target.is_base:
        tasks = project.tasks
        model_id = project.base_model_id
        base = {
            "base_model_id": model_id,
            "revision": weights.base_revision(model_id, project.root),
        }
        if settings.base_decoding != "same":
            settings = replace(settings, decoding=settings.base_decoding)
    else:
        plan = target.plan()
        tasks = run.tasks_of(plan)
        base = plan["base_model"]
        version = version or plan["snapshot"]["version"]
    frozen = snapshot.load_snapshot(project, version)
    pool = golden.golden_examples(project) if split == "golden" else list(frozen.examples(split))
    examples = answers.sample_examples(pool, settings.max_examples, settings.seed)
    shared = slotspec.load_slot_levels(project.root / "configs" / "judge_slots.yaml")
    named = _renderer(project, target)
    return EvalSubject(
        project, target, split, settings, base, tasks, frozen, examples, shared, turns=named
    )


def resolve_answered_subject(project: Project, run_id: str | None, split: str) -> EvalSubject:
    """Return the Subject of `run_id` on `split`, on the examples that its run was asked.

    Which sample eval.yaml draws today changes nothing of what was proven; whatever else differs
    leaves the answers stale, as they are for any other reader.
    """
    today = resolve_subject(project, run_id, split, None)
    if not today.book.path.exists() or not today.book.is_stale():
        return today
    answered_ids = answers.read_answers(today.book.path).keys()
    asked = [e for e in today.frozen.examples(split) if e.id in answered_ids]
    proven = replace(today, examples=sorted(asked, key=lambda e: e.id))
    return today if proven.book.is_stale() else proven


def _renderer(project: Project, target: Run) -> str:
    # The untouched model is asked as the next run would be.
    if target.is_base:
        return project.setting("train", "renderer", turns.TEMPLATE)
    return target.plan().get("recipe", {}).get("renderer", turns.TEMPLATE)


def answer_subject(subject: EvalSubject) -> int:
    """Let `subject`'s run answer every example that it has not; how many it had answered before.

    Answers of another machine are gone on with, whatever its precision: what answered which rows
    is recorded, and the report says so.
    """
    machine = hardware.detect_hardware()
    book = generated_book(subject, machine)
    answered_ids = book.open()
    if any(example.id not in answered_ids for example in subject.examples):
        _note_unenforced(subject)
        model = _loaded(subject, machine)
        pairs = answers.ordered_prompts(
            subject.examples, subject.tasks, model.chat, subject.settings
        )
        steps = answers.generate_missing_answers(book, pairs, model, subject.settings)
        title = f"answers of {subject.run.id} on {subject.split}"
        for _ in console.show_progress(steps, len(pairs), title, weight=True):
            pass
    return len(answered_ids)


def _note_unenforced(subject: EvalSubject) -> None:
    """Print the parts of a contract that constrained decoding does not enforce."""
    if subject.settings.decoding == "constrained":
        for name, spec in sorted(subject.tasks.items()):
            for line in constrain.unenforced_constraints(jsonio.canonical_json(spec.io_schema)):
                console.print_note(
                    f"{name}: constrained decoding does not enforce all of it: {line}"
                )


def generated_book(subject: EvalSubject, machine: hardware.Hardware) -> answers.AnswerFile:
    """Return the book that `machine` writes: all that a reader checks, and what only it knows."""
    model_facts = {"base_model": subject.weights.revision, "renderer": subject.renderer}
    expected = subject.header.get("renderer")
    if expected not in (None, model_facts["renderer"]):
        raise SemError(
            f"run {subject.run.id}: the chat renderer has changed since it was trained "
            f"({expected[:8]}…, now {model_facts['renderer'][:8]}…)",
            "restore the tokenizer and the version it was trained with, or prepare a new run",
        )
    facts = {"dtype": machine.dtype, "batch": subject.settings.batch, "machine": machine.as_json()}
    folder = subject.project.reports / subject.run.id
    return answers.answers_book(folder, subject.split, subject.header | model_facts, facts)


def _loaded(subject: EvalSubject, machine: hardware.Hardware) -> HfGenerator:
    loaded = model.load_model(subject.weights.folder, machine.dtype, machine.device)
    if subject.run.adapter:
        loaded = model.merge_adapter(loaded, subject.run.adapter)
    return HfGenerator(loaded, subject.speaker)


def from_folder(subject: EvalSubject, folder: Path) -> HfGenerator:
    """Return the generator of an exported model in `folder`, on this machine, in its precision."""
    machine = hardware.detect_hardware()
    loaded = model.load_model(folder, machine.dtype, machine.device)
    return HfGenerator(loaded, chat.load_chat(folder))

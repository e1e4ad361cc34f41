"""What is evaluated: a run's model, its tasks, and the examples of one split."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sem.core import console, files, run, slotspec
from sem.core.errors import SemError
from sem.core.example import Example
from sem.core.project import Project
from sem.core.run import Run
from sem.core.slotspec import SlotFile
from sem.core.taskspec import TaskSpec
from sem.dataset import snapshot
from sem.eval import answers, golden
from sem.eval.config import EvalSettings
from sem.lm import chat, hardware, model, pinned, turns, weights
from sem.lm.hf import HfGenerator

PARTS = ("val", "test", "golden")


@dataclass(frozen=True)
class Subject:
    """A run on a split, resolved; `header` is what its answers depend on."""

    project: Project
    run: Run
    split: str
    settings: EvalSettings
    base: weights.Weights
    tasks: dict[str, TaskSpec]
    frozen: Any  # the Snapshot
    examples: Sequence[Example]
    machine: hardware.Hardware
    renderer: str  # fingerprint of what turns an example into token ids
    shared: SlotFile = field(default_factory=SlotFile)  # levels of judge_slots.yaml
    turns: str = turns.TEMPLATE  # the renderer's name: whose turns a prompt is written in

    @property
    def header(self) -> dict[str, Any]:
        adapter = self.run.adapter
        return {
            "format": "answers.v1",
            "run": self.run.id,
            "split": self.split,
            "snapshot": {"version": self.frozen.version, "sha256": self.frozen.sha256},
            "tasks": {name: spec.fingerprint() for name, spec in self.tasks.items()},
            "base_model": self.base.revision,
            "renderer": self.renderer,
            "adapter": files.sha256(adapter / "adapter_model.safetensors") if adapter else None,
            "dtype": self.machine.dtype,
            "batch": self.settings.batch,
            "max_new_tokens": self.settings.max_new_tokens,
            # Free decoding has no key, so that older answers stay what they are.
            **({} if self.settings.decoding == "free" else {"decoding": self.settings.decoding}),
            "examples": files.sha256_json([e.id for e in self.examples]),
        }

    @property
    def speaker(self) -> chat.Chat:
        """What writes this run's prompts."""
        return chat.load(self.base.folder, self.turns)

    @property
    def book(self) -> answers.Book:
        return answers.book(self.project.reports / self.run.id, self.split, self.header)


def resolve(project: Project, run_id: str | None, split: str, version: int | None) -> Subject:
    """The Subject of RUN_ID on SPLIT; the snapshot is VERSION, the run's own, or the latest."""
    if split not in PARTS:
        raise SemError(f"split {split!r} is not evaluated", f"use one of {', '.join(PARTS)}")
    target = run.find(project, run_id)
    settings = project.settings("eval", EvalSettings)
    if target.is_base:
        tasks = project.tasks
        base = weights.resolve(project.base_model_id, project.root)
    else:
        plan = target.plan()
        tasks = run.tasks_of(plan)
        base = pinned.resolve(plan["base_model"], project.root)
        version = version or plan["snapshot"]["version"]
    frozen = snapshot.load(project, version)
    pool = golden.examples(project) if split == "golden" else list(frozen.examples(split))
    chosen = answers.sample(pool, settings.max_examples, settings.seed)
    machine = hardware.detect()
    named = _renderer(project, target)
    renderer = chat.load(base.folder, named).fingerprint()
    shared = slotspec.load(project.root / "configs" / "judge_slots.yaml")
    return Subject(
        project, target, split, settings, base, tasks, frozen, chosen, machine, renderer, shared,
        named,
    )  # fmt: skip


def _renderer(project: Project, target: Run) -> str:
    # The untouched model is asked as the next run would be.
    if target.is_base:
        return project.setting("train", "renderer", turns.TEMPLATE)
    return target.plan().get("recipe", {}).get("renderer", turns.TEMPLATE)


def answer(subject: Subject) -> int:
    """Let SUBJECT's run answer every example that it has not; how many it had answered before."""
    there = subject.book.open()
    if any(example.id not in there for example in subject.examples):
        made = generator(subject)
        pairs = answers.prompts(subject.examples, subject.tasks, made.chat, subject.settings)
        steps = answers.generate(subject.book, pairs, made, subject.settings)
        title = f"answers of {subject.run.id} on {subject.split}"
        for _ in console.progress(steps, len(pairs), title, weight=True):
            pass
    return len(there)


def generator(subject: Subject) -> HfGenerator:
    """SUBJECT's model, loaded, its adapter merged in."""
    loaded = model.load(subject.base.folder, subject.machine.dtype, subject.machine.device)
    if subject.run.adapter:
        loaded = model.merged(loaded, subject.run.adapter)
    return HfGenerator(loaded, subject.speaker)


def from_folder(subject: Subject, folder: Path) -> HfGenerator:
    """The generator of an exported model in FOLDER, on SUBJECT's machine and precision."""
    loaded = model.load(folder, subject.machine.dtype, subject.machine.device)
    return HfGenerator(loaded, chat.load(folder))

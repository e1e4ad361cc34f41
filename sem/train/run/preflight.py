"""What is looked at before a run is written down: a fault found here costs seconds, not a night.

Every check reads what training itself will use: rows, collator, the prompt that generation sends.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sem.core.errors import SemError
from sem.core.example import Example
from sem.core.project import Project
from sem.core.taskspec import taught_text
from sem.dataset.clean import evidence, grounding
from sem.dataset.clean.tally import closed_slots
from sem.dataset.config import TaskOptions
from sem.dataset.store import store
from sem.eval.answers import answers
from sem.eval.config import EvalSettings
from sem.lm.local import model as models
from sem.lm.local import ollama, turns
from sem.lm.local.chat import Chat
from sem.lm.local.hardware import Hardware
from sem.train.engine import adapters, loss, trainer
from sem.train.engine.batches import IGNORED, Collator
from sem.train.fast import head, layers
from sem.train.recipe import Recipe
from sem.train.rows.data import RowWriter, TrainingRow, TrainingRows
from sem.train.rows.stages import Stage
from sem.train.run import memory

# One row through our loss and through the model's own forward: they must say the same.
#
# own, ours, untrained = compare_losses(base, recipe, row, chat)

# Of the row, the last ones: logits of a whole page may be 2 GiB.
COMPARED_TOKENS = 160


def compare_losses(
    base: Path, recipe: Recipe, row: TrainingRow, chat: Chat
) -> tuple[float, float, list[str]]:
    """Return the mean loss of `row` by the model's own forward and by ours, as it is trained.

    Both in fp32 on the CPU, the adapter new. Third: adapted layers that get no gradient; experts
    of a router and other senses than text are left out, which a row need not reach.
    """
    import torch

    model = models.load_model(base, "float32")
    collate = trainer.collator_for(model, chat)
    if model.config.is_encoder_decoder:
        ids, prompt = row.ids, row.prompt
    else:
        ids = row.ids[-COMPARED_TOKENS:]
        prompt = max(1, row.prompt - (len(row.ids) - len(ids)))
    batch = collate([{"number": 0, "ids": ids, "prompt": prompt, "weights": None}])
    own = loss.own_loss(model, batch)
    head.finish_of(model)
    with torch.random.fork_rng():
        trained = adapters.prepare_trainable_model(model, recipe)
    if recipe.fast:
        layers.speed_up(trained, 0)
    ours = loss.token_cross_entropy(trained.eval(), batch).mean()
    ours.backward()
    return own, ours.item(), _untrained(trained)


def _untrained(model: Any) -> list[str]:
    return [
        name.partition(".lora_")[0].removeprefix("base_model.model.")
        for name, weight in model.named_parameters()
        if ".lora_B." in name
        and (weight.grad is None or not weight.grad.any())
        and not any(other in name for other in ("expert", "vision", "visual", "audio"))
    ]


# Rows that a finding names.
NAMED = 5
GIB = 2**30
# Of our loss and the model's own, relative, in fp32.
MOST_DIFFERENCE = 1e-4


@dataclass(frozen=True)
class PreflightInputs:
    """What a run is about to use."""

    project: Project
    writer: RowWriter
    # Those of the rows that are trained on.
    examples: Sequence[Example]
    rows: TrainingRows
    stages: tuple[Stage, ...]
    base: Path
    machine: Hardware

    @property
    def recipe(self) -> Recipe:
        return self.writer.recipe


@dataclass(frozen=True)
class PreflightCheck:
    """One thing that was looked at: what was found, and what to do where it is not well."""

    name: str
    found: str
    is_ok: bool = True
    hint: str = ""
    rows: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "found": self.found}


def run_preflight(subject: PreflightInputs) -> list[PreflightCheck]:
    """Return every check on `subject`; SemError that names each failed one and its rows."""
    checks = [check(subject) for check in CHECKS]
    bad = [check for check in checks if not check.is_ok]
    if bad:
        raise SemError(
            "\n       ".join(f"{c.name}: {c.found}{_named(c.rows)}" for c in bad),
            "\n       ".join(dict.fromkeys(c.hint for c in bad)),
        )
    return checks


def trained_tokens(subject: PreflightInputs) -> PreflightCheck:
    """Check that every row has a token that is learnt."""
    rows = [r.id for r in subject.rows.kept if r.trained < 1 or _weight(r) <= 0]
    total = sum(row.trained for row in subject.rows.kept)
    finding = f"{len(rows)} rows have none" if rows else f"{total:,} tokens carry loss"
    return _check("trained tokens", finding, rows, "raise train.loss weights above 0")


def check_end_of_turn(subject: PreflightInputs) -> PreflightCheck:
    """Check that every answer ends with the token that ends a turn, once, and learns it."""
    end = subject.writer.chat.end_of_turn
    rows = []
    for row in subject.rows.kept:
        last = row.ids[row.prompt :].count(end)
        if row.ids[-1] != end or last != 1 or (row.weights and row.weights[-1] <= 0):
            rows.append(row.id)
    finding = (
        f"not the last trained token of {len(rows)} rows" if rows else "the last trained token"
    )
    return _check("end of turn", finding, rows, "without it the model never stops: report this")


def prompt_unlearnt(subject: PreflightInputs) -> PreflightCheck:
    """Return what the collator labels decodes to the answer and nothing else."""
    chat = subject.writer.chat
    pad, rows = Collator(chat.tokenizer.pad_token_id), []
    for example, row in _pairs(subject):
        record = {"number": 0, "ids": row.ids, "prompt": row.prompt, "weights": row.weights}
        labels = pad([record])["labels"][0]
        text = chat.decode(labels[labels != IGNORED][:-1].tolist())
        if text.strip() != chat.neutral(taught_text(example.output_json)).strip():
            rows.append(row.id)
    finding = (
        f"the loss sees more or less in {len(rows)} rows" if rows else "the loss sees it alone"
    )
    hint = "the mask is wrong, or the tokenizer cannot spell it: report these"
    return _check("answer", finding, rows, hint)


def check_template(subject: PreflightInputs) -> PreflightCheck:
    """Training and generation send the same prompt, and the template renders the whole alike."""
    chat, tasks = subject.writer.chat, subject.writer.tasks
    sent = {
        example.id: prompt.ids
        for example, prompt in answers.ordered_prompts(
            subject.examples, tasks, chat, EvalSettings()
        )
    }
    rows = []
    for example, row in _pairs(subject):
        spec = tasks[example.task]
        system = example.system_prompt or spec.system_prompt
        whole = chat.conversation_ids(
            system, spec.prompt(example.input_text), taught_text(example.output_json)
        )
        if sent[row.id] != row.ids[: row.prompt] or whole[: len(row.ids)] != list(row.ids):
            rows.append(row.id)
    finding = f"differs in {len(rows)} rows" if rows else "training and generation agree"
    hint = f"the chat template renders an answer differently: {turns.way_out(chat.tokenizer)}"
    return _check("template", finding, rows, hint)


def control_tokens(subject: PreflightInputs) -> PreflightCheck:
    """Count the texts that hold a control token of this tokenizer and are broken up."""
    chat = subject.writer.chat
    pairs = list(_pairs(subject))
    inputs = sum(chat.neutral(e.input_text) != e.input_text for e, _ in pairs)
    outputs = sum(
        chat.neutral(text) != text for text in (taught_text(e.output_json) for e, _ in pairs)
    )
    finding = "no text holds one"
    if inputs or outputs:
        finding = f"broken by a space in {inputs} inputs and {outputs} answers"
    return PreflightCheck("control tokens", finding)


def special_tokens(subject: PreflightInputs) -> PreflightCheck:
    """No row begins with two begin-of-text tokens."""
    first = subject.writer.chat.tokenizer.bos_token_id
    rows = [r.id for r in subject.rows.kept if first is not None and r.ids[:2] == (first, first)]
    finding = f"twice at the start of {len(rows)} rows" if rows else "no row begins with two"
    hint = (
        "template and tokenizer both write it: set add_bos_token: false in tokenizer_config.json"
    )
    return _check("begin of text", finding, rows, hint)


def check_row_lengths(subject: PreflightInputs) -> PreflightCheck:
    """Check that not too many examples are left out because they are long."""
    too_long, count = subject.rows.too_long, len(subject.rows.kept)
    share, most = len(too_long) / (len(too_long) + count), subject.recipe.checks.too_long
    finding = (
        f"{len(too_long)} of {len(too_long) + count} examples exceed max_tokens ({share:.1%})"
    )
    if share <= most:
        return PreflightCheck("length", finding)
    hint = "raise train.max_tokens, clean with a smaller budget, or raise checks.too_long"
    return PreflightCheck("length", f"{finding}, more than {most:.1%}", False, hint, too_long)


def lost_evidence(subject: PreflightInputs) -> PreflightCheck:
    """Answers stand in what is left of their page, where they stood in the page."""
    path = subject.project.store
    if not path.exists():
        return PreflightCheck("evidence", f"not checked: no store at {path.name}")
    closed = {
        name: frozenset(closed_slots(s.io_schema)) for name, s in subject.writer.tasks.items()
    }
    examples, rows = {example.id: example for example in subject.examples}, []
    with store.open_store(path) as opened:
        for raw in opened.rows():
            example = examples.get(raw.id)
            if example is not None and _lost(example, raw.input_text or "", closed):
                rows.append(raw.id)
    share, most = len(rows) / max(1, len(examples)), subject.recipe.checks.lost_evidence
    finding = (
        f"{len(rows)} of {len(examples)} rows lost a value that their page holds ({share:.1%})"
    )
    if share <= most:
        return PreflightCheck("evidence", finding)
    hint = "clean with a larger budget (dataset.yaml), or raise checks.lost_evidence"
    return PreflightCheck("evidence", f"{finding}, more than {most:.1%}", False, hint, tuple(rows))


def adapter_reach(subject: PreflightInputs) -> PreflightCheck:
    """Check that the adapter stands around every layer meant; raise SemError where it cannot."""
    recipe, model = subject.recipe, models.load_skeleton(subject.base)
    if recipe.method == "full":
        return PreflightCheck(
            "adapter", f"none: all {memory.count_parameters(subject.base):,} weights are trained"
        )
    targets = recipe.lora.targets
    adapted, layers, share = adapters.adapted_share(model, targets)
    adapters.prepare_trainable_model(model, recipe)
    finding = (
        f"{targets}: around {adapted} of {layers} linear layers, {share:.0%} of their weights"
    )
    is_ok = adapted == layers or targets != "all-linear"
    return PreflightCheck("adapter", finding, is_ok, "use method: full")


def own_forward(subject: PreflightInputs) -> PreflightCheck:
    """Check that a row has the loss of the model's own forward, and reaches every adapter."""
    recipe, base = subject.recipe, subject.base
    need, free = memory.count_parameters(base) * 4 * 1.5 / GIB, memory.free_gib()
    if need > free:
        finding = f"not compared: the weights take {need:.1f} GiB in fp32, {free:.1f} GiB are free"
        return PreflightCheck("loss", finding)
    row = min(subject.rows.kept, key=lambda row: (row.length, row.id))
    own, ours, untrained = compare_losses(base, recipe, row, subject.writer.chat)
    difference = abs(ours - own) / max(abs(own), 1e-9)
    finding = f"{ours:.8g} on a row, {own:.8g} by the model's own forward"
    if difference > MOST_DIFFERENCE:
        hint = "training would teach this architecture something else: use another base model"
        return PreflightCheck("loss", f"{finding}: {difference:.1e} apart", False, hint, (row.id,))
    if untrained and recipe.lora.targets == "all-linear":
        finding = f"{len(untrained)} adapted layers get no gradient from a row: {untrained[0]}"
        return PreflightCheck("loss", finding, False, adapters.WAY_OUT)
    return PreflightCheck("loss", finding)


def check_packaging(subject: PreflightInputs) -> PreflightCheck:
    """Say before training which runtimes a package of this run can be made for."""
    writer, most = subject.writer, subject.recipe.max_tokens
    runtimes = ollama.describe_runtimes(writer.chat, most, writer.tasks.values())
    return PreflightCheck("package", runtimes)


def memory_fits(subject: PreflightInputs) -> PreflightCheck:
    """Check that the forecast of peak memory is below what a run may use here."""
    recipe, machine = subject.recipe, subject.machine
    need = memory.forecast_memory(
        recipe, subject.base, machine.dtype, machine.device, subject.stages
    )
    most = memory.memory_limit_gib(recipe, machine)
    finding = f"about {need.total:.1f} GiB at its peak, {most:.1f} GiB may be used"
    hint = "lower train.micro_batch or max_tokens, or set gradient_checkpointing: true"
    return PreflightCheck("memory", finding, need.total <= most, hint)


def check_disk_space(subject: PreflightInputs) -> PreflightCheck:
    """There is room for the checkpoints that are kept, one being written and the adapter."""
    recipe = subject.recipe
    need = memory.forecast_memory(recipe, subject.base, "float32", "cpu", subject.stages).optimizer
    # Weights and two moments of four parts.
    whole = need * 0.75 * (recipe.keep_checkpoints + 2)
    folder = subject.project.adapters
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / GIB
    finding = f"{whole:.2f} GiB for checkpoints, {free:.1f} GiB free"
    return PreflightCheck("disk", finding, whole <= free, "free space, or keep fewer checkpoints")


CHECKS: tuple[Callable[[PreflightInputs], PreflightCheck], ...] = (
    trained_tokens,
    check_end_of_turn,
    prompt_unlearnt,
    check_template,
    special_tokens,
    check_row_lengths,
    lost_evidence,
    control_tokens,
    check_packaging,
    memory_fits,
    check_disk_space,
    adapter_reach,
    own_forward,
)


def _check(name: str, finding: str, rows: list[str], hint: str) -> PreflightCheck:
    return PreflightCheck(name, finding, not rows, hint if rows else "", tuple(rows))


def _weight(row: TrainingRow) -> float:
    return float(row.trained) if row.weights is None else sum(row.weights)


def _pairs(subject: PreflightInputs) -> Iterator[tuple[Example, TrainingRow]]:
    by_id = {example.id: example for example in subject.examples}
    return ((by_id[row.id], row) for row in subject.rows.kept)


def _lost(example: Example, page: str, closed: dict[str, frozenset[str]]) -> bool:
    verdict = evidence.find_evidence(
        example.output_json, page, example.input_text, TaskOptions(), closed[example.task]
    )
    answer = example.output_json
    slots = answer if isinstance(answer, dict) else {"answer": answer}
    values = (
        value for slot in verdict.lost for _, value in grounding.scalar_leaves({slot: slots[slot]})
    )
    return any(len(str(value)) >= grounding.TELLING for value in values)


def _named(rows: Sequence[str]) -> str:
    if not rows:
        return ""
    more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
    return f": {', '.join(rows[:NAMED])}{more}"

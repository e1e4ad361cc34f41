"""Everything a run is trained on, loaded and encoded: examples, variants, texts, pairs."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from sem.core import slotspec
from sem.core.errors import SemError
from sem.core.example import Example
from sem.core.project import Project
from sem.core.taskspec import TaskSpec
from sem.dataset.augment import augment, negatives
from sem.dataset.split.snapshot import Snapshot
from sem.lm.local.chat import Chat
from sem.train.recipe import Recipe
from sem.train.rows import data, pairs, stages, texts
from sem.train.rows.data import Rows, Writer
from sem.train.rows.stages import Stage

# What a run.json says of each source beside the snapshot, and what it is called.
FACTS = {"augmented": "variants", "texts": "texts", "pairs": "pairs"}


@dataclass(frozen=True)
class Parts:
    """What is trained on, what it is validated on, and the hashes of where it comes from."""

    # Its recipe is the resolved one.
    writer: Writer
    # Of `rows`, for what looks at both.
    examples: list[Example]
    rows: Rows
    val: Rows
    val_examples: list[Example]
    stages: tuple[Stage, ...]
    facts: dict[str, Any]


def load_parts(
    project: Project, frozen: Snapshot, tasks: dict[str, TaskSpec], chat: Chat, recipe: Recipe
) -> Parts:
    """Return the parts of a run of `recipe` on snapshot `frozen`."""
    shared = slotspec.load_slot_levels(project.root / "configs" / "judge_slots.yaml")
    writer = Writer(tasks, chat, recipe, shared)
    facts: dict[str, Any] = {}
    examples: Iterable[Example] = frozen.examples("train")
    if recipe.augmented:
        variant_facts = augment.variants_facts(project, frozen)
        facts["augmented"] = {"sha256": variant_facts["sha256"], "rows": variant_facts["rows"]}
        examples = chain(examples, augment.read_variants(project, frozen))
    read = list(examples)
    rows = data.sample_rows(
        data.encode_examples(read, writer), recipe.max_train_examples, recipe.data_seed
    )
    held = list(frozen.examples("val"))
    val = data.sample_rows(
        data.encode_examples(held, writer), recipe.val_examples, recipe.data_seed
    )
    writer = replace(writer, recipe=resolved(recipe, rows))
    read_texts = written = None
    if recipe.pretrain.texts is not None:
        facts["texts"] = texts.text_facts(project, recipe)
        read_texts = texts.text_sequences(project, recipe, chat)
    if recipe.preference.method != "none":
        facts["pairs"] = {"sha256": negatives.negative_pairs_facts(project, frozen)["sha256"]}
        written = _preferences(project, frozen, writer)
    row_ids = {row.id for row in rows.kept}
    return Parts(
        writer,
        [example for example in read if example.id in row_ids],
        rows,
        val,
        data.draw_by_seed(held, recipe.val_answers, recipe.data_seed),
        stages.stages_of_recipe(writer.recipe, read_texts, rows, val, written),
        facts,
    )


def _preferences(project: Project, frozen: Snapshot, writer: Writer) -> pairs.Pairs:
    recipe = writer.recipe
    encoded_pairs = pairs.encode_pairs(negatives.read_negative_pairs(project, frozen), writer)
    if not encoded_pairs.kept:
        raise SemError(
            f"preference: every one of {len(encoded_pairs.too_long)} pairs exceeds max_tokens",
            "raise train.max_tokens",
        )
    return pairs.sample_pairs(encoded_pairs, recipe.preference.max_pairs, recipe.data_seed)


def resolved(recipe: Recipe, rows: Rows) -> Recipe:
    """Return `recipe` with effective_batch set from tokens_per_step, a multiple of micro_batch."""
    if recipe.tokens_per_step is None or not rows.kept:
        return recipe
    mean = sum(row.length for row in rows.kept) / len(rows.kept)
    count = max(1, round(recipe.tokens_per_step / mean))
    micro = min(recipe.micro_batch, count)
    return replace(recipe, effective_batch=count // micro * micro, micro_batch=micro)

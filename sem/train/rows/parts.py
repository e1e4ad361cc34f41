"""Everything a run is trained on, loaded and encoded: examples, variants, texts, pairs."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from sem.core import files, slotspec
from sem.core.errors import SemError
from sem.core.example import Example
from sem.core.project import Project
from sem.core.taskspec import TaskSpec
from sem.dataset.augment import augment, negatives
from sem.dataset.split.snapshot import Snapshot
from sem.lm.local.chat import Chat
from sem.train.recipe import Pretrain, Recipe
from sem.train.rows import data, pairs, stages
from sem.train.rows.data import RowWriter, TrainingRow, TrainingRows
from sem.train.rows.stages import Stage

# Raw text as training sequences, for continued pre-training before the examples.

SUFFIXES = (".txt", ".md")
MOST_BYTES = 10_000_000  # of one text


def find_texts(project: Project, pretrain: Pretrain) -> list[Path]:
    """Return the texts that `pretrain` names below the project's data folder, sorted.

    None without a pattern.

    Raise SemError when one is not text, leaves the folder, or none is there.
    """
    if pretrain.texts is None:
        return []
    root = project.processed.parent
    if Path(pretrain.texts).is_absolute() or ".." in Path(pretrain.texts).parts:
        raise SemError(
            f"pretrain.texts: {pretrain.texts!r} leads out of {root}", "name files below it"
        )
    paths = sorted(path for path in root.glob(pretrain.texts) if path.is_file())
    for path in paths:
        if path.suffix.lower() not in SUFFIXES:
            raise SemError(f"{path}: not a text file", f"name {' and '.join(SUFFIXES)} files only")
        if not path.resolve().is_relative_to(root.resolve()):
            raise SemError(f"{path}: a link out of {root}", "copy the file there")
        if path.stat().st_size > MOST_BYTES:
            raise SemError(f"{path}: more than {MOST_BYTES:,} bytes", "cut it into several texts")
    if not paths:
        raise SemError(
            f"pretrain.texts: no file matches {root / pretrain.texts}", "correct the pattern"
        )
    return paths


def text_facts(project: Project, recipe: Recipe) -> list[dict[str, Any]]:
    """Return name, size and sha256 of every text, as run.json holds them."""
    root = project.processed.parent
    return [
        {
            "name": str(path.relative_to(root)),
            "bytes": path.stat().st_size,
            "sha256": files.sha256_file(path),
        }
        for path in find_texts(project, recipe.pretrain)
    ]


def text_sequences(
    project: Project, recipe: Recipe, chat: Chat
) -> tuple[TrainingRows, TrainingRows]:
    """(trained, held out) sequences of block_tokens; whole texts are held out, by data_seed.

    Texts are joined with the end-of-text token between them and the last block is shorter.
    """
    paths = find_texts(project, recipe.pretrain)
    order = list(paths)
    random.Random(recipe.data_seed).shuffle(order)
    away = set(order[: round(len(order) * recipe.pretrain.held_out)])
    parts = ([p for p in paths if p not in away], sorted(away))
    if not parts[0]:
        raise SemError("pretrain: every text is held out", "lower pretrain.held_out")
    size = recipe.pretrain.block_tokens
    train, val = (TrainingRows(tuple(_blocks(part, chat, size))) for part in parts)
    return train, val


def _blocks(paths: list[Path], chat: Chat, size: int) -> Iterator[TrainingRow]:
    held: list[int] = []
    number = 0
    for path in paths:
        held += chat.text_ids(_read(path))
        while len(held) >= size:
            yield TrainingRow(f"text-{number:06}", tuple(held[:size]), 0)
            held, number = held[size:], number + 1
    if len(held) > 1:
        yield TrainingRow(f"text-{number:06}", tuple(held), 0)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise SemError(f"{path}: not UTF-8 at byte {error.start}", "save it as UTF-8") from error


# What a run.json says of each source beside the snapshot, and what it is called.
FACTS = {"augmented": "variants", "texts": "texts", "pairs": "pairs"}


@dataclass(frozen=True)
class TrainingData:
    """What is trained on, what it is validated on, and the hashes of where it comes from."""

    # Its recipe is the resolved one.
    writer: RowWriter
    # Of `rows`, for what looks at both.
    examples: list[Example]
    rows: TrainingRows
    val: TrainingRows
    val_examples: list[Example]
    stages: tuple[Stage, ...]
    facts: dict[str, Any]


def load_parts(
    project: Project, frozen: Snapshot, tasks: dict[str, TaskSpec], chat: Chat, recipe: Recipe
) -> TrainingData:
    """Return the parts of a run of `recipe` on snapshot `frozen`."""
    shared = slotspec.load_slot_levels(project.root / "configs" / "judge_slots.yaml")
    writer = RowWriter(tasks, chat, recipe, shared)
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
    writer = replace(writer, recipe=resolve_batch_size(recipe, rows))
    read_texts = written = None
    if recipe.pretrain.texts is not None:
        facts["texts"] = text_facts(project, recipe)
        read_texts = text_sequences(project, recipe, chat)
    if recipe.preference.method != "none":
        facts["pairs"] = {"sha256": negatives.negative_pairs_facts(project, frozen)["sha256"]}
        written = _preferences(project, frozen, writer)
    row_ids = {row.id for row in rows.kept}
    return TrainingData(
        writer,
        [example for example in read if example.id in row_ids],
        rows,
        val,
        data.draw_by_seed(held, recipe.val_answers, recipe.data_seed),
        stages.stages_of_recipe(writer.recipe, read_texts, rows, val, written),
        facts,
    )


def _preferences(project: Project, frozen: Snapshot, writer: RowWriter) -> pairs.PreferencePairs:
    recipe = writer.recipe
    encoded_pairs = pairs.encode_pairs(negatives.read_negative_pairs(project, frozen), writer)
    if not encoded_pairs.kept:
        raise SemError(
            f"preference: every one of {len(encoded_pairs.too_long)} pairs exceeds max_tokens",
            "raise train.max_tokens",
        )
    return pairs.sample_pairs(encoded_pairs, recipe.preference.max_pairs, recipe.data_seed)


def resolve_batch_size(recipe: Recipe, rows: TrainingRows) -> Recipe:
    """Return `recipe` with effective_batch set from tokens_per_step, a multiple of micro_batch."""
    if recipe.tokens_per_step is None or not rows.kept:
        return recipe
    mean = sum(row.length for row in rows.kept) / len(rows.kept)
    count = max(1, round(recipe.tokens_per_step / mean))
    micro = min(recipe.micro_batch, count)
    return replace(recipe, effective_batch=count // micro * micro, micro_batch=micro)

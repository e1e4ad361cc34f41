"""Raw text as training sequences, for continued pre-training before the examples."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sem.core import files
from sem.core.errors import SemError
from sem.core.project import Project
from sem.lm.local.chat import Chat
from sem.train.recipe import Pretrain, Recipe
from sem.train.rows.data import Row, Rows

SUFFIXES = (".txt", ".md")
MOST_BYTES = 10_000_000  # of one text


def find_texts(project: Project, pretrain: Pretrain) -> list[Path]:
    """Return the texts that `pretrain` names below the project's data folder, sorted.

    None without a pattern.

    SemError when one is no text, leaves the folder, or none is there.
    """
    if pretrain.texts is None:
        return []
    root = project.processed.parent
    if Path(pretrain.texts).is_absolute() or ".." in Path(pretrain.texts).parts:
        raise SemError(f"pretrain.texts: {pretrain.texts!r} leaves {root}", "name files below it")
    paths = sorted(path for path in root.glob(pretrain.texts) if path.is_file())
    for path in paths:
        if path.suffix.lower() not in SUFFIXES:
            raise SemError(f"{path}: no text", f"name {' and '.join(SUFFIXES)} files only")
        if not path.resolve().is_relative_to(root.resolve()):
            raise SemError(f"{path}: a link out of {root}", "copy the text there")
        if path.stat().st_size > MOST_BYTES:
            raise SemError(f"{path}: more than {MOST_BYTES:,} bytes", "cut it into several texts")
    if not paths:
        raise SemError(
            f"pretrain.texts: no file fits {root / pretrain.texts}", "correct the pattern"
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


def text_sequences(project: Project, recipe: Recipe, chat: Chat) -> tuple[Rows, Rows]:
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
    train, val = (Rows(tuple(_blocks(part, chat, size))) for part in parts)
    return train, val


def _blocks(paths: list[Path], chat: Chat, size: int) -> Iterator[Row]:
    held: list[int] = []
    number = 0
    for path in paths:
        held += chat.text_ids(_read(path))
        while len(held) >= size:
            yield Row(f"text-{number:06}", tuple(held[:size]), 0)
            held, number = held[size:], number + 1
    if len(held) > 1:
        yield Row(f"text-{number:06}", tuple(held), 0)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise SemError(f"{path}: not UTF-8 at byte {error.start}", "save it as UTF-8") from error

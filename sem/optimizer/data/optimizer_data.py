"""The optimizer's data: pairs from families, imports and feedback; distinct, split by family.

Whole families are held out: val calibrates the confidence, test proves the rewrites. Feedback and
imports only ever reach the train part, and never with a prompt that is held out.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sem.core import files, jsonio, settings, state
from sem.core.errors import SemError
from sem.dataset.clean import near_duplicates
from sem.optimizer import layout
from sem.optimizer.data import families, pair_files, pairs
from sem.optimizer.data.families import Family
from sem.optimizer.data.pairs import Amounts, Pair

CONFIG = "configs/optimizer/data.yaml"
FOLDER = "data/optimizer"
PARTS = ("train", "val", "test")
FACTS = "data.json"
DESCRIPTION = "vague prompts and their structured rewrites, made from configs/optimizer"


@dataclass(frozen=True)
class DataSettings(Amounts):
    """data.yaml; what each key moves is said beside it."""

    near_duplicate: float = 0.8
    held_out_val: float = 0.12
    held_out_test: float = 0.18


@dataclass(frozen=True)
class Made:
    """Pairs by part, and what was left out, by reason."""

    parts: dict[str, list[Pair]]
    left_out: Counter[str]

    def counts(self) -> dict[str, Any]:
        """Return what is in each part: pairs, distinct subjects, families, categories."""
        return {
            name: {
                "pairs": len(part_pairs),
                "distinct": len({(p.family, p.subject) for p in part_pairs}),
                "families": len({p.family for p in part_pairs}),
                "categories": len({p.category for p in part_pairs}),
            }
            for name, part_pairs in self.parts.items()
        }


def build_pairs(root: Path, data_settings: DataSettings, imports: Sequence[Path] = ()) -> Made:
    """Return every pair that `root`'s families, feedback and `imports` give, checked and split."""
    all_families = families.load_families(root)
    ways = pairs.phrasings(root)
    left_out: Counter[str] = Counter()
    all_pairs = [
        pair
        for family in all_families
        for pair in pairs.pairs_of_family(family, ways, data_settings)
    ]
    all_pairs = _distinct(all_pairs, data_settings.near_duplicate, left_out)
    all_pairs = _one_meaning(all_pairs, left_out)
    part_of = split(all_families, data_settings)
    parts: dict[str, list[Pair]] = {name: [] for name in PARTS}
    for pair in all_pairs:
        parts[part_of[pair.family]].append(pair)
    held = {_key(pair) for name in ("val", "test") for pair in parts[name]}
    intakes = [pair_files.read_pairs(path) for path in imports]
    intakes.append(pair_files.feedback(root / FOLDER / pair_files.FEEDBACK))
    for intake in intakes:
        left_out.update(intake.refused)
        fresh = [pair for pair in intake.pairs if _key(pair) not in held]
        left_out["held_out"] += len(intake.pairs) - len(fresh)
        parts["train"] += fresh
    parts["train"] = _one_meaning(parts["train"], left_out, newest=True)
    return Made(parts, +left_out)


def split(all_families: Sequence[Family], data_settings: DataSettings) -> dict[str, str]:
    """Return the part of each family: some of every category are held out, the rest is train."""
    part_of = {}
    for category in sorted({family.category for family in all_families}):
        names = sorted(family.family for family in all_families if family.category == category)
        random.Random(f"{data_settings.seed} {category}").shuffle(names)
        test = round(len(names) * data_settings.held_out_test)
        val = round(len(names) * data_settings.held_out_val)
        for number, name in enumerate(names):
            held = "test" if number < test else "val"
            part_of[name] = held if number < test + val else "train"
    for part in PARTS:
        if part not in part_of.values():
            raise SemError(f"no family is in {part}", "raise its share in data.yaml")
    return part_of


def _distinct(all_pairs: list[Pair], threshold: float, left_out: Counter[str]) -> list[Pair]:
    """Return `all_pairs` without the subjects whose rewrite says nearly the same as another
    subject's.
    """
    first: dict[tuple[str, str], Pair] = {}
    for pair in all_pairs:
        first.setdefault((pair.family, pair.subject), pair)
    names = list(first)
    clusters = near_duplicates.of_texts([_said(first[name]) for name in names], threshold)
    duplicates = {names[n] for n, head in enumerate(clusters.first) if n != head}
    left_out["near_duplicate_subject"] += len(duplicates)
    return [pair for pair in all_pairs if (pair.family, pair.subject) not in duplicates]


def _said(pair: Pair) -> str:
    """Return what `pair`'s rewrite says besides the words of its layout."""
    parts = layout.read_layout(pair.target)
    if parts is None:
        raise SemError(f"pair {pair.id} is no layout", "correct its family's templates")
    words = [parts.persona, parts.context, *parts.constraints, *parts.steps, parts.goal]
    return "\n".join([pair.subject, *words])


def _one_meaning(
    all_pairs: list[Pair], left_out: Counter[str], newest: bool = False
) -> list[Pair]:
    """Return `all_pairs` with one rewrite for each prompt: the first, or the `newest`.

    A prompt that two families would answer differently ("write a script") is nobody's.
    """
    by_prompt: dict[str, list[Pair]] = {}
    for pair in all_pairs:
        by_prompt.setdefault(_key(pair), []).append(pair)
    unique_pairs = []
    for group in by_prompt.values():
        if not newest and len({pair.family for pair in group}) > 1:
            left_out["ambiguous_prompt"] += len(group)
            continue
        unique_pairs.append(group[-1 if newest else 0])
        left_out["same_prompt"] += len(group) - 1
    return unique_pairs


def _key(pair: Pair) -> str:
    return layout.fold_layout_text(pair.input).casefold()


def save_pairs(root: Path, dataset: Made, data_settings: DataSettings) -> Path:
    """Write `dataset` below `root` in all three formats, and data.json with their hashes."""
    folder = root / FOLDER
    written = [
        pair_files.write_training(folder / f"{name}.json", dataset.parts[name], DESCRIPTION)
        for name in PARTS
    ]
    written.append(pair_files.write_triplets(folder / "triplets.json", dataset.parts["train"]))
    written.append(
        pair_files.write_distillation(folder / "distillation.json", dataset.parts["train"])
    )
    facts = {
        "format": "optimizer.data.v1",
        "settings": asdict(data_settings),
        "counts": dataset.counts(),
        "left_out": dict(sorted(dataset.left_out.items())),
        "held_out_families": {
            name: sorted({pair.family for pair in dataset.parts[name]}) for name in ("val", "test")
        },
        "files": {path.name: files.sha256_file(path) for path in written},
    }
    return files.write_file(folder / FACTS, jsonio.pretty(facts))


def load_pairs(root: Path, part: str) -> list[Pair]:
    """Return the pairs of `part` below `root`.

    Raise SemError when the file is not the one data.json names.
    """
    folder = root / FOLDER
    path = folder / f"{part}.json"
    if not (folder / FACTS).exists():
        raise SemError(f"{folder}: no data", "make it with `fab optimizer.data`")
    hashes = state.read_state(folder / FACTS, state.HashedFiles).get("files", {})
    if hashes.get(path.name) != files.sha256_file(path):
        raise SemError(f"{path} is not what {FACTS} says", "make it again: `fab optimizer.data`")
    return pair_files.load_training(path)


def pair_settings(root: Path, overrides: Sequence[str] = ()) -> DataSettings:
    """data.yaml below `root`; `overrides` (`data.key=value`) win."""
    return settings.load_settings(DataSettings, root / CONFIG, settings.own("data", overrides))

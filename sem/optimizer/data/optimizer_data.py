"""The optimizer's data: pairs from families, imports and feedback; distinct, split by family.

Whole families are held out: val calibrates the confidence, test proves the rewrites. Feedback and
imports only ever reach the train part, and never with a prompt that is held out.
"""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sem.core import files, jsonio, settings, state
from sem.core.errors import SemError
from sem.dataset.clean import near_duplicates
from sem.optimizer import layout
from sem.optimizer.data import families, pairs
from sem.optimizer.data.families import TaskFamily
from sem.optimizer.data.pairs import PairAmounts, PromptPair

# The file formats of pairs, in and out: training pairs, triplets, distillation, feedback.
#
#     {"training_pairs": [{"input", "target", "category"}], "count", "description"}
#     {"triplets": [{"anchor", "positive", "negative": str | list, "metadata"}], "metadata"}
#     {"distillation_pairs": [{"raw", "teacher"}], "triplets"}
#     {"raw_prompt", "optimized_prompt", "edited_prompt", "success_score", "at"}     a line each
#
# What comes in is somebody else's: every row is checked, and what is refused is counted by
# reason.

FEEDBACK = "feedback.jsonl"
# Where the first version of this project looked.
OLDER = "data/lora_training_data.json"
# success_score from which an edited prompt is worth learning.
GOOD = 0.5
# Characters of one text that is read.
LONGEST = 4_000
# Vague prompt, rewrite, category.
Row = tuple[str, str, str]


@dataclass
class PairIntake:
    """Pairs that came in, and what was refused, by reason."""

    pairs: list[PromptPair] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)

    def take(self, source: str, rows: Iterable[Row]) -> None:
        """Add those of `rows` that are sound, under the family `source`."""
        for number, (prompt, target, category) in enumerate(rows):
            reason = pair_fault(prompt, target)
            if reason:
                self.refused[reason] += 1
                continue
            name = f"{source}.{number}"
            self.pairs.append(
                PromptPair(name, prompt.strip(), target.strip(), category, source, prompt)
            )


def pair_fault(prompt: Any, target: Any) -> str | None:
    """Why a pair from outside is refused, in a word; None when it is taken."""
    if not isinstance(prompt, str) or not isinstance(target, str):
        return "not_text"
    if not prompt.strip() or not target.strip():
        return "empty"
    if max(len(prompt), len(target)) > LONGEST:
        return "too_long"
    flaws = layout.find_rewrite_flaws(target.strip(), prompt.strip())
    return flaws[0] if flaws else None


def read_pairs(path: Path) -> PairIntake:
    """Return the pairs in `path`, in whichever of the three formats it is."""
    intake, value = PairIntake(), files.read_json(path)
    if not isinstance(value, dict) or not FORMATS.keys() & value.keys():
        raise SemError(
            f"{path}: not one of {', '.join(FORMATS)}", "see docs/optimizer.md, formats"
        )
    for name, rows_of in FORMATS.items():
        rows = value.get(name, [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise SemError(f"{path}: {name} is not a list of objects", "see docs/optimizer.md")
        intake.take(f"import.{path.stem}.{name}", rows_of(rows))
    return intake


def _training(rows: Sequence[dict[str, Any]]) -> Iterator[Row]:
    for row in rows:
        yield row.get("input"), row.get("target"), _category(row)


def _triplets(rows: Sequence[dict[str, Any]]) -> Iterator[Row]:
    for row in rows:
        metadata = row.get("metadata")
        yield row.get("anchor"), row.get("positive"), _category(metadata)


def _distilled(rows: Sequence[dict[str, Any]]) -> Iterator[Row]:
    for row in rows:
        yield row.get("raw"), row.get("teacher"), _category(row)


def _category(row: Any) -> str:
    category = row.get("category") if isinstance(row, dict) else None
    return category if isinstance(category, str) and category else "general"


FORMATS = {"training_pairs": _training, "triplets": _triplets, "distillation_pairs": _distilled}


def load_feedback_pairs(path: Path) -> PairIntake:
    """Return the edited prompts in `path` that people found good.

    Every other row is counted by reason.
    """
    intake = PairIntake()
    if not path.exists():
        return intake
    good: dict[str, Row] = {}
    for row in files.read_values(path):
        if reason := _unfit(row):
            intake.refused[reason] += 1
            continue
        prompt = row["raw_prompt"]
        if prompt in good:
            intake.refused["feedback_replaced_by_later"] += 1
        good[prompt] = (prompt, row["edited_prompt"], "general")
    intake.take("feedback", good.values())
    return intake


def _unfit(row: Any) -> str | None:
    if not isinstance(row, dict) or not isinstance(row.get("raw_prompt"), str):
        return "feedback_not_a_row"
    edited, score = row.get("edited_prompt"), row.get("success_score")
    if not isinstance(score, int | float) or isinstance(score, bool) or not 0 <= score <= 1:
        return "feedback_no_score"
    if score < GOOD:
        return "feedback_low_score"
    if not isinstance(edited, str) or edited.strip() in ("", row.get("optimized_prompt")):
        return "feedback_not_edited"
    return None


def write_training(path: Path, pairs: Sequence[PromptPair], description: str) -> Path:
    """Write `pairs` to `path` as training pairs.

    Family and subject stand beside the three keys.
    """
    rows = [pair.as_json() for pair in pairs]
    value = {"training_pairs": rows, "count": len(rows), "description": description}
    return files.write_file(path, jsonio.pretty_json(value))


def read_training_pairs(path: Path) -> list[PromptPair]:
    """Return the pairs that `write_training` wrote to `path`."""
    rows = files.read_json(path)["training_pairs"]
    return [PromptPair(**row) for row in rows]


def write_triplets(path: Path, pairs: Sequence[PromptPair]) -> Path:
    """Write `pairs` to `path` as contrastive triplets: the rewrite against two that are worse."""
    value = {
        "triplets": build_triplets(pairs),
        "metadata": {"negatives": "another family's, and flat"},
    }
    return files.write_file(path, jsonio.pretty_json(value))


def build_triplets(pairs: Sequence[PromptPair]) -> list[dict[str, Any]]:
    """Return a triplet of each of `pairs`.

    Its negatives are the rewrite of a pair of another family around this prompt, which has the
    layout and misses the point, and the prompt's own words without a layout.
    """
    half, rows = len(pairs) // 2, []
    for number, pair in enumerate(pairs):
        others = (pairs[(number + half + step) % len(pairs)] for step in range(len(pairs)))
        other = next((candidate for candidate in others if candidate.family != pair.family), None)
        flat = f"{pair.input}. Do it well and explain everything."
        negative = [flat] if other is None else [_around(other, pair.input), flat]
        rows.append(
            {
                "anchor": pair.input,
                "positive": pair.target,
                "negative": negative,
                "metadata": {"category": pair.category, "family": pair.family},
            }
        )
    return rows


def _around(other: PromptPair, prompt: str) -> str:
    return other.target.replace(f"Task: {other.input}\n", f"Task: {prompt}\n", 1)


def write_distillation(path: Path, pairs: Sequence[PromptPair]) -> Path:
    """Write `pairs` to `path` as distillation pairs."""
    rows = [{"raw": p.input, "teacher": p.target, "category": p.category} for p in pairs]
    value = {"distillation_pairs": rows, "triplets": []}
    return files.write_file(path, jsonio.pretty_json(value))


CONFIG = "configs/optimizer/data.yaml"
FOLDER = "data/optimizer"
PARTS = ("train", "val", "test")
FACTS = "data.json"
DESCRIPTION = "vague prompts and their structured rewrites, made from configs/optimizer"


@dataclass(frozen=True)
class DataSettings(PairAmounts):
    """data.yaml; what each key moves is said beside it."""

    near_duplicate: float = 0.8
    held_out_val: float = 0.12
    held_out_test: float = 0.18


@dataclass(frozen=True)
class OptimizerData:
    """Pairs by part, and what was left out, by reason."""

    parts: dict[str, list[PromptPair]]
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


def build_pairs(
    root: Path, data_settings: DataSettings, imports: Sequence[Path] = ()
) -> OptimizerData:
    """Return every pair that `root`'s families, feedback and `imports` give, checked and split."""
    all_families = families.load_families(root)
    ways = pairs.load_phrasings(root)
    left_out: Counter[str] = Counter()
    all_pairs = [
        pair
        for family in all_families
        for pair in pairs.pairs_of_family(family, ways, data_settings)
    ]
    all_pairs = _distinct(all_pairs, data_settings.near_duplicate, left_out)
    all_pairs = _one_meaning(all_pairs, left_out)
    part_of = split_families(all_families, data_settings)
    parts: dict[str, list[PromptPair]] = {name: [] for name in PARTS}
    for pair in all_pairs:
        parts[part_of[pair.family]].append(pair)
    held = {_key(pair) for name in ("val", "test") for pair in parts[name]}
    intakes = [read_pairs(path) for path in imports]
    intakes.append(load_feedback_pairs(root / FOLDER / FEEDBACK))
    for intake in intakes:
        left_out.update(intake.refused)
        fresh = [pair for pair in intake.pairs if _key(pair) not in held]
        left_out["held_out"] += len(intake.pairs) - len(fresh)
        parts["train"] += fresh
    parts["train"] = _one_meaning(parts["train"], left_out, newest=True)
    return OptimizerData(parts, +left_out)


def split_families(
    all_families: Sequence[TaskFamily], data_settings: DataSettings
) -> dict[str, str]:
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


def _distinct(
    all_pairs: list[PromptPair], threshold: float, left_out: Counter[str]
) -> list[PromptPair]:
    """Return `all_pairs` without the subjects whose rewrite says nearly the same as another
    subject's.
    """
    first: dict[tuple[str, str], PromptPair] = {}
    for pair in all_pairs:
        first.setdefault((pair.family, pair.subject), pair)
    names = list(first)
    clusters = near_duplicates.of_texts([_said(first[name]) for name in names], threshold)
    duplicates = {names[n] for n, head in enumerate(clusters.first) if n != head}
    left_out["near_duplicate_subject"] += len(duplicates)
    return [pair for pair in all_pairs if (pair.family, pair.subject) not in duplicates]


def _said(pair: PromptPair) -> str:
    """Return what `pair`'s rewrite says besides the words of its layout."""
    parts = layout.read_layout(pair.target)
    if parts is None:
        raise SemError(f"pair {pair.id} is not a layout", "correct its family's templates")
    words = [parts.persona, parts.context, *parts.constraints, *parts.steps, parts.goal]
    return "\n".join([pair.subject, *words])


def _one_meaning(
    all_pairs: list[PromptPair], left_out: Counter[str], newest: bool = False
) -> list[PromptPair]:
    """Return `all_pairs` with one rewrite for each prompt: the first, or the `newest`.

    A prompt that two families would answer differently ("write a script") is nobody's.
    """
    by_prompt: dict[str, list[PromptPair]] = {}
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


def _key(pair: PromptPair) -> str:
    return layout.fold_layout_text(pair.input).casefold()


def save_pairs(root: Path, dataset: OptimizerData, data_settings: DataSettings) -> Path:
    """Write `dataset` below `root` in all three formats, and data.json with their hashes."""
    folder = root / FOLDER
    written = [
        write_training(folder / f"{name}.json", dataset.parts[name], DESCRIPTION) for name in PARTS
    ]
    written.append(write_triplets(folder / "triplets.json", dataset.parts["train"]))
    written.append(write_distillation(folder / "distillation.json", dataset.parts["train"]))
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
    return files.write_file(folder / FACTS, jsonio.pretty_json(facts))


def load_pairs(root: Path, part: str) -> list[PromptPair]:
    """Return the pairs of `part` below `root`.

    Raise SemError when the file is not the one data.json names.
    """
    folder = root / FOLDER
    path = folder / f"{part}.json"
    if not (folder / FACTS).exists():
        raise SemError(f"{folder}: no data", "make it with `fab optimizer.data`")
    hashes = state.read_state_file(folder / FACTS, state.HashedFiles).get("files", {})
    if hashes.get(path.name) != files.sha256_file(path):
        raise SemError(f"{path} is not what {FACTS} says", "make it again: `fab optimizer.data`")
    return read_training_pairs(path)


def pair_settings(root: Path, overrides: Sequence[str] = ()) -> DataSettings:
    """data.yaml below `root`; `overrides` (`data.key=value`) win."""
    return settings.load_settings(
        DataSettings, root / CONFIG, settings.strip_override_prefix("data", overrides)
    )

"""The file formats of pairs, in and out: training pairs, triplets, distillation, feedback.

    {"training_pairs": [{"input", "target", "category"}], "count", "description"}
    {"triplets": [{"anchor", "positive", "negative": str | list, "metadata"}], "metadata"}
    {"distillation_pairs": [{"raw", "teacher"}], "triplets"}
    {"raw_prompt", "optimized_prompt", "edited_prompt", "success_score", "at"}     a line each

What comes in is somebody else's: every row is checked, and what is refused is counted by reason.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sem.core import files, jsonio
from sem.core.errors import SemError
from sem.optimizer import layout
from sem.optimizer.data.pairs import Pair

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
class Intake:
    """Pairs that came in, and what was refused, by reason."""

    pairs: list[Pair] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)

    def take(self, source: str, rows: Iterable[Row]) -> None:
        """Add those of `rows` that are sound, under the family `source`."""
        for number, (prompt, target, category) in enumerate(rows):
            reason = pair_fault(prompt, target)
            if reason:
                self.refused[reason] += 1
                continue
            name = f"{source}.{number}"
            self.pairs.append(Pair(name, prompt.strip(), target.strip(), category, source, prompt))


def pair_fault(prompt: Any, target: Any) -> str | None:
    """Why a pair from outside is refused, in a word; None when it is taken."""
    if not isinstance(prompt, str) or not isinstance(target, str):
        return "not_text"
    if not prompt.strip() or not target.strip():
        return "empty"
    if max(len(prompt), len(target)) > LONGEST:
        return "too_long"
    flaws = layout.flaws(target.strip(), prompt.strip())
    return flaws[0] if flaws else None


def read_pairs(path: Path) -> Intake:
    """Return the pairs in `path`, in whichever of the three formats it is."""
    intake, value = Intake(), files.read_json(path)
    if not isinstance(value, dict) or not FORMATS.keys() & value.keys():
        raise SemError(f"{path}: none of {', '.join(FORMATS)}", "see docs/optimizer.md, formats")
    for name, rows_of in FORMATS.items():
        rows = value.get(name, [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise SemError(f"{path}: {name} is no list of objects", "see docs/optimizer.md")
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


def feedback(path: Path) -> Intake:
    """Return the edited prompts in `path` that people found good.

    Every other row is counted by reason.
    """
    intake = Intake()
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


def write_training(path: Path, pairs: Sequence[Pair], description: str) -> Path:
    """Write `pairs` to `path` as training pairs.

    Family and subject stand beside the three keys.
    """
    rows = [pair.as_json() for pair in pairs]
    value = {"training_pairs": rows, "count": len(rows), "description": description}
    return files.write_file(path, jsonio.pretty(value))


def load_training(path: Path) -> list[Pair]:
    """Return the pairs that `write_training` wrote to `path`."""
    rows = files.read_json(path)["training_pairs"]
    return [Pair(**row) for row in rows]


def write_triplets(path: Path, pairs: Sequence[Pair]) -> Path:
    """Write `pairs` to `path` as contrastive triplets: the rewrite against two that are worse."""
    value = {"triplets": triplets(pairs), "metadata": {"negatives": "another family's, and flat"}}
    return files.write_file(path, jsonio.pretty(value))


def triplets(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
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


def _around(other: Pair, prompt: str) -> str:
    return other.target.replace(f"Task: {other.input}\n", f"Task: {prompt}\n", 1)


def write_distillation(path: Path, pairs: Sequence[Pair]) -> Path:
    """Write `pairs` to `path` as distillation pairs."""
    rows = [{"raw": p.input, "teacher": p.target, "category": p.category} for p in pairs]
    value = {"distillation_pairs": rows, "triplets": []}
    return files.write_file(path, jsonio.pretty(value))

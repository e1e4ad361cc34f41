"""One evaluation from end to end: prompts, both networks, similarity, report."""

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sem.core import console, files, jsonio, settings
from sem.core.errors import SemError
from sem.eval import similarity
from sem.eval.config import EvalSettings
from sem.eval.judging import JudgeSettings
from sem.eval.slots import Similarity
from sem.lm import hardware, pinned, weights
from sem.optimizer import confidence, data, evaluate, report
from sem.optimizer.confidence import Calibration
from sem.optimizer.evaluate import Asked
from sem.optimizer.report import Facts, Part
from sem.optimizer.rewriter import Decoding, Rewriter, TorchRewriter

DECODING = Decoding(max_tokens=256, beams=1)
REAL = "real prompts"  # other people's text: measured, never printed
PROMPTS = ("vague", "raw_prompt", "input")


@dataclass(frozen=True)
class Wanted:
    """What to evaluate on."""

    rows: int  # prompts of each set at most
    pairs: Path | None  # real prompts, JSON lines
    seed: int


@dataclass(frozen=True)
class Trial:
    """What came out."""

    page: Path
    tables: list[tuple[str, Sequence[str], list[Sequence[object]]]]


def run(root: Path, folder: Path, wanted: Wanted) -> Trial:
    """Evaluate the optimizer in FOLDER as WANTED; the report is written below ROOT."""
    named = files.read_json(folder / "run.json")["base_model"]
    base = pinned.resolve(named, root)
    likeness = similarity.load(_similarity(root))
    sets = {"held-out families": held_out(root, wanted.rows, wanted.seed)}
    if wanted.pairs is not None:
        sets[REAL] = real(wanted.pairs, wanted.rows, wanted.seed)
    plain, tuned = TorchRewriter.of(base.folder, None), TorchRewriter.load(folder, root)
    worth = confidence.load(folder)
    parts = [part(title, asked, plain, tuned, likeness, worth) for title, asked in sets.items()]
    machine = hardware.detect()
    facts = Facts(
        run=folder.name,
        base=f"{named['base_model_id']} ({named['precision_note']})",
        machine=f"{machine.name}, {machine.threads} threads",
        command=_command(wanted),
        judge=_judge(root),
        decoding=f"Greedy, at most {DECODING.max_tokens} tokens",
    )
    return _write(root / "reports" / "optimizer" / folder.name, parts, facts, worth, wanted.seed)


def part(
    title: str,
    asked: Sequence[Asked],
    plain: Rewriter,
    tuned: Rewriter,
    likeness: Similarity,
    worth: Calibration,
) -> Part:
    """ASKED answered by PLAIN and by TUNED, and judged."""
    console.note(f"{title}: {len(asked)} prompts, twice")
    before, refused = evaluate.answer(plain, asked, DECODING)
    after, _ = evaluate.answer(tuned, asked, DECODING)
    return Part(
        title,
        [evaluate.judge(one, made, likeness) for one, made in before],
        [evaluate.judge(one, made, likeness, worth) for one, made in after],
        len(refused),
        is_shown=title != REAL,
    )


def held_out(root: Path, count: int, seed: int) -> list[Asked]:
    """COUNT prompts of the test families, as many of each as there are, drawn by SEED."""
    pairs = sorted(data.load(root, "test"), key=lambda pair: pair.id)
    chosen = random.Random(seed).sample(pairs, min(count, len(pairs)))
    return [Asked(pair.id, pair.input, pair.family) for pair in chosen]


def real(path: Path, count: int, seed: int) -> list[Asked]:
    """COUNT prompts of the JSON lines in PATH, drawn by SEED; each is a family of its own."""
    found = []
    for number, row in enumerate(files.rows(path)):
        prompt = next((row[key] for key in PROMPTS if isinstance(row.get(key), str)), None)
        if not prompt or not prompt.strip():
            raise SemError(
                f"{path}: row {number + 1} has no prompt", f"one of {', '.join(PROMPTS)}"
            )
        name = str(row.get("id", number))
        found.append(Asked(name, prompt.strip(), name))
    return random.Random(seed).sample(found, min(count, len(found)))


def _similarity(root: Path) -> Path:
    named = EvalSettings().similarity_model
    return weights.resolve(str(named), root).folder


def _judge(root: Path) -> str:
    wanted = settings.load(JudgeSettings, root / "configs" / "judge.yaml")
    if not wanted.calls.models:
        return "none is configured (configs/judge.yaml), so intent is measured by embedding alone"
    return "configured, and not asked here: intent is measured by embedding alone"


def _command(wanted: Wanted) -> str:
    given = f"fab optimizer.eval --rows {wanted.rows} --seed {wanted.seed}"
    # The file's name, not its place: a report says nothing of a machine's folders.
    return given + (f" --pairs {wanted.pairs.name}" if wanted.pairs else "")


def _write(folder: Path, parts: list[Part], facts: Facts, worth: Calibration, seed: int) -> Trial:
    tables, scores = [], {}
    for each in parts:
        base, tuned = each.shares
        rows: list[Sequence[object]] = [
            (name, f"{base[name]:.1%}", f"{tuned[name]:.1%}",
             f"{gain.points:+.1f} [{gain.low:+.1f}, {gain.high:+.1f}]")
            for name, gain in each.differences.items()
        ]  # fmt: skip
        title = f"{each.title}: {len(each.tuned)} prompts, {each.refused} refused as too long"
        tables.append((title, ("measure", "base", "tuned", "points [95 %]"), rows))
        scores[each.title] = _scores(each, worth)
    written: list[dict[str, Any]] = [row for each in parts for row in report.rows(each)]
    files.write_rows(folder / "rewrites.jsonl", written)
    files.write(folder / "scores.json", jsonio.pretty(scores))
    page = files.write(folder / "report.md", report.page(parts, facts, worth, seed))
    return Trial(page, tables)


def _scores(each: Part, worth: Calibration) -> dict[str, Any]:
    base, tuned = each.shares
    return {
        "prompts": len(each.tuned),
        "refused": each.refused,
        "base": base,
        "tuned": tuned,
        "differences": {name: gain.as_json() for name, gain in each.differences.items()},
        "variety": asdict(evaluate.variety(each.tuned)),
        "trust": asdict(evaluate.trust(each.tuned, worth)),
    }

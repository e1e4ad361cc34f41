"""One evaluation from end to end: prompts, both networks, similarity, report."""

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sem.core import console, files, jsonio
from sem.core.errors import SemError
from sem.eval.config import EvalSettings
from sem.eval.scoring import similarity
from sem.eval.scoring.slots import Similarity
from sem.lm.local import hardware
from sem.lm.weights import pinned_base, weights
from sem.optimizer.data import optimizer_data
from sem.optimizer.eval import (
    answering,
    evaluate,
    intents,
    lift,
    opinions,
    optimizer_judge,
    preferences,
    questions,
    report,
)
from sem.optimizer.eval.evaluate import Asked
from sem.optimizer.eval.lift import Lift
from sem.optimizer.eval.opinions import Found
from sem.optimizer.eval.optimizer_judge import Jury
from sem.optimizer.eval.report import Facts, Part
from sem.optimizer.model import confidence, rewriter
from sem.optimizer.model.confidence import Calibration
from sem.optimizer.model.rewriter import Decoding, Rewriter, TorchRewriter

DECODING = Decoding(max_tokens=256, beams=1)
# Other people's text: measured, never printed.
REAL = "real prompts"
PROMPTS = ("vague", "raw_prompt", "input")


@dataclass(frozen=True)
class Wanted:
    """What to evaluate on, and whom to ask."""

    # Prompts of each set at most.
    rows: int
    # Real prompts, JSON lines.
    pairs: Path | None
    seed: int
    # Prompts with a reference answer.
    questions: Path | None = None
    # The model that answers them; None: answering.DEFAULT.
    answer_with: str | None = None
    # Ask the one of configs/judge.yaml.
    judge: bool = False

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise SemError(f"--rows {self.rows}", "ask for 1 or more")
        if self.answer_with and self.questions is None:
            raise SemError(
                "--answer-with answers nothing without questions",
                "add --questions FILE: a prompt and its reference in each row",
            )


@dataclass(frozen=True)
class Trial:
    """What came out, and why the judge stopped early, if it did."""

    page: Path
    tables: list[tuple[str, Sequence[str], list[Sequence[object]]]]
    stopped: SemError | None


def run_trial(root: Path, folder: Path, wanted: Wanted, at: datetime) -> Trial:
    """Evaluate the optimizer in `folder` as `wanted`; the report is written below `root`."""
    seated = (
        optimizer_judge.seat(root, at) if wanted.judge else None
    )  # first: what it lacks costs no hour
    base = pinned_base.resolve_pinned_base(rewriter.base_model_of(folder), root)
    likeness = similarity.load_similarity(_similarity(root))
    sets = {"held-out families": held_out(root, wanted.rows, wanted.seed)}
    if wanted.pairs is not None:
        sets[REAL] = real(wanted.pairs, wanted.rows, wanted.seed)
    tuned, worth = TorchRewriter.load(folder, root), confidence.load_calibration(folder)
    lifted = answered(root, wanted, tuned, worth, likeness, at)
    target = root / "reports" / "optimizer" / folder.name
    # At once, because they took long; also without questions, because older ones would mislead.
    files.write_rows(target / "answers.jsonl", opinions.opinion_rows(lifted))
    plain = TorchRewriter.of(base.folder, None)
    parts = [
        trial_part(title, asked, plain, tuned, likeness, worth) for title, asked in sets.items()
    ]
    found = heard(lifted, seated, parts)
    facts = _facts(root, folder, wanted, seated)
    return _write(target, parts, found, facts, worth, wanted.seed)


def answered(
    root: Path,
    wanted: Wanted,
    network: Rewriter,
    worth: Calibration,
    likeness: Similarity,
    at: datetime,
) -> Lift | None:
    """Return the questions of `wanted`, answered with and without the rewrites of `network`."""
    if wanted.questions is None:
        return None
    asked = questions.load_questions(wanted.questions, wanted.rows, wanted.seed)
    answerer = answering.find_answerer(wanted.answer_with or answering.DEFAULT, root, at)
    turned = lift.rewrite_questions(asked, network, DECODING, worth)
    return lift.measure_lift(turned, answerer, likeness)


def heard(lifted: Lift | None, seated: Jury | None, parts: Sequence[Part]) -> Found:
    """Return what the judge, if one is `seated`, says of the rewrites in `parts` and the answers
    `lifted`.
    """
    if seated is None:
        return Found(lifted)
    kept, sitting = intents.judge_intents(
        seated, [(one.title, one.base, one.tuned) for one in parts]
    )
    if lifted is None:
        return Found(None, seated, tuple(kept), sittings=(sitting,))
    better, another = preferences.judge_preferences(seated, lifted)
    return Found(lifted, seated, tuple(kept), tuple(better), (sitting, another))


def trial_part(
    title: str,
    asked: Sequence[Asked],
    plain: Rewriter,
    tuned: Rewriter,
    likeness: Similarity,
    worth: Calibration,
) -> Part:
    """Return `asked` answered by `plain` and by `tuned`, and judged."""
    console.note(f"{title}: {len(asked)} prompts, twice")
    before, refused = evaluate.rewrite_all(plain, asked, DECODING)
    after, _ = evaluate.rewrite_all(tuned, asked, DECODING)
    return Part(
        title,
        [evaluate.judge_rewrite(one, made, likeness) for one, made in before],
        [evaluate.judge_rewrite(one, made, likeness, worth) for one, made in after],
        len(refused),
        is_shown=title != REAL,
    )


def held_out(root: Path, count: int, seed: int) -> list[Asked]:
    """Return `count` prompts of the test families, as many of each as there are, drawn by
    `seed`.
    """
    pairs = sorted(optimizer_data.load_pairs(root, "test"), key=lambda pair: pair.id)
    chosen = random.Random(seed).sample(pairs, min(count, len(pairs)))
    return [Asked(pair.id, pair.input, pair.family) for pair in chosen]


def real(path: Path, count: int, seed: int) -> list[Asked]:
    """Return `count` prompts of the JSON lines in `path`, drawn by `seed`.

    Each is a family of its own.
    """
    found = []
    for number, row in enumerate(files.read_values(path)):
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
    return weights.resolve_weights(str(named), root).folder


def _facts(root: Path, folder: Path, wanted: Wanted, seated: Jury | None) -> Facts:
    machine = hardware.detect()
    named = rewriter.base_model_of(folder)
    return Facts(
        run=folder.name,
        base=f"{named['base_model_id']} ({named['precision_note']})",
        machine=f"{machine.name}, {machine.threads} threads",
        command=_command(wanted),
        judge=_judge(root, seated),
        decoding=f"Greedy, repetition penalty {DECODING.penalty}, "
        f"at most {DECODING.max_tokens} tokens",
    )


def _judge(root: Path, seated: Jury | None) -> str:
    if seated is not None:
        return f"{seated.name} (configs/judge.yaml); its section is below"
    if not optimizer_judge.optimizer_judge_settings(root).calls.models:
        return "none is configured (configs/judge.yaml), so intent is measured by embedding alone"
    return "configured, and not asked (--judge): intent is measured by embedding alone"


def _command(wanted: Wanted) -> str:
    given = f"fab optimizer.eval --rows {wanted.rows} --seed {wanted.seed}"
    # A file's name, not its place: a report says nothing of a machine's folders.
    given += f" --pairs {wanted.pairs.name}" if wanted.pairs else ""
    given += f" --questions {wanted.questions.name}" if wanted.questions else ""
    if wanted.answer_with:
        model = Path(wanted.answer_with)
        given += f" --answer-with {model.name if model.is_absolute() else wanted.answer_with}"
    return given + (" --judge" if wanted.judge else "")


def _write(
    folder: Path, parts: list[Part], found: Found, facts: Facts, worth: Calibration, seed: int
) -> Trial:
    tables, scores = [], {}
    for each in parts:
        base, tuned = each.shares
        rows: list[Sequence[object]] = [
            (
                name,
                f"{base[name]:.1%}",
                f"{tuned[name]:.1%}",
                f"{gain.points:+.1f} [{gain.low:+.1f}, {gain.high:+.1f}]",
            )
            for name, gain in each.differences.items()
        ]
        title = f"{each.title}: {len(each.tuned)} prompts, {each.refused} refused as too long"
        tables.append((title, ("measure", "base", "tuned", "points [95 %]"), rows))
        scores[each.title] = _scores(each, worth)
    written: list[dict[str, Any]] = [row for each in parts for row in report.rewrite_rows(each)]
    files.write_rows(folder / "rewrites.jsonl", written)
    files.write_file(
        folder / "scores.json", jsonio.pretty(scores | opinions.opinion_scores(found))
    )
    text = report.optimizer_report_page(parts, facts, worth, seed, opinions.opinion_lines(found))
    page = files.write_file(folder / "report.md", text)
    return Trial(page, tables + found.tables, found.stopped)


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

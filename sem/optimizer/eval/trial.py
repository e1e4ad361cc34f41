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


def run_trial(root: Path, folder: Path, options: Wanted, at: datetime) -> Trial:
    """Evaluate the optimizer in `folder` as `options`; the report is written below `root`."""
    seated = (
        optimizer_judge.seat(root, at) if options.judge else None
    )  # first: what it lacks costs no hour
    base = pinned_base.resolve_pinned_base(rewriter.base_model_of(folder), root)
    likeness = similarity.load_similarity(_similarity(root))
    sets = {"held-out families": held_out(root, options.rows, options.seed)}
    if options.pairs is not None:
        sets[REAL] = real(options.pairs, options.rows, options.seed)
    tuned, worth = TorchRewriter.load(folder, root), confidence.load_calibration(folder)
    lifted = answered(root, options, tuned, worth, likeness, at)
    target = root / "reports" / "optimizer" / folder.name
    # At once, because they took long; also without questions, because older ones would mislead.
    files.write_rows(target / "answers.jsonl", opinions.opinion_rows(lifted))
    plain = TorchRewriter.of(base.folder, None)
    parts = [
        trial_part(title, requests, plain, tuned, likeness, worth)
        for title, requests in sets.items()
    ]
    findings = heard(lifted, seated, parts)
    facts = _facts(root, folder, options, seated)
    return _write(target, parts, findings, facts, worth, options.seed)


def answered(
    root: Path,
    options: Wanted,
    network: Rewriter,
    worth: Calibration,
    likeness: Similarity,
    at: datetime,
) -> Lift | None:
    """Return the questions of `options`, answered with and without the rewrites of `network`."""
    if options.questions is None:
        return None
    sample = questions.load_questions(options.questions, options.rows, options.seed)
    answerer = answering.find_answerer(options.answer_with or answering.DEFAULT, root, at)
    turned = lift.rewrite_questions(sample, network, DECODING, worth)
    return lift.measure_lift(turned, answerer, likeness)


def heard(lifted: Lift | None, seated: Jury | None, parts: Sequence[Part]) -> Found:
    """Return what the judge, if one is `seated`, says of the rewrites in `parts` and the answers
    `lifted`.
    """
    if seated is None:
        return Found(lifted)
    intent_rows, sitting = intents.judge_intents(
        seated, [(part.title, part.base, part.tuned) for part in parts]
    )
    if lifted is None:
        return Found(None, seated, tuple(intent_rows), sittings=(sitting,))
    better, another = preferences.judge_preferences(seated, lifted)
    return Found(lifted, seated, tuple(intent_rows), tuple(better), (sitting, another))


def trial_part(
    title: str,
    requests: Sequence[Asked],
    plain: Rewriter,
    tuned: Rewriter,
    likeness: Similarity,
    worth: Calibration,
) -> Part:
    """Return `requests` answered by `plain` and by `tuned`, and judged."""
    console.note(f"{title}: {len(requests)} prompts, twice")
    before, refused = evaluate.rewrite_all(plain, requests, DECODING)
    after, _ = evaluate.rewrite_all(tuned, requests, DECODING)
    return Part(
        title,
        [evaluate.judge_rewrite(request, rewrite, likeness) for request, rewrite in before],
        [evaluate.judge_rewrite(request, rewrite, likeness, worth) for request, rewrite in after],
        len(refused),
        is_shown=title != REAL,
    )


def held_out(root: Path, count: int, seed: int) -> list[Asked]:
    """Return `count` prompts of the test families, as many of each as there are, drawn by
    `seed`.
    """
    pairs = sorted(optimizer_data.load_pairs(root, "test"), key=lambda pair: pair.id)
    sample = random.Random(seed).sample(pairs, min(count, len(pairs)))
    return [Asked(pair.id, pair.input, pair.family) for pair in sample]


def real(path: Path, count: int, seed: int) -> list[Asked]:
    """Return `count` prompts of the JSON lines in `path`, drawn by `seed`.

    Each is a family of its own.
    """
    requests = []
    for number, row in enumerate(files.read_values(path)):
        prompt = next((row[key] for key in PROMPTS if isinstance(row.get(key), str)), None)
        if not prompt or not prompt.strip():
            raise SemError(
                f"{path}: row {number + 1} has no prompt", f"one of {', '.join(PROMPTS)}"
            )
        name = str(row.get("id", number))
        requests.append(Asked(name, prompt.strip(), name))
    return random.Random(seed).sample(requests, min(count, len(requests)))


def _similarity(root: Path) -> Path:
    named = EvalSettings().similarity_model
    return weights.resolve_weights(str(named), root).folder


def _facts(root: Path, folder: Path, options: Wanted, seated: Jury | None) -> Facts:
    machine = hardware.detect()
    named = rewriter.base_model_of(folder)
    return Facts(
        run=folder.name,
        base=f"{named['base_model_id']} ({named['precision_note']})",
        machine=f"{machine.name}, {machine.threads} threads",
        command=_command(options),
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


def _command(options: Wanted) -> str:
    command = f"fab optimizer.eval --rows {options.rows} --seed {options.seed}"
    # A file's name, not its place: a report says nothing of a machine's folders.
    command += f" --pairs {options.pairs.name}" if options.pairs else ""
    command += f" --questions {options.questions.name}" if options.questions else ""
    if options.answer_with:
        model = Path(options.answer_with)
        command += f" --answer-with {model.name if model.is_absolute() else options.answer_with}"
    return command + (" --judge" if options.judge else "")


def _write(
    folder: Path, parts: list[Part], findings: Found, facts: Facts, worth: Calibration, seed: int
) -> Trial:
    tables, scores = [], {}
    for part in parts:
        base, tuned = part.shares
        rows: list[Sequence[object]] = [
            (
                name,
                f"{base[name]:.1%}",
                f"{tuned[name]:.1%}",
                f"{gain.points:+.1f} [{gain.low:+.1f}, {gain.high:+.1f}]",
            )
            for name, gain in part.differences.items()
        ]
        title = f"{part.title}: {len(part.tuned)} prompts, {part.refused} refused as too long"
        tables.append((title, ("measure", "base", "tuned", "points [95 %]"), rows))
        scores[part.title] = _scores(part, worth)
    written: list[dict[str, Any]] = [row for part in parts for row in report.rewrite_rows(part)]
    files.write_rows(folder / "rewrites.jsonl", written)
    files.write_file(
        folder / "scores.json", jsonio.pretty(scores | opinions.opinion_scores(findings))
    )
    text = report.optimizer_report_page(
        parts, facts, worth, seed, opinions.opinion_lines(findings)
    )
    page = files.write_file(folder / "report.md", text)
    return Trial(page, tables + findings.tables, findings.stopped)


def _scores(part: Part, worth: Calibration) -> dict[str, Any]:
    base, tuned = part.shares
    return {
        "prompts": len(part.tuned),
        "refused": part.refused,
        "base": base,
        "tuned": tuned,
        "differences": {name: gain.as_json() for name, gain in part.differences.items()},
        "variety": asdict(evaluate.variety(part.tuned)),
        "trust": asdict(evaluate.trust(part.tuned, worth)),
    }

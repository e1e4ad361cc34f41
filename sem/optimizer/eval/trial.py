"""One evaluation from end to end: prompts, both networks, similarity, report."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sem.core import console, files, jsonio
from sem.core.errors import SemError
from sem.eval.config import EvalSettings
from sem.eval.judge import judge
from sem.eval.scoring import similarity
from sem.eval.scoring.slots import Similarity
from sem.eval.stats.paired_stats import Difference
from sem.lm.local import hardware
from sem.lm.weights import pinned_base, weights
from sem.optimizer.data import optimizer_data
from sem.optimizer.eval import (
    answering,
    evaluate,
    intents,
    lift,
    optimizer_judge,
    preferences,
    questions,
    report,
)
from sem.optimizer.eval.answering import CUT, MOST_TOKENS
from sem.optimizer.eval.evaluate import EvalPrompt
from sem.optimizer.eval.intents import IntentComparison
from sem.optimizer.eval.lift import AnsweredQuestion, LiftResult
from sem.optimizer.eval.optimizer_judge import JudgeSitting, OptimizerJudge
from sem.optimizer.eval.preferences import AnswerPreference
from sem.optimizer.eval.report import EvaluationFacts, PromptSet
from sem.optimizer.model import confidence, rewriter
from sem.optimizer.model.confidence import Calibration
from sem.optimizer.model.rewriter import Decoding, Rewriter, TorchRewriter

# What was found out by asking other models: sections of the report, tables, scores.json.
#
# No prompt, answer or reason of a model is printed here; a provider's own words, which stand in
# what ended a sitting, are set as code.

Table = tuple[str, Sequence[str], list[Sequence[object]]]
LIFT = ("rewrites", "used", "measure", "raw", "rewritten", "points [95 %]", "pairs")
INTENT = ("prompts", "base keeps it", "tuned keeps it", "points [95 %]", "pairs")
BETTER = (
    "rewrites",
    "better",
    "worse",
    "tie",
    "tie by order",
    "same",
    "unscored",
    "points [95 %]",
)


@dataclass(frozen=True)
class TrialFindings:
    """What other models said: None and empty where they were not asked."""

    lift: LiftResult | None = None
    jury: OptimizerJudge | None = None
    intents: tuple[IntentComparison, ...] = ()
    preferences: tuple[AnswerPreference, ...] = ()
    sittings: tuple[JudgeSitting, ...] = ()

    @property
    def stopped(self) -> SemError | None:
        """Why the first sitting that ended early did so."""
        return next((heard.stopped for heard in self.sittings if heard.stopped), None)

    @property
    def tables(self) -> list[Table]:
        """Return every table, for a terminal."""
        tables: list[Table] = []
        if self.lift:
            rows = [_gain(gain) for gain in lift.compute_lift_gains(self.lift)]
            tables.append((f"{len(self.lift.rows)} questions, {self.lift.answerer}", LIFT, rows))
        if self.intents:
            tables.append(
                ("is the intent kept?", INTENT, [_intent(intent) for intent in self.intents])
            )
        if self.preferences:
            rows = [_preference(preference) for preference in self.preferences]
            tables.append(("which answer is better?", BETTER, rows))
        return tables


def opinion_lines(findings: TrialFindings) -> list[str]:
    """Return the sections of `findings` in Markdown."""
    lines: list[str] = []
    if findings.lift:
        lines += _answers(findings.lift)
    if findings.jury:
        lines += _judged(findings, findings.jury)
    return lines


def _answers(result: LiftResult) -> list[str]:
    rows, notes = result.rows, Counter(row.turned.note for row in result.rows)
    families = len({row.turned.question.family for row in rows})
    texts = {row.turned.question.prompt: row.raw for row in rows}
    texts |= {row.turned.rewrite: row.rewritten for row in rows if row.turned.rewrite}
    ends = Counter(answer.finish for answer in texts.values())
    faults = {name: count for name, count in ends.items() if name not in ("stop", CUT)}
    empty = sum(answer.is_scored and not answer.text.strip() for answer in texts.values())
    return [
        f"## Answers to {len(rows)} questions of {families} families",
        f"Answered by {result.answerer}, greedy, at most {MOST_TOKENS} tokens. Each question is "
        "asked as it is and as the tuned network rewrites it; where a rewrite is not used, as it "
        "is, which counts as a difference of 0. A client uses rewrites above 0.5 only.",
        "",
        console.format_markdown_table(
            LIFT, [_gain(gain) for gain in lift.compute_lift_gains(result)]
        ),
        "",
        f"Rewrites: {notes['too_long']} prompts are longer than the network reads and "
        f"{notes['empty']} rewrites are empty (asked as they are); {notes['cut']} were cut at the "
        "most tokens (used by `every rewrite`, never above 0.5). "
        f"Answers, each text once: {len(texts)}; {ends[CUT]} cut (scored), {empty} empty (score "
        f"0), without an answer (unscored): {_listed(faults)}.",
        "",
    ]


def _judged(findings: TrialFindings, jury: OptimizerJudge) -> list[str]:
    states = Counter[str]()
    for intent in findings.intents:
        states.update(intent.states)
    spent = judge.spending_json(jury.spending)
    ended = [heard.stopped.message for heard in findings.sittings if heard.stopped]
    return [
        f"## The judge: {jury.name}",
        f"{spent['calls']} calls ({spent['cached']} from the ledger, {spent['requests']} HTTP "
        f"requests, ${spent['usd']:.6f}), {spent['canaries']} canaries, two calls each; faults: "
        f"{_listed(spent['faults'])}. Every question is asked in both orders.",
        *(f"Ended early, what was not heard is unscored: {_code(message)}" for message in ended),
        "",
        "Does the rewrite keep the intent of its prompt?",
        "",
        console.format_markdown_table(INTENT, [_intent(intent) for intent in findings.intents]),
        "",
        f"How the rewrites of both networks were settled: {_listed(states)}. Undecided: the "
        "orders disagree.",
        "",
        *(_preferred(findings.preferences) if findings.preferences else ()),
    ]


def _preferred(preferences: Sequence[AnswerPreference]) -> list[str]:
    return [
        "Which answer is nearer to the reference, the rewritten prompt's or the raw one's?",
        "",
        console.format_markdown_table(
            BETTER, [_preference(preference) for preference in preferences]
        ),
        "",
        "Points: better less worse over all that are scored, ties included. Same: no rewrite was "
        "used, or both answers are one text.",
        "",
    ]


def _gain(gain: lift.PolicyGain) -> Sequence[object]:
    return (
        gain.policy,
        gain.used,
        gain.measure,
        f"{gain.before:.1%}",
        f"{gain.after:.1%}",
        _points(gain.difference),
        _pairs(gain.difference),
    )


def _intent(intent: IntentComparison) -> Sequence[object]:
    shares = [f"{count} of {of}" for count, of in zip(intent.kept, intent.decided, strict=True)]
    return intent.title, *shares, _points(intent.difference), _pairs(intent.difference)


def _preference(preference: AnswerPreference) -> Sequence[object]:
    return (
        preference.policy,
        preference.wins,
        preference.losses,
        preference.ties,
        preference.flips,
        preference.same,
        preference.unscored,
        _points(preference.difference),
    )


def _points(difference: Difference) -> str:
    return f"{difference.points:+.1f} [{difference.low:+.1f}, {difference.high:+.1f}]"


def _pairs(difference: Difference) -> str:
    return f"{difference.pairs}, {difference.unscored} unscored"


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {counts[name]}" for name in sorted(counts)) or "none"


def _code(text: str) -> str:
    return "`" + " ".join(text.replace("`", "'").split()) + "`"


def opinion_scores(findings: TrialFindings) -> dict[str, Any]:
    """Return `findings` as scores.json holds it, beside the sets of prompts."""
    scores: dict[str, Any] = {}
    if findings.lift:
        notes = Counter(row.turned.note or "whole" for row in findings.lift.rows)
        scores["answers"] = {
            "questions": len(findings.lift.rows),
            "answerer": findings.lift.answerer,
            "rewrites": dict(notes),
            "gains": [
                {**asdict(gain), "difference": gain.difference.as_json()}
                for gain in lift.compute_lift_gains(findings.lift)
            ],
        }
    if findings.jury:
        kinds = {"intents": findings.intents, "preferences": findings.preferences}
        scores["judge"] = {
            "judge": findings.jury.settings.identity,
            "spending": judge.spending_json(findings.jury.spending),
            "stopped": [heard.stopped.message for heard in findings.sittings if heard.stopped],
            **{
                kind: [{**asdict(row), "difference": row.difference.as_json()} for row in rows]
                for kind, rows in kinds.items()
            },
        }
    return scores


def opinion_rows(result: LiftResult | None) -> list[dict[str, Any]]:
    """Return every question of `result` with both answers, as JSON rows.

    None where none was asked.
    """
    return [_row(row) for row in result.rows] if result else []


def _row(row: AnsweredQuestion) -> dict[str, Any]:
    turned = row.turned
    return {
        "id": turned.question.id,
        "family": turned.question.family,
        "prompt": turned.question.prompt,
        "reference": turned.question.reference,
        "rewrite": turned.rewrite,
        "note": turned.note,
        "confidence": turned.confidence,
        "raw": asdict(row.raw),
        "rewritten": asdict(row.rewritten),
        "raw_scores": row.raw_scores,
        "rewritten_scores": row.rewritten_scores,
    }


DECODING = Decoding(max_tokens=256, beams=1)
# Other people's text: measured, never printed.
REAL = "real prompts"
PROMPTS = ("vague", "raw_prompt", "input")


@dataclass(frozen=True)
class TrialOptions:
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
                "--answer-with needs questions to answer",
                "add --questions FILE: a prompt and its reference in each row",
            )


@dataclass(frozen=True)
class Trial:
    """What came out, and why the judge stopped early, if it did."""

    page: Path
    tables: list[tuple[str, Sequence[str], list[Sequence[object]]]]
    stopped: SemError | None


def run_trial(root: Path, folder: Path, options: TrialOptions, at: datetime) -> Trial:
    """Evaluate the optimizer in `folder` as `options`; the report is written below `root`."""
    seated = (
        optimizer_judge.load_optimizer_judge(root, at) if options.judge else None
    )  # first: what it lacks costs no hour
    base = pinned_base.resolve_pinned_base(rewriter.base_model_of(folder), root)
    likeness = similarity.load_similarity(_similarity(root))
    sets = {"held-out families": held_out(root, options.rows, options.seed)}
    if options.pairs is not None:
        sets[REAL] = sample_real_prompts(options.pairs, options.rows, options.seed)
    tuned, worth = TorchRewriter.load(folder, root), confidence.load_calibration(folder)
    lifted = answer_questions(root, options, tuned, worth, likeness, at)
    target = root / "reports" / "optimizer" / folder.name
    # At once, because they took long; also without questions, because older ones would mislead.
    files.write_rows(target / "answers.jsonl", opinion_rows(lifted))
    plain = TorchRewriter.of(base.folder, None)
    parts = [
        trial_part(title, requests, plain, tuned, likeness, worth)
        for title, requests in sets.items()
    ]
    findings = collect_opinions(lifted, seated, parts)
    facts = _facts(root, folder, options, seated)
    return _write(target, parts, findings, facts, worth, options.seed)


def answer_questions(
    root: Path,
    options: TrialOptions,
    network: Rewriter,
    worth: Calibration,
    likeness: Similarity,
    at: datetime,
) -> LiftResult | None:
    """Return the questions of `options`, answered with and without the rewrites of `network`."""
    if options.questions is None:
        return None
    sample = questions.load_questions(options.questions, options.rows, options.seed)
    answerer = answering.find_answerer(options.answer_with or answering.DEFAULT, root, at)
    turned = lift.rewrite_questions(sample, network, DECODING, worth)
    return lift.measure_lift(turned, answerer, likeness)


def collect_opinions(
    lifted: LiftResult | None, seated: OptimizerJudge | None, parts: Sequence[PromptSet]
) -> TrialFindings:
    """Return what the judge, if one is `seated`, says of the rewrites in `parts` and the answers
    `lifted`.
    """
    if seated is None:
        return TrialFindings(lifted)
    intent_rows, sitting = intents.judge_intents(
        seated, [(part.title, part.base, part.tuned) for part in parts]
    )
    if lifted is None:
        return TrialFindings(None, seated, tuple(intent_rows), sittings=(sitting,))
    better, another = preferences.judge_preferences(seated, lifted)
    return TrialFindings(lifted, seated, tuple(intent_rows), tuple(better), (sitting, another))


def trial_part(
    title: str,
    requests: Sequence[EvalPrompt],
    plain: Rewriter,
    tuned: Rewriter,
    likeness: Similarity,
    worth: Calibration,
) -> PromptSet:
    """Return `requests` answered by `plain` and by `tuned`, and judged."""
    console.print_note(f"{title}: {len(requests)} prompts, twice")
    before, refused = evaluate.rewrite_all(plain, requests, DECODING)
    after, _ = evaluate.rewrite_all(tuned, requests, DECODING)
    return PromptSet(
        title,
        [evaluate.judge_rewrite(request, rewrite, likeness) for request, rewrite in before],
        [evaluate.judge_rewrite(request, rewrite, likeness, worth) for request, rewrite in after],
        len(refused),
        is_shown=title != REAL,
    )


def held_out(root: Path, count: int, seed: int) -> list[EvalPrompt]:
    """Return `count` prompts of the test families, as many of each as there are, drawn by
    `seed`.
    """
    pairs = sorted(optimizer_data.load_pairs(root, "test"), key=lambda pair: pair.id)
    sample = random.Random(seed).sample(pairs, min(count, len(pairs)))
    return [EvalPrompt(pair.id, pair.input, pair.family) for pair in sample]


def sample_real_prompts(path: Path, count: int, seed: int) -> list[EvalPrompt]:
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
        requests.append(EvalPrompt(name, prompt.strip(), name))
    return random.Random(seed).sample(requests, min(count, len(requests)))


def _similarity(root: Path) -> Path:
    named = EvalSettings().similarity_model
    return weights.resolve_weights(str(named), root).folder


def _facts(
    root: Path, folder: Path, options: TrialOptions, seated: OptimizerJudge | None
) -> EvaluationFacts:
    machine = hardware.detect_hardware()
    named = rewriter.base_model_of(folder)
    return EvaluationFacts(
        run=folder.name,
        base=f"{named['base_model_id']} ({named['precision_note']})",
        machine=f"{machine.name}, {machine.threads} threads",
        command=_command(options),
        judge=_judge(root, seated),
        decoding=f"Greedy, repetition penalty {DECODING.penalty}, "
        f"at most {DECODING.max_tokens} tokens",
    )


def _judge(root: Path, seated: OptimizerJudge | None) -> str:
    if seated is not None:
        return f"{seated.name} (configs/judge.yaml); its section is below"
    if not optimizer_judge.optimizer_judge_settings(root).calls.models:
        return "none is configured (configs/judge.yaml), so intent is measured by embedding alone"
    return "configured, and not asked (--judge): intent is measured by embedding alone"


def _command(options: TrialOptions) -> str:
    command = f"fab optimizer.eval --rows {options.rows} --seed {options.seed}"
    # A file's name, not its place: a report says nothing of a machine's folders.
    command += f" --pairs {options.pairs.name}" if options.pairs else ""
    command += f" --questions {options.questions.name}" if options.questions else ""
    if options.answer_with:
        model = Path(options.answer_with)
        command += f" --answer-with {model.name if model.is_absolute() else options.answer_with}"
    return command + (" --judge" if options.judge else "")


def _write(
    folder: Path,
    parts: list[PromptSet],
    findings: TrialFindings,
    facts: EvaluationFacts,
    worth: Calibration,
    seed: int,
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
    files.write_file(folder / "scores.json", jsonio.pretty_json(scores | opinion_scores(findings)))
    text = report.optimizer_report_page(parts, facts, worth, seed, opinion_lines(findings))
    page = files.write_file(folder / "report.md", text)
    return Trial(page, tables + findings.tables, findings.stopped)


def _scores(part: PromptSet, worth: Calibration) -> dict[str, Any]:
    base, tuned = part.shares
    return {
        "prompts": len(part.tuned),
        "refused": part.refused,
        "base": base,
        "tuned": tuned,
        "differences": {name: gain.as_json() for name, gain in part.differences.items()},
        "variety": asdict(evaluate.measure_variety(part.tuned)),
        "trust": asdict(evaluate.measure_reliability(part.tuned, worth)),
    }

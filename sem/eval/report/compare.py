"""Read two runs' answers, score both on the same examples, and gather what the report says."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sem.core import jsonio
from sem.core.example import Example
from sem.core.project import Project
from sem.dataset.store import store
from sem.eval.answers import answers, subject
from sem.eval.answers.answers import Answer
from sem.eval.answers.subject import EvalSubject
from sem.eval.judge import calibration, judge_questions, judge_session, verdicts
from sem.eval.report import baselines, report
from sem.eval.scoring import metrics, scoring, similarity
from sem.eval.scoring.scoring import Score
from sem.eval.scoring.slots import Similarity
from sem.eval.stats import paired_stats
from sem.lm.weights import weights

# Free, repaired and constrained decoding of one run, side by side on the same examples.

Marked = Callable[[Mapping[str, Answer]], list[Score]]

SHOWN = (
    "n",
    "accuracy",
    "json_valid",
    "schema_valid",
    "tokens_out",
    "cut",
    "batch_latency_ms_p50",
    "batch_latency_ms_p95",
)


def score_decoding_variants(subject: EvalSubject, marked: Marked) -> dict[str, dict[str, Any]]:
    """Totals of `subject`'s run by way of decoding; constrained only where it has answered so.

    `marked` scores answers on every example. Repaired are the free answers after json-repair,
    with the latency of free decoding.
    """
    free = replace(subject, settings=replace(subject.settings, decoding="free"))
    held = replace(subject, settings=replace(subject.settings, decoding="constrained"))
    answer_sets = {}
    if free.book.path.exists() and not free.book.is_stale():
        answers_by_id = answers.read_answers(free.book.path)
        answer_sets["free"] = answers_by_id
        answer_sets["repaired"] = {
            name: repair_answer(answer) for name, answer in answers_by_id.items()
        }
    if held.book.path.exists() and not held.book.is_stale():
        answer_sets["constrained"] = answers.read_answers(held.book.path)
    return {name: _totals(marked(answers_by_id)) for name, answers_by_id in answer_sets.items()}


def repair_answer(answer: Answer) -> Answer:
    """Return `answer` with its text mended into a JSON object, where json-repair finds one."""
    from json_repair import repair_json

    try:
        jsonio.parse_json(answer.text)
        return answer
    except ValueError:
        text = repair_json(answer.text[:100_000], ensure_ascii=False)
    return replace(answer, text=text) if isinstance(text, str) and text[:1] == "{" else answer


def _totals(scores: list[Score]) -> dict[str, Any]:
    totals = metrics.compute_totals(scores)
    return {name: totals[name] for name in SHOWN}


@dataclass(frozen=True)
class ScoredRuns:
    """Two runs' answers, read and scored: what the report and the gate both rest on."""

    before: EvalSubject
    after: EvalSubject
    compared: report.Comparison
    closeness: Similarity | None

    def score_answers(self, side: EvalSubject, answers_by_id: Mapping[str, Answer]) -> list[Score]:
        """Return `answers_by_id`, the answers to `side`'s examples, scored by rule."""
        return score_all_examples(side, answers_by_id, self.closeness)

    @property
    def by_rule(self) -> Sequence[Score]:
        """Return the run's scores without a judge's verdicts, on the scale of what no judge has
        seen.
        """
        has_judge = "judge" in self.compared.facts
        return score_run_answers(self.after, self.closeness) if has_judge else self.compared.after

    def answers(self, side: EvalSubject) -> Mapping[str, Answer]:
        """Return what the run of `side`, one of the two, said by example id."""
        return answers.read_answers(side.book.path)


def comparison_scores(reading: ScoredRuns) -> dict[str, Any]:
    """Return everything scores.json holds."""
    ways = {
        "baseline": _decodings(reading.before, reading.closeness),
        "tuned": _decodings(reading.after, reading.closeness),
    }
    strong = strong_scores(reading.after, reading.closeness)
    beside = baselines.score_rivals(reading.after, reading.score_answers)
    rivals = baselines.compare_rivals(reading.after, reading.by_rule, beside)
    reading.compared.facts["notes"].extend(_rival_notes(rivals))
    prices = reading.after.settings.prices
    return {
        **report.report_scores(reading.compared, reading.after.settings),
        "strong": metrics.compute_totals(strong, prices.get("strong")) if strong else None,
        "confusions": metrics.build_confusion_matrices(reading.compared.after),
        "decoding": ways,
        "rivals": rivals,
    }


def _rival_notes(rivals: dict[str, Any]) -> list[str]:
    missing = [f"Make them with `{rivals['missing']}`."] if rivals["missing"] else []
    return [
        f"{baselines.CONSTANT}: in every field the most common value of the train part; "
        f"{baselines.HELD}: the untouched model held to io_schema"
        + (" (no answers yet). " if missing else ". ")
        + " ".join(["A field is green only where the run beats the better of them.", *missing])
    ]


def _decodings(side: EvalSubject, closeness: Similarity | None) -> dict[str, dict[str, Any]]:
    return score_decoding_variants(
        side, lambda answers_by_id: score_all_examples(side, answers_by_id, closeness)
    )


def read_comparison(
    project: Project, run_id: str | None, baseline: str, split: str, version: int | None
) -> ScoredRuns:
    """Return both runs on `split`, scored; raise SemError when one of them has not answered yet.

    A judge's verdicts count where both runs have them from the same judge: one side judged and
    the other measured by embeddings would compare two scales.
    """
    after = subject.resolve_subject(project, run_id, split, version)
    before = subject.resolve_subject(project, baseline, split, after.frozen.version)
    closeness = similarity_of(after)
    sides = score_run_answers(before, closeness), score_run_answers(after, closeness)
    (was, first), (now, second) = (
        judge_session.current_verdicts(before),
        judge_session.current_verdicts(after),
    )
    facts = _facts(after, closeness is not None)
    facts["notes"] += _unlike_machines(before, after)
    if second and first == second:
        sides = verdicts.apply_verdicts(sides[0], was), verdicts.apply_verdicts(sides[1], now)
        human = calibration.labels_path(project.reports / after.run.id)
        facts["judge"] = calibration.calibration_facts(human, now, second)
        facts["notes"].append(_judge_note(facts["judge"]))
    elif second or first:
        facts["notes"].append(
            "Verdicts of a judge are left out: both runs need them, from the same judge "
            f"(`fab eval.judge --run {before.run.id}`, `--run {after.run.id}`)."
        )
    compared = report.Comparison(before.run.id, after.run.id, split, *sides, facts)
    return ScoredRuns(before, after, compared, closeness)


def _unlike_machines(before: EvalSubject, after: EvalSubject) -> list[str]:
    """Return a note where the two runs were answered in different precision."""
    sides = [sorted({str(m.get("dtype")) for m in side.book.made_on}) for side in (before, after)]
    if sides[0] == sides[1] and len(sides[0]) <= 1:
        return []
    return [
        f"{before.run.id} was answered in {' and '.join(sides[0]) or 'unknown precision'} "
        f"({describe_answer_machines(before)}), {after.run.id} in {' and '.join(sides[1]) or 'unknown precision'}:"
        " the difference holds that of the two precisions, too."
    ]


def over_seeds(reading: ScoredRuns, others: Sequence[str]) -> paired_stats.Spread:
    """Return the spread of slot accuracy, in points, over the tuned run and the runs `others`."""
    after = reading.after
    sides = [
        subject.resolve_subject(after.project, name, after.split, after.frozen.version)
        for name in others
    ]
    scored_sides = [score_run_answers(side, reading.closeness) for side in sides]
    return paired_stats.noise_floor([reading.compared.after, *scored_sides], "accuracy")


def strong_scores(side: EvalSubject, closeness: Similarity | None) -> list[Score] | None:
    """Return the answers of the model being replaced, where they were kept, on `side`'s
    examples.
    """
    path = side.project.reports / "strong" / f"answers.{side.split}.jsonl"
    return (
        score_all_examples(side, answers.read_answers(path), closeness) if path.exists() else None
    )


def _judge_note(judge: dict[str, Any]) -> str:
    counts = judge["slots"]
    trust = "calibrated" if judge["calibrated"] else f"NOT calibrated: {judge['missing'][0]}"
    return (
        f"A judge decided {counts['judged']} slots, left {counts['undecided']} undecided and "
        f"{counts['unjudged']} unjudged; it is {trust}."
    )


def score_run_answers(side: EvalSubject, closeness: Similarity | None = None) -> list[Score]:
    """Return the answers of `side`'s run, scored.

    Raise SemError when it has not answered these examples.
    """
    return score_all_examples(
        side, judge_questions.read_subject_answers(side), closeness or similarity_of(side)
    )


def score_all_examples(
    side: EvalSubject, answers_by_id: Mapping[str, Answer], closeness: Similarity | None
) -> list[Score]:
    """Return `answers_by_id` scored on every example of `side`.

    One that is missing is wrong.
    """
    return [
        scoring.score_answer(
            e, answers_by_id.get(e.id), side.tasks[e.task], closeness, side.shared
        )
        for e in side.examples
    ]


def similarity_of(side: EvalSubject) -> Similarity | None:
    """Return the local scorer of free texts, where a field of `side` needs one."""
    is_needed = any(
        level.level == "llm_similarity"
        for example in side.examples
        for level in scoring.levels_of(side.tasks[example.task], example, side.shared).values()
    )
    named = side.settings.similarity_model
    if not is_needed or named is None:
        return None
    # Loaded at the first two texts that differ: most reports read none.
    return similarity.load_lazily(lambda: weights.resolve_weights(named, side.project.root).folder)


def _facts(side: EvalSubject, has_similarity: bool) -> dict[str, Any]:
    return {
        "sem": side.project.sem,
        "snapshot": _snapshot(side),
        "settings": asdict(side.settings),
        "hardware": _machine(side),
        "base_model": {
            "revision": side.base.get("revision"),
            "note": side.base.get("precision_note", "as the base model's id says"),
        },
        "notes": _notes(side, has_similarity),
    }


def _machine(side: EvalSubject) -> dict[str, Any]:
    """Return the machine that gave `side`'s last answers, as it was recorded with them."""
    last = side.book.made_on[-1:] or [{}]
    return {"dtype": last[0].get("dtype"), **last[0].get("machine", {})}


def describe_answer_machines(side: EvalSubject) -> str:
    """Return which machines gave `side`'s answers, from which row on, in words."""
    parts = []
    for segment in side.book.made_on:
        machine = segment.get("machine", {})
        name = machine.get("name", "a machine that was not recorded")
        text = f"{name}, {segment.get('dtype')}, batches of {segment.get('batch')}"
        parts.append(f"{text}, from row {segment['from_row']} on" if segment["from_row"] else text)
    return "; then ".join(parts) or "a machine that was not recorded"


def _snapshot(side: EvalSubject) -> dict[str, Any]:
    part = side.split if side.split != "golden" else None
    paths = {"train": side.frozen.path("train")}
    paths["split"] = side.frozen.path(part) if part else side.project.golden
    shared, train, split, query = store.shared_domains(paths["train"], paths["split"])
    return {
        "version": side.frozen.version,
        "sha256": side.frozen.sha256,
        "train_domains": train,
        "split_domains": split,
        "shared_domains": shared,
        "query": query,
    }


def group_notes(examples: Sequence[Example]) -> list[str]:
    """Return what the groups that an interval rests on cannot show, a sentence each."""
    notes = []
    without = sum(not example.domain for example in examples)
    if without:
        notes.append(
            f"{without} of {len(examples)} examples have no domain: each document, or each "
            "example, counts as a group of its own, and the interval may be too narrow."
        )
    if len(examples) > 1 and len({example.unit for example in examples}) == 1:
        notes.append(
            f"All {len(examples)} examples are of one group: no interval can be computed, and "
            "nothing is shown for other groups."
        )
    return notes


def _notes(side: EvalSubject, has_similarity: bool) -> list[str]:
    pool = side.frozen.counts.get(side.split, len(side.examples))
    notes = [
        f"Base weights: {side.base.get('precision_note', 'as its id says')} "
        f"({side.base.get('revision')}).",
        f"Answered on {describe_answer_machines(side)}. Latency is the wall time of a whole batch, not of one "
        "call.",
        "Slots are scored from the first JSON object in the text even where the raw text is no "
        "valid JSON (`recovered`); validity is judged on the raw text.",
        "An answer that is missing, cut or unreadable has all its slots wrong.",
    ]
    if len(side.examples) < pool:
        notes.append(
            f"{len(side.examples)} of {pool} examples of the split, spread evenly over its "
            f"domains, chosen by seed {side.settings.seed} (eval.max_examples)."
        )
    notes += group_notes(side.examples)
    if has_similarity:
        notes.append(
            "llm_similarity is scored by a local sentence-embedding model "
            f"({side.settings.similarity_model}), not by a judge model."
        )
    notes.append(
        "References from the strong model make 'at least the strong model' not testable here."
    )
    return notes

"""Is what a runtime answers what was proven? Asked of the real engines, on the proven rows.

    for check in parity.check_targets(subject, folder, ["transformers", "llamacpp"], options):
        record.write_parity(project, run, folder, [check])

A target passes when every prompt is the proven one byte for byte and token for token, when its
answers have the proven values but for a stated margin, and when nothing in the package's files
contradicts the run. A runtime that is not here is NOT CHECKED, which is never a pass.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from sem.core import console, files, jsonio
from sem.core.errors import SemError, suggest_nearest_name
from sem.core.example import Example
from sem.dataset.split import dataset_stats
from sem.eval.answers import answers
from sem.eval.answers.answers import Answer
from sem.eval.answers.subject import EvalSubject
from sem.eval.report import compare
from sem.eval.scoring.scoring import Score
from sem.eval.scoring.slots import Similarity
from sem.eval.stats import paired_stats
from sem.lm.local import model as models
from sem.lm.local.generator import Completion, Prompt
from sem.lm.weights import pinned_base
from sem.package import parity_record as record
from sem.package.parity import runtimes
from sem.package.parity.runtimes import AbsentError, Asked, Runtime
from sem.package.parity_record import FAIL, NOT_CHECKED, PASS, TargetCheck
from sem.package.serve import slot_readings

# Safetensors' names of the types that a run trains in.
DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


@dataclass(frozen=True)
class ParityOptions:
    """How much is asked, and how far a target may be from what was proven."""

    # Of the proven rows, a seeded sample; None: all of them.
    rows: int | None = None
    # Points of slots that may differ, and of accuracy that may be lost.
    margin_points: float = record.MARGIN_POINTS
    # The same of quantised weights.
    quantised_margin_points: float = record.QUANTISED_MARGIN_POINTS
    addresses: Mapping[str, str] = field(default_factory=dict)

    def margin(self, target: str) -> float:
        """Return the margin of `target`, in points."""
        is_quantised = target in record.QUANTISED
        return self.quantised_margin_points if is_quantised else self.margin_points


def check_targets(
    proven: EvalSubject, folder: Path, names: Sequence[str], options: ParityOptions
) -> Iterator[TargetCheck]:
    """Return the checks of the package in `folder` in the runtimes `names`, each when it is done.

    Raise SemError when the run has no answers that they could be compared with.
    """
    for name in names:
        if name not in runtimes.RUNTIMES:
            raise SemError(
                f"no runtime {name!r}", suggest_nearest_name(name, list(runtimes.RUNTIMES))
            )
    if not proven.book.path.exists() or proven.book.is_stale():
        raise SemError(
            f"run {proven.run.id} has no answers on the {proven.split} part by today's settings",
            f"answer it first: `fab eval.generate --run {proven.run.id}`",
        )
    recorded = answers.read_answers(proven.book.path)
    pool = [e for e in proven.examples if e.id in recorded and recorded[e.id].finish != "refused"]
    if not pool or (options.rows is not None and options.rows < 1):
        raise SemError(
            f"nothing to compare: {len(pool)} proven answers, --rows {options.rows}",
            "ask one row at least; runs without answers are answered by `fab eval.generate`",
        )
    rows = answers.sample_examples(pool, options.rows, proven.settings.seed)
    bench = _Bench(replace(proven, examples=rows), folder, recorded, options, len(pool))
    return map(bench.check, names)


@dataclass(frozen=True)
class _Bench:
    """The proven rows that are asked, and what is compared with them."""

    proven: EvalSubject
    folder: Path
    recorded: Mapping[str, Answer]
    options: ParityOptions
    # Of which `rows` may be a sample.
    proven_rows: int

    @property
    def rows(self) -> Sequence[Example]:
        """Return what is asked."""
        return self.proven.examples

    @cached_property
    def closeness(self) -> Similarity | None:
        """Return what scores texts that need not be equal, loaded once for every runtime."""
        return compare.similarity_of(self.proven)

    @cached_property
    def before(self) -> list[Score]:
        """Return the scores of the proven answers."""
        return self._scores(self.recorded)

    def check(self, name: str) -> TargetCheck:
        """Return the check of the runtime `name`."""
        contract = files.read_object(self.folder / "generation.json")
        base = pinned_base.resolve_pinned_base(self.proven.base, self.proven.project.root)
        dtype = self.proven.run.plan()["hardware"]["dtype"]
        asked = Asked(
            self.folder,
            base.folder,
            self.proven.speaker,
            dict(self.options.addresses),
            contract["context"],
            dtype,
        )
        faults = find_artefact_faults(self.folder, self.proven, name)
        try:
            runtime = runtimes.RUNTIMES[name](asked)
        except AbsentError as error:
            verdict = FAIL if faults else NOT_CHECKED
            return TargetCheck(name, verdict, (*faults, str(error)))
        except SemError as error:
            return TargetCheck(name, FAIL, (*faults, error.message))
        try:
            return self._compared(name, runtime, faults)
        except SemError as error:
            return TargetCheck(name, FAIL, (*faults, error.message), runtime.version)
        finally:
            runtime.close()

    def _compared(self, name: str, runtime: Runtime, faults: list[str]) -> TargetCheck:
        title = f"{name} answers"
        asked = dict(self._prompts())
        texts, tokens = [], []
        for example in self.rows:
            words = self._texts(example)
            texts.append((runtime.render(*words), self.proven.speaker.prompt_text(*words)))
            tokens.append((runtime.encode(*words), list(asked[example.id].ids)))
        prompts, ids = (sum(a == b for a, b in pairs) for pairs in (texts, tokens))
        faults += [_prompt_fault(a, b) for a, b in texts if a != b][:1]
        if prompts == len(self.rows):
            faults += [_ids_fault(a, b) for a, b in tokens if a != b][:1]
        completions: dict[str, Completion] = {}
        seconds: list[float] = []
        # The first request of a runtime pays for what is made once.
        runtime.answer(asked[self.rows[-1].id])
        for example in console.show_progress(iter(self.rows), len(self.rows), title):
            began = time.perf_counter()
            completions[example.id] = runtime.answer(asked[example.id])
            seconds.append(time.perf_counter() - began)
        return self._judged(
            TargetCheck(
                name,
                PASS,
                tuple(faults),
                runtime.version,
                prompts=(prompts, len(self.rows)),
                ids=(ids, len(self.rows)),
                margin_points=self.options.margin(name),
                proven_rows=self.proven_rows,
                weight_bytes=sum(path.stat().st_size for path in runtime.weights),
                tokens_per_second=round(
                    sum(c.tokens_out for c in completions.values()) / max(sum(seconds), 1e-9), 2
                ),
                p50_ms=_milliseconds(seconds, 0.5),
                p95_ms=_milliseconds(seconds, 0.95),
            ),
            completions,
        )

    def _judged(self, check: TargetCheck, completions: Mapping[str, Completion]) -> TargetCheck:
        """Return `check` with what its answers are worth, and its verdict."""
        pairs = [(self.recorded[e.id].text, completions[e.id].text) for e in self.rows]
        counts = [count_equal_slots(*pair) for pair in pairs]
        equal, asked = sum(n for n, _ in counts), sum(n for _, n in counts)
        after = self._scores(self._answers(completions))
        difference = paired_stats.paired_differences(self.before, after, "accuracy")
        faults = list(check.faults)
        differing = 100.0 * (1 - equal / asked)
        if differing > check.margin_points:
            faults.append(
                f"{asked - equal} of {asked} slots are not the proven ones "
                f"({differing:.1f} points, {check.margin_points:g} allowed)"
            )
        if -difference.points > check.margin_points:
            faults.append(
                f"slot accuracy {difference.points:+.1f} points, {check.margin_points:g} allowed"
            )
        cut = sum(c.finish == "length" for c in completions.values())
        expected_cut = sum(self.recorded[e.id].finish == "length" for e in self.rows)
        if cut > expected_cut:
            faults.append(
                f"{cut} of {len(self.rows)} answers do not end, of the proven {expected_cut}: "
                "a token that ends an answer is lost"
            )
        facts = asdict(check) | {
            "faults": tuple(faults),
            "verdict": FAIL if faults else PASS,
            "slots": (equal, asked),
            "answers": (sum(a == b for a, b in pairs), len(pairs)),
            "difference": difference.as_json(),
        }
        return TargetCheck(**facts)

    def _prompts(self) -> Iterator[tuple[str, Prompt]]:
        settings, speaker = self.proven.settings, self.proven.speaker
        for e, prompt in answers.ordered_prompts(self.rows, self.proven.tasks, speaker, settings):
            yield e.id, prompt

    def _texts(self, example: Example) -> tuple[str, str]:
        spec = self.proven.tasks[example.task]
        return example.system_prompt or spec.system_prompt, spec.prompt(example.input_text)

    def _answers(self, completions: Mapping[str, Completion]) -> dict[str, Answer]:
        tasks = {e.id: e.task for e in self.rows}
        return {
            name: Answer(name, tasks[name], c.text, c.finish, 0, c.tokens_out, 0, 1)
            for name, c in completions.items()
        }

    def _scores(self, by_id: Mapping[str, Answer]) -> list[Score]:
        return compare.score_all_examples(self.proven, by_id, self.closeness)


def count_equal_slots(proven: str, answered: str) -> tuple[int, int]:
    """Return how many scalars of two JSON texts are equal, and of how many that either has.

    Texts that are no JSON count as one slot.
    """
    try:
        sides = [_scalars(proven), _scalars(answered)]
    except ValueError:
        return int(proven == answered), 1
    names = sides[0].keys() | sides[1].keys()
    missing = object()
    equal = sum(sides[0].get(n, missing) == sides[1].get(n, missing) for n in names)
    return (equal, len(names)) if names else (int(proven == answered), 1)


def _scalars(text: str) -> dict[str, str]:
    spans = slot_readings.find_value_spans(text)
    return {
        span.slot: jsonio.canonical_json(jsonio.parse_json(text[span.start : span.end]))
        for span in spans
    }


def find_artefact_faults(folder: Path, proven: EvalSubject, target: str) -> list[str]:
    """Return what in the package's files contradicts the run, a named fault a line."""
    from safetensors import safe_open

    faults = []
    plan_dtype = proven.run.plan()["hardware"]["dtype"]
    if target in ("transformers", "vllm", "llamacpp"):
        with safe_open(folder / "model" / "model.safetensors", framework="pt") as tensors:
            kinds = {tensors.get_slice(key).get_dtype() for key in tensors.keys()}  # noqa: SIM118
        named = sorted(DTYPES.get(kind, kind) for kind in kinds)
        if named != [plan_dtype]:
            faults.append(
                f"dtype: the weights are {', '.join(named)}, the run was proven in {plan_dtype}"
            )
    adapter = folder / "adapter" / "adapter_model.safetensors"
    if adapter.is_file() and _changes_nothing(adapter):
        faults.append("adapter: every update is zero: it is the untouched base model")
    elif adapter.is_file() and files.sha256_file(adapter) != proven.header["adapter"]:
        faults.append("adapter: it is not the one that was proven")
    ends = models.read_config(folder / "model" / "generation_config.json").get("eos_token_id")
    listed = set(ends if isinstance(ends, list) else [ends])
    lost = [token for token in proven.speaker.stop_ids if token not in listed]
    if proven.speaker.turns and lost:
        words = proven.speaker.tokenizer.convert_ids_to_tokens(lost)
        faults.append(f"stop token: model/generation_config.json does not end at {words}")
    return faults


def _changes_nothing(adapter: Path) -> bool:
    from safetensors import safe_open

    with safe_open(adapter, framework="pt") as tensors:
        names = [name for name in tensors.keys() if ".lora_B." in name]  # noqa: SIM118
        return bool(names) and not any(tensors.get_tensor(name).any() for name in names)


def _prompt_fault(text: str, expected: str) -> str:
    at = _first_difference(text, expected)
    return (
        f"template: a prompt differs from character {at} on: {text[at : at + 20]!r} for "
        f"{expected[at : at + 20]!r}"
    )


def _first_difference(one: Sequence[Any], other: Sequence[Any]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))


def _ids_fault(ids: Sequence[int], expected: Sequence[int]) -> str:
    at = _first_difference(ids, expected)
    return f"tokenizer: the ids of an equal prompt differ from token {at} on"


def _milliseconds(seconds: Sequence[float], share: float) -> int:
    return dataset_stats.nearest_rank_quantile([round(s * 1000) for s in seconds], share) or 0

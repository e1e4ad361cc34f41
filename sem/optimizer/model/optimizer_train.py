"""Train the rewriter: a LoRA on a frozen base model, by the house's own trainer.

models/optimizer/RUN/ takes run.json first (everything resolved), then checkpoints that a killed
run goes on from, then adapter/, calibration.json and, last, manifest.json.
"""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sem.core import console, files, jsonio, manifest, provenance, settings, slotspec, state
from sem.core.errors import SemError, suggest_nearest_name
from sem.core.run import Run
from sem.eval.config import EvalSettings
from sem.lm.local import chat, hardware
from sem.lm.local.chat import Chat
from sem.lm.weights import pinned_base, weights
from sem.optimizer import layout
from sem.optimizer.data.pairs import PromptPair
from sem.optimizer.model import confidence, rewriter
from sem.optimizer.model.confidence import Calibration
from sem.optimizer.model.rewriter import Decoding, Rewriter, TorchRewriter
from sem.train.engine import adapters, backend_trl, engines
from sem.train.engine.fit import fit_stages
from sem.train.recipe import Recipe
from sem.train.rows import data as rows_of
from sem.train.rows import stages
from sem.train.rows.data import TrainingRow, TrainingRows
from sem.train.rows.stages import Stage, TrainingJob
from sem.train.run import memory

# What a likelihood is worth: fitted on rewrites of families that training did not see.
#
# Usefulness is decided by `layout.is_useful`: whole, sound layout, the task kept word for word.
# Half of the prompts are asked as they are; the others are spoilt (words shuffled, letters lost,
# another language), because a person's prompts are not ours, and a curve fitted on easy ones is
# too sure.

BATCH = 16
SEED = 7
FOREIGN = (
    "Schreibe einen Brief an die Stadtverwaltung wegen der Baustelle",
    "fais moi un plan de voyage pour la Bretagne en septembre",
    "napisz funkcję sprawdzającą numer PESEL",
    "asdf qwer zxcv 12 ;; lkj",
    "SELECT * FROM t WHERE a = 'b' -- fix",
    '{"name": "x", "items": [1, 2, 3]} make it yaml',
    "為什麼天空是藍色的",
    "The quick brown fox jumps over the lazy dog and then it does it again and again, why?",
)
# Mean log p, whether useful, family.
Point = tuple[float, bool, str]


def fit_calibration(network: Rewriter, val: Sequence[PromptPair], count: int) -> Calibration:
    """Return the calibration of `network` on `count` prompts of `val` and their spoilt
    siblings.
    """
    prompts = calibration_prompts(val, count)
    points: list[Point] = []
    decoding = Decoding(max_tokens=256, beams=1)
    starts = range(0, len(prompts), BATCH)
    for at in console.show_progress(starts, len(starts), "calibrating"):
        part = prompts[at : at + BATCH]
        rewrites = network.rewrite([prompt for prompt, _ in part], decoding)
        for (prompt, family), rewrite in zip(part, rewrites, strict=True):
            useful = layout.is_useful(rewrite.text, prompt, rewrite.finished)
            points.append((rewrite.mean_logprob, useful, family))
    return fit_logistic(points)


def calibration_prompts(val: Sequence[PromptPair], count: int) -> list[tuple[str, str]]:
    """Return `count` prompts with their family, half of them spoilt, from `val` by a fixed
    seed.
    """
    dice = random.Random(SEED)
    sample = dice.sample(sorted(val, key=lambda pair: pair.id), min(count, len(val)))
    prompts = []
    for number, pair in enumerate(sample):
        prompts.append(
            (pair.input if number % 2 == 0 else corrupt_prompt(pair.input, dice), pair.family)
        )
    return prompts + [(prompt, f"foreign.{n}") for n, prompt in enumerate(FOREIGN)]


def corrupt_prompt(prompt: str, dice: random.Random) -> str:
    """Return `prompt` in another order, or with letters lost, or twice as long."""
    kind, words = dice.randrange(3), prompt.split()
    if kind == 0:
        dice.shuffle(words)
        return " ".join(words)
    if kind == 1:
        return "".join(letter for letter in prompt if dice.random() > 0.12) or prompt
    return f"{prompt} And {prompt[:1].lower()}{prompt[1:]} once more, but different"


def fit_logistic(points: Sequence[Point]) -> Calibration:
    """Return the logistic curve through `points`.

    Where no rewrite is useful, or every one, it is nearly flat and as sure as its number of points
    allows: the confidence of a network that writes nothing useful stays below a half. The Brier
    score is that of curves fitted without the family they are judged on.
    """
    useful = [is_useful for _, is_useful, _ in points]
    families = sorted({family for *_, family in points})
    errors = []
    for left_out in families:
        others = [p for p in points if p[2] != left_out]
        curve = _curve(others)
        for sure, was, family in points:
            if family == left_out:
                guess = confidence.calibrated_likelihood(sure, Calibration(*curve, 0, 0, 0, 0.0))
                errors.append((guess - was) ** 2)
    brier = sum(errors) / len(errors)
    return Calibration(*_curve(points), len(points), sum(useful), len(families), round(brier, 4))


def _curve(points: Sequence[Point]) -> tuple[float, float]:
    """Intercept and slope; flat where every point says the same."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    likely = np.array([[sure] for sure, _, _ in points])
    useful = np.array([was for _, was, _ in points])
    # Two points of doubt, one each way: a curve is never surer than its number of points.
    likely = np.concatenate([likely, np.full((2, 1), likely.mean())])
    useful = np.concatenate([useful, [True, False]])
    model = LogisticRegression(C=1000.0).fit(likely, useful)
    return round(float(model.intercept_[0]), 6), round(float(model.coef_[0, 0]), 6)


CONFIG = "configs/optimizer/train.yaml"
FORMAT = "optimizer.v1"
HOME = "models/optimizer"
SEALED = ("adapter", "run.json", confidence.FILE)
DTYPES = {"bf16": "bfloat16", "fp32": "float32"}


@dataclass(frozen=True)
class Training:
    """train.yaml; what each key moves is said beside it."""

    recipe: Recipe
    base_model_id: str = "pip:traceforge-title-model==0.2.0"
    precision: str = "auto"
    input_tokens: int = rewriter.LIMIT
    target_tokens: int = 256
    calibration_prompts: int = 96
    base_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.precision in ("fp16", "float16", "half"):
            raise SemError(
                "precision: fp16 gives NaN in T5 (its activations exceed 65,504)",
                "use precision: bf16 or fp32",
            )
        if self.precision not in ("auto", *DTYPES):
            choices = ("auto", *DTYPES)
            raise SemError(
                f"precision: {self.precision!r}", suggest_nearest_name(self.precision, choices)
            )

    def dtype(self) -> str:
        """Return what the base model is held in here."""
        return DTYPES.get(self.precision) or hardware.detect_hardware().dtype


def optimizer_train_settings(root: Path, overrides: Sequence[str] = ()) -> Training:
    """train.yaml below `root`; `overrides` (`train.recipe.epochs=1`) win."""
    return settings.load_settings(
        Training, root / CONFIG, settings.strip_override_prefix("train", overrides)
    )


def run_optimizer_training(
    root: Path, training: Training, pairs: Sequence[PromptPair], val: Sequence[PromptPair]
) -> Path:
    """Train `training` on `pairs`, calibrate on `val` and seal: the folder of the finished run."""
    with files.lock_file(root / HOME / ".train.lock", "an optimizer"):
        run = prepare_optimizer(root, training, pairs, val)
        counts = run.plan()["counts"]["train"]
        console.print_note(
            f"run {run.id}: {counts['examples']} pairs, {counts['too_long']} too long"
        )
        result = train_rewriter_adapter(
            optimizer_job(root, run, training, pairs, val), training.base_dropout
        )
        network = TorchRewriter.load(run.folder, root)
        fitted = fit_calibration(network, val, training.calibration_prompts)
        files.write_file(run.folder / confidence.FILE, jsonio.pretty_json(fitted.as_json()))
        seal_optimizer(run, result)
    console.print_note(
        f"{format_trained_share(result)}; useful: {fitted.useful} of {fitted.rows} hard prompts"
    )
    if not fitted.useful:
        console.print_note(
            f"warning: none of {fitted.rows} rewrites is useful: every rewrite of run {run.id} "
            "gets a confidence below a half; train longer (recipe.epochs) or on more pairs"
        )
    return run.folder


def prepare_optimizer(
    root: Path, training: Training, pairs: Sequence[PromptPair], val: Sequence[PromptPair]
) -> Run:
    """Return a run of `training` on `pairs` below `root`.

    The unfinished one of the very same plan, if any.
    """
    base = weights.resolve_weights(training.base_model_id, root)
    engine = engines.choose_engine(training.recipe, hardware.detect_hardware(), base.folder)
    speaker = chat.load_chat(base.folder)
    train_rows, held = _rows(pairs, speaker, training), _rows(val, speaker, training)
    rows_of.check_trainable(train_rows, "the optimizer's training pairs")
    plan = {
        "format": FORMAT,
        "training": asdict(training),
        "engine": engine,
        "dtype": training.dtype(),
        "base_model": pinned_base.describe_base(training.base_model_id, base),
        "renderer": speaker.fingerprint(),
        "prefix": rewriter.PREFIX,
        "data": {
            name: files.sha256_json([p.as_json() for p in part])
            for name, part in (("train", pairs), ("val", val))
        },
        "counts": {"train": train_rows.counts(), "val": held.counts()},
        "packages": provenance.package_versions(),
    }
    return _unfinished(root, plan) or _new(root, plan)


def _new(root: Path, plan: dict[str, Any]) -> Run:
    name = f"{provenance.utc_now():%Y%m%d-%H%M%S}-{files.sha256_json(plan)[:4]}"
    folder = root / HOME / name
    facts = {"run_id": name, "created_at": provenance.utc_now().isoformat(), **plan}
    files.write_file(folder / "run.json", jsonio.pretty_json(facts))
    return Run(name, folder)


def _unfinished(root: Path, plan: dict[str, Any]) -> Run | None:
    for path in sorted((root / HOME).glob("*/run.json"), reverse=True):
        try:
            old_plan = state.read_state_file(path, state.OptimizerPlan)
        except SemError as error:  # of another run: it does not stand in the way of this one
            console.print_note(f"{error.message}: skipped")
            continue
        same = all(old_plan.get(key) == value for key, value in plan.items())
        if same and not (path.parent / manifest.NAME).exists():
            return Run(path.parent.name, path.parent)
    return None


def _rows(pairs: Sequence[PromptPair], speaker: Chat, training: Training) -> TrainingRows:
    """Return `pairs` as token ids.

    One longer than `training` reads or writes is left out and named.
    """
    rows, too_long = [], []
    for pair in sorted(pairs, key=lambda pair: pair.id):
        prompt = rewriter.encode_prompt(speaker, pair.input)
        answer = speaker.answer_ids(pair.target)
        if len(prompt) > training.input_tokens or len(answer) > training.target_tokens:
            too_long.append(pair.id)
        else:
            rows.append(TrainingRow(pair.id, (*prompt, *answer), len(prompt), None, pair.category))
    return TrainingRows(tuple(rows), tuple(too_long))


def optimizer_job(
    root: Path,
    run: Run,
    training: Training,
    pairs: Sequence[PromptPair],
    val: Sequence[PromptPair],
) -> TrainingJob:
    """Return `run` as the trainer takes it."""
    recipe, base = training.recipe, pinned_base.resolve_pinned_base(run.plan()["base_model"], root)
    speaker = chat.load_chat(base.folder)
    train_rows = rows_of.sample_rows(
        _rows(pairs, speaker, training), recipe.max_train_examples, recipe.data_seed
    )
    held = rows_of.sample_rows(
        _rows(val, speaker, training), recipe.val_examples, recipe.data_seed
    )
    goal = (recipe.learning_rate, recipe.epochs, recipe.max_steps)
    return TrainingJob(
        run=run,
        recipe=recipe,
        base=base.folder,
        dtype=training.dtype(),
        device=hardware.detect_hardware().device,
        chat=speaker,
        stages=(Stage(stages.EXAMPLES, "answer", train_rows, held, *goal),),
        tasks={},
        slots=slotspec.load_slot_levels(root / "configs" / "judge_slots.yaml"),
        answering=EvalSettings(),
    )


def train_rewriter_adapter(
    job: TrainingJob, dropout: float = 0.0, resume: bool = True
) -> dict[str, Any]:
    """Train `job`'s adapter, from its last checkpoint if there is one; what came out of it.

    `dropout`: the frozen base's, whose own would be 0.1. SemError when a weight of the base model
    is not what it was before.
    """
    parameter_counts: dict[str, Any] = {}

    def engine(attempt: TrainingJob) -> dict[str, Any]:
        model = set_dropout(backend_trl.load_trl_base(attempt), dropout)
        parameter_counts.update(count_trained_parameters(model))
        console.print_note(format_trained_share(parameter_counts))
        before = hash_frozen_weights(model)
        result = fit_stages(attempt, model, resume)
        if (after := hash_frozen_weights(model)) != before:
            raise SemError(
                f"training changed the frozen base: {before[:12]}… is now {after[:12]}…",
                "report this as a bug; the adapter is not sealed",
            )
        return result | {"base_sha256_before": before, "base_sha256_after": after}

    result = memory.with_room(job, engine) | parameter_counts
    job.chat.tokenizer.save_pretrained(job.folder / "adapter")
    return result


def set_dropout(model: Any, rate: float) -> Any:
    """Return `model` with every dropout but the LoRA's set to `rate`."""
    import torch

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Dropout) and "lora" not in name:
            module.p = rate
        elif isinstance(getattr(module, "dropout", None), float):  # attention has a bare number
            module.dropout = rate
    return model


def count_trained_parameters(model: Any) -> dict[str, Any]:
    """Return how many parameters of `model` are trained, and of how many."""
    trained = sum(weight.numel() for _, weight in adapters.trained_tensors(model))
    return {"trained": trained, "parameters": sum(p.numel() for p in model.parameters())}


def format_trained_share(counts: dict[str, Any]) -> str:
    """Return the trained share as it is."""
    base = counts["parameters"] - counts["trained"]
    return (
        f"trained: {counts['trained']:,} parameters, {counts['trained'] / base:.2%} of the base's"
    )


def hash_frozen_weights(model: Any) -> str:
    """sha256 of the weights of `model` that training must not touch, by name."""
    import torch

    digest = hashlib.sha256()
    for name, weight in sorted(model.named_parameters()):
        if not weight.requires_grad:
            digest.update(name.encode())
            digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def seal_optimizer(run: Run, result: dict[str, Any]) -> Path:
    """Write `run`'s manifest: the hash of every file that serving reads, and `result`."""
    folder = run.folder or Path()
    listed = [path for name in SEALED for path in _below(folder / name)]
    hashes = {str(path.relative_to(folder)): files.sha256_file(path) for path in listed}
    facts = {"format": FORMAT, "run_id": run.id, "result": result, "files": hashes}
    return files.write_file(folder / manifest.NAME, jsonio.pretty_json(facts))


def _below(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    if not path.is_file():
        raise SemError(f"{path} is missing", "train again with `fab optimizer.train`")
    return [path]


def promote_optimizer(root: Path, name: str) -> Path:
    """Make the run `name` the one that is served.

    Raise SemError where no rewrite of it was useful.
    """
    fitted = confidence.load_calibration(root / HOME / name)
    if not fitted.useful:
        raise SemError(
            f"run {name} is not promoted: none of {fitted.rows} rewrites is useful",
            "train longer (recipe.epochs) or on more pairs; the run itself is whole",
        )
    return files.write_file(root / HOME / rewriter.PROMOTED, jsonio.pretty_json({"run": name}))

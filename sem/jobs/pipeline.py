"""`fab pipeline`: the whole path of one sem, stage after stage, in this process."""

import gc
import math
import os
import shlex
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

from sem.core import console, files, jsonio, state
from sem.core.errors import SemError
from sem.core.project import Project
from sem.core.run import Run
from sem.jobs import dataset, evaluation, package, project, train
from sem.jobs.job import Overrides, Sem, job

# After training and before the table: report, package, its hashes, proven answers repeated.
REPORT_AND_PACKAGE_S = 40.0
REPEATED_ANSWERS, REPEATED_ANSWERS_IN_A_HURRY = 20, 5
# The share of the untouched model's time for an answer: it fills its room, a tuned one ends.
TUNED_ANSWER_SHARE = 0.6
MAX_LACKING_CHECKS = 6
# The share of the time that a forecast may take.
FORECAST_SHARE = 0.9

Minutes = Annotated[str | None, "train and answer only what fits; auto: 8 with bf16, 15 without"]


@job("demo.run")
def run_demo(minutes: Minutes = "auto") -> None:
    """Run the main path on the embedded data: baseline against tuned.

        fab demo

    The same as `fab demo.data` and `fab pipeline --sem demo`.
    """
    project.write_demo_store()
    run_pipeline("demo", minutes)


@job("pipeline")
def run_pipeline(sem: Sem = None, minutes: Minutes = None, set: Overrides = ()) -> None:
    """Run the whole path: from raw examples to a proven, verified package.

        fab pipeline --sem shop
        fab pipeline --sem demo --minutes 8

    Stages that are done and unchanged are not repeated: after a crash the same command goes on.
    With --minutes (or `auto`: 8 where the processor has bf16, else 15) the machine is measured,
    and as many rows are answered and trained on as fit: fewer than the settings say, never more.
    The choice is kept in reports/SEM/pace.json and holds for the same command on the same snapshot
    and settings.

    Reads   data/SEM/raw/dataset.duckdb, configs/SEM/
    Writes  data/SEM/processed/, models/SEM/, reports/SEM/
    """
    limit = _read_minutes(minutes)
    target = Project.load(sem, set)
    stages = StageRunner(target.sem)
    overrides = list(set)
    for name, stage in (
        ("dataset.clean", dataset.clean_dataset),
        ("dataset.split", dataset.split_dataset),
        ("dataset.stats", dataset.describe_dataset),
    ):
        stages.run(name, stage, set=overrides)
    fit = TimeFit(target, limit * 60 * FORECAST_SHARE, stages.began) if limit else None
    if fit:
        overrides += fit.limit_answers()
    answering = time.monotonic()
    stages.run("eval.generate", evaluation.generate_answers, run="base", set=overrides)
    if fit:
        overrides += fit.limit_examples(time.monotonic() - answering)
    run = _prepare(Project.load(target.sem, overrides))
    if not run.is_finished:
        stages.run("train.run", train.train_run, run=run.id)
    stages.run("eval.generate", evaluation.generate_answers, run=run.id, set=overrides)
    stages.run("eval.report", evaluation.report_run, run=run.id, set=overrides)
    stages.run("package.export", package.export_package, run=run.id)
    count = REPEATED_ANSWERS_IN_A_HURRY if fit else REPEATED_ANSWERS
    stages.run("package.verify", package.verify_package, run=run.id, answers=count, set=overrides)
    console.print_table("time", ("stage", "seconds"), stages.seconds)
    report = target.reports / run.id / "scores.json"
    _show_scores(target, report)
    for line in decide_on_promotion(target, run.id, overrides):
        print(line)
    print(f"report:  {report.with_name('report.html')}")
    print(f"package: {target.packages / run.id}")


class StageRunner:
    """Runs the jobs of a path one after another, and notes how long each took."""

    def __init__(self, sem: str) -> None:
        self.sem, self.began = sem, time.monotonic()
        self.seconds: list[tuple[str, str]] = []

    def run(self, name: str, function: Callable[..., None], **arguments: Any) -> None:
        """Say which job comes, and run it.

        In this process: importing torch and transformers anew for each stage costs a minute.
        """
        console.print_note(f"--- {name} {as_words({'sem': self.sem, **arguments})}")
        began = time.monotonic()
        function(sem=self.sem, **arguments)
        gc.collect()
        self.seconds.append((name, f"{time.monotonic() - began:.0f}"))


def as_words(arguments: dict[str, Any]) -> str:
    """Return the arguments of a job as the flags a person would type."""
    words: list[str] = []
    for name, value in arguments.items():
        flag = "--" + name.replace("_", "-")
        for item in value if isinstance(value, list | tuple) else [value]:
            words += [flag, str(item)]
    return shlex.join(words)


def decide_on_promotion(project: Project, run_id: str, overrides: list[str]) -> list[str]:
    """Ask the gate; return its sentence and what promotion still lacks, a line each."""
    from sem.core import provenance
    from sem.eval.gate import gate_inputs, margins

    request = gate_inputs.GateRequest(
        Project.load(project.sem, overrides), run_id, "base", "test", None
    )
    case = gate_inputs.decide_request(request)
    gate_inputs.write_gate(request, case, provenance.utc_now())
    lacking = [c for c in case.verdict.checks if c.verdict in (margins.FAIL, margins.INSUFFICIENT)]
    lacking.sort(key=lambda check: check.verdict != margins.FAIL)
    lines = [f"gate: {case.verdict.sentence()}"]
    if case.verdict.exit_code == 0:
        return [*lines, f"promote it with `fab ops.promote --sem {project.sem}`"]
    for check in lacking[:MAX_LACKING_CHECKS]:
        needs = f"; {check.need}" if str(check.need) else ""
        lines.append(
            f"  {check.verdict} {check.name}: {check.found}, wanted {check.wanted}{needs}"
        )
    if len(lacking) > MAX_LACKING_CHECKS:
        more = len(lacking) - MAX_LACKING_CHECKS
        lines.append(f"  and {more} more: `{gate_command(project.sem, overrides)}`")
    way = f'`fab ops.promote --sem {project.sem} --reason "to try it"`'
    return [*lines, f"not promoted; to try promotion and the nightly check all the same: {way}"]


def gate_command(sem: str, overrides: list[str]) -> str:
    """Return the command that decides again by `overrides`, but for those of training.

    With other settings the answers would be those of another part of the test set.
    """
    settings = [text for text in overrides if not text.startswith("train.")]
    return f"fab eval.gate {as_words({'sem': sem, 'set': settings})}"


def _read_minutes(text: str | None) -> float | None:
    """Return the minutes that `text` names; `auto`: 8 where the processor has bf16, else 15."""
    from sem.lm.local import hardware

    if text == "auto":
        return 8.0 if hardware.detect_hardware().dtype == "bfloat16" else 15.0
    try:
        minutes = float(text) if text is not None else None
    except ValueError:
        minutes = -1.0
    if minutes is not None and not 0 < minutes < math.inf:
        raise SemError(f"--minutes {text!r}", "write a number above 0, or auto")
    return minutes


class TimeFit:
    """How much is answered and trained on, so that the path ends `seconds` after it `began`."""

    def __init__(self, project: Project, seconds: float, began: float) -> None:
        self.project, self.seconds, self.began = project, seconds, began
        self.path = project.reports / "pace.json"
        stored, key = state.read_if_there(self.path, state.PipelinePace), self._key()
        self.choice: Any = stored if stored and stored["key"] == key else {"key": key}

    def _key(self) -> str:
        from sem.dataset.split import snapshot
        from sem.eval.config import EvalSettings
        from sem.lm.local import hardware
        from sem.train import recipe

        project, machine = self.project, hardware.detect_hardware()
        parts = [
            snapshot.load_snapshot(project).sha256,
            str(recipe.load_recipe(project)),
            self.seconds,
        ]
        parts += [str(project.settings("eval", EvalSettings)), machine.dtype, os.cpu_count()]
        return files.sha256_json(parts)

    def limit_answers(self) -> list[str]:
        """Return the override of how many rows are answered, and say it."""
        from sem.preview import pacing

        if "answers" not in self.choice:
            pace = pacing.measure_machine_pace(self.project)
            self.choice["pace"] = vars(pace)
            self.choice["answers"] = pacing.answers_that_fit(pace, self.seconds)
        pace, count = self.choice["pace"], self.choice["answers"]
        console.print_note(
            f"this machine trains an example in {pace['train_example_s']:.2f} s and answers one "
            f"in about {pace['answer_s']:.2f} s: {count} of {pace['rows']} test rows are answered"
        )
        return [f"eval.max_examples={count}"] if count < pace["rows"] else []

    def limit_examples(self, answered_s: float) -> list[str]:
        """Return the overrides of how much is trained on; the base's answers took `answered_s`."""
        from sem.preview import pacing

        if "examples" not in self.choice:
            pace = pacing.MachinePace(**self.choice["pace"])
            # The measured time of the untouched model's answers, where it was not taken up.
            an_answer = max(answered_s / self.choice["answers"], pace.answer_s / 2)
            an_answer *= TUNED_ANSWER_SHARE
            answers = self.choice["answers"] + REPEATED_ANSWERS_IN_A_HURRY
            later = an_answer * answers + REPORT_AND_PACKAGE_S
            seconds_left = self.seconds - (time.monotonic() - self.began) - later
            measured = replace(pace, answer_s=an_answer)
            self.choice["examples"] = pacing.examples_that_fit(
                measured, self.project, seconds_left
            )
            files.write_file(self.path, jsonio.pretty_json(self.choice))
        count, most = self.choice["examples"], self.choice["pace"]["examples"]
        console.print_note(
            f"trained on: {count} of {most} examples, to end in {self.seconds:.0f} s"
        )
        if count == most:
            return []
        # So short a training has one checkpoint: answering for it would choose nothing.
        short = ("train.val_answers=0", "train.select=last")
        return [f"train.max_train_examples={count}", *short]


def _prepare(project: Project) -> Run:
    """Return the run of today's settings: the one that was prepared before, if there is one."""
    from sem.train.run import plan

    run = plan.prepare_training(project, None)
    console.print_table(f"run {run.id}", ("what", "value"), plan.plan_summary(run.plan()))
    return run


def _show_scores(project: Project, path: Any) -> None:
    """Print the table of baseline and tuned, the verdict, and what a constant would have had."""
    from sem.eval.report import report

    scores: Any = state.read_state_file(path, state.Scores)
    title = f"{project.sem}: baseline vs tuned, n = {scores['tuned']['n']} unseen examples"
    console.print_table(title, report.report_columns(scores), report.metric_rows(scores))
    print(scores["verdict"])
    print(scores["rivals"]["sentence"])

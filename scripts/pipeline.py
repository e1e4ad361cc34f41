"""Run the whole path: from raw examples to a proven, verified package.

    python scripts/pipeline.py --sem shop
    python scripts/pipeline.py --sem demo --minutes 8

Stages that are done and unchanged are not repeated: after a crash the same command goes on.
With --minutes (or `auto`: 8 where the processor has bf16, else 15) the machine is measured, and as
many rows are answered and trained on as fit: fewer than the settings say, never more. The choice
is kept in reports/SEM/pace.json and holds for the same command on the same snapshot and settings.

Reads   data/SEM/raw/dataset.duckdb, configs/SEM/
Writes  data/SEM/processed/, models/SEM/, reports/SEM/
"""

import gc
import math
import os
import runpy
import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from sem.core import console, files, jsonio, state
from sem.core.errors import SemError
from sem.core.project import Project
from sem.core.run import Run

HERE = Path(__file__).resolve().parent


# After training and before the table: report, package, its hashes, proven answers repeated.
REST_S = 40.0
REPEATED, REPEATED_IN_A_HURRY = 20, 5
# Of the untouched model's time for an answer: it fills its room, a tuned one ends.
TUNED_SHARE = 0.6
MAX_SHOWN = 6  # checks that promotion lacks
SPARE = 0.9  # of the time: what a forecast may take


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem", "set")
    parser.add_argument("--minutes", help="train and answer only what fits; auto: 8 or 15")
    args = parser.parse_args(argv)
    minutes = minutes_of(args.minutes)
    project = Project.load(args.sem, args.set)
    sem, took = ["--sem", project.sem], []
    began = time.monotonic()
    for stage in ("dataset_clean", "dataset_split", "dataset_stats"):
        run(stage, [*sem, *as_flags(args.set)], took)
    given = list(args.set)
    fitting = Fitting(project, minutes * 60 * SPARE, began) if minutes else None
    if fitting:
        given += fitting.answers()
    answering = time.monotonic()
    run("eval_generate", [*sem, "--run", "base", *as_flags(given)], took)
    if fitting:
        given += fitting.examples(time.monotonic() - answering)
    settings = as_flags(given)
    trained = prepare(Project.load(project.sem, given))
    name = ["--run", trained.id]
    if not trained.is_finished:
        run("train_run", [*sem, *name], took)
    run("eval_generate", [*sem, *name, *settings], took)
    run("eval_report", [*sem, *name, *settings], took)
    run("package_export", [*sem, *name], took)
    repeated = REPEATED_IN_A_HURRY if fitting else REPEATED
    run("package_verify", [*sem, *name, "--answers", str(repeated), *settings], took)
    console.table("time", ("stage", "seconds"), took)
    report = project.reports / trained.id / "scores.json"
    show(project, report)
    for line in gate(project, trained.id, given):
        print(line)
    print(f"report:  {report.with_name('report.html')}")
    print(f"package: {project.packages / trained.id}")


def minutes_of(text: str | None) -> float | None:
    """The minutes that `text` names; `auto`: 8 where the processor has bf16, else 15."""
    from sem.lm.local import hardware

    if text == "auto":
        return 8.0 if hardware.detect().dtype == "bfloat16" else 15.0
    try:
        minutes = float(text) if text is not None else None
    except ValueError:
        minutes = -1.0
    if minutes is not None and not 0 < minutes < math.inf:
        raise SemError(f"--minutes {text!r}", "write a number above 0, or auto")
    return minutes


def gate(project: Project, run_id: str, overrides: list[str]) -> list[str]:
    """Decide on promotion and return what it says, and what it still lacks, a line each."""
    from sem.core import provenance
    from sem.eval.gate import gate_inputs, margins

    asked = gate_inputs.Request(Project.load(project.sem, overrides), run_id, "base", "test", None)
    case = gate_inputs.judge(asked)
    gate_inputs.write(asked, case, provenance.now())
    lacking = [c for c in case.verdict.checks if c.verdict in (margins.FAIL, margins.INSUFFICIENT)]
    lacking.sort(key=lambda check: check.verdict != margins.FAIL)
    lines = [f"gate: {case.verdict.sentence()}"]
    if case.verdict.exit_code == 0:
        return [*lines, f"promote it with `fab ops.promote --sem {project.sem}`"]
    for check in lacking[:MAX_SHOWN]:
        needs = f"; {check.need}" if str(check.need) else ""
        lines.append(
            f"  {check.verdict} {check.name}: {check.found}, wanted {check.wanted}{needs}"
        )
    if len(lacking) > MAX_SHOWN:
        lines.append(
            f"  and {len(lacking) - MAX_SHOWN} more: `{gate_command(project.sem, overrides)}`"
        )
    way = f'`fab ops.promote --sem {project.sem} --reason "to try it"`'
    return [*lines, f"not promoted; to try promotion and the nightly check all the same: {way}"]


def gate_command(sem: str, overrides: list[str]) -> str:
    """Return the command that decides again by `overrides`, but for those of training.

    With other settings the answers would be those of another part of the test set.
    """
    asked = [text for text in overrides if not text.startswith("train.")]
    return shlex.join(["fab", "eval.gate", "--sem", sem, *as_flags(asked)])


def as_flags(overrides: list[str]) -> list[str]:
    """The overrides as flags of a script."""
    return [part for text in overrides for part in ("--set", text)]


class Fitting:
    """How much is answered and trained on, so that the path ends `seconds` after it `began`."""

    def __init__(self, project: Project, seconds: float, began: float) -> None:
        self.project, self.seconds, self.began = project, seconds, began
        self.path = project.reports / "pace.json"
        kept, key = state.read_if_there(self.path, state.Pace), self._key()
        self.kept: Any = kept if kept and kept["key"] == key else {"key": key}

    def _key(self) -> str:
        from sem.dataset.split import snapshot
        from sem.eval.config import EvalSettings
        from sem.lm.local import hardware
        from sem.train import recipe

        project, machine = self.project, hardware.detect()
        rests_on = [snapshot.load(project).sha256, str(recipe.of(project)), self.seconds]
        rests_on += [str(project.settings("eval", EvalSettings)), machine.dtype, os.cpu_count()]
        return files.sha256_json(rests_on)

    def answers(self) -> list[str]:
        """The override of how many rows are answered; said."""
        from sem.preview import pacing

        if "answers" not in self.kept:
            pace = pacing.measure(self.project)
            self.kept["pace"] = vars(pace)
            self.kept["answers"] = pacing.answers_that_fit(pace, self.seconds)
        pace, count = self.kept["pace"], self.kept["answers"]
        console.note(
            f"this machine trains an example in {pace['train_example_s']:.2f} s and answers one "
            f"in about {pace['answer_s']:.2f} s: {count} of {pace['rows']} test rows are answered"
        )
        return [f"eval.max_examples={count}"] if count < pace["rows"] else []

    def examples(self, answered_s: float) -> list[str]:
        """The override of how many examples are trained on; `answered_s` the base took."""
        from sem.preview import pacing

        if "examples" not in self.kept:
            pace = pacing.MachinePace(**self.kept["pace"])
            # The measured time of the untouched model's answers, where it was not taken up.
            an_answer = max(answered_s / self.kept["answers"], pace.answer_s / 2) * TUNED_SHARE
            later = an_answer * (self.kept["answers"] + REPEATED_IN_A_HURRY) + REST_S
            left = self.seconds - (time.monotonic() - self.began) - later
            known = replace(pace, answer_s=an_answer)
            self.kept["examples"] = pacing.examples_that_fit(known, self.project, left)
            files.write(self.path, jsonio.pretty(self.kept))
        count, most = self.kept["examples"], self.kept["pace"]["examples"]
        console.note(f"trained on: {count} of {most} examples, to end in {self.seconds:.0f} s")
        if count == most:
            return []
        # So short a training has one checkpoint: answering for it would choose nothing.
        short = ("train.val_answers=0", "train.select=last")
        return [f"train.max_train_examples={count}", *short]


def prepare(project: Project) -> Run:
    """The run of today's settings: the very one that was prepared before, where there is one."""
    from sem.train.run import plan

    made = plan.prepare(project, None)
    console.table(f"run {made.id}", ("what", "value"), plan.summary(made.plan()))
    return made


def run(stage: str, flags: list[str], took: list[tuple[str, str]]) -> None:
    """Run scripts/STAGE.py with FLAGS and note how long it took.

    In this process: importing torch and transformers anew for each stage costs a minute.
    """
    console.note(f"--- {stage} {' '.join(flags)}")
    began = time.monotonic()
    runpy.run_path(str(HERE / f"{stage}.py"))["main"](flags)
    gc.collect()
    took.append((stage, f"{time.monotonic() - began:.0f}"))


def show(project: Project, path: Path) -> None:
    """The table baseline vs tuned, and the verdict."""
    from sem.eval.report import report

    found: Any = state.read_state(path, state.Scores)
    title = f"{project.sem}: baseline vs tuned, n = {found['tuned']['n']} unseen examples"
    console.table(title, report.columns(found), report.table(found))
    print(found["verdict"])


if __name__ == "__main__":
    console.run(main)

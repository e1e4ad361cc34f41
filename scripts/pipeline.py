"""Run the whole path: from raw examples to a proven, verified package.

    python scripts/pipeline.py --sem shop

Stages that are done and unchanged are not repeated: after a crash the same command goes on.

Reads   data/SEM/raw/dataset.duckdb, configs/SEM/
Writes  data/SEM/processed/, models/SEM/, reports/SEM/
"""

import gc
import runpy
import time
from pathlib import Path

from sem.core import console
from sem.core.project import Project
from sem.core.run import Run

HERE = Path(__file__).resolve().parent


def main(argv: list[str] | None = None) -> None:
    args = console.parser(__doc__, "sem", "set").parse_args(argv)
    project = Project.load(args.sem, args.set)
    sem, settings = ["--sem", project.sem], [part for s in args.set for part in ("--set", s)]
    took: list[tuple[str, str]] = []
    for stage in ("dataset_clean", "dataset_split", "dataset_stats"):
        run(stage, [*sem, *settings], took)
    trained = prepare(project)
    name = ["--run", trained.id]
    run("eval_generate", [*sem, "--run", "base", *settings], took)
    if not trained.is_finished:
        run("train_run", [*sem, *name], took)
    run("eval_generate", [*sem, *name, *settings], took)
    run("eval_report", [*sem, *name, *settings], took)
    run("package_export", [*sem, *name], took)
    run("package_verify", [*sem, *name, "--answers", "20", *settings], took)
    console.table("time", ("stage", "seconds"), took)
    report = project.reports / trained.id / "scores.json"
    show(project, report)
    print(f"report:  {report.with_name('report.html')}")
    print(f"package: {project.packages / trained.id}")


def prepare(project: Project) -> Run:
    """The run of today's settings: the very one that was prepared before, where there is one."""
    from sem.train import plan

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
    from sem.core import files
    from sem.eval import report

    found = files.read_json(path)
    title = f"{project.sem}: baseline vs tuned, n = {found['tuned']['n']} unseen examples"
    console.table(title, report.columns(found), report.table(found))
    print(found["verdict"])


if __name__ == "__main__":
    console.run(main)

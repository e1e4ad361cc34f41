"""The verbs of `opensem` that are a few jobs in a row: from documents to a package."""

from pathlib import Path
from typing import Annotated, Any, Literal

from sem import __version__
from sem.core import console, files, projects
from sem.core import run as runs
from sem.core.errors import SemError
from sem.core.project import Project
from sem.jobs import evaluation, train
from sem.jobs import package as packages
from sem.jobs.job import OlderName, Overrides, Positional, RunId, job
from sem.jobs.pipeline import StageRunner

SplitName = Literal["val", "test", "golden"]
ProjectName = Annotated[
    str | None, "project under configs/ (default: $SEM, sem.use's, demo)", OlderName("sem")
]


@job("baseline")
def score_baseline(
    project: ProjectName = None,
    split: Annotated[
        tuple[SplitName, ...], "val, test or golden (default: test, and golden if there is one)"
    ] = (),
    set: Overrides = (),
) -> None:
    """Show what the untouched model answers, and how much of it is right."""
    target = Project.load(project, set)
    stages, rows = StageRunner(target.sem), []
    for name in split or _splits(target):
        stages.run("eval.generate", evaluation.generate_answers, run="base", split=name, set=set)
        rows.append((name, *_accuracy(target, "base", name)))
    columns = ("split", "examples", "accuracy", "valid by schema")
    console.print_table(f"{target.sem}: the untouched model", columns, rows)


@job("train")
def train_project(project: ProjectName = None, set: Overrides = ()) -> None:
    """Train a run of today's settings; one that is finished is not trained again."""
    from sem.train.run import plan

    target = Project.load(project, set)
    run = plan.prepare_training(target, None)
    console.print_table(f"run {run.id}", ("what", "value"), plan.plan_summary(run.plan()))
    if run.is_finished:
        console.print_note(f"run {run.id} has exactly these settings and is finished")
        console.print_output_path(run.folder)
        return
    StageRunner(target.sem).run("train.run", train.train_run, run=run.id)


@job("eval")
def evaluate_project(
    project: ProjectName = None,
    split: Annotated[SplitName, "val, test or golden"] = "test",
    run: RunId = None,
    set: Overrides = (),
) -> None:
    """Compare baseline and fine-tuned on the same examples; the verdict is the last line."""
    from sem.projects import status

    target = Project.load(project, set)
    tuned, stages = runs.find_run(target, run), StageRunner(target.sem)
    for name in ("base", tuned.id):
        stages.run("eval.generate", evaluation.generate_answers, run=name, split=split, set=set)
    stages.run("eval.report", evaluation.report_run, run=tuned.id, split=split, set=set)
    print(_verdict(status.scores_in(target.reports / tuned.id / "scores.json")))


@job("report")
def show_report(
    project: ProjectName = None,
    run: Annotated[str | None, "training run (default: the latest with a report)"] = None,
    open: Annotated[bool, "open it in the browser"] = False,
) -> None:
    """Show where the newest report lies, and what it says; --open shows it in a browser."""
    from sem.projects import status

    target = Project.load(project)
    folders = sorted(path.parent for path in target.reports.glob("*/scores.json"))
    folder = next((path for path in reversed(folders) if run in (None, path.name)), None)
    if folder is None:
        raise SemError(f"{target.sem}: no report of it", "make one with `opensem-cli eval`")
    print(_verdict(status.scores_in(folder / "scores.json")))
    page = folder / "report.html"
    if open:
        import webbrowser

        webbrowser.open(page.resolve().as_uri())
    console.print_output_path(page)


@job("package")
def package_project(
    project: ProjectName = None,
    run: RunId = None,
    answers: Annotated[int, "proven prompts to repeat"] = 5,
    set: Overrides = (),
) -> None:
    """Write a run as a package, verify every file of it, ask proven answers again."""
    target = Project.load(project, set)
    run_id, stages = runs.find_run(target, run).id, StageRunner(target.sem)
    stages.run("package.export", packages.export_package, run=run_id)
    stages.run("package.verify", packages.verify_package, run=run_id, answers=answers, set=set)


@job("init")
def initialise_tree(
    folder: Annotated[
        Path | None,
        "where (default: $SEM_ROOT, the tree of the working folder, or the working folder)",
        Positional("FOLDER"),
    ] = None,
) -> None:
    """Create the folders of a tree, the settings that all projects share, and the demo's.

        opensem init

    What is there already stays as it is.

    Writes  configs/*.yaml, configs/demo/, data/, models/, reports/, .opensem (marks the tree)
    """
    root = folder or projects.marked_tree() or Path.cwd()
    for kind in projects.KINDS:
        (root / kind).mkdir(parents=True, exist_ok=True)
    copied = 0
    for source in _shared_settings():
        target = root / "configs" / source.relative_to(projects.SHIPPED)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            files.write_file(target, source.read_bytes())
            copied += 1
    if not (root / projects.MARKER).exists() and not (root / "fabric.yaml").exists():
        files.write_file(root / projects.MARKER, f"opensem {__version__}\n")
    console.print_note(f"{copied} settings copied to {root / 'configs'}")
    if not Path.cwd().resolve().is_relative_to(root.resolve()):
        console.print_note(f"work there with `cd {root.resolve()}`, or from anywhere with")
        console.print_note(f"export SEM_ROOT={root.resolve()}")
    console.print_output_path(root)


def _shared_settings() -> list[Path]:
    """Return the shipped files of a new tree: of all projects, the demo and the optimizer."""
    ledger = "datasets.yaml"  # of the snapshots that this machine cut
    patterns = ("*.yaml", "demo/**/*.yaml", "optimizer/**/*.yaml")
    paths = [path for pattern in patterns for path in projects.SHIPPED.glob(pattern)]
    return sorted(path for path in paths if path.name != ledger)


def _verdict(scores: dict[str, Any]) -> str:
    """Return what `scores` say of accuracy: improved by so many points, or not shown."""
    sentence = str(scores["verdict"])
    return sentence[:1].upper() + sentence[1:]


def _splits(project: Project) -> list[str]:
    """Return test, and golden where the project has such a set."""
    from sem.eval.answers import golden

    has_golden = project.golden.exists() or golden.find_golden_set(project) is not None
    return ["test", "golden"] if has_golden else ["test"]


def _accuracy(project: Project, run_id: str, split: str) -> tuple[str, str, str]:
    """Return the examples, accuracy and validity of a run's answers on a split."""
    from sem.eval.answers import subject
    from sem.eval.report import compare
    from sem.eval.scoring import metrics

    scores = compare.score_run_answers(subject.resolve_subject(project, run_id, split, None))
    totals = metrics.compute_totals(scores)
    share = "-" if totals["accuracy"] is None else f"{totals['accuracy']:.1%}"
    return str(totals["n"]), share, f"{totals['schema_valid']:.1%}"

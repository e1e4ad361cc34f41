"""The stages from documents to a package, as one verb each; they run the scripts, in order."""

import gc
import runpy
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from sem.core import console, files, projects
from sem.core.errors import SemError
from sem.core.project import Project

SCRIPTS = Path(__file__).resolve().parents[2]
SPLITS = ("val", "test", "golden")


def stage(name: str, words: list[str]) -> None:
    """Say which script comes, and run it."""
    console.note(f"--- {name} {' '.join(words)}")
    script(name, words)


def script(name: str, words: list[str]) -> None:
    """Run scripts/NAME.py with WORDS in this process: torch is imported once for all stages."""
    runpy.run_path(str(SCRIPTS / f"{name}.py"))["main"](words)
    gc.collect()


def baseline(argv: list[str]) -> None:
    """What the untouched model answers, and how much of it is right."""
    parser = _parser("baseline", baseline.__doc__)
    words = "val, test or golden (repeatable; default: test, and golden where there is one)"
    parser.add_argument("--split", action="append", choices=SPLITS, help=words)
    args = _read(parser, argv)
    project, common = _project(args)
    rows = []
    for split in _splits(project, args.split):
        stage("eval_generate", [*common, "--run", "base", "--split", split, *args.settings])
        rows.append((split, *_accuracy(project, "base", split)))
    columns = ("split", "examples", "accuracy", "valid by schema")
    console.table(f"{project.sem}: the untouched model", columns, rows)


def train(argv: list[str]) -> None:
    """A run of today's settings, trained; one that is finished is not trained again."""
    args = _read(_parser("train", train.__doc__), argv)
    project, common = _project(args)
    from sem.train.run import plan

    made = plan.prepare(project, None)
    console.table(f"run {made.id}", ("what", "value"), plan.summary(made.plan()))
    if made.is_finished:
        console.note(f"run {made.id} is of these very settings and finished")
    else:
        stage("train_run", [*common, "--run", made.id])
    console.done(made.folder)


def evaluate(argv: list[str]) -> None:
    """Baseline against fine-tuned on the same examples; the verdict is the last line."""
    parser = _parser("eval", evaluate.__doc__)
    parser.add_argument("--split", choices=SPLITS, default="test", help="default: test")
    parser.add_argument("--run", help="training run (default: the latest)")
    args = _read(parser, argv)
    project, common = _project(args)
    from sem.cli import status
    from sem.core import run

    target = run.find(project, args.run)
    split = ["--split", args.split]
    for name in ("base", target.id):
        stage("eval_generate", [*common, "--run", name, *split, *args.settings])
    stage("eval_report", [*common, "--run", target.id, *split, *args.settings])
    print(verdict(status.scores_in(project.reports / target.id / "scores.json")))


def report(argv: list[str]) -> None:
    """Where the newest report lies, and what it says; --open shows it in a browser."""
    parser = _parser("report", report.__doc__)
    parser.add_argument("--run", help="training run (default: the latest with a report)")
    parser.add_argument("--open", action="store_true", help="open it in the browser")
    args = _read(parser, argv)
    project, _ = _project(args)
    from sem.cli import status

    found = sorted(path.parent for path in project.reports.glob("*/scores.json"))
    chosen = next((p for p in reversed(found) if args.run in (None, p.name)), None)
    if chosen is None:
        raise SemError(f"{project.sem}: no report of it", "make one with `opensem-cli eval`")
    print(verdict(status.scores_in(chosen / "scores.json")))
    page = chosen / "report.html"
    if args.open:
        import webbrowser

        webbrowser.open(page.resolve().as_uri())
    console.done(page)


def package(argv: list[str]) -> None:
    """A run as a package, every file of it verified, proven answers asked again."""
    parser = _parser("package", package.__doc__)
    parser.add_argument("--run", help="training run (default: the latest)")
    parser.add_argument("--answers", default="5", help="proven prompts to repeat (default: 5)")
    args = _read(parser, argv)
    project, common = _project(args)
    from sem.core import run

    name = ["--run", run.find(project, args.run).id]
    stage("package_export", [*common, *name])
    stage("package_verify", [*common, *name, "--answers", args.answers, *args.settings])


def init(argv: list[str]) -> None:
    """The folders of a tree, and the settings that all projects share."""
    parser = ArgumentParser(prog="opensem-cli init", description=init.__doc__)
    parser.add_argument(
        "folder", nargs="?", type=Path, help="default: $SEM_ROOT, or this checkout"
    )
    root = parser.parse_args(argv).folder or projects.tree()
    copied = 0
    for kind in projects.KINDS:
        (root / kind).mkdir(parents=True, exist_ok=True)
    for source in sorted((projects.ROOT / "configs").glob("*.yaml")):
        target = root / "configs" / source.name
        if not target.exists():
            files.write(target, source.read_bytes())
            copied += 1
    console.note(f"{copied} settings of all projects copied to {root / 'configs'}")
    if root.resolve() != projects.tree().resolve():
        console.note(f"work there with: export SEM_ROOT={root.resolve()}")
    console.done(root)


def verdict(scores: dict[str, Any]) -> str:
    """What SCORES say of accuracy: improved by so many points, or no improvement shown."""
    said = str(scores["verdict"])
    return said[:1].upper() + said[1:]


def _parser(verb: str, doc: str | None) -> ArgumentParser:
    made = ArgumentParser(prog=f"opensem-cli {verb}", description=doc)
    made.add_argument("--project", "--sem", dest="sem", help=console.FLAGS["sem"]["help"])
    made.add_argument("--set", **console.FLAGS["set"])
    return made


def _read(parser: ArgumentParser, argv: list[str]) -> Namespace:
    args = parser.parse_args(argv)
    args.settings = [word for given in args.set for word in ("--set", given)]
    return args


def _project(args: Namespace) -> tuple[Project, list[str]]:
    project = Project.load(args.sem, args.set)
    return project, ["--sem", project.sem]


def _splits(project: Project, given: list[str] | None) -> list[str]:
    """The splits GIVEN, else test, and golden where the project has such a set."""
    if given:
        return given
    from sem.eval.answers import golden

    has_golden = project.golden.exists() or golden.written(project) is not None
    return ["test", "golden"] if has_golden else ["test"]


def _accuracy(project: Project, run_id: str, split: str) -> tuple[str, str, str]:
    """Examples, accuracy and validity of RUN_ID's answers on SPLIT."""
    from sem.eval.answers import subject
    from sem.eval.report import compare
    from sem.eval.scoring import metrics

    scores = compare.scored(subject.resolve(project, run_id, split, None))
    found = metrics.totals(scores)
    share = "-" if found["accuracy"] is None else f"{found['accuracy']:.1%}"
    return str(found["n"]), share, f"{found['schema_valid']:.1%}"

"""The jobs of `package.*`: the deliverable, written and verified."""

from pathlib import Path
from typing import Annotated

from sem.core import console
from sem.core.errors import SemError
from sem.core.project import Project
from sem.core.run import find_run, refuse_tainted
from sem.jobs.job import Overrides, RunId, Sem, job


@job("package.export")
def export_package(
    sem: Sem = None,
    run: RunId = None,
    target: Annotated[
        tuple[str, ...], "transformers, vllm or ollama (default: all that can serve it)"
    ] = (),
) -> None:
    """Merge the adapter and write a self-describing package.

        fab package.export --sem shop --run RUN --target vllm

    Reads   models/SEM/adapters/RUN/, reports/SEM/RUN/{report.md, scores.json}
    Writes  models/SEM/packages/RUN/
    """
    from sem.package.export import bundle

    project = Project.load(sem)
    source = find_run(project, run)
    folder = bundle.build_package(project, source, list(target))
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    rows = [(path.relative_to(folder), f"{path.stat().st_size:,}") for path in files]
    console.print_table(f"package of {source.id}", ("file", "bytes"), rows)
    console.print_output_path(folder)


@job("package.verify")
def verify_package(
    sem: Sem = None,
    run: RunId = None,
    path: Annotated[Path | None, "a package folder anywhere, not of a sem here"] = None,
    answers: Annotated[int, "also repeat that many proven prompts"] = 0,
    set: Overrides = (),
) -> None:
    """Check that a package is what it says it is, and answers as the run that was proven.

        fab package.verify --sem shop --run RUN --answers 20

    Every hash, and what follows from something else in it: the lineage, the report, what runtimes
    read, the tensors. Exit 1 names each fault. --answers N repeats at least N proven prompts with
    the packaged model and wants the same bytes; the same machine and precision as the evaluation
    are needed for that.

    Reads   models/SEM/packages/RUN/, reports/SEM/RUN/answers.test.jsonl
    """
    from sem.package.verify import verify

    folder = path or _package_of_run(sem, run)
    faults = verify.package_faults(folder)
    if faults:
        raise SemError(
            f"{folder}: {len(faults)} faults:\n       " + "\n       ".join(faults),
            "do not use it: restore the files or export it again",
        )
    print(f"every file of {folder.name} is as the manifest says")
    if answers:
        _repeat_answers(Project.load(sem, set), folder, answers)
    console.print_output_path(folder)


def _package_of_run(sem: str | None, run: str | None) -> Path:
    """Return the package of the run; raise SemError if a takedown tainted it, or the run."""
    from sem.package.export import bundle

    project = Project.load(sem)
    folder = bundle.latest_package(project, run)
    refuse_tainted(project.adapters / folder.name, f"run {folder.name}")
    return folder


def _repeat_answers(project: Project, folder: Path, count: int) -> None:
    """Say how many proven answers come back byte for byte; raise SemError unless all do."""
    from sem.eval.answers import subject
    from sem.package.verify import verify

    proven = subject.resolve_subject(project, folder.name, "test", None)
    if not proven.book.path.exists():
        raise SemError(
            f"run {folder.name} has no answers on the test part: the package's hashes are right, "
            "its answers were not compared",
            "answer the test part first: `fab eval.generate`, or `opensem-cli eval`",
        )
    equal, prompt_count = verify.answers_again(proven, folder, count)
    print(f"{equal} of {prompt_count} proven answers are byte-equal")
    if equal < prompt_count:
        raise SemError(
            f"{folder}: {prompt_count - equal} of {prompt_count} answers "
            "differ from the proven ones",
            "if it was evaluated on another machine or precision, evaluate it again here",
        )

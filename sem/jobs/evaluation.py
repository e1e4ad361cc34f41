"""The jobs of `eval.*` and `golden.*`: answers, verdicts, report, gate, golden questions."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from sem.core import console, files, provenance
from sem.core.errors import Insufficient, SemError
from sem.core.project import Project
from sem.jobs.job import (
    OlderName,
    Overrides,
    Positional,
    RunId,
    Sem,
    SnapshotVersion,
    Split,
    job,
)

AnsweredRun = Annotated[
    str | None,
    "training run, 'base' or 'strong' (default: the latest)",
    OlderName("run_id"),
]
Baseline = Annotated[str, "run to compare with"]


@job("eval.generate")
def generate_answers(
    sem: Sem = None,
    run: AnsweredRun = None,
    split: Split = "test",
    snapshot: SnapshotVersion = None,
    decoding: Annotated[
        Literal["free", "constrained"] | None,
        "free, or constrained: each token is held to io_schema (default: eval.decoding)",
    ] = None,
    take: Annotated[
        Path | None, "answers of the model being replaced: JSONL of id and candidate, as `strong`"
    ] = None,
    set: Overrides = (),
) -> None:
    """Answer a split with a run's model; `base` is the untouched one.

        fab eval.generate --sem shop --run base --split test
        fab eval.generate --sem shop --take strong.jsonl

    Answers are appended row by row: a killed job goes on where it stopped.

    Reads   data/SEM/processed/*.vN.jsonl, models/SEM/adapters/RUN/, configs/SEM/eval.yaml
    Writes  reports/SEM/RUN/answers.SPLIT.jsonl and .json (what the answers depend on)
    """
    from sem.eval.answers import subject

    # What is asked for here wins over what eval.yaml says of the untouched model.
    decodings = (f"eval.decoding={decoding}", "eval.base_decoding=same") if decoding else ()
    project = Project.load(sem, [*set, *decodings])
    if take:
        _take_strong_answers(project, take, split, snapshot)
        return
    target = subject.resolve_subject(project, run, split, console.read_version(snapshot))
    before = subject.answer_subject(target)
    rows = [("answered", len(target.examples)), ("answered before", before)]
    console.print_table(f"{target.run.id} on {split}", ("what", "rows"), rows)
    console.print_output_path(target.book.path)


@job("eval.judge")
def judge_answers(
    sem: Sem = None,
    run: AnsweredRun = None,
    split: Split = "test",
    snapshot: SnapshotVersion = None,
    mode: Annotated[Literal["slots", "golden", "pairwise"], "slots, golden or pairwise"] = "slots",
    baseline: Annotated[str, "the other run of pairwise mode"] = "base",
    estimate: Annotated[bool, "say what it would cost, and stop"] = False,
    set: Overrides = (),
) -> None:
    """Have a judge model decide what rules cannot: free texts, and failures marked arguable.

        fab eval.judge --sem shop --run RUN --split test --estimate
        fab eval.judge --sem shop --run RUN --split test

    A killed job goes on where it stopped and pays for no reply twice. Modes: slots (default),
    golden (the whole answer on a scale of 1 to 5), pairwise (better than the baseline's answer or
    not).

    Reads   reports/SEM/RUN/answers.SPLIT.jsonl, configs/judge.yaml, configs/judge_slots.yaml
    Writes  reports/SEM/RUN/{verdicts.SPLIT.jsonl, judge.SPLIT.json},
            reports/SEM/judge_run_TIME.jsonl
    """
    from sem.eval.judge import judge_session

    project = Project.load(sem, set)
    version = console.read_version(snapshot)
    session = judge_session.open_session(
        project, run, split, version, mode, baseline, provenance.utc_now()
    )
    if estimate:
        rows = judge_session.estimate_session(session)
        console.print_table("estimate, without retries", ("what", "value"), rows)
        console.print_output_path(session.book.path)
        return
    label = f"verdicts of {session.run}"
    for _ in console.show_progress(session.hear(), len(session.cases), label):
        pass
    rows = judge_session.summary_rows(session)
    console.print_table(f"{session.run} on {split}", ("what", "value"), rows)
    console.print_output_path(session.book.path)


@job("eval.report")
def report_run(
    sem: Sem = None,
    run: AnsweredRun = None,
    split: Split = "test",
    snapshot: SnapshotVersion = None,
    baseline: Baseline = "base",
    also: Annotated[tuple[str, ...], "the same recipe with another seed"] = (),
    set: Overrides = (),
) -> None:
    """Score a run against the baseline on the same examples and say what is shown.

        fab eval.report --sem shop --run RUN --split test

    Reads   reports/SEM/{base,RUN}/answers.SPLIT.jsonl, data/SEM/processed/*.vN.jsonl
    Writes  reports/SEM/RUN/{scores.json, report.md, report.html, *.eval-report.json},
            reports/SEM/backlog.jsonl (what the run still gets wrong, and why)
    """
    from sem.eval.report import backlog, compare, eval_report_v1, report, report_page

    project = Project.load(sem, set)
    version = console.read_version(snapshot)
    reading = compare.read_comparison(project, run, baseline, split, version)
    scores = compare.comparison_scores(reading)
    if also:
        scores["over_seeds"] = vars(compare.over_seeds(reading, list(also)))
        scores["notes"].append(report.seeds_note(scores["over_seeds"]))
    run_id = scores["tuned"]["run"]
    folder = project.reports / run_id
    report.write_report(folder, scores)
    eval_report_v1.write_eval_report(
        folder, scores, reading.after.tasks, provenance.utc_now().date()
    )
    path = report_page.write_html_report(folder, scores, reading)
    hard = backlog.backlog_rows(reading.compared.after, run_id, split)
    backlog.update_backlog(project, hard, split)
    title = f"{project.sem}: {baseline} vs {run_id}, {split}, n = {scores['tuned']['n']}"
    console.print_table(title, report.report_columns(scores), report.metric_rows(scores))
    console.print_table(
        "by field (tuned)", report.field_columns(scores), report.field_rows(scores)
    )
    console.print_table(
        f"{len(hard)} hard examples (backlog)", ("why", "examples"), backlog.count_tags(hard)
    )
    for text in compare.group_notes(reading.after.examples):
        console.print_note(f"note: {text}")
    for line in report.test_sentences(scores):
        print(line)
    print(scores["verdict"])
    print(scores["rivals"]["sentence"])
    console.print_output_path(path)


@job("eval.gate")
def gate_run(
    sem: Sem = None,
    run: AnsweredRun = None,
    split: Split = "test",
    snapshot: SnapshotVersion = None,
    baseline: Baseline = "base",
    set: Overrides = (),
) -> None:
    """Decide whether a run may replace the baseline: PASS, FAIL, INSUFFICIENT (exit 0, 1, 3).

        fab eval.gate --sem shop --run RUN --split test

    Reads   configs/SEM/gate.yaml or configs/gate.yaml, the answers of both runs, the snapshot
    Writes  reports/SEM/RUN/gate.json, reports/SEM/gates.jsonl
    """
    from sem.eval.gate import gate_inputs

    project = Project.load(sem, set)
    request = gate_inputs.GateRequest(
        project, run, baseline, split, console.read_version(snapshot)
    )
    case = gate_inputs.decide_request(request)
    path = gate_inputs.write_gate(request, case, provenance.utc_now())
    rows = [
        (c.name, c.verdict, c.found, c.wanted, "; ".join(filter(None, (c.why, str(c.need)))))
        for c in case.verdict.checks
    ]
    title = f"{project.sem}: {baseline} vs {case.run_id}, {split}"
    console.print_table(title, ("check", "verdict", "found", "wanted", "note"), rows)
    # Where a person sees both streams, the error says it.
    is_seen = sys.stdout.isatty() and sys.stderr.isatty()
    if not case.verdict.exit_code or not is_seen:
        print(case.verdict.sentence())
    console.print_output_path(path)
    if case.verdict.exit_code == Insufficient.exit_code:
        raise Insufficient(case.verdict.sentence(), "add the rows or domains that the table names")
    if case.verdict.exit_code:
        raise SemError(case.verdict.sentence(), f"the checks are in {path}")


@job("eval.plan")
def plan_labels(
    sem: Sem = None,
    snapshot: SnapshotVersion = None,
    margin: Annotated[float, "points by which a run must be better, or may not be worse"] = 5.0,
    differ: Annotated[float, "percent of rows on which two runs differ in being right"] = 20.0,
    rows_per_domain: Annotated[float, "rows of one site, document or customer"] = 10.0,
    icc: Annotated[float, "how alike rows of one domain are, 0 to 1"] = 0.1,
    at_least: Annotated[float, "percent that a rate must be certified to reach"] = 99.0,
) -> None:
    """Say how many rows and domains to label before a claim can be shown.

        fab eval.plan --sem shop
        fab eval.plan --margin 2 --differ 10 --rows-per-domain 4

    Shown means: at the 5 % level (2.5 % a side) with a power of 80 %. `differ` and `icc` are of
    your data: a first report has them, the defaults are cautious. Reads the newest snapshot, if
    there is one, to say what its test part can show.

    Reads   data/SEM/processed/vN.json, test.vN.jsonl
    """
    from sem.dataset.split import snapshot as snapshots
    from sem.eval.stats import planning

    assumed = planning.Assumptions(
        margin / 100, differ / 100, rows_per_domain, icc, at_least / 100
    )
    rows = planning.plan_rows(assumed)
    console.print_table("what a claim needs", ("claim", "rows", "domains"), rows)
    project = Project.load(sem)
    if not snapshots.snapshot_versions(project):
        console.print_note(f"{project.sem} has no snapshot yet: its own test part is not checked")
        return
    frozen = snapshots.load_snapshot(project, console.read_version(snapshot))
    domains = [example.site or example.id for example in frozen.examples("test")]
    console.print_table(
        f"{project.sem} {frozen.name}: what its test part can show",
        ("what", "here"),
        planning.test_part_rows(domains, assumed),
    )


@job("eval.sample")
def sample_slots(
    sem: Sem = None,
    run: RunId = None,
    split: Split = "test",
    snapshot: SnapshotVersion = None,
    count: Annotated[int, "slots on the sheet"] = 40,
    take: Annotated[Path | None, "a filled-in sheet to read back"] = None,
    set: Overrides = (),
) -> None:
    """Pick slots for a person to check, as a sheet; take the filled-in sheet back.

        fab eval.sample --sem shop --run RUN --count 40
        fab eval.sample --sem shop --run RUN --take reports/shop/RUN/spotcheck.test.csv

    Fill in `human_pass` (yes or no: is the candidate right?) and, where the reference is wrong,
    `correction` (JSON: "text", 12.5, null). Labels calibrate the judge. Corrected rows go back
    into the store with their history, and are never trained on.

    Reads   reports/SEM/RUN/{answers,verdicts}.SPLIT.jsonl, the sheet
    Writes  reports/SEM/RUN/{spotcheck.SPLIT.csv, human_labels.jsonl}, data/SEM/golden/held.jsonl,
            data/SEM/raw/dataset.duckdb
    """
    from sem.eval.answers import subject
    from sem.eval.judge import verdicts
    from sem.eval.report import compare, spotcheck

    project = Project.load(sem, set)
    target = subject.resolve_subject(project, run, split, console.read_version(snapshot))
    folder = project.reports / target.run.id
    if take:
        examples = {example.id: example for example in target.examples}
        sheet = spotcheck.take_sheet(take, target.tasks, examples)
        changed = spotcheck.keep_labels(project, target, sheet, provenance.utc_now().isoformat())
        rows = [
            ("labels", len(sheet.labels)),
            ("rows corrected in the store", changed),
            ("lines left blank", sheet.blank),
        ]
        console.print_table(f"Spot-check of {target.run.id}", ("what", "count"), rows)
        if changed:
            console.print_note(
                "clean and split again: the corrected rows go into test, never train"
            )
        console.print_output_path(folder)
        return
    opinions = verdicts.load_verdicts(folder / f"verdicts.{split}.jsonl")
    lines = spotcheck.choose_slots(
        compare.score_run_answers(target), opinions, count, target.settings.seed
    )
    path = files.write_file(
        folder / f"spotcheck.{split}.csv", spotcheck.format_spotcheck_csv(lines, target)
    )
    reasons = sorted({line.why for line in lines})
    rows = [(why, sum(line.why == why for line in lines)) for why in reasons]
    console.print_table(f"Slots of {target.run.id} to check", ("why", "slots"), rows)
    console.print_output_path(path)


@job("golden.add")
def add_golden_questions(
    file: Annotated[Path | None, "JSON, JSON lines or CSV", Positional("FILE")] = None,
    sem: Sem = None,
    question: Annotated[str | None, "instead of a file"] = None,
    answer: Annotated[str | None, "a text, or JSON of the task's io_schema"] = None,
    task: Annotated[str | None, "task_id, where the sem has several"] = None,
    map: Annotated[tuple[str, ...], "read the key THEIRS as OURS, as question=q"] = (),
    keep: Annotated[bool, "unknown keys go to meta"] = False,
    replace: Annotated[bool, "another answer to a known id"] = False,
) -> None:
    """Add hand-made questions with their answers to a sem's golden set.

        fab golden.add --sem rust --question "What owns a value?" --answer "A variable."
        fab golden.add --file quiz.json --sem rust --map answer=golden_answer --keep

    A file is JSON, JSON lines or CSV. Keys that are not ours are refused by name, or kept in meta
    with --keep. The same question added twice is there once. If one entry cannot be used, none is
    added.

    Writes  data/SEM/golden/{golden_set.json, golden.jsonl}
    """
    from sem.eval.answers import golden_edit

    if (file is None) == (question is None):
        raise SemError("give a file, or --question and --answer", "see --help")
    if question is not None and answer is None:
        raise SemError("--question without --answer", "give both")
    project = Project.load(sem)
    if file is None:
        entries = [("--question", {"question": question, "answer": answer})]
    else:
        entries = golden_edit.read_golden_entries(file)
    if task:
        entries = [(where, {"task": task, **entry}) for where, entry in entries]
    how = golden_edit.GoldenColumns(golden_edit.golden_columns(map), keep)
    result = golden_edit.add_golden_entries(project, entries, how, replace)
    rows = [
        ("added", len(result.added)),
        ("there already", result.same),
        ("replaced", result.replaced),
        ("taken down, left out", result.taken_down),
        ("lists joined to one answer", result.joined),
        *((f"key {name} kept in meta", count) for name, count in sorted(result.kept.items())),
    ]
    console.print_table(f"golden set of {project.sem}", ("what", "entries"), rows)
    console.print_output_path(project.golden.with_name("golden_set.json"))


@job("golden.check")
def check_golden_set(
    sem: Sem = None,
    language: Annotated[str | None, "ISO 639-1: questions in another are findings"] = None,
) -> None:
    """Say what is wrong with a sem's golden set; exit 1 when anything is.

        fab golden.check --sem rust
        fab golden.check --sem rust --language en

    Findings are entries that break io_schema, empty texts, questions that hold their answer,
    questions that occur twice or nearly, and questions in train or nearly (the newest snapshot's
    train and val).

    Reads   data/SEM/golden/, data/SEM/processed/{train,val}.vN.jsonl
    """
    from sem.eval.answers import golden_edit
    from sem.forge import language as languages

    if language is not None:
        languages.check_language(language, "--language")
    project = Project.load(sem)
    count, findings, spoken = golden_edit.list_golden_set_faults(
        project, languages.detect_language, language
    )
    rows = [(finding.id, finding.problem, finding.detail) for finding in findings]
    console.print_table(f"golden set of {project.sem}", ("id", "problem", "detail"), rows)
    names = ", ".join(f"{name} {number}" for name, number in spoken.most_common())
    console.print_note(f"{count} questions; languages: {names or 'not checked'}")
    if findings:
        raise SemError(f"{len(findings)} findings in {count} questions", "correct them")
    print(f"{count} questions, nothing wrong")


def _take_strong_answers(project: Project, path: Path, split: str, snapshot: str | None) -> None:
    """Keep the answers in the file `path` as those of the run called `strong`."""
    from sem.eval.answers import answers, subject

    target = subject.resolve_subject(project, None, split, console.read_version(snapshot))
    book = project.reports / "strong" / f"answers.{split}.jsonl"
    tasks = {example.id: example.task for example in target.examples}
    count, strangers, missing = answers.take_answers(path, book, tasks)
    rows = [("kept", count), ("of no example here", strangers), ("without an answer", missing)]
    console.print_table(f"strong on {split}", ("what", "rows"), rows)
    console.print_output_path(book)

"""Jobs that ask a package: one page, a file of pages, over HTTP, by agents."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from sem.core import console, jsonio
from sem.core.errors import SemError
from sem.core.project import Project
from sem.core.run import read_promotion, refuse_tainted
from sem.jobs.job import Overrides, Positional, Sem, job
from sem.jobs.package import Package

TaskName = Annotated[str | None, "task of the package (default: its only one)"]
EngineName = Annotated[
    Literal["auto", "transformers", "llamacpp", "llamacpp-q8_0"],
    "what runs the model; auto: the fastest that parity accepted here",
]
StrongModel = Annotated[
    Path | None, "a YAML file that names a strong model for the least sure pages"
]


@job("package.ask")
def ask_package(
    page: Annotated[Path | None, "HTML or text; - reads stdin", Positional("PAGE")],
    sem: Sem = None,
    run: Annotated[str | None, "run (default: the promoted one, else the latest packaged)"] = None,
    path: Package = None,
    engine: EngineName = "auto",
    task: TaskName = None,
    url: Annotated[str | None, "address that the page was saved from"] = None,
    page_type: Annotated[str | None, "kind of page, where budgets differ by it"] = None,
    details: Annotated[bool, "also confidence, grounding, tokens and time of each slot"] = False,
    fallback: StrongModel = None,
    set: Overrides = (),
) -> None:
    """Ask the packaged expert one page; its JSON is the only line on stdout.

        opensem ask page.html --sem shop --task productpage

    The page is cleaned, rendered and decoded as it was for training and proof. A page that cannot
    be answered ends with exit 1 and its reason.

    Reads   models/SEM/packages/RUN/
    """
    from sem.package.serve.expert import Expert

    folder = _package_to_ask(sem, run, path, set)
    content = _read_page(page)
    with Expert.load(folder, engine, fallback=fallback) as expert:
        extraction = expert.extract(content, task, url, page_type)
    if details:
        print(jsonio.pretty_json(extraction.as_json()), end="")
    if extraction.refusal:
        raise SemError(
            f"{page}: {extraction.refusal.message}",
            f"reason {extraction.refusal.reason}; docs/asking.md lists what each means",
        )
    if not details:
        print(jsonio.canonical_json(extraction.value))


@job("package.predict")
def predict_pages(
    input: Annotated[Path, ".jsonl, .parquet, .duckdb, .csv or .json of pages"],
    output: Annotated[Path, "answers as JSON lines; a killed start goes on in it"],
    sem: Sem = None,
    run: Annotated[str | None, "run (default: the promoted one, else the latest packaged)"] = None,
    path: Package = None,
    engine: EngineName = "auto",
    task: Annotated[str | None, "task of rows that name none"] = None,
    map: Annotated[tuple[str, ...], "OURS=THEIRS, as input_text=body"] = (),
    batch: Annotated[int, "pages answered together"] = 8,
    max_tokens: Annotated[int | None, "tokens in and out, over every start"] = None,
    fallback: StrongModel = None,
    set: Overrides = (),
) -> None:
    """Answer a file of pages, row by row; run again, it goes on where it stopped.

        fab package.predict --sem shop --input pages.jsonl --output answers.jsonl

    A row of the output holds the id of its page, the value, and for each slot confidence and
    whether the page holds it; or the refusal. Exit 1 when --max-tokens ended it.

    Reads   INPUT, models/SEM/packages/RUN/
    Writes  OUTPUT, OUTPUT's name with .meta.json, and .unread.jsonl for rows that are no page
    """
    from sem.dataset.ingest import column_mapping
    from sem.package.serve import predict
    from sem.package.serve.expert import Expert

    folder = _package_to_ask(sem, run, path, set)
    columns = column_mapping.parse_column_pairs(map)
    options = predict.PredictOptions(task, columns, batch, max_tokens)
    tally = predict.PredictTally()
    with (
        Expert.load(folder, _chosen(folder, engine), slots=batch, fallback=fallback) as expert,
        console.progress_bar() as bar,
    ):
        line = bar.add_task(f"answers of {folder.name}", total=predict.count_rows(input))
        for tally in predict.predict_file(expert, folder, input, output, options):
            bar.update(line, completed=tally.earlier + tally.answered)
    _print_tally(tally)
    console.print_output_path(output)
    if tally.is_over_budget:
        raise SemError(
            f"{tally.tokens:,} of {max_tokens:,} tokens are spent, and pages are left",
            "raise --max-tokens, and run the same command again",
        )


@job("package.serve")
def serve_expert(
    sem: Sem = None,
    run: Annotated[str | None, "run (default: the promoted one, else the latest packaged)"] = None,
    path: Package = None,
    engine: EngineName = "auto",
    host: Annotated[str | None, "address (default: 127.0.0.1; another needs keys)"] = None,
    port: Annotated[int | None, "port (default: 8000; 0: any that is free)"] = None,
    capture: Annotated[Path | None, "a folder for pages and answers (default: none)"] = None,
    fallback: StrongModel = None,
    set: Overrides = (),
) -> None:
    """Serve the packaged expert: an HTTP API and a page, until Ctrl-C or SIGTERM.

        opensem serve --sem shop --port 8001
        fab package.serve --path models/shop/packages/RUN --set serve.max_waiting=128

    POST /v1/extract takes a page; /v1/chat/completions and /v1/models are OpenAI's. Where
    $SEM_SERVE_KEYS holds keys, separated by commas, each request must show one. With --capture
    pages and answers are appended to files that `dataset.import` reads.

    Reads   models/SEM/packages/RUN/, $SEM_SERVE_KEYS
    Writes  CAPTURE/capture-*.jsonl, JSON lines on stderr
    """
    from sem.package.serve.http import app
    from sem.package.serve.http.settings import expert_settings

    settings = expert_settings(set, {"host": host, "port": port})
    folder = _package_to_ask(sem, run, path, ())
    app.serve_package(
        folder,
        engine,
        settings,
        capture,
        lambda address: print(address, flush=True),
        fallback,
    )


@job("package.mcp")
def serve_agents(
    sem: Sem = None,
    run: Annotated[str | None, "run (default: the promoted one, else the latest packaged)"] = None,
    path: Package = None,
    engine: EngineName = "auto",
    pages: Annotated[Path | None, "a folder whose files an agent may name (default: none)"] = None,
    fallback: StrongModel = None,
    port: Annotated[int | None, "serve HTTP at this port (default: stdin and stdout)"] = None,
    set: Overrides = (),
) -> None:
    """Serve the packaged expert to agents: tools of the Model Context Protocol.

        opensem mcp --sem shop
        opensem mcp --sem shop --pages saved_pages --port 8002

    The tools are extract, status and report. An agent starts this command itself and speaks on
    stdin and stdout; with --port it speaks HTTP at /mcp, on this machine unless --set serve.host
    names another address. $SEM_SERVE_KEYS and --set serve.KEY=VALUE are as for package.serve.

    Reads   models/SEM/packages/RUN/, PAGES, $SEM_SERVE_KEYS
    Writes  JSON lines on stderr
    """
    from sem.lm.server.settings import read_server_keys
    from sem.package.serve import mcp_server
    from sem.package.serve.expert import Expert
    from sem.package.serve.http.settings import KEYS, expert_settings

    settings = expert_settings(set, {"port": port})
    folder = _package_to_ask(sem, run, path, ())
    if pages is not None and not pages.is_dir():
        raise SemError(f"{pages}: no such folder", "name the folder that holds the pages")
    status = None if path else partial(_project_status, sem)

    def load() -> mcp_server.ExpertTools:
        expert = Expert.load(folder, engine, fallback=fallback)
        return mcp_server.ExpertTools(expert, folder, pages, status)

    if port is None:
        mcp_server.serve_tools_on_stdio(load)
        return
    keys = read_server_keys(settings, KEYS)
    mcp_server.serve_tools_over_http(load, settings, keys, partial(print, flush=True))


def _project_status(sem: str | None) -> dict[str, Any]:
    """Return what `sem.status` shows, as JSON."""
    from sem.projects import status

    state = status.project_status(Project.load(sem))
    damaged = [str(fault) for fault in state.damaged]
    return {"sem": state.sem, **dict(state.rows), "damaged": damaged, "next": state.next}


def _chosen(folder: Path, engine: str) -> str:
    """Return the engine by its name; where it was left open, say which it is and why."""
    from sem.package import parity_record as record

    if engine != "auto":
        return engine
    choice = record.choose_serving_engine(folder)
    console.print_note(f"answered by {choice.name}: {choice.reason}")
    return choice.name


def _print_tally(tally: Any) -> None:
    rows: list[tuple[str, object]] = [
        ("answered now", f"{tally.answered:,}, {tally.rate:.2f} a second"),
        ("answered before", f"{tally.earlier:,}"),
        ("tokens, in and out", f"{tally.tokens:,}"),
    ]
    rows += [
        (f"refused: {reason}", f"{count:,}") for reason, count in sorted(tally.refused.items())
    ]
    rows += [
        (f"strong model: {status}", f"{count:,}")
        for status, count in sorted(tally.fallback.items())
    ]
    rows += [
        (f"not read: {reason}", f"{count:,}") for reason, count in sorted(tally.unread.items())
    ]
    console.print_table("predictions", ("", "rows"), rows)
    for note, count in sorted(tally.notes.items()):
        console.print_note(f"{note} ({count:,} times)" if count > 1 else note)


def _read_page(page: Path | None) -> bytes:
    """Return the bytes of a page, from a file or stdin."""
    if page is None:
        raise SemError("no page was named", "name a file, or - for stdin")
    if str(page) == "-":
        return sys.stdin.buffer.read()
    if not page.is_file():
        raise SemError(f"{page}: no such file", "check the path, or use - for stdin")
    return page.read_bytes()


def _package_to_ask(
    sem: str | None, run: str | None, path: Path | None, overrides: tuple[str, ...]
) -> Path:
    """Return the package folder that is asked: named, promoted, or the latest."""
    if path is not None:
        return path
    from sem.package.export import bundle

    project = Project.load(sem, overrides)
    promotion = read_promotion(project) if run is None else None
    folder = bundle.latest_package(project, promotion["run"] if promotion else run)
    refuse_tainted(project.adapters / folder.name, f"run {folder.name}")
    return folder

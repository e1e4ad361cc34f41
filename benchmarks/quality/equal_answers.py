"""One page by every way to ask a package: by command, Python, HTTP, chat, batch and MCP.

    python benchmarks/quality/equal_answers.py models/demo/packages/RUN pages/*.html
    python benchmarks/quality/equal_answers.py models/demo/packages/RUN data/demo/raw/dataset.duckdb

Each way is the real one: a process of `opensem ask` for every page, `Expert`, `POST /v1/extract`
and the client of OpenAI against `opensem serve`, `package.predict`, and the SDK's client against
`opensem mcp`. Every page is asked for every task of the package; of a store, for its own.

Reads   PACKAGE, PAGES: files of one page, folders of them, stores (.duckdb)
Writes  benchmarks/results/equal_answers.md
"""

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from benchmarks.speed.clean import machine  # noqa: E402
from sem import Expert  # noqa: E402
from sem.core import console, files, jsonio  # noqa: E402
from sem.dataset.ingest import charset  # noqa: E402
from sem.dataset.store import store  # noqa: E402
from sem.package import contract as contracts  # noqa: E402

ENVIRONMENT = {"PYTHONPATH": str(ROOT)}
REFERENCE = "Python, `Expert.extract`"
REASON = re.compile(r"reason (\w+);")
WITHIN_S = 300


@dataclass(frozen=True)
class RawPage:
    """A page as it lies on the disk, and the task it is asked for."""

    path: Path
    task: str

    @property
    def text(self) -> str:
        """Return the page as a client sends it that has no bytes to send."""
        return charset.decode_page(self.path.read_bytes()).text


# An answer of each page: the value as canonical JSON, or the reason of the refusal.
Answers = list[str]
Way = Callable[[Path, Sequence[RawPage]], Answers]


def answer_text(value: Any, refusal: dict[str, Any] | None) -> str:
    """Return what one way answered, to be compared."""
    return f"refused: {refusal['reason']}" if refusal else jsonio.canonical_json(value)


def ask_by_python(package: Path, pages: Sequence[RawPage]) -> Answers:
    """Return the answers of `Expert.extract`."""
    with Expert.load(package) as expert:
        bodies = [expert.extract(page.path.read_bytes(), page.task).as_json() for page in pages]
    return [answer_text(body["value"], body["refusal"]) for body in bodies]


def ask_by_command(package: Path, pages: Sequence[RawPage]) -> Answers:
    """Return the answers of `opensem ask`, a process each."""
    answers = []
    for page in pages:
        ended = subprocess.run(
            sem_command("ask", str(page.path), "--path", str(package), "--task", page.task),
            capture_output=True,
            text=True,
            env=os.environ | ENVIRONMENT,
            timeout=WITHIN_S,
        )
        reason = REASON.search(ended.stderr)
        if ended.returncode == 0:
            answers.append(jsonio.canonical_json(json.loads(ended.stdout)))
        else:
            answers.append(f"refused: {reason[1]}" if reason else ended.stderr)
    return answers


def sem_command(*words: str) -> list[str]:
    """Return the command line of `opensem WORDS`."""
    return [sys.executable, "-m", "sem", *words]


@contextmanager
def served_package(package: Path) -> Iterator[str]:
    """Yield the address of `opensem serve` for `package`."""
    with tempfile.TemporaryFile() as log:
        running = subprocess.Popen(
            sem_command("serve", "--path", str(package), "--port", "0"),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ | ENVIRONMENT,
        )
        try:
            assert running.stdout
            yield running.stdout.readline().strip()
        finally:
            running.terminate()
            running.communicate(timeout=WITHIN_S)


def ask_by_http(package: Path, pages: Sequence[RawPage]) -> Answers:
    """Return the answers of `POST /v1/extract`."""
    import httpx

    answers = []
    with (
        served_package(package) as url,
        httpx.Client(base_url=url, timeout=WITHIN_S, trust_env=False) as http,
    ):
        for page in pages:
            body = http.post("/v1/extract", json={"html": page.text, "task": page.task}).json()
            answers.append(answer_text(body.get("value"), body.get("refusal")))
    return answers


def ask_by_chat(package: Path, pages: Sequence[RawPage]) -> Answers:
    """Return the answers of the chat API, by the client of OpenAI."""
    import httpx
    import openai

    answers = []
    with (
        served_package(package) as url,
        httpx.Client(timeout=WITHIN_S, trust_env=False) as http,
        openai.OpenAI(
            base_url=f"{url}/v1", api_key="none", max_retries=0, http_client=http
        ) as client,
    ):
        for page in pages:
            messages: Any = [{"role": "user", "content": page.text}]
            try:
                reply = client.chat.completions.create(model=page.task, messages=messages)
            except openai.APIStatusError as error:
                answers.append(f"refused: {error.code}")
            else:
                content = reply.choices[0].message.content or ""
                answers.append(jsonio.canonical_json(json.loads(content)))
    return answers


def ask_by_batch(package: Path, pages: Sequence[RawPage]) -> Answers:
    """Return the answers of `package.predict`."""
    with tempfile.TemporaryDirectory() as work:
        source, target = Path(work, "pages.jsonl"), Path(work, "answers.jsonl")
        rows = [
            {"id": str(number), "task": page.task, "html": page.text}
            for number, page in enumerate(pages)
        ]
        files.write_rows(source, rows)
        words = ("--path", str(package), "--input", str(source), "--output", str(target))
        subprocess.run(
            sem_command("package.predict", *words),
            check=True,
            capture_output=True,
            env=os.environ | ENVIRONMENT,
        )
        answers = {
            row["id"]: answer_text(row["value"], row["refusal"]) for row in files.read_rows(target)
        }
    return [answers.get(str(number), "no row") for number in range(len(pages))]


def ask_by_mcp(package: Path, pages: Sequence[RawPage]) -> Answers:
    """Return the answers of the tool `extract`, by the SDK's own client over stdio."""
    from mcp import Client, StdioServerParameters

    async def ask(folder: Path) -> Answers:
        program, *words = sem_command("mcp", "--path", str(package), "--pages", str(folder))
        # The SDK hands on no more of the environment than what a shell needs.
        passed = {name: v for name, v in os.environ.items() if name.startswith(("SEM_", "OMP_"))}
        started = StdioServerParameters(
            command=program, args=words, env=passed | ENVIRONMENT, cwd=str(folder)
        )
        answers = []
        async with Client(started, read_timeout_seconds=WITHIN_S) as client:
            for number, page in enumerate(pages):
                arguments = {"file": str(number), "task": page.task}
                body = (await client.call_tool("extract", arguments)).structured_content
                answers.append(answer_text(body.get("value"), body["refusal"]))
        return answers

    with tempfile.TemporaryDirectory() as work:
        for number, page in enumerate(pages):
            Path(work, str(number)).write_bytes(page.path.read_bytes())
        return asyncio.run(ask(Path(work)))


WAYS: dict[str, Way] = {
    REFERENCE: ask_by_python,
    "command, `opensem ask`": ask_by_command,
    "HTTP, `POST /v1/extract`": ask_by_http,
    "HTTP, the chat API by `openai`": ask_by_chat,
    "batch, `package.predict`": ask_by_batch,
    "MCP, the tool `extract`": ask_by_mcp,
}


def list_pages(package: Path, sources: Sequence[Path], work: Path, most: int) -> list[RawPage]:
    """Return at most `most` pages of `sources`, spread over them; those of stores lie in `work`."""
    tasks = sorted(contracts.read_contract(package).tasks)
    pages: list[RawPage] = []
    for source in sources:
        if source.suffix == ".duckdb":
            pages += _stored_pages(source, tasks, work)
            continue
        paths = sorted(source.rglob("*")) if source.is_dir() else [source]
        pages += [RawPage(path, task) for path in paths if path.is_file() for task in tasks]
    step = max(1, -(-len(pages) // most))
    return pages[::step]


def _stored_pages(source: Path, tasks: Sequence[str], work: Path) -> Iterator[RawPage]:
    with store.open_store(source) as opened:
        for number, row in enumerate(sorted(opened.rows(), key=lambda row: str(row.id))):
            task = row.task or tasks[0]
            if task in tasks and row.input_text is not None:
                path = work / f"{source.parent.name}-{number}.html"
                path.write_text(row.input_text, "utf-8")
                yield RawPage(path, task)


def main(argv: list[str] | None = None) -> None:
    parser = console.make_argument_parser(__doc__)
    parser.add_argument("package", type=Path)
    parser.add_argument("pages", type=Path, nargs="+")
    parser.add_argument("--most", type=int, default=20, help="pages, spread over all of them")
    args = parser.parse_args(argv)
    # The pages of a store live as long as they are asked.
    with tempfile.TemporaryDirectory() as work:
        pages = list_pages(args.package, args.pages, Path(work), args.most)
        answers, seconds = {}, {}
        for name, ask in WAYS.items():
            began = time.monotonic()
            answers[name] = ask(args.package, pages)
            seconds[name] = time.monotonic() - began
            console.print_note(f"{name}: {seconds[name]:.0f} s")
    reference = answers[REFERENCE]
    values = sum(not answer.startswith("refused: ") for answer in reference)
    lines = [
        "# One page by every way to ask a package",
        "",
        f"Command: `python benchmarks/quality/equal_answers.py {' '.join(map(str, argv or sys.argv[1:]))}`.",
        f"{machine()}; package {args.package.name}.",
        "",
        f"{len(pages)} raw pages; Python answers {values} of them and refuses {len(pages) - values}.",
        "Equal: the same JSON byte for byte, or the same reason of a refusal.",
        "",
        "| way | equal answers | s, with the start of its process |",
        "|---|---|---|",
        *(
            f"| {name} | {_equal(answers[name], reference)} | {seconds[name]:.0f} |"
            for name in WAYS
        ),
        "",
        *_differences(answers, reference, pages),
    ]
    path = ROOT / "benchmarks" / "results" / "equal_answers.md"
    console.print_output_path(files.write_file(path, "\n".join(lines).rstrip() + "\n"))


def _equal(answers: Answers, reference: Answers) -> str:
    count = sum(own == other for own, other in zip(answers, reference, strict=True))
    return f"{count} of {len(reference)}"


def _differences(
    answers: dict[str, Answers], reference: Answers, pages: Sequence[RawPage]
) -> Iterator[str]:
    for name, own in answers.items():
        for page, mine, theirs in zip(pages, own, reference, strict=True):
            if mine != theirs:
                yield f"- {name}, {page.path.name} ({page.task}): `{mine[:200]}`, not `{theirs[:200]}`"


if __name__ == "__main__":
    main()

"""The face of every script: flags, tables, progress, errors and exit codes.

Results go to stdout, progress and notes to stderr, the path of the result on the last line.
"""

import argparse
import errno
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from sem.core.errors import SemError, missing_package

# Tables of Markdown reports; whoever fills a cell makes strangers' text inert first.


def format_markdown_table(columns: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Return `columns` and `rows` as one table, cells as they are."""
    return "\n".join([_line(columns), "|" + " --- |" * len(columns), *map(_line, rows)])


def titled_table(title: str, columns: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Return `title` over the table of `rows`, or over `none` where there are none."""
    rows = list(rows)
    return f"## {title}\n\n{format_markdown_table(columns, rows) if rows else 'none'}\n"


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


# Set before any of these libraries is imported: no telemetry, no look-ups, same order every time.
DEFAULT_ENVIRONMENT = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_OFFLINE": "1",
    "WANDB_SILENT": "true",
    "WANDB_ERROR_REPORTING": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Threads that wait by spinning lose 3 to 10 times the speed when another job shares the cores.
    "OMP_WAIT_POLICY": "passive",
    # The default of 1,024 recompiles kernels.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "4096",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}


def make_argument_parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser that shows the script's own docstring."""
    return argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )


# Set by what leaves threads behind that the interpreter would abort on, with another exit code.
_leaves_at_once = False


def skip_teardown() -> None:
    """Let this process end without the interpreter's own end; its output is written first."""
    global _leaves_at_once
    _leaves_at_once = True


def exit_process(code: int) -> NoReturn:
    """End this process with the exit `code`."""
    if _leaves_at_once:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def run_main(main: Callable[[], None]) -> NoReturn:
    """Run `main` and leave with its exit code: 0 done, 1 user error, 2 usage, 3 insufficient."""
    _set_environment()
    try:
        main()
        _note_unread_overrides()
        sys.stdout.flush()
    except SemError as error:
        exit_with_error(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        missing = missing_package(error)
        if missing is None:
            raise
        exit_with_error(str(missing), missing.exit_code)
    except KeyboardInterrupt:
        exit_with_error(
            "interrupted\n       run the same command again to continue from here", 130
        )
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG):
            raise
        where = error.filename or "the output folder"
        exit_with_error(
            f"cannot write {where}: {error.strerror}\n"
            "       free space or correct its permissions, then run again",
            1,
        )
    sys.exit(0)


def _note_unread_overrides() -> None:
    from sem.core import project

    for text in project.unread_overrides():
        print_note(f"note: --set {text}: this job does not read {text.partition('.')[0]}.yaml")


def _set_environment() -> None:
    from sem.core import projects

    # What is exported wins, then the tree's own file, then the checkout's.
    folders = (projects.marked_tree(), projects.ROOT if projects.IS_CHECKOUT else None)
    for env in dict.fromkeys(folder / ".env" for folder in folders if folder):
        # The tree may be a folder above this one: what a stranger put there sets no key of ours.
        if env.exists() and is_own_file(env):
            from dotenv import load_dotenv

            load_dotenv(env, override=False)
    for name, value in DEFAULT_ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def is_own_file(path: Path) -> bool:
    """Return True if `path` belongs to this user or to the administrator."""
    return not hasattr(os, "getuid") or path.stat().st_uid in (os.getuid(), 0)


def exit_with_error(text: str, code: int) -> NoReturn:
    """Say `text` on stderr as an error and exit with `code`."""
    print(f"error: {replace_control_characters(as_typed_here(text))}", file=sys.stderr)
    exit_process(code)


def as_typed_here(text: str) -> str:
    """Return `text` with its commands as they are typed here.

    Where there is no checkout there is no fabfile: `fab A B` is `opensem A && opensem B`. Who
    typed `opensem` is not told its alias; the checkout's own command says what was typed.
    """
    from sem.core import projects

    if projects.IS_CHECKOUT and os.environ.get("SEM_TYPED") != "opensem":
        return text
    if not projects.IS_CHECKOUT:
        text = re.sub(r"`fab ([^`]+)`", _as_verbs, text)
    return text.replace("opensem-cli ", "opensem ")


def _as_verbs(command: re.Match[str]) -> str:
    words = command[1].split(" ")
    jobs = list(itertools.takewhile(lambda word: "." in word and word[0] != "-", words))
    flags = " ".join(words[len(jobs) :])
    verbs = (f"opensem {job}" for job in jobs or [""])
    return "`" + " && ".join(f"{verb} {flags}".rstrip() for verb in verbs) + "`"


def replace_control_characters(text: str) -> str:
    """Return `text` without the control characters that steer a terminal."""
    return "".join(
        c if c in "\n\t" or c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def print_note(text: str) -> None:
    """Tell the user something on stderr."""
    print(replace_control_characters(as_typed_here(text)), file=sys.stderr)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table on stdout; cells are data, never markup."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(Text(column), justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*(Text(replace_control_characters(str(cell))) for cell in row))
    width = None if sys.stdout.isatty() else 120
    Console(width=width, highlight=False).print(table)


def print_marked_text(title: str, parts: Iterable[tuple[str, str, bool]]) -> None:
    """Print `title` and `parts` (text, style, whether it stands out) as one text on stdout.

    In colour on a terminal; elsewhere what stands out is set between ⟦ and ⟧.
    """
    from rich.console import Console
    from rich.text import Text

    output, inside = Text(f"{title}\n", style="bold"), False
    plain = not sys.stdout.isatty()
    for text, style, stands_out in parts:
        if plain and stands_out != inside:
            output.append("⟦" if stands_out else "⟧")
        inside = stands_out
        output.append(replace_control_characters(text), style=style)
    if plain and inside:
        output.append("⟧")
    Console(highlight=False, soft_wrap=True).print(output, "")


def read_version(text: str | None) -> int | None:
    """Return the snapshot number in `text` (`3` or `v3`), None for the latest."""
    if text is None:
        return None
    digits = str(text).removeprefix("v")
    if not digits.isascii() or not digits.isdigit() or not 0 < int(digits) < 1_000_000:
        raise SemError(f"snapshot {text!r} is not a version", "write it as 3 or v3")
    return int(digits)


def show_progress(
    items: Iterable[Any], total: int | None, label: str, weight: bool = False
) -> Iterator[Any]:
    """Yield `items` unchanged, with a bar on stderr: `label`, count, time left.

    With `weight` an item is the number of rows it settles, else each item counts one.
    """
    with progress_bar() as bar:
        task = bar.add_task(label, total=total)
        for item in items:
            bar.advance(task, item if weight else 1)
            yield item


def progress_bar() -> Any:
    """Return a progress bar on stderr: label, count, time gone, time left."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True))


def ask_yes_no(question: str) -> bool:
    """Return whether a person answers `question` with y or yes; nobody there is a no."""
    print(f"{replace_control_characters(question)} [y/N] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        print(file=sys.stderr)
    return answer.strip().lower() in ("y", "yes")


def print_output_path(path: Path | str) -> None:
    """Name the result on the last line of stdout, relative to the working directory if below."""
    path = Path(path)
    display_path = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    print(display_path)

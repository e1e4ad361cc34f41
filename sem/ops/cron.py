"""One line of a crontab, in a marked block that is ours to replace."""

import shlex
import subprocess
import sys
from pathlib import Path

from sem.core.errors import SemError
from sem.core.project import Project

LIMIT_S = 6 * 3600


def cron_line(project: Project) -> str:
    """Return the hourly line: a missed night is caught up within the hour, and none runs twice.

    Absolute paths and quotes, because cron has another PATH and folder; `%` is a new line there.
    """
    log = project.root / "reports" / project.sem / "nightly" / "cron.log"
    script = project.root / "scripts" / "ops_nightly.py"
    words = ["timeout", str(LIMIT_S), sys.executable, str(script), f"--sem={project.sem}"]
    command = f"mkdir -p {shlex.quote(str(log.parent))} && {shlex.join(words)}"
    return f"17 * * * * {command} >>{shlex.quote(str(log))} 2>&1".replace("%", "\\%")


def insert_cron_block(text: str, project: Project) -> str:
    """Return the crontab `text` with the block of `project` in it once, everything else as it
    was.
    """
    first, last = (f"# {edge} sem nightly {project.sem}" for edge in ("begin", "end"))
    lines, inside = [], False
    for row in text.splitlines():
        inside = inside or row == first
        if not inside:
            lines.append(row)
        inside = inside and row != last
    return "\n".join([*lines, first, cron_line(project), last]) + "\n"


def write_crontab(project: Project) -> None:
    """Put the block of `project` into this user's crontab."""
    try:
        read = subprocess.run(["crontab", "-l"], capture_output=True, text=True)
    except FileNotFoundError as error:
        raise SemError(
            "there is no crontab program here",
            "install cron, or leave out --write: the line is printed",
        ) from error
    if read.returncode and "no crontab" not in read.stderr:
        raise SemError(
            f"crontab -l: {read.stderr.strip()[:200]}", "ask the administrator of this machine"
        )
    process = subprocess.run(
        ["crontab", "-"],
        input=insert_cron_block(read.stdout, project),
        capture_output=True,
        text=True,
    )
    if process.returncode:
        raise SemError(f"crontab: {process.stderr.strip()[:200]}", "the crontab is as it was")


def cron_log_path(project: Project) -> Path:
    """Return where cron's output goes."""
    return project.root / "reports" / project.sem / "nightly" / "cron.log"

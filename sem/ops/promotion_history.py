"""Which run served when: the history of promotions, and the way back to one before.

    promotion_history.roll_back(project, None, reason="prices are wrong", at=now)

promoted.json is what counts, and is written first; then promotions.jsonl gets a line. A start that
was killed in between left a promotion that the history lacks: whoever comes next adds it.
"""

import getpass
import socket
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sem.core import files, jsonio, run, state
from sem.core.errors import SemError, suggest_nearest_name
from sem.core.project import Project
from sem.core.state import Promoted

HISTORY = "promotions.jsonl"
ROLLBACK = "rollback"


def history_path(project: Project) -> Path:
    """Return where the history lies."""
    return project.models / HISTORY


def record_promotion(project: Project, entry: Mapping[str, Any]) -> None:
    """Make `entry` the promotion that counts; its run before, and by whom, are added to it.

    Only within `hold_publish_lock`: of two promotions at once, the second follows the first.
    """
    mend_history(project)
    before = run.read_promotion(project)
    told = {"before": before["run"] if before else None, "by": _person(), **entry}
    files.write_file(project.promoted, jsonio.pretty_json(told))
    mend_history(project)


def mend_history(project: Project) -> None:
    """Add promoted.json to the history where the history does not end with it."""
    promotion = run.read_promotion(project)
    entries = _read(project)
    if promotion is None or (entries and entries[-1] == promotion):
        return
    with files.open_for_append(history_path(project)) as file:
        files.append_row(file, promotion)


def read_history(project: Project) -> list[Promoted]:
    """Return every promotion, oldest first, the one of a killed start included."""
    with run.hold_publish_lock(project.models):
        mend_history(project)
        return _read(project)


def _read(project: Project) -> list[Promoted]:
    path = history_path(project)
    if not path.exists():
        return []
    # A killed writer's torn last line is cut by whoever appends next.
    lines = path.read_bytes().split(b"\n")[:-1]
    return [
        state.check_state(_parse(path, number, line), Promoted, f"{path}:{number}")
        for number, line in enumerate(lines, 1)
    ]


def _parse(path: Path, number: int, line: bytes) -> Any:
    try:
        return jsonio.parse_json(line.decode("utf-8"))
    except ValueError as error:
        raise SemError(f"{path}:{number}: not JSON: {error}", "restore it from a copy") from error


def _person() -> str:
    """Return who promotes: a user of a machine."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    # A container's user may have no name.
    except (KeyError, OSError):
        return f"somebody@{socket.gethostname()}"


def roll_back(project: Project, run_id: str | None, reason: str, at: datetime) -> str:
    """Let the run before the promoted one serve again, or `run_id`, which served once.

    Return its id. Raise SemError when there is none, or it is tainted or no longer there.
    """
    with run.hold_publish_lock(project.models):
        mend_history(project)
        target = _target(_read(project), run_id)
        if not (project.adapters / target).is_dir():
            raise SemError(
                f"run {target} served before, and is no longer in {project.adapters}",
                "restore it, or name another with --to",
            )
        found = run.find_run(project, target)
        run.refuse_tainted(found.folder, f"run {target}")
        entry = {
            "format": "promoted.v1",
            "run": target,
            "promoted_at": at.isoformat(),
            "gate": {"verdict": None, "sha256": None},
            "gate_faults": [],
            "reason": reason,
            "action": ROLLBACK,
        }
        record_promotion(project, entry)
    return target


def _target(entries: Sequence[Promoted], run_id: str | None) -> str:
    """Return the run to go back to."""
    served = _standing(entries)
    if not served:
        raise SemError("no run was ever promoted", "name one with `fab ops.promote`")
    if run_id == served[-1]:
        raise SemError(f"run {run_id} is the promoted one", "name another with --to")
    if run_id is None:
        if len(served) < 2:
            raise SemError(
                f"no run served before {served[-1]}", "promote another with `fab ops.promote`"
            )
        return served[-2]
    names = {entry["run"] for entry in entries}
    if run_id not in names:
        raise SemError(
            f"run {run_id!r} never served: a rollback asks no gate",
            f"promote it with `fab ops.promote`; {suggest_nearest_name(run_id, names)}",
        )
    return run_id


def _standing(entries: Sequence[Promoted]) -> list[str]:
    """Return the runs that a rollback can go back through, the promoted one last.

    After A, B, C and a rollback to B it is A, B: the next one goes to A and not to C again.
    """
    standing: list[str] = []
    for entry in entries:
        if entry.get("action") == ROLLBACK and entry["run"] in standing:
            del standing[standing.index(entry["run"]) + 1 :]
        elif not standing or standing[-1] != entry["run"]:
            standing.append(entry["run"])
    return standing


COLUMNS = ("when", "run", "what", "gate", "by", "why")


def history_rows(entries: Sequence[Promoted]) -> list[tuple[str, ...]]:
    """Return a row of COLUMNS for each promotion."""
    return [
        (
            entry.get("promoted_at") or "-",
            entry["run"],
            entry.get("action") or "promote",
            str((entry.get("gate") or {}).get("verdict") or "-"),
            entry.get("by") or "-",
            entry.get("reason") or "-",
        )
        for entry in entries
    ]

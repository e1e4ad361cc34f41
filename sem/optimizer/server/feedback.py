"""What people thought of rewrites: appended durably, keys redacted, for the next training run."""

import asyncio
import errno
import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sem.core import files
from sem.core.errors import Busy
from sem.lm.api import redact
from sem.optimizer.server.refusal import Refusal

log = logging.getLogger("sem.serve")
FILE = Path("data") / "optimizer" / "feedback.jsonl"
SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG, errno.EIO)


class Feedback:
    """The file `path`, which grows to `most_bytes` and no further."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        self.path = path
        self._most_bytes = most_bytes
        # One thread, and of its own: a slow disk holds up feedback alone.
        self._pool = ThreadPoolExecutor(1, "feedback")

    async def keep(self, row: dict[str, Any], model: str | None) -> None:
        """`add` away from the event loop."""
        await asyncio.get_running_loop().run_in_executor(self._pool, self.add, row, model)

    def add(self, row: dict[str, Any], model: str | None) -> None:
        """Append `row` with the time and `model`; Refusal 503 when it cannot be kept."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        entry = {k: redact.redacted(v) if isinstance(v, str) else v for k, v in row.items()}
        try:
            with files.lock(self.path.with_suffix(".lock"), str(self.path)):
                self._append(entry | {"at": at, "model": model})
        except Busy as error:
            raise Refusal(503, "feedback_busy", "feedback is being read; try again", 1) from error
        except OSError as error:
            if error.errno not in SPACE:
                raise
            log.error("feedback_not_kept", extra={"facts": {"errno": error.errno}})
            raise Refusal(503, "feedback_not_kept", "feedback cannot be kept now", 60) from error

    def _append(self, row: dict[str, Any]) -> None:
        with files.appending(self.path) as file:
            if file.seek(0, 2) + len(str(row)) > self._most_bytes:
                raise Refusal(503, "feedback_full", "no more feedback is taken", 3_600)
            files.append_row(file, row)

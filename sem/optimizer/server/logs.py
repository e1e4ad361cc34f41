"""One JSON object a line on stderr: what was asked and how it ended, never what a prompt says."""

import logging
import os
import sys
import traceback
from datetime import UTC, datetime

from sem.core import jsonio
from sem.lm.api import redact


class AsJson(logging.Formatter):
    """A record as one line of canonical JSON, keys redacted."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entry = {"at": at, "level": record.levelname.lower(), "event": record.getMessage()}
        entry |= getattr(record, "facts", {})
        if record.exc_info:
            entry["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        return redact.redacted(jsonio.canonical_json(entry))


def to_stderr() -> None:
    """Send what the service, its libraries and Python's warnings say to stderr as JSON lines."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # of loading: no JSON
    logging.captureWarnings(True)
    spoken = logging.StreamHandler(sys.stderr)
    spoken.setFormatter(AsJson())
    for name in ("sem.serve", "uvicorn.error", "asyncio", "py.warnings"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [spoken], False
        logger.setLevel(logging.INFO if name == "sem.serve" else logging.WARNING)

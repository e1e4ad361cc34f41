"""Pages and answers of a running expert, appended to files that `dataset.import` reads.

    {"input_text": "<html>…", "task": "price", "metadata": {"answer": {…}, "confidence": …}, …}

Pages stand there as they came, personal data included: the owner switches it on, and cleaning
hides them later, as in every import.
"""

import errno
import logging
import os
import uuid
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sem.core import files, provenance
from sem.core.errors import SemError
from sem.package.serve.expert import Extraction, PageQuestion
from sem.package.serve.http.settings import ExpertSettings

log = logging.getLogger("sem.serve")
PATTERN = "capture-*.jsonl"


class CaptureFolder:
    """The files of captures in `folder`, which grow to a bound and no further."""

    def __init__(self, folder: Path, package: str, settings: ExpertSettings) -> None:
        self._folder, self._package, self._settings = folder, package, settings
        try:
            # Other people's pages: for the owner alone.
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SemError(
                f"{folder}: cannot hold captures: {error.strerror}", "name another --capture"
            ) from error
        self._path: Path | None = None
        self._number = 0

    def append(self, pairs: Sequence[tuple[PageQuestion, Extraction]]) -> int:
        """Append every answered page; return how many could not be kept, for want of room.

        A fault of the disk is logged, and never costs a client its answer.
        """
        rows = [
            capture_row(question, extraction, self._package, self._settings, provenance.utc_now())
            for question, extraction in pairs
            if extraction.refusal is None
        ]
        stored = 0
        try:
            for row in rows:
                if (path := self._file_with_room()) is None:
                    break
                with files.open_for_append(path) as file:
                    files.append_row(file, row)
                stored += 1
        except OSError as error:
            reason = errno.errorcode.get(error.errno or 0, "unknown")
            log.error("capture_failed", extra={"facts": {"errno": reason}})
        return len(rows) - stored

    def _file_with_room(self) -> Path | None:
        """Return the file that takes the next row; None when the folder is full."""
        most = self._settings.capture_mib << 20
        if self._path and self._path.exists() and self._path.stat().st_size < most:
            return self._path
        if len(list(self._folder.glob(PATTERN))) >= self._settings.capture_files:
            return None
        moment = provenance.utc_now().strftime("%Y%m%dT%H%M%S")
        self._number += 1
        self._path = self._folder / f"capture-{moment}-{os.getpid()}-{self._number:04d}.jsonl"
        return self._path


def capture_row(
    question: PageQuestion,
    extraction: Extraction,
    package: str,
    settings: ExpertSettings,
    at: datetime,
) -> dict[str, Any]:
    """Return `question` and its answer as a row of the store, named by what it holds."""
    confidences = {name: slot.confidence for name, slot in extraction.slots.items()}
    metadata = {
        "url": question.url,
        "answer": extraction.value,
        "confidence": extraction.confidence,
        "slot_confidence": confidences,
        "fallback": extraction.fallback and extraction.fallback.as_json(),
    }
    row = {
        # Not of the content: a page may come twice, and one id with two times is a conflict.
        "id": f"capture-{uuid.uuid4().hex}",
        "task": extraction.task,
        "page_type": question.page_type,
        "input_text": question.page,
        "metadata": {name: value for name, value in metadata.items() if value is not None},
        # What a capture says of itself: `metadata.capture`, once it is imported.
        "model_name": package,
        "input_tokens": extraction.tokens_in,
        "output_tokens": extraction.tokens_out,
        "latency_ms": round(extraction.seconds * 1000),
        "created_at": at.isoformat(timespec="seconds"),
    }
    if settings.capture_references:
        row["output_json"] = extraction.value
    return {name: value for name, value in row.items() if value is not None}

"""Follow a job on a host by its log, from the byte where the last look ended, to its exit code."""

import base64
import codecs
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sem.core import console, files
from sem.core.errors import SemError
from sem.train.remote.agent import Agent, Unreachable
from sem.train.remote.far.jobs import ENDED

# The host answers at once when there is more.
WAIT_S = 15.0
Json = dict[str, Any]


@dataclass(frozen=True)
class Log:
    """The copy here of the log of one attempt."""

    path: Path

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def add(self, data: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write(data)


def follow_job(agent: Agent, sem: str, run: str, folder: Path, attempt: str | None = None) -> Json:
    """Return the last state of the job, its whole log in `folder` and on stderr as it grows.

    Unreachable when the line stays cut: the next call goes on from the byte where this one was.
    """
    named = {"sem": sem, "run": run, **({"attempt": attempt} if attempt else {})}
    first = agent.ask("tail", {**named, "offset": 1 << 53, "wait_s": 0})
    named["attempt"] = first["attempt"]
    log = Log(folder / f"log.{first['attempt']}")
    # Of another host, or of a job that was removed there.
    if log.size() > first["log"]:
        log.path.unlink()
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while True:
        request = {**named, "offset": log.size(), "wait_s": WAIT_S}
        try:
            reply = agent.ask("tail", request, more_s=WAIT_S)
        except Unreachable as error:
            raise Unreachable(
                error.message,
                f"the job there goes on; `fab -H {agent.named} train.attach --run {run}` shows "
                f"the rest from byte {log.size():,}",
            ) from error
        data = base64.b64decode(reply.pop("data"))
        log.add(data)
        print_log(decoder.decode(data))
        if reply["state"] in ENDED and "log_sha256" in reply:
            return _whole(log, reply)


def _whole(log: Log, reply: Json) -> Json:
    """Return `reply`, once the log here is byte for byte the one there."""
    here = files.sha256_file(log.path) if log.path.exists() else ""
    if here != reply["log_sha256"] and reply["log"]:
        log.path.unlink()
        raise SemError(
            f"{log.path.name} differs from the log on the host", "attach again: it is read anew"
        )
    return reply


def print_log(text: str) -> None:
    """Print `text` of a log to stderr, without what steers a terminal."""
    print(console.printable(text.replace("\r", "\n")), end="", file=sys.stderr, flush=True)


def state_words(job: Json) -> str:
    """Return the state of a job for a person, as `failed: ENOSPC` or `lost: host rebooted`."""
    why, code = job.get("why") or "", job.get("code")
    if job["state"] in ("running", "starting", "done") and not why:
        return str(job["state"])
    return f"{job['state']}: {why or f'exit {code}'}"

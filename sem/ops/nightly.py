"""One night: the promoted run answers again, is judged, and is compared with its own record.

The first night after a promotion is the record. Decoding is greedy, so on the same machine every
answer is the same; what differs later is drift of weights, libraries, hardware or the judge.
"""

import hashlib
import hmac
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from sem.core import files, jsonio, run, state
from sem.core.errors import SemError
from sem.core.project import Project
from sem.eval.answers import answers, golden, subject
from sem.eval.answers.subject import EvalSubject
from sem.eval.judge import judge_config, judge_session, verdicts
from sem.eval.report import compare
from sem.eval.scoring import metrics, scoring
from sem.eval.stats import paired_stats
from sem.lm.api import redact, wire
from sem.ops.config import Nightly

# Ring: a file that stays until the next good night, and a signed webhook.
#
# $SEM_WEBHOOK_URL gets a POST; its body is signed with $SEM_WEBHOOK_SECRET as `X-Sem-Signature:
# sha256=HMAC` over `TIMESTAMP.BODY`, TIMESTAMP being `X-Sem-Timestamp`.

TRIES = 3
# Of one try, from the connection to the last byte.
TIMEOUT_S = 10.0


def send_alert(path: Path, night: dict[str, Any]) -> str:
    """Write the alert of `night` to `path` and send it; one line that says what became of it."""
    files.write_file(path, jsonio.pretty_json(night))
    url, secret = os.environ.get("SEM_WEBHOOK_URL"), os.environ.get("SEM_WEBHOOK_SECRET")
    if not url:
        return "webhook: none configured (SEM_WEBHOOK_URL)"
    if not secret:
        raise SemError(
            "SEM_WEBHOOK_URL is set without SEM_WEBHOOK_SECRET",
            "set the secret too: an unsigned alert can be forged",
        )
    redact.mask_secret(secret)
    try:
        return f"webhook: answered {_send(url, secret, jsonio.canonical_json(night), night['at'])}"
    except Exception as error:  # the alert file and the exit code stand whatever the network says
        return f"webhook: not delivered after {TRIES} tries: {type(error).__name__}"


def sign_webhook(secret: str, timestamp: str, body: str) -> str:
    """Return the value of X-Sem-Signature.

    It is the HMAC-SHA256 (RFC 2104) of `timestamp`, a dot and `body`.
    """
    message = f"{timestamp}.{body}".encode()
    return "sha256=" + hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def _send(url: str, secret: str, body: str, timestamp: str) -> int:
    from tenacity import Retrying, stop_after_attempt, wait_exponential

    headers = {
        "Content-Type": "application/json",
        "X-Sem-Timestamp": timestamp,
        "X-Sem-Signature": sign_webhook(secret, timestamp, body),
    }
    for attempt in Retrying(
        stop=stop_after_attempt(TRIES), wait=wait_exponential(multiplier=0.2), reraise=True
    ):
        with attempt:
            wire.begin_wire(TIMEOUT_S)
            with wire.wire_client() as client:
                sent = client.post(url, content=body, headers=headers, timeout=TIMEOUT_S)
            sent.raise_for_status()
    return sent.status_code


@dataclass(frozen=True)
class NightlyFolder:
    """Where the nights of one sem are kept."""

    project: Project
    settings: Nightly

    @property
    def folder(self) -> Path:
        return self.project.root / "reports" / self.project.sem / "nightly"

    @property
    def history(self) -> Path:
        return self.folder / "history.jsonl"

    @property
    def alert(self) -> Path:
        return self.folder / "ALERT.json"

    def record(self, run_id: str) -> Project:
        """Return the project whose reports are the record of `run_id`."""
        return replace(self.project, reports_at=self.folder / "record" / run_id)

    def night(self, at: datetime) -> Project:
        """Return the project whose reports are those of the night of `at` (UTC date)."""
        return replace(self.project, reports_at=self.folder / f"{at:%Y-%m-%d}")


def load_nightly_folder(project: Project) -> NightlyFolder:
    """Return the Desk of `project`."""
    return NightlyFolder(project, project.settings("nightly", Nightly))


# The status of a night that could not compare anything.
FAILED = "failed"


def nights_of(night_desk: NightlyFolder, at: datetime) -> list[dict[str, Any]]:
    """Return the rows of the history that are of the UTC date of `at`, the oldest first."""
    day = f"{at:%Y-%m-%d}"
    rows = (
        state.read_state_rows(night_desk.history, state.Night)
        if night_desk.history.exists()
        else ()
    )
    return [row for row in rows if row["date"] == day]


def status_of_night(night_desk: NightlyFolder, at: datetime) -> str | None:
    """Return how the night of `at` ended, `ok` or `regressed`; None where it has not run.

    A night that failed has not run: cron's next call tries it again.
    """
    ended = [row["status"] for row in nights_of(night_desk, at) if row["status"] != FAILED]
    return ended[-1] if ended else None


def run_night(night_desk: NightlyFolder, at: datetime) -> dict[str, Any]:
    """Run the night of `at` and return its row.

    The history gets one row whatever happens, and an alert is sent when it deserves one.
    """
    began = time.monotonic()
    night: dict[str, Any] = {"date": f"{at:%Y-%m-%d}", "at": at.isoformat(), "splits": {}}
    try:
        night["run"] = run.promoted_run_id(night_desk.project)
        for split in _splits(night_desk):
            night["splits"][split] = watch_split(night_desk, night["run"], split, at)
        night["status"] = "regressed" if _regressions(night) else "ok"
    except SemError as error:
        night |= {"status": FAILED, "error": error.message}
    except Exception as error:  # the night's row and alert must be written; the type says what
        night |= {"status": FAILED, "error": f"{type(error).__name__}: {str(error)[:300]}"}
    night["seconds"] = round(time.monotonic() - began)
    if night["status"] == "ok":
        night_desk.alert.unlink(missing_ok=True)
    elif _has_rung(night_desk, night, at):
        night["alert"] = "webhook: told of this failure before"
    else:
        night["alert"] = send_alert(night_desk.alert, night)
    with files.open_for_append(night_desk.history) as file:
        files.append_row(file, night)
    night["archived"] = list(archive_old_nights(night_desk, at))
    return night


def _has_rung(night_desk: NightlyFolder, night: dict[str, Any], at: datetime) -> bool:
    """Return whether the same failure has rung on this date.

    Cron tries a failed night every hour.
    """
    before = [row.get("error") for row in nights_of(night_desk, at) if row["status"] == FAILED]
    return night["status"] == FAILED and bool(before) and before[-1] == night["error"]


def watch_split(
    night_desk: NightlyFolder, run_id: str, split: str, at: datetime
) -> dict[str, Any]:
    """Return what the run says on `split` tonight, against its record."""
    tonight = subject.resolve_subject(night_desk.night(at), run_id, split, None)
    subject.answer_subject(tonight)
    judge_note = _judge(night_desk, tonight, at)
    record = replace(tonight, project=night_desk.record(run_id))
    is_first = not record.book.path.exists()
    if is_first:
        _keep(tonight, record)
    was, now = _read(record), _read(tonight)
    before, after = _scores(record, was), _scores(tonight, now)
    change = paired_stats.paired_differences(before, after, "accuracy")
    totals = metrics.compute_totals(after)
    return {
        "n": totals["n"],
        "accuracy": round(totals["accuracy"], 6),
        "json_valid": round(totals["json_valid"], 6),
        "schema_valid": round(totals["schema_valid"], 6),
        "is_record": is_first,
        "difference": change.as_json(),
        "other_answers": sum(was[i].text != now[i].text for i in was.keys() & now.keys()),
        "changed": _changed(record, tonight),
        "regressed": change.high < 0 or change.points < -night_desk.settings.drop_points,
        "judge": judge_note,
    }


def _splits(night_desk: NightlyFolder) -> Iterator[str]:
    for split in night_desk.settings.splits:
        project = night_desk.project
        if split != "golden" or golden.find_golden_set(project) or project.golden.exists():
            yield split


def _regressions(night: dict[str, Any]) -> list[str]:
    return [name for name, split in night["splits"].items() if split["regressed"]]


def _judge(night_desk: NightlyFolder, tonight: EvalSubject, at: datetime) -> str:
    """Judge `tonight`'s answers within the judge's own cap; what became of it, in words."""
    if not night_desk.settings.judge:
        return "off (nightly.judge)"
    if not judge_config.load_judge_config(night_desk.project).calls.models:
        return "none configured"
    session = judge_session.open_session(
        tonight.project, tonight.run.id, tonight.split, None, "slots", "base", at
    )
    for _ in session.hear():
        pass
    return f"{judge_session.session_summary(session)['spending']['usd']:.6f} USD"


def _keep(tonight: EvalSubject, record: EvalSubject) -> None:
    """Copy tonight's answers and verdicts as the record; the answers last."""
    source, target = tonight.book.path.parent, record.book.path.parent
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.glob(f"verdicts.{tonight.split}.json*")):
        files.write_file(target / path.name, path.read_bytes())
    files.write_file(record.book.header_path, tonight.book.header_path.read_bytes())
    files.write_file(record.book.path, tonight.book.path.read_bytes())


def _read(side: EvalSubject) -> dict[str, answers.Answer]:
    return answers.read_answers(side.book.path)


def _scores(side: EvalSubject, answers_by_id: dict[str, answers.Answer]) -> list[scoring.Score]:
    path = side.project.reports / side.run.id / f"verdicts.{side.split}.jsonl"
    scores = compare.score_all_examples(side, answers_by_id, compare.similarity_of(side))
    return verdicts.apply_verdicts(scores, verdicts.load_verdicts(path))


def _changed(record: EvalSubject, tonight: EvalSubject) -> list[str]:
    """Return what the answers depend on that is not as it was for the record."""
    was, now = (side.book.recorded() for side in (record, tonight))
    return sorted(key for key in was.keys() | now.keys() if was.get(key) != now.get(key))


def archive_old_nights(night_desk: NightlyFolder, at: datetime) -> Iterator[str]:
    """Pack nights before `at` into ZIP files and drop the oldest beyond `keep`; their names."""
    nights = [path for path in sorted(night_desk.folder.glob("20??-??-??")) if path.is_dir()]
    for folder in nights:
        if folder.name < f"{at:%Y-%m-%d}":
            shutil.make_archive(str(folder), "zip", folder)
            shutil.rmtree(folder)
            yield f"{folder.name}.zip"
    packed = sorted(night_desk.folder.glob("20??-??-??.zip"))
    for path in packed[: max(0, len(packed) - night_desk.settings.keep)]:
        path.unlink()
        yield f"{path.name} removed (nightly.keep: {night_desk.settings.keep})"

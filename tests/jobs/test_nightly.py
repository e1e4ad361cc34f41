"""A night of the promoted run, as cron runs it: recorded, repeated, regressed, rung."""

import hashlib
import hmac
import json
import subprocess
import sys
from pathlib import Path

import pytest
import warm
from paths import ROOT
from pytest_httpserver import HTTPServer
from toy import rows
from werkzeug import Response

from sem.core import files, jsonio

BARE = {"PATH": "/usr/bin:/bin"}


def start(root: Path, *words: str, **env: str) -> warm.Popen:
    """scripts/WORDS[0].py as cron starts it: another folder, hardly any environment."""
    command = [sys.executable, str(ROOT / "scripts" / f"{words[0]}.py"), *words[1:]]
    chosen = {**BARE, "SEM_ROOT": str(root), "SEM_DEVICE": "cpu", **env}
    return warm.Popen(
        command,
        cwd="/",
        env=chosen,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def sem(root: Path, *words: str, **env: str) -> tuple[int, str]:
    process = start(root, *words, **env)
    out, err = process.communicate(timeout=280)
    return process.returncode, out + err


@pytest.fixture
def trained(toy: Path) -> Path:
    for words in (["dataset_clean"], ["dataset_split"], ["train_prepare"], ["train_run"]):
        code, said = sem(toy, *words, "--sem", "toy")
        assert code == 0, said[-2000:]
    return toy


@pytest.mark.slow
def test_a_promoted_run_is_watched_and_rings_when_it_gets_worse(
    trained: Path, httpserver: HTTPServer
) -> None:
    nightly = trained / "reports/toy/nightly"
    assert sem(trained, "ops_nightly", "--sem", "toy")[0] == 1
    assert "has no promoted run" in files.read_json(nightly / "ALERT.json")["error"]
    code, said = sem(trained, "ops_promote", "--sem", "toy")
    assert (code, "it has no gate verdict" in said) == (1, True)
    assert sem(trained, "ops_promote", "--sem", "toy", "--reason", "the first")[0] == 0

    two = [start(trained, "ops_nightly", "--sem", "toy", "--again") for _ in range(2)]
    ends = [process.communicate(timeout=280) for process in two]
    assert [process.returncode for process in two] == [0, 0], ends
    assert sum("another nightly run is in progress" in err for _, err in ends) == 1
    history = rows(nightly / "history.jsonl")
    assert [night["status"] for night in history] == ["failed", "ok"]
    assert history[1]["splits"]["val"]["is_record"]
    assert not (nightly / "ALERT.json").exists()

    code, said = sem(trained, "ops_nightly", "--sem", "toy")
    assert (code, "has run already" in said) == (0, True)
    code, said = sem(trained, "ops_nightly", "--sem", "toy", "--again")
    again = rows(nightly / "history.jsonl")[-1]["splits"]["val"]
    assert (code, again["other_answers"], again["changed"]) == (0, 0, [])

    improve(trained)
    posted: list[tuple[dict[str, str], bytes]] = []
    httpserver.expect_request("/hook").respond_with_handler(
        lambda request: posted.append((dict(request.headers), request.data)) or Response("ok")
    )
    code, said = sem(
        trained,
        "ops_nightly",
        "--sem",
        "toy",
        "--again",
        SEM_WEBHOOK_URL=httpserver.url_for("/hook"),
        SEM_WEBHOOK_SECRET="s3cret",
    )
    assert (code, "nightly regressed" in said, "s3cret" in said) == (1, True, False)
    assert files.read_json(nightly / "ALERT.json")["splits"]["val"]["regressed"]
    ((headers, body),) = posted
    signed = hmac.new(b"s3cret", f"{headers['X-Sem-Timestamp']}.".encode() + body, hashlib.sha256)
    assert headers["X-Sem-Signature"] == f"sha256={signed.hexdigest()}"
    assert json.loads(body)["status"] == "regressed"


def improve(root: Path) -> None:
    """Make the record what it never was: right everywhere."""
    (path,) = (root / "reports/toy/nightly/record").rglob("answers.val.jsonl")
    references = {
        row["id"]: row["output_json"]
        for row in rows(next((root / "data/toy/processed").glob("val.v*.jsonl")))
    }
    better = [row | {"text": jsonio.canonical_json(references[row["id"]])} for row in rows(path)]
    files.write_rows(path, better)

"""The webhook: signed, bounded in time and size, and never in the way of the alert file."""

import json
import time

import pytest
from chatserver import DRIPS, ChatServer

from sem.lm.api import redact
from sem.ops import nightly

NIGHT = {"at": "2026-11-30T00:00:00+00:00", "verdict": "worse"}


def ring(tmp_path, monkeypatch, script: str) -> tuple[str, int]:
    """Return what became of an alert to a server that answers by `script`, and how often it was
    sent.
    """
    monkeypatch.setattr(nightly, "TIMEOUT_S", 0.3)
    monkeypatch.setenv("SEM_WEBHOOK_SECRET", "not-a-usual-secret")
    with ChatServer(lambda body, number: script) as server:
        monkeypatch.setenv("SEM_WEBHOOK_URL", server.url)
        return nightly.send_alert(tmp_path / "alert.json", NIGHT), len(server.seen)


@pytest.mark.parametrize("script", ["huge", "many", *(f"drip {part}" for part in DRIPS)])
def test_a_webhook_that_drips_or_floods_ends_in_time_and_leaves_the_alert(
    tmp_path, monkeypatch, script
):
    # An answer of 800 MB was read into 1.6 GB, and a header could drip for ever.
    monkeypatch.setattr(nightly, "TRIES", 1)
    began = time.monotonic()

    line, sent = ring(tmp_path, monkeypatch, script)

    # It drips for 8 s and more; a machine that does other things as well is allowed its time.
    assert time.monotonic() - began < 5
    assert line.startswith("webhook: not delivered after 1 tries: ")
    assert sent == 1
    assert json.loads((tmp_path / "alert.json").read_text("utf-8")) == NIGHT


def test_the_secret_of_the_webhook_is_masked_from_then_on(tmp_path, monkeypatch):
    monkeypatch.setattr(redact, "_registered", set())

    line, _ = ring(tmp_path, monkeypatch, "fine")

    assert line == "webhook: answered 200"
    monkeypatch.delenv("SEM_WEBHOOK_SECRET")
    assert "not-a-usual-secret" not in redact.redact_secrets("got not-a-usual-secret")

"""Ring: a file that stays until the next good night, and a signed webhook.

$SEM_WEBHOOK_URL gets a POST; its body is signed with $SEM_WEBHOOK_SECRET as
`X-Sem-Signature: sha256=HMAC` over `TIMESTAMP.BODY`, TIMESTAMP being `X-Sem-Timestamp`.
"""

import hashlib
import hmac
import os
from pathlib import Path
from typing import Any

from sem.core import files, jsonio
from sem.core.errors import SemError
from sem.lm.api import redact, wire

TRIES = 3
# Of one try, from the connection to the last byte.
TIMEOUT_S = 10.0


def ring(path: Path, night: dict[str, Any]) -> str:
    """Write the alert of `night` to `path` and send it; one line that says what became of it."""
    files.write_file(path, jsonio.pretty(night))
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


def signature(secret: str, timestamp: str, body: str) -> str:
    """Return what X-Sem-Signature holds.

    HMAC-SHA256 (RFC 2104) of `timestamp`, a dot and `body`.
    """
    message = f"{timestamp}.{body}".encode()
    return "sha256=" + hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def _send(url: str, secret: str, body: str, timestamp: str) -> int:
    from tenacity import Retrying, stop_after_attempt, wait_exponential

    headers = {
        "Content-Type": "application/json",
        "X-Sem-Timestamp": timestamp,
        "X-Sem-Signature": signature(secret, timestamp, body),
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

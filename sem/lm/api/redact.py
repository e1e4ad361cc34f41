"""Keys never leave the environment: taken out of every text that is shown, logged or stored."""

import base64
import json
import logging
import os
import re
from functools import lru_cache
from urllib.parse import quote

NAMES = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)\b|_PW\b", re.I)
SHAPES = re.compile(
    r"\b(?:sk|pk|rk|hf|ghp|gho|xox[bap]|wandb)[-_][A-Za-z0-9_-]{8,}|\bAKIA[0-9A-Z]{12,}"
    r"|\bAIza[0-9A-Za-z_-]{20,}|(?<=[Bb]earer )[A-Za-z0-9._~+/=-]{8,}"
)
# a shorter value would blank out ordinary words.
SHORTEST = 6
MASK = "[key]"


# What was read as a key, whatever its variable is called and whatever it looks like.
_registered: set[str] = set()


def mask_secret(value: str) -> None:
    """Mask `value` from now on in every text; called wherever a key is read."""
    if len(value.strip()) >= SHORTEST:
        _registered.add(value.strip())


def redact_secrets(text: str) -> str:
    """Return `text` without the value of any secret and without what looks like a key."""
    for value in known_secrets():
        for spelling in _spellings(value):
            text = text.replace(spelling, MASK)
    return SHAPES.sub(MASK, text)


def known_secrets() -> list[str]:
    """Return the registered keys and the values of secret-looking variables, longest first.

    A variable may also name a file (`CREDENTIALS=/etc/x.json`): a path is masked only where it
    was registered as a key.
    """
    named = {
        value.strip()
        for name, value in os.environ.items()
        if NAMES.search(name) and len(value.strip()) >= SHORTEST and "/" not in value[:1]
    }
    return sorted(named | _registered, key=len, reverse=True)


@lru_cache(maxsize=64)
def _spellings(value: str) -> tuple[str, ...]:
    """Return the ways in which an error echoes `value`.

    As it is, in a URL, in JSON, in Basic auth.
    """
    encoded = base64.b64encode(value.encode()).decode().rstrip("=")
    spellings = (value, quote(value, safe=""), quote(value), json.dumps(value)[1:-1], encoded)
    return tuple(dict.fromkeys(spellings))


class Redacting(logging.Filter):
    """Rewrites each record without keys, its arguments and its traceback too."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = redact_secrets(record.getMessage())
        record.args = ()
        if record.exc_info:
            record.exc_text = redact_secrets(logging.Formatter().formatException(record.exc_info))
            record.exc_info = None
        return True


def redact_loggers(*names: str) -> None:
    """Redact what the loggers called `names` say."""
    for name in names:
        logger = logging.getLogger(name)
        if not any(isinstance(log_filter, Redacting) for log_filter in logger.filters):
            logger.addFilter(Redacting())

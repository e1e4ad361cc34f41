"""Keys never leave the environment: taken out of every text that is shown, logged or stored."""

import logging
import os
import re

NAMES = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)\b|_PW\b", re.I)
SHAPES = re.compile(
    r"\b(?:sk|pk|rk|hf|ghp|gho|xox[bap]|wandb)[-_][A-Za-z0-9_-]{8,}|\bAKIA[0-9A-Z]{12,}"
    r"|\bAIza[0-9A-Za-z_-]{20,}|(?<=[Bb]earer )[A-Za-z0-9._~+/=-]{8,}"
)
SHORTEST = 6  # a shorter value would blank out ordinary words
MASK = "[key]"


def redacted(text: str) -> str:
    """TEXT without the value of any secret variable and without what looks like a key."""
    for value in secrets():
        text = text.replace(value, MASK)
    return SHAPES.sub(MASK, text)


def secrets() -> list[str]:
    """The values of variables that are named like secrets, longest first."""
    found = {
        value.strip()
        for name, value in os.environ.items()
        if NAMES.search(name) and len(value.strip()) >= SHORTEST and "/" not in value[:1]
    }
    return sorted(found, key=len, reverse=True)


class Redacting(logging.Filter):
    """Rewrites each record without keys, its arguments and its traceback too."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = redacted(record.getMessage())
        record.args = ()
        if record.exc_info:
            record.exc_text = redacted(logging.Formatter().formatException(record.exc_info))
            record.exc_info = None
        return True


def watch(*names: str) -> None:
    """Redact what the loggers called NAMES say."""
    for name in names:
        logger = logging.getLogger(name)
        if not any(isinstance(kept, Redacting) for kept in logger.filters):
            logger.addFilter(Redacting())

"""Keys, tokens and passwords in a text, so that none of them leaves the machine in a prompt.

Known forms by their prefixes, private keys by their frame, values of this machine's own secret
variables, and what stands after `password =` when it looks like one. Linear time: each pattern
starts where the run of its letters starts, and a pattern is tried only where its prefix occurs.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from sem.lm.api import redact

MASK = "[SECRET]"
EDGE = r"(?<![A-Za-z0-9_-])"


@dataclass(frozen=True)
class SecretSpan:
    """A secret in a text: what it is, and where."""

    kind: str
    start: int
    end: int


# kind: (one of these must occur, what it looks like)
FORMS = {
    "aws key": (("AKIA", "ASIA"), EDGE + r"(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    "github token": (
        ("gh", "github_pat_"),
        EDGE + r"(?:gh[pousr]_[A-Za-z0-9]{36,251}"
        r"|github_pat_[A-Za-z0-9_]{40,251})",
    ),
    "gitlab token": (("glpat-", "gldt-", "glrt-"), EDGE + r"gl(?:pat|dt|rt)-[A-Za-z0-9_-]{20,64}"),
    "slack token": (("xox", "xapp-"), EDGE + r"(?:xox[abeprs]|xapp)-[A-Za-z0-9-]{10,250}"),
    "slack hook": (("hooks.slack.com",), r"hooks\.slack\.com/services/[A-Za-z0-9/_-]{20,100}"),
    "openai key": (("sk-",), EDGE + r"sk-(?!ant-)[A-Za-z0-9_-]{20,250}"),
    "anthropic key": (("sk-ant-",), EDGE + r"sk-ant-[A-Za-z0-9_-]{20,250}"),
    "stripe key": (("_live_", "_test_"), EDGE + r"[spr]k_(?:live|test)_[A-Za-z0-9]{10,120}"),
    "google key": (("AIza",), EDGE + r"AIza[0-9A-Za-z_-]{35}"),
    "google oauth": (("ya29.", "GOCSPX-"), EDGE + r"(?:ya29\.|GOCSPX-)[A-Za-z0-9_-]{20,250}"),
    "hugging face token": (("hf_",), EDGE + r"hf_[A-Za-z0-9]{30,60}"),
    "npm token": (("npm_",), EDGE + r"npm_[A-Za-z0-9]{36}"),
    "pypi token": (("pypi-",), EDGE + r"pypi-[A-Za-z0-9_-]{50,250}"),
    "sendgrid key": (("SG.",), EDGE + r"SG\.[A-Za-z0-9_-]{16,40}\.[A-Za-z0-9_-]{20,80}"),
    "twilio key": (("SK", "AC"), EDGE + r"(?:SK|AC)[0-9a-f]{32}\b"),
    "mailgun key": (("key-",), EDGE + r"key-[0-9a-f]{32}\b"),
    "telegram token": ((":AA",), EDGE + r"[0-9]{8,10}:AA[A-Za-z0-9_-]{32,34}"),
    "discord hook": (("/api/webhooks/",), r"/api/webhooks/[0-9]{15,21}/[A-Za-z0-9_-]{40,100}"),
    "databricks token": (("dapi",), EDGE + r"dapi[0-9a-f]{32}\b"),
    "digitalocean token": (("do",), EDGE + r"do[opr]_v1_[0-9a-f]{64}"),
    "shopify token": (("shp",), EDGE + r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}"),
    "azure key": (
        ("AccountKey=", "SharedAccessKey="),
        r"(?:Account|SharedAccess)Key=[A-Za-z0-9+/]{40,100}={0,2}",
    ),
    "age key": (("AGE-SECRET-KEY-",), EDGE + r"AGE-SECRET-KEY-1[A-Z0-9]{50,70}"),
    "json web token": (
        ("eyJ",),
        EDGE + r"eyJ[A-Za-z0-9_-]{8,4000}\.eyJ[A-Za-z0-9_-]{8,8000}"
        r"(?:\.[A-Za-z0-9_-]{0,2000})?",
    ),
    "bearer token": (("earer ", "EARER "), r"(?i:\bbearer) ([A-Za-z0-9._~+/-]{20,2000}={0,2})"),
}
PATTERNS = {kind: (hints, re.compile(form)) for kind, (hints, form) in FORMS.items()}
BEGIN = re.compile(
    r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----|"
    r"PuTTY-User-Key-File-[23]:"
)
END = re.compile(r"-----END (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----|Private-MAC: ?\S*")
LONGEST_KEY = 20_000
ADDRESS = re.compile(r"://[^\s/:@\"'<>]{1,64}:([^\s/@\"'<>]{3,200})@[\w.-]")
NAMED = re.compile(
    r"(?:pass(?:word|wd|phrase)|secret|api[_-]?key|(?:access|auth|private|signing|account)"
    r"[_-]?(?:key|token)|passwort|mot de passe)(?:[_-]\w{1,20})?[\"']?[ \t]{0,8}"
    r"(?::=|=>|:|=)[ \t]{0,8}[\"'`]?([^\s\"'`,;<>{}()\[\]]{8,200})",
    re.I,
)
# What documentation writes where a secret goes.
PLACEHOLDER = re.compile(
    r"example|your|my[_-]|xxx|\*\*\*|\.\.\.|changeme|placeholder|dummy|sample|redacted|\$|%|passwor[dt]"
    r"|secret|todo|foo|bar$|env[.(]",
    re.I,
)
# Of Shannon entropy a letter; English words have about 2.5 at that length.
MIN_BITS = 2.8


def find_secrets(text: str) -> list[SecretSpan]:
    """Return the secrets in `text`, by place; spans that touch are one."""
    spans = sorted(_all(text), key=lambda span: (span.start, -span.end))
    secrets: list[SecretSpan] = []
    for secret in spans:
        if secrets and secret.start <= secrets[-1].end:
            last = secrets[-1]
            secrets[-1] = SecretSpan(last.kind, last.start, max(last.end, secret.end))
        else:
            secrets.append(secret)
    return secrets


def hide_secret_spans(text: str, secrets: list[SecretSpan], offset: int = 0) -> str:
    """Return `text`, which begins at `offset` of where `secrets` were found, with a mask for each
    secret.
    """
    parts, position = [], 0
    for secret in secrets:
        start, end = max(0, secret.start - offset), min(len(text), secret.end - offset)
        if start < end:
            parts += [text[position:start], MASK]
            position = end
    return "".join([*parts, text[position:]])


def secrets_within(secrets: list[SecretSpan], start: int, end: int) -> list[SecretSpan]:
    """Return those of `secrets` that have a character from `start` to `end`."""
    return [secret for secret in secrets if secret.start < end and secret.end > start]


def _all(text: str) -> Iterator[SecretSpan]:
    for kind, (hints, pattern) in PATTERNS.items():
        if any(hint in text for hint in hints):
            for match in pattern.finditer(text):
                yield SecretSpan(kind, *match.span(1 if pattern.groups else 0))
    yield from _keys(text)
    yield from _own(text)
    for match in ADDRESS.finditer(text) if "://" in text else ():
        if not PLACEHOLDER.search(match[1]):
            yield SecretSpan("password in an address", *match.span(1))
    for match in NAMED.finditer(text):
        if _looks_secret(match[1]):
            yield SecretSpan("password", *match.span(1))


def _keys(text: str) -> Iterator[SecretSpan]:
    """Private keys with their frame; one that is cut off counts to where it can reach."""
    position = 0
    while begun := BEGIN.search(text, position):
        most = min(len(text), begun.start() + LONGEST_KEY)
        ended = END.search(text, begun.end(), most)
        position = ended.end() if ended else most
        yield SecretSpan("private key", begun.start(), position)


def _own(text: str) -> Iterator[SecretSpan]:
    """Values of this machine's variables that are named like secrets."""
    for value in redact.known_secrets():
        start = text.find(value)
        while start >= 0:
            yield SecretSpan("a variable's value", start, start + len(value))
            start = text.find(value, start + len(value))


def _looks_secret(value: str) -> bool:
    if PLACEHOLDER.search(value) or value.isalpha():
        return False
    counts = Counter(value)
    bits = -sum(n / len(value) * math.log2(n / len(value)) for n in counts.values())
    # `rand::thread_rng` is code: names have neither digits nor such signs.
    return bits >= MIN_BITS and any(c.isdigit() or c in "!#@^&*+?~|" for c in value)

"""What a user can fix.

SemError            exit 1: bad input, failed check
├── Busy            exit 1: another process holds what is needed
└── Insufficient    exit 3: not enough evidence to decide
Anything else that escapes is a bug and keeps its traceback.
"""


class SemError(Exception):
    """A fault a person can fix: `message` says what and where, `hint` what to do."""

    exit_code = 1

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n       {self.hint}"


class Busy(SemError):
    """Another process is writing the same thing."""


class Insufficient(SemError):
    """The evidence does not decide; more rows or domains are needed."""

    exit_code = 3


def nearest(word: str, candidates: object) -> str:
    """Return a hint that names the closest of `candidates`, or lists them when none is close."""
    from difflib import get_close_matches

    names = sorted(str(name) for name in candidates)  # type: ignore[attr-defined]
    close = get_close_matches(word, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"one of: {', '.join(names)}"

"""What ties two examples together, so that one on each side of a split would be a leak."""

from sem.core.example import Example
from sem.dataset.clean import dedupe
from sem.dataset.config import Leaks

KINDS = ("exact", "near", "source", "site", "domain", "template", "answer")


def leak_keys(example: Example) -> dict[str, str]:
    """For each of KINDS what `example` shares with those it is tied to.

    Absent where it has none.
    """
    keys = {
        "exact": dedupe.digest(example.input_text).hex(),
        "near": str(example.meta.get("near") or ""),
        "source": example.source_id or "",
        "site": example.site,
        "domain": example.domain,
        "template": str(example.meta.get("template") or ""),
        "answer": dedupe.answer_key(example).hex(),
    }
    return {kind: key for kind, key in keys.items() if key}


def binding(example: Example, leaks: Leaks) -> tuple[str, ...]:
    """Return the ties of `example` that `leaks` wants repaired: what shares one moves together."""
    return tuple(
        f"{kind}:{key}"
        for kind, key in leak_keys(example).items()
        if getattr(leaks, kind) == "repair"
    )

"""Random choices that depend on the seed and a name, never on the order of calls elsewhere."""

import hashlib
import random


def seeded_random(*parts: object) -> random.Random:
    """Return a generator of its own for what `parts` name."""
    return random.Random("/".join(map(str, parts)))


def seeded_hex(*parts: object, size: int = 6) -> str:
    """Return `size` hex digits that stand for `parts`."""
    return hashlib.sha256("/".join(map(str, parts)).encode("utf-8")).hexdigest()[:size]

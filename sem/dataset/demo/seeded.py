"""Random choices that depend on the seed and a name, never on the order of calls elsewhere."""

import hashlib
import random


def seeded_random(*parts: object) -> random.Random:
    """A generator of its own for what PARTS name."""
    return random.Random("/".join(map(str, parts)))


def token(*parts: object, size: int = 6) -> str:
    """SIZE hex digits that stand for PARTS."""
    return hashlib.sha256("/".join(map(str, parts)).encode("utf-8")).hexdigest()[:size]

"""What production capture says of itself: a prompt hash is compared where its rule is known."""

import hashlib
from collections.abc import Iterable, Iterator
from itertools import chain, islice

from sem.core import jsonio
from sem.dataset.ingest.readers import Told
from sem.dataset.store.examples_table import RawRow

# Rows that decide whether the rule is known.
HEAD = 64
# Length of the hex digest -> what makes it.
RULES = {64: "sha256", 40: "sha1", 32: "md5"}


def check_prompt_hashes(
    rows: Iterable[tuple[str, RawRow]], reporter: Told
) -> Iterator[tuple[str, RawRow]]:
    """Yield `rows` without those whose prompt_hash denies their prompt.

    The rule is known when the hash of one of the first rows is that of its prompt; a hash of
    another rule (a salt, the rendered chat) is kept and said to be unchecked.
    """
    rows = iter(rows)
    head = list(islice(rows, HEAD))
    is_known = any(_agrees(row) for _, row in head)
    counts = {True: 0, False: 0}
    for where, row in chain(head, rows):
        agrees = _agrees(row)
        if agrees is None:
            yield where, row
        elif is_known and not agrees:
            reporter.refuse(row.id or where, "prompt_hash_differs")
        else:
            counts[agrees] += 1
            yield where, row
    if counts[True]:
        reporter.note(f"prompt_hash agrees with the prompt: {counts[True]:,} rows")
    if counts[False]:
        reporter.note(f"prompt_hash kept unchecked, its rule is not known: {counts[False]:,} rows")


def _agrees(row: RawRow) -> bool | None:
    """Return whether `row`'s prompt_hash is that of its prompt; None when it has none."""
    if not row.capture or '"prompt_hash"' not in row.capture:
        return None
    prompt_hash = jsonio.parse_json(row.capture).get("prompt_hash")
    if not isinstance(prompt_hash, str) or not prompt_hash:
        return None
    digest = prompt_hash.lower().rpartition(":")[2]
    rule = RULES.get(len(digest))
    if rule is None:
        return False
    text = (row.input_text or "").encode("utf-8", "surrogatepass")
    return hashlib.new(rule, text, usedforsecurity=False).hexdigest() == digest

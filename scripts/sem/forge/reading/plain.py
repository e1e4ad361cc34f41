"""Text files: the bytes as they are, in the encoding they are in."""

from sem.dataset.feed import charset
from sem.forge.reading.refusals import Refused, Step, Text, counted

UNREADABLE_SHARE = 0.01
CONTROL = {chr(n): None for n in range(32) if chr(n) not in "\t\n\r\f\x1b"}
CONTROL_SHARE = 0.01


def read(data: bytes, step: Step) -> Text:
    """DATA as text; what a page would declare is not asked: a text may be about pages."""
    step(len(data) / 1e6)
    encoding = charset.of_start(data)
    text = data.decode(encoding, "replace")
    replaced = text.count("\N{REPLACEMENT CHARACTER}")
    if replaced > UNREADABLE_SHARE * len(text):
        raise Refused("undecodable", f"{replaced:,} of {len(text):,} characters, as {encoding}")
    control = len(text) - len(text.translate(CONTROL))
    if control > CONTROL_SHARE * len(text):
        raise Refused("binary", f"{control:,} of {len(text):,} characters are control codes")
    notes = () if encoding.startswith("utf-8") else (f"read as {encoding}",)
    return Text(text, notes=(*notes, *counted(replaced, "characters unreadable")))

"""Text as people see it: composed, without invisible or steering characters, single-spaced."""

import re
import unicodedata

# Zero-width, bidi, tag and control characters, soft hyphens, lone surrogates, noncharacters and
# private use (the glyphs of icon fonts). Joiners stay after Arabic and Indic letters, where they
# are spelling; elsewhere they only hide words from readers.
INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\ue000-\uf8ff\ufdd0-\ufdef\ufffe\uffff\U0001fffe\U0001ffff\U0002fffe\U0002ffff"
    "\U0003fffe-\U0010ffff]|(?<![\u0600-\u0dff])[\u200c\u200d]"
)
SPACE = re.compile(r"[^\S\n]+")
BLANK = re.compile(r" *\n(?: *\n)+ *")
CLOSERS = {"!--": re.compile("-->")}
CODE_TAGS = ("script", "style", "svg", "textarea", "title", "xmp", "iframe", "noframes")
CLOSERS |= {name: re.compile(f"</{name}", re.I) for name in CODE_TAGS}


def find_raw_text_end(page: str, opened: str, position: int) -> int:
    """Return where the comment or raw text `opened` before `position` ends in `page`.

    Its end when it does not.

    Not a lazy regular expression: thousands of unclosed comments would make that quadratic.
    """
    found = CLOSERS[opened].search(page, position)
    return found.end() if found else len(page)


def single_line(value: str) -> str:
    """Return `value` on one line."""
    return " ".join(clean_text(value).split())


def normalise_text(value: str) -> str:
    """Return `value` with its lines kept, runs of spaces and blank lines reduced to one."""
    spaced = SPACE.sub(" ", clean_text(value).replace("\r\n", "\n").replace("\r", "\n"))
    return BLANK.sub("\n\n", re.sub(r" ?\n ?", "\n", spaced)).strip()


def clean_text(value: str) -> str:
    """Return `value` in NFC without invisible characters."""
    if value.isascii() and value.isprintable():
        return value
    return unicodedata.normalize("NFC", INVISIBLE.sub("", value))

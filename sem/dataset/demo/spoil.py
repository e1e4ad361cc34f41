"""Small damage, as real pages have it: unclosed tags, strays, bad entities, no body."""

import re
from random import Random

CLOSING = re.compile(r"</(?:div|li|span|td|p)>")
HIDDEN = re.compile(
    r"<(div|template)[^>]*(?:display: ?none| hidden|<template)[^>]*>.*?</\1>", re.DOTALL
)
CLASSED = re.compile(r'<(div|span|p) class="')
TAG = re.compile(r"(</?)([a-z][a-z0-9]*)(?=[\s>/])")
BODY = re.compile(r"</?body[^>]*>")


def spoil(html: str, rng: Random) -> str:
    """Return HTML with two to four kinds of damage that leave its text readable."""
    for damage in rng.sample(DAMAGES, rng.randint(2, len(DAMAGES) - 1)):
        html = damage(html, rng)
    return html


def shout(html: str) -> str:
    """Return HTML with upper-case tag names; scripts keep their text."""
    parts = re.split(r"(<script.*?</script>)", html, flags=re.DOTALL)
    return "".join(
        part if part.startswith("<script") else TAG.sub(lambda m: m[1] + m[2].upper(), part)
        for part in parts
    )


def unclose(html: str, rng: Random) -> str:
    """Return the page without two closing tags; a hidden part keeps its own, or it hides all."""
    for _ in range(2):
        unseen = [hidden.span() for hidden in HIDDEN.finditer(html)]
        tags = [
            tag
            for tag in CLOSING.finditer(html, html.find("</head>"))
            if not any(a <= tag.start() < b for a, b in unseen)
        ]
        if tags:
            lost = rng.choice(tags)
            html = html[: lost.start()] + html[lost.end() :]
    return html


def stray(html: str, rng: Random) -> str:
    """Return a closing tag too many, at the end where it hurts no content."""
    return html.replace("</body>", rng.choice(("</div></div>", "</span></p>")) + "</body>")


def entities(html: str, rng: Random) -> str:
    """Entities that do not exist or never end."""
    broken = rng.choice(("<p>&nbsp &copy 2026 &unknown; R&D</p>", "<!-- & --><p>&#x; &raquo</p>"))
    return html.replace("</body>", broken + "</body>")


def no_body(html: str, rng: Random) -> str:
    """No body element."""
    return BODY.sub("", html)


def twice(html: str, rng: Random) -> str:
    """Return an attribute given twice; parsers keep the first."""
    return CLASSED.sub(lambda m: f'<{m[1]} class="x{rng.randint(1, 9)}" class="', html, count=2)


DAMAGES = (unclose, stray, entities, twice, no_body)

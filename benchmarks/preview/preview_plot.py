"""Points of a backtest as SVG, written by hand: what previews said against what was found."""

from collections.abc import Callable, Sequence

SIZE, EDGE = 480, 46
COLOURS = {"improves": "#1a7f37", "does_not_improve": "#57606a", "cannot_tell": "#bf8700"}
WORDS = {"improves": "improves", "does_not_improve": "does not", "cannot_tell": "cannot be told"}


def scatter(marks: Sequence[tuple[float, float, str]]) -> str:
    """(full, preview, word) in points of accuracy; signed square roots, or small ones merge."""
    reach = max(5.0, *(abs(value) for full, said, _ in marks for value in (full, said)))

    def place(value: float) -> float:
        root = (abs(value) / reach) ** 0.5 * (1 if value >= 0 else -1)
        return EDGE + (root + 1) / 2 * (SIZE - 2 * EDGE)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIZE} {SIZE}" '
        'font-family="sans-serif" font-size="11" role="img">',
        "<title>Gains in points: what the preview said against the full computation</title>",
        f'<rect width="{SIZE}" height="{SIZE}" fill="#fff"/>',
        *_axes(place, reach),
    ]
    for full, said, word in marks:
        parts.append(
            f'<circle cx="{place(full):.1f}" cy="{SIZE - place(said):.1f}" r="3.2" '
            f'fill="{COLOURS[word]}" fill-opacity="0.65"/>'
        )
    for number, (word, colour) in enumerate(COLOURS.items()):
        y = EDGE + 6 + 16 * number
        parts.append(f'<circle cx="{EDGE + 10}" cy="{y}" r="4" fill="{colour}"/>')
        parts.append(f'<text x="{EDGE + 20}" y="{y + 4}">{WORDS[word]}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _axes(place: Callable[[float], float], reach: float) -> list[str]:
    ticks = [t for t in (1, 5, 10, 20, 40, 80) if t <= reach]
    low, high = EDGE, SIZE - EDGE
    parts = [f'<line x1="{low}" y1="{high}" x2="{high}" y2="{low}" stroke="#d0d7de"/>']
    for tick in [*(-t for t in reversed(ticks)), 0, *ticks]:
        at = place(tick)
        parts += [
            f'<line x1="{at:.1f}" y1="{low}" x2="{at:.1f}" y2="{high}" stroke="#eaeef2"/>',
            f'<line x1="{low}" y1="{SIZE - at:.1f}" x2="{high}" y2="{SIZE - at:.1f}" '
            'stroke="#eaeef2"/>',
            f'<text x="{at:.1f}" y="{high + 14}" text-anchor="middle">{tick:+d}</text>',
            f'<text x="{low - 6}" y="{SIZE - at + 4:.1f}" text-anchor="end">{tick:+d}</text>',
        ]
    middle = 'text-anchor="middle"'
    return [
        *parts,
        f'<text x="{SIZE / 2}" y="{SIZE - 8}" {middle}>full computation, points</text>',
        f'<text x="12" y="{SIZE / 2}" {middle} '
        f'transform="rotate(-90 12 {SIZE / 2})">preview, points</text>',
    ]

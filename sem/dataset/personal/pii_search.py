"""Every kind of personal data in one text, and what makes two spellings the same value."""

import re
from collections.abc import Collection, Iterator, Sequence

from sem.dataset.personal import pii_cards, pii_ids, pii_phones, pii_spans
from sem.dataset.personal.pii_spans import Span

# Those that are told apart by a checksum come first: 16 digits in fours are no phone number.
FINDERS = {
    "email": pii_spans.emails,
    "iban": pii_cards.ibans,
    "ip": pii_spans.addresses,
    "card": pii_cards.cards,
    "national_id": pii_ids.national_ids,
    "phone": pii_phones.phones,
    "name": pii_spans.introduced_names,
}
KINDS = tuple(FINDERS)
# Countries whose numbers a page in LANGUAGE most likely shows; en: also Canada's, as +1 is shared.
SPOKEN = {
    "de": ("DE", "AT", "CH"),
    "en": ("US", "GB", "AU", "IN", "IE", "NZ", "ZA"),
    "es": ("ES", "MX", "AR", "CO"),
    "fr": ("FR", "BE", "CH", "CA"),
    "nl": ("NL", "BE"),
    "pt": ("BR", "PT"),
    "ar": ("SA", "EG", "AE"),
    **{"cs": ("CZ",), "da": ("DK",), "el": ("GR",), "fa": ("IR",), "fi": ("FI",), "he": ("IL",)},
    **{"hi": ("IN",), "hu": ("HU",), "id": ("ID",), "it": ("IT",), "ja": ("JP",), "ko": ("KR",)},
    **{"nb": ("NO",), "no": ("NO",), "pl": ("PL",), "ro": ("RO",), "ru": ("RU",), "sk": ("SK",)},
    **{"sv": ("SE",), "th": ("TH",), "tr": ("TR",), "uk": ("UA",), "vi": ("VN",), "zh": ("CN",)},
}
PLACEHOLDER = re.compile(r"\[(EMAIL|IBAN|IP|CARD|NATIONAL_ID|PHONE|NAME)_(\d{1,6})\]")
HOST = re.compile(r"(?:\w+://)?[^/\s?#]{0,253}\.([a-z]{2})(?=[/:?#]|$)", re.I)
NO_COUNTRY = frozenset(("ai", "cc", "co", "eu", "fm", "gg", "io", "me", "tv", "ws"))


def find_personal_data(
    text: str, kinds: Collection[str] = KINDS, regions: Collection[str] = ()
) -> list[Span]:
    """Return the spans of `kinds` in `text`, in order, none inside another.

    `regions` are the countries whose national telephone numbers are looked for. Where a span is
    found, the rest is read again without it: of `030 / 1234567 (415) 555-2671`, one run of digits,
    the second number is found first, and the first one once the second is out of its way. A
    placeholder of ours in `text` is not a label: `[PHONE_1]` says nothing about what follows it.
    """
    spans: list[Span] = []
    bare = PLACEHOLDER.sub(lambda match: _blank(len(match[0])), text)
    while True:
        rest = _without(bare, spans)
        before = len(spans)
        for kind in KINDS:
            if kind in kinds:
                more = {"regions": tuple(regions)} if kind == "phone" else {}
                spans = merge_spans(spans, FINDERS[kind](rest, **more))
        if len(spans) == before:
            return spans


def _without(text: str, spans: Sequence[Span]) -> str:
    """Return `text`, as long as before, with a blank in place of each span of `spans`."""
    parts, position = [], 0
    for span in spans:
        parts += [text[position : span.start], _blank(span.end - span.start)]
        position = span.end
    return "".join((*parts, text[position:]))


def _blank(size: int) -> str:
    """Return a blank of `size` characters; its digit keeps labels from reaching across it."""
    return f"{pii_spans.GONE}0{'_' * size}"[:size]


def merge_spans(spans: list[Span], new_spans: Iterator[Span]) -> list[Span]:
    """Return `spans` and what of `new_spans` does not overlap it, in order."""
    ranked = [(span.start, 0, span) for span in spans]
    ranked += [(span.start, 1, span) for span in new_spans]
    merged: list[tuple[int, Span]] = []
    for _, rank, span in sorted(ranked, key=lambda entry: entry[:2]):
        if merged and merged[-1][1].end > span.start:
            if rank >= merged[-1][0]:
                continue
            merged.pop()
        merged.append((rank, span))
    return [span for _, span in merged]


def regions(language: str = "", url: str = "", preferred: Collection[str] = ()) -> tuple[str, ...]:
    """Countries to read a page's national numbers by: `preferred`, its host's, its language's."""
    countries = list(preferred)
    top = HOST.match(url)
    if top and top[1].lower() not in NO_COUNTRY:
        countries.append({"UK": "GB"}.get(top[1].upper(), top[1].upper()))
    spoken, _, land = language.replace("_", "-").partition("-")
    countries += [land.upper()] if len(land) == 2 else []
    return tuple(dict.fromkeys((*countries, *SPOKEN.get(spoken.lower(), ()))))


def identity_key(span: Span, regions: tuple[str, ...] = ()) -> tuple[str, str]:
    """Return what makes two spellings the same value: kind and normal form."""
    if span.kind == "phone":
        return span.kind, pii_phones.dialled_digits(span.text, regions)
    if span.kind in ("email", "name"):
        plain = re.sub(r"%40|[ ]?[\[({](?:at|ät)[\])}][ ]?", "@", span.text, flags=re.I)
        return span.kind, " ".join(plain.casefold().split())
    return span.kind, re.sub(r"[\W_]", "", span.text).casefold()

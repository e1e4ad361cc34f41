"""Which language a text is in: the door to py3langid, and when a text is too short to tell.

Code, numbers and addresses are not language and are taken out first. A classifier is sure of
anything, so a text with few letters has no language here, and a close call is none either.
"""

import re
from functools import cache
from typing import Any

from sem.core.errors import SemError

NAMES = {
    "en": "English",
    "de": "German",
    "fr": "French",
    "es": "Spanish",
    "it": "Italian",
    "pt": "Portuguese",
    "nl": "Dutch",
    "pl": "Polish",
    "cs": "Czech",
    "sv": "Swedish",
    "da": "Danish",
    "nb": "Norwegian",
    "fi": "Finnish",
    "ru": "Russian",
    "uk": "Ukrainian",
    "tr": "Turkish",
    "ja": "Japanese",
    "zh": "Chinese",
    "ko": "Korean",
    "ar": "Arabic",
    "he": "Hebrew",
    "hi": "Hindi",
    "el": "Greek",
    "hu": "Hungarian",
    "ro": "Romanian",
}
SAME = {"no": "nb", "nn": "nb"}
NOT_PROSE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|<[^<>\n]*>|https?://\S+|[\w.+-]+@\S+", re.S)
# Of shorter slices in four languages it is sure of less than two thirds.
FEWEST_LETTERS = 24
SURE = 0.9


def detect_language(text: str) -> str | None:
    """ISO 639-1 of `text`'s prose; None where there is too little of it, or too close a call."""
    prose = NOT_PROSE.sub(" ", text)
    letters = sum(character.isalpha() for character in prose)
    # A sign of Chinese or Japanese says as much as three letters.
    if letters + 2 * sum("\u3040" <= c <= "\u9fff" for c in prose) < FEWEST_LETTERS:
        return None
    code, probability = _identifier().classify(prose)
    return SAME.get(code, code) if probability >= SURE else None


def check_language(code: str, where: str) -> str:
    """Return `code` when it is one that `language` gives; raise SemError at `where` otherwise."""
    if code in SAME or not re.fullmatch("[a-z]{2}", code):
        raise SemError(
            f"{where}: {code!r} is not an ISO 639-1 code", "write two letters, as en or nb"
        )
    return code


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)

"""Characters that a tokenizer cannot spell, written with its spare tokens instead.

T5's tokenizer reads `{`, `}`, `<` and line ends as unknown or drops them, and folds spaces: with
it alone a model can neither read lines nor write JSON. Its sentinels `<extra_id_N>` are spare.

    {"a": 1}   ->   <extra_id_98>"a": 1<extra_id_97>
    zł         ->   z<extra_id_80>322<extra_id_80>       any other letter: its code point
"""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

CHARACTERS = "\n\t{}[]<>\\`~^|"
SPACE = " "
SENTINEL = "<extra_id_{}>"
LAST = 99
# Below those that CHARACTERS can take.
ESCAPE = 80


@dataclass(frozen=True)
class Spelling:
    """Character -> the token that stands for it; a space where the tokenizer would fold it.

    Every other character that the tokenizer loses or changes is its code point in decimal digits
    between two `escape` tokens; `spells` tells whether it keeps a character.
    """

    tokens: dict[str, str]
    escape: str
    spells: Callable[[str], bool]

    def out(self, text: str) -> str:
        """Return `text` as the tokenizer is given it."""
        return self.placed(text)[0]

    def placed(self, text: str) -> tuple[str, list[int]]:
        """Return `out(TEXT)`, and for each of its characters the place in `text` that it stands
        for.
        """
        spelled, places = self._spelled(self._lost(text), text, list(range(len(text))))
        # A space beside a sentinel, or at an end, or beside another, is dropped by some tokenizer.
        return self._spelled(self._spaces, spelled, places)

    def back(self, text: str) -> str:
        """Return what was meant by `text`, decoded ids: the inverse of `out`."""
        whole = self._escaped.sub(lambda match: _character(int(match[1])), text)
        return self._written.sub(lambda match: self._characters[match[1]], whole)

    @cached_property
    def unused(self) -> tuple[str, ...]:
        """Return the spare tokens that stand for nothing: `out` writes none of them."""
        used = {*self.tokens.values(), self.escape}
        return tuple(t for t in map(SENTINEL.format, range(LAST + 1)) if t not in used)

    def _spelled(
        self, pattern: re.Pattern[str], text: str, places: list[int]
    ) -> tuple[str, list[int]]:
        parts: list[str] = []
        moved: list[int] = []
        last = 0
        for match in pattern.finditer(text):
            parts.append(text[last : match.start()])
            moved += places[last : match.start()]
            last = match.end()
            for number in range(*match.span()):
                parts.append(self._written_as(text[number]))
                moved += [places[number]] * len(parts[-1])
        return "".join([*parts, text[last:]]), moved + places[last:]

    @cached_property
    def _characters(self) -> dict[str, str]:
        return {token: character for character, token in self.tokens.items()}

    def _written_as(self, character: str) -> str:
        token = self.tokens.get(character)
        return token or f"{self.escape}{ord(character)}{self.escape}"

    def _lost(self, text: str) -> re.Pattern[str]:
        """Return what finds the characters of `text` that the tokenizer does not keep."""
        lost = (c for c in set(text) if c != SPACE and (c in self.tokens or not self.spells(c)))
        return re.compile("|".join(map(re.escape, sorted(lost))) or r"(?!)")

    @cached_property
    def _spaces(self) -> re.Pattern[str]:
        return re.compile(rf"(?:(?<={self._any}) +| +(?={self._any})|\A +| +\Z|  +)")

    @cached_property
    def _written(self) -> re.Pattern[str]:
        return re.compile(rf" ?({'|'.join(map(re.escape, self.tokens.values()))}) ?")

    @cached_property
    def _escaped(self) -> re.Pattern[str]:
        token = re.escape(self.escape)
        return re.compile(rf" ?{token} ?([0-9]{{1,7}}) ?{token} ?")

    @property
    def _any(self) -> str:
        return SENTINEL.format("[0-9][0-9]")


def spelling_of(tokenizer: Any) -> Spelling | None:
    """Return the Spelling that `tokenizer` needs.

    None when it spells all, or has no spare tokens.
    """
    if tokenizer.convert_tokens_to_ids(SENTINEL.format(LAST)) in (None, tokenizer.unk_token_id):
        return None

    @cache
    def spells(character: str) -> bool:
        return _read(tokenizer, f"a{character}b") == f"a{character}b"

    lost = [c for c in CHARACTERS if not spells(c)]
    tokens = {c: SENTINEL.format(LAST - n) for n, c in enumerate([SPACE, *lost])}
    return Spelling(tokens, SENTINEL.format(ESCAPE), spells) if lost else None


def _character(number: int) -> str:
    """Return the character of a code point; nothing for a number that is none."""
    is_one = number <= sys.maxunicode and not 0xD800 <= number <= 0xDFFF
    return chr(number) if is_one else ""


def _read(tokenizer: Any, text: str) -> str:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return tokenizer.decode(ids, skip_special_tokens=False)

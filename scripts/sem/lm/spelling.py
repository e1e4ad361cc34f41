"""Characters that a tokenizer cannot spell, written with its spare tokens instead.

T5's tokenizer reads `{`, `}`, `<` and line ends as unknown or drops them, and folds spaces: with
it alone a model can neither read lines nor write JSON. Its sentinels `<extra_id_N>` are spare.

    {"a": 1}   ->   <extra_id_98>"a": 1<extra_id_97>
"""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

CHARACTERS = "\n\t{}[]<>\\`~^|"
SPACE = " "
SENTINEL = "<extra_id_{}>"
LAST = 99


@dataclass(frozen=True)
class Spelling:
    """Character -> the token that stands for it; a space where the tokenizer would fold it."""

    tokens: dict[str, str]

    def out(self, text: str) -> str:
        """TEXT as the tokenizer is given it."""
        return self.placed(text)[0]

    def placed(self, text: str) -> tuple[str, list[int]]:
        """`out(TEXT)`, and for each of its characters the place in TEXT that it stands for."""
        made, places = self._spelled(self._unspelled, text, list(range(len(text))))
        # A space beside a sentinel, or at an end, or beside another, is dropped by some tokenizer.
        return self._spelled(self._spaces, made, places)

    def back(self, text: str) -> str:
        """What was meant by TEXT, decoded ids: the inverse of `out`."""
        return self._written.sub(lambda match: self._characters[match[1]], text)

    def _spelled(
        self, found: re.Pattern[str], text: str, places: list[int]
    ) -> tuple[str, list[int]]:
        parts: list[str] = []
        moved: list[int] = []
        last = 0
        for match in found.finditer(text):
            parts.append(text[last : match.start()])
            moved += places[last : match.start()]
            last = match.end()
            for number in range(*match.span()):
                parts.append(self.tokens[text[number]])
                moved += [places[number]] * len(parts[-1])
        return "".join([*parts, text[last:]]), moved + places[last:]

    @cached_property
    def _characters(self) -> dict[str, str]:
        return {token: character for character, token in self.tokens.items()}

    @cached_property
    def _unspelled(self) -> re.Pattern[str]:
        return re.compile("|".join(re.escape(c) for c in self.tokens if c != SPACE) or r"(?!)")

    @cached_property
    def _spaces(self) -> re.Pattern[str]:
        return re.compile(rf"(?:(?<={self._any}) +| +(?={self._any})|\A +| +\Z|  +)")

    @cached_property
    def _written(self) -> re.Pattern[str]:
        return re.compile(rf" ?({'|'.join(map(re.escape, self.tokens.values()))}) ?")

    @property
    def _any(self) -> str:
        return SENTINEL.format("[0-9][0-9]")


def of(tokenizer: Any) -> Spelling | None:
    """The Spelling that TOKENIZER needs; None when it spells all, or has no spare tokens."""
    if tokenizer.convert_tokens_to_ids(SENTINEL.format(LAST)) in (None, tokenizer.unk_token_id):
        return None
    lost = [c for c in CHARACTERS if _read(tokenizer, f"a{c}b") != f"a{c}b"]
    wanted = [SPACE, *lost]
    return Spelling({c: SENTINEL.format(LAST - n) for n, c in enumerate(wanted)}) if lost else None


def _read(tokenizer: Any, text: str) -> str:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return tokenizer.decode(ids, skip_special_tokens=False)

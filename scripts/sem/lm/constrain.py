"""JSON Schema as a mask over tokens: the model can only say what fits, and always ends.

llguidance compiles the schema. Keys come in the order that training taught (sorted) and
separators are compact: free white space is how constrained answers run out of tokens. When
little room is left, only tokens that close the answer are allowed, so it is never cut.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import takewhile
from typing import Any

from sem.core import jsonio
from sem.core.errors import SemError

# What ends an answer soonest, best first: inside a string, and outside.
IN_STRING = (re.compile(r'"[\]}]*'),)
OUTSIDE = (re.compile(r"[\]}]+"), re.compile(r'""?[\]}]*'), re.compile(r'[,:]"?'))
OPTIONS = {"whitespace_flexible": False, "lenient": True}
SLACK = 10  # tokens beyond the shortest rest of an answer that closing may take


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer prepared for masks over `size` logits; END are the ids that stop."""

    tokenizer: Any
    size: int
    ends: tuple[int, ...]

    @cached_property
    def guide(self) -> Any:
        """llguidance's view of the tokenizer; takes a second or two."""
        from llguidance.hf import from_tokenizer

        return from_tokenizer(self.tokenizer, n_vocab=self.size, eos_token=list(self.ends))

    @cached_property
    def closing(self) -> dict[bool, tuple[Any, ...]]:
        """Masks of the tokens that close an answer, best first: inside a string, and outside."""
        texts = self.tokenizer.batch_decode([[token] for token in range(len(self.tokenizer))])
        return {
            True: tuple(self._matching(texts, pattern) for pattern in IN_STRING),
            False: tuple(self._matching(texts, pattern) for pattern in OUTSIDE),
        }

    @cached_property
    def letters(self) -> list[int]:
        """Tokens of one letter that no literal of JSON holds: allowed inside strings only."""
        return self.tokenizer.convert_tokens_to_ids(["q", "j", "z"])

    def _matching(self, texts: Sequence[str], pattern: re.Pattern[str]) -> Any:
        import numpy as np

        found = [bool(pattern.fullmatch(text)) for text in texts[: self.size]]
        return np.array(found + [False] * (self.size - len(found)))


@lru_cache(maxsize=64)
def grammar(schema_text: str) -> str:
    """The grammar of the JSON Schema SCHEMA_TEXT; SemError when no decoder can hold to it."""
    from llguidance import LLMatcher

    made = LLMatcher.grammar_from_json_schema(
        jsonio.dumps(ordered(jsonio.loads(schema_text))), overrides=OPTIONS
    )
    failed, messages = LLMatcher.validate_grammar_with_warnings(made)
    if failed:
        raise SemError(
            f"io_schema cannot constrain decoding: {' '.join(messages)[:200]}",
            "decode freely (eval.decoding: free), or simplify the schema",
        )
    return made


def unenforced(schema_text: str) -> list[str]:
    """What of the JSON Schema SCHEMA_TEXT the mask does not hold to, in llguidance's words."""
    from llguidance import LLMatcher

    return list(LLMatcher.validate_grammar_with_warnings(grammar(schema_text))[1])


def ordered(schema: Any) -> Any:
    """SCHEMA with the properties of every object sorted: the order answers are taught in."""
    if isinstance(schema, list):
        return [ordered(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    made = {key: ordered(value) for key, value in schema.items()}
    if isinstance(made.get("properties"), dict):
        made["properties"] = dict(sorted(made["properties"].items()))
    return made


class Mask:
    """A logits processor over rows of (tokens, logits); one per call of generate.

    `schemas`: one JSON Schema text a row; `room`: how many tokens a row may say. A call may come
    with any continuation of the prompts: under prompt lookup drafts are looked at and thrown away,
    so a matcher goes back to what it shares with the tokens it is shown, and on from there.
    """

    def __init__(self, vocabulary: Vocabulary, schemas: Sequence[str], room: int) -> None:
        from llguidance import LLMatcher

        self.vocabulary = vocabulary
        self.matchers = [LLMatcher(vocabulary.guide, grammar(text)) for text in schemas]
        self.reserves = [Reserve.of(vocabulary.tokenizer, text) for text in schemas]
        self.room = room
        self.start = 0  # width of the prompts
        self.consumed: list[list[int]] = [[] for _ in schemas]  # tokens each matcher has read
        self.closed_at: dict[int, int] = {}  # row -> tokens it had said when it was made to end

    def __call__(self, ids: Any, scores: Any) -> Any:
        """Return `scores` with -inf wherever a token does not fit."""
        import torch

        self.start = self.start or ids.shape[1]
        for row, matcher in enumerate(self.matchers):
            answer = ids[row, self.start :].tolist()
            self._follow(row, matcher, answer)
            allowed = self._allowed(row, matcher, answer)
            banned = torch.from_numpy(~allowed).to(scores.device)
            scores[row].masked_fill_(banned, float("-inf"))
        return scores

    @property
    def closed(self) -> set[int]:
        """Return the rows that were made to end."""
        return set(self.closed_at)

    def _follow(self, row: int, matcher: Any, answer: list[int]) -> None:
        """Bring `matcher` to where `answer`, the tokens of `row` behind its prompt, ends."""
        consumed = self.consumed[row]
        pairs = zip(consumed, answer, strict=False)
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        if shared < len(consumed):
            matcher.rollback(len(consumed) - shared)
            del consumed[shared:]
        if self.closed_at.get(row, -1) > len(answer):  # in a draft that was thrown away
            del self.closed_at[row]
        for token in answer[shared:]:
            # Behind an end stands what fills up; a draft may hold what its own place forbids, and
            # is thrown away from there on.
            if matcher.is_stopped() or matcher.validate_tokens([token]) == 0:
                break
            matcher.consume_token(token)
            consumed.append(token)

    def _allowed(self, row: int, matcher: Any, answer: list[int]) -> Any:
        import numpy as np
        from llguidance import numpy as guide

        size, ends = self.vocabulary.size, list(self.vocabulary.ends)
        stop = np.zeros(size, dtype=bool)
        stop[ends] = True
        if matcher.is_stopped() or len(self.consumed[row]) < len(answer):
            return stop
        bits = guide.allocate_token_bitmask(1, size)
        guide.fill_next_token_bitmask(matcher, bits, 0)
        if matcher.is_error():
            raise SemError(f"constrained decoding: {matcher.get_error()[:200]}", "report this")
        allowed = np.unpackbits(bits[0].view(np.uint8), bitorder="little")[:size].astype(bool)
        if not self._is_short(row, answer):
            return allowed
        return stop if allowed[ends].any() else self._closing(row, allowed, len(answer))

    def _is_short(self, row: int, answer: list[int]) -> bool:
        left, needed = self.room - len(answer), self.reserves[row]
        if left > needed.total:
            return False
        return left <= needed.after(self.vocabulary.tokenizer.decode(answer))

    def _closing(self, row: int, allowed: Any, place: int) -> Any:
        self.closed_at.setdefault(row, place)
        is_in_string = bool(allowed[self.vocabulary.letters].all())
        for tier in self.vocabulary.closing[is_in_string]:
            if (allowed & tier).any():
                return allowed & tier
        return allowed  # forced text, digits, an enum


@dataclass(frozen=True)
class Reserve:
    """Tokens to keep back so that an answer can always be closed: by top-level key, in order."""

    costs: tuple[tuple[str, int], ...]
    total: int

    @classmethod
    def of(cls, tokenizer: Any, schema_text: str) -> "Reserve":
        """The Reserve of answers to the JSON Schema SCHEMA_TEXT."""
        shortest = _shortest(jsonio.loads(schema_text))
        parts = sorted(shortest.items()) if isinstance(shortest, dict) else []
        costs = tuple((key, _count(tokenizer, {key: value})) for key, value in parts)
        return cls(costs, max(_count(tokenizer, shortest), sum(c for _, c in costs)) + SLACK)

    def after(self, said: str) -> int:
        """What the rest of an answer that begins with SAID takes at least."""
        begun = [n for n, (key, _) in enumerate(self.costs) if f"{jsonio.dumps(key)}:" in said]
        if not begun:
            return self.total
        return sum(cost for _, cost in self.costs[begun[-1] :]) + SLACK


def _count(tokenizer: Any, value: Any) -> int:
    return len(tokenizer(jsonio.dumps(value), add_special_tokens=False)["input_ids"])


def _shortest(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return None
    if schema.get("enum"):
        return max(schema["enum"], key=lambda value: len(jsonio.dumps(value)))
    if "properties" in schema:
        needed = schema.get("required", [])
        return {name: _shortest(schema["properties"].get(name)) for name in needed}
    if schema.get("minItems"):
        return [_shortest(schema.get("items"))] * schema["minItems"]
    # A pattern's length is not known; two numbers and a text of six are longer than most.
    return "0" * max(6 if schema.get("pattern") else 2, schema.get("minLength", 0))

"""How an answer that is held to a grammar ends soonest, from wherever it stands.

The way is searched over the grammar itself (llguidance's matcher), not read off the schema, so
that references, unions, patterns and formats need no rule of their own:

    {"buyer":{"city":"Ul      ->   ","street":""},"seller":{"city":"","street":""}}<stop>
"""

import heapq
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count
from typing import Any

# Inside a string the quote ends it; outside brackets close, and a comma or colon goes on.
_ENDS_STRING = re.compile(r'"[\]}]*')
_CLOSES = re.compile(r"[\]}]+")
_GOES_ON = re.compile(r'[,:]"?')
_EMPTY_TEXT = re.compile(r'""[\]}]*')
_WORD = re.compile(r"[A-Za-z]+")
# Tokens that begin a value, tried first where a value has no end in sight.
_BEGINNINGS = '"[{-0123456789ntf'
MAX_STATES = 20_000
MAX_CHOICES = 24


@dataclass(frozen=True)
class Position:
    """Where in its JSON an answer stands: open brackets, the keys in each, the running text."""

    stack: tuple[tuple[Any, ...], ...] = ()
    in_string: bool = False
    escaped: bool = False
    # Characters since the last bracket, comma, colon or quote.
    run: str = ""
    # An object holds one key twice, which a grammar allows and JSON does not.
    repeats: bool = False

    @property
    def would_repeat(self) -> bool:
        """Return True if a quote here would end a key that the object holds already."""
        return self.in_string and self._after('"').repeats

    @property
    def skeleton(self) -> tuple[Any, ...]:
        """Return what makes two positions alike.

        Not which text was written, but how much of it.
        """
        keys = self.stack[-1][1:] if self.in_string and self.stack else ()
        may_repeat = any(str(key).startswith(f'"{self.run}') for key in keys)
        return self.stack, self.in_string, self.escaped, self.run if may_repeat else len(self.run)

    def after(self, text: str) -> "Position":
        """Return the position once `text` is written, too."""
        here = self
        for character in text:
            here = here._after(character)
        return here

    def _after(self, character: str) -> "Position":
        if self.in_string:
            if self.escaped or character == "\\":
                return replace(self, escaped=not self.escaped, run=self.run + character)
            if character != '"':
                return replace(self, run=self.run + character)
            return self._after_text()
        if character == '"':
            return replace(self, in_string=True, run="")
        if character in "{[":
            return self._at((*self.stack, ("{",) if character == "{" else ("[", 0)))
        if character in "}]":
            return self._at(self.stack[:-1])
        if character in ",:":
            return self._at(self._next_item() if character == "," else self.stack)
        return replace(self, run=self.run + character)

    def _at(self, stack: tuple[tuple[Any, ...], ...]) -> "Position":
        return Position(stack, repeats=self.repeats)

    def _after_text(self) -> "Position":
        """Return the position behind the text just ended: a key, where every other has a value."""
        if not self.stack or self.stack[-1][0] != "{" or self.stack[-1][-1] == ":":
            return self._at(self.stack)
        top, key = self.stack[-1], f'"{self.run}"'
        # "\u0078" is "x", too.
        key = json.dumps(json.loads(key)) if "\\" in key else key
        behind = self._at((*self.stack[:-1], (*top, key, ":")))
        return replace(behind, repeats=True) if key in top else behind

    def _next_item(self) -> tuple[tuple[Any, ...], ...]:
        if not self.stack:
            return self.stack
        top = self.stack[-1]
        next_top = ("[", top[1] + 1) if top[0] == "[" else tuple(k for k in top if k != ":")
        return (*self.stack[:-1], next_top)


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer prepared for masks over `size` logits; `ends` are the ids that stop."""

    tokenizer: Any
    size: int
    ends: tuple[int, ...]
    plans: dict[Any, list[int]] = field(default_factory=dict, compare=False)

    @cached_property
    def guide(self) -> Any:
        """llguidance's view of the tokenizer; takes a second or two."""
        from llguidance.hf import from_tokenizer

        return from_tokenizer(self.tokenizer, n_vocab=self.size, eos_token=list(self.ends))

    @cached_property
    def texts(self) -> list[str]:
        """Return each token's text; '' for ids beyond the tokenizer's."""
        size = min(self.size, len(self.tokenizer))
        texts = self.tokenizer.batch_decode([[token] for token in range(size)])
        return [*texts, *[""] * (self.size - size)]

    def allowed(self, matcher: Any) -> Any:
        """Return a bool a token: whether `matcher` may go on with it."""
        import numpy as np
        from llguidance import numpy as guide

        bits = guide.allocate_token_bitmask(1, self.size)
        guide.fill_next_token_bitmask(matcher, bits, 0)
        return np.unpackbits(bits[0].view(np.uint8), bitorder="little")[: self.size].astype(bool)

    def shortest(self, matcher: Any, position: Position, schema_text: str) -> list[int] | None:
        """Return the tokens of a short way from `matcher`'s state to the end, the stop included.

        None when none is found within MAX_STATES states. What was found for one answer serves
        every other that stands alike.
        """
        key = schema_text, position.skeleton, self.allowed(matcher).tobytes()
        earlier = self.plans.get(key)
        if earlier is not None and self.is_end(matcher, position, earlier, schema_text):
            return earlier
        # Few of the many characters that a pattern allows do, unless the rare one ends it.
        for most in (MAX_CHOICES, self.size):
            plan = self._searched(matcher, position, most)
            if plan is not None:
                self.plans[key] = plan
                return plan
        return None

    def is_end(
        self, matcher: Any, position: Position, plan: Sequence[int], schema_text: str
    ) -> bool:
        """Return True if `plan` ends the answer that stands at `position`."""
        if matcher.validate_tokens(list(plan)) != len(plan):
            return False
        # Only an answer that must have keys of its own choice can repeat one on its way out.
        if '"minProperties"' not in schema_text:
            return True
        return not position.after("".join(self.texts[token] for token in plan[:-1])).repeats

    def _searched(self, matcher: Any, position: Position, most: int) -> list[int] | None:
        order = count()
        visited: set[Any] = set()
        queue = [self._pushed(matcher.deep_copy(), position, [], order)]
        while queue and len(visited) < MAX_STATES:
            _, _, here, position, path = heapq.heappop(queue)
            if here.is_stopped():
                return [*path, self.ends[0]]
            allowed = self.allowed(here)
            if allowed[list(self.ends)].any():
                return [*path, next(token for token in self.ends if allowed[token])]
            key = position.skeleton, allowed.tobytes()
            if key in visited:
                continue
            visited.add(key)
            for token in self._choices(allowed, position, most):
                child = here.deep_copy()
                if child.consume_token(token):
                    inner = position.after(self.texts[token])
                    state = self._pushed(child, inner, [*path, token], order)
                    if not state[3].repeats:
                        heapq.heappush(queue, state)
        return None

    def _pushed(
        self, matcher: Any, position: Position, path: list[int], order: Iterator[int]
    ) -> tuple[int, int, Any, Position, list[int]]:
        """Return a state for the queue, gone on by everything that the grammar forces."""
        while not matcher.is_stopped() and (forced := matcher.compute_ff_tokens()):
            if not matcher.consume_tokens(forced):
                break
            path = [*path, *forced]
            position = position.after("".join(self.texts[token] for token in forced))
        return len(path), next(order), matcher, position, path

    def _choices(self, allowed: Any, position: Position, most: int) -> Sequence[int]:
        """Return the tokens of `allowed` worth trying: the one that ends most, else beginnings."""
        import numpy as np

        tiers = ("string",) if position.in_string else ("closes", "goes on")
        for tier in () if position.would_repeat else tiers:
            lengths = self._lengths[tier] * allowed
            if lengths.any():
                return [int(lengths.argmax())]
        words = self._lengths["word"] * allowed
        if position.in_string and allowed[self._letters].all():
            return [int(words.argmax())]
        empty = self._lengths["empty"] * allowed
        single = np.flatnonzero(self._single * allowed)
        tokens = single if len(single) else np.flatnonzero(allowed)
        if len(tokens) > most:
            spread = tokens[np.linspace(0, len(tokens) - 1, most, dtype=int)].tolist()
            begin = [token for token in tokens.tolist() if self.texts[token] in _BEGINNINGS]
            tokens = np.array(list(dict.fromkeys([*begin, *spread])))
        return [*([int(empty.argmax())] if empty.any() else []), *tokens.tolist()]

    @cached_property
    def _letters(self) -> list[int]:
        """Tokens of one letter that no literal of JSON holds: allowed in free text only."""
        return self.tokenizer.convert_tokens_to_ids(["q", "j", "z"])

    @cached_property
    def _single(self) -> Any:
        import numpy as np

        return np.array([len(text) == 1 for text in self.texts])

    @cached_property
    def _lengths(self) -> dict[str, Any]:
        """For each kind of token its length in characters where a token is of it, else 0."""
        import numpy as np

        kinds = {"string": _ENDS_STRING, "closes": _CLOSES, "goes on": _GOES_ON}
        kinds |= {"empty": _EMPTY_TEXT, "word": _WORD}
        return {
            name: np.array([len(t) if pattern.fullmatch(t) else 0 for t in self.texts])
            for name, pattern in kinds.items()
        }

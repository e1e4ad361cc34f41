"""JSON Schema as a mask over tokens: the model can only say what fits, and always ends.

llguidance compiles the schema. Keys come in the order that training taught (sorted) and
separators are compact: free white space is how constrained answers run out of tokens. Before a
token is taken, the shortest end of the answer behind it is known (`lm/closing.py`); one that
leaves no room for its end is not taken, so an answer is never cut.
"""

import heapq
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import count
from typing import Any

from sem.core import jsonio, shape
from sem.core.errors import SemError

# How an answer that is held to a grammar ends soonest, from wherever it stands.
#
# The way is searched over the grammar itself (llguidance's matcher), not read off the schema, so
# that references, unions, patterns and formats need no rule of their own:
#
#     {"buyer":{"city":"Ul      ->   ","street":""},"seller":{"city":"","street":""}}<stop>

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


OPTIONS = {"whitespace_flexible": False, "lenient": True}
# Choices that would write a key twice and are passed over, before the answer is made to end.
MAX_REPEATS = 8


@lru_cache(maxsize=64)
def compile_grammar(schema_text: str) -> str:
    """Return the grammar of a JSON Schema; raise SemError when no decoder can hold to it."""
    from llguidance import LLMatcher

    root = jsonio.parse_json(schema_text)
    text = jsonio.canonical_json(order_schema(root, root))
    compiled = LLMatcher.grammar_from_json_schema(text, overrides=OPTIONS)
    failed, messages = LLMatcher.validate_grammar_with_warnings(compiled)
    if failed:
        raise SemError(
            f"io_schema cannot constrain decoding: {' '.join(messages)[:200]}",
            "decode freely (eval.decoding: free), or simplify the schema",
        )
    return compiled


@lru_cache(maxsize=64)
def lark_of_schema(schema_text: str) -> str:
    """Return the grammar of a JSON Schema as llama.cpp takes it: llguidance's, in its own words.

    Checked here, because llama.cpp answers one that it cannot read with free text and no error.
    """
    from llguidance import LLMatcher

    root = jsonio.parse_json(schema_text)
    ordered = {**order_schema(root, root), "x-guidance": OPTIONS}
    grammar = f"start: %json {jsonio.canonical_json(ordered)}\n"
    failed, messages = LLMatcher.validate_grammar_with_warnings(
        LLMatcher.grammar_from_lark(grammar)
    )
    if failed:
        raise SemError(
            f"io_schema cannot constrain decoding: {' '.join(messages)[:200]}",
            "decode freely (eval.decoding: free), or simplify the schema",
        )
    return f"%llguidance {{}}\n{grammar}"


def order_schema(kind: Any, root: Any) -> Any:
    """Return `kind` of the document `root` as the compiler must read it to keep the taught order.

    Answers are taught with sorted keys. Canonical text sorts properties; the parts of an `allOf`
    are merged first, as the compiler would write one part's keys after the other's.
    """
    if isinstance(kind, list):
        return [order_schema(inner, root) for inner in kind]
    if not isinstance(kind, dict):
        return kind
    parts = kind.get("allOf")
    sides = [kind, *parts] if isinstance(parts, list) else []
    is_open = bool(sides) and all("additionalProperties" not in side for side in sides)
    held = shape.resolve_shape(kind, root) if is_open or "unevaluatedProperties" in kind else None
    if held and held.get("properties") and not {"allOf", "anyOf"} & held.keys():
        kind = held
    return {key: order_schema(inner, root) for key, inner in kind.items()}


def unenforced_constraints(schema_text: str) -> list[str]:
    """Return the parts of a JSON Schema that the mask does not enforce, as llguidance says."""
    from llguidance import LLMatcher

    return list(LLMatcher.validate_grammar_with_warnings(compile_grammar(schema_text))[1])


def shortest_answer(vocabulary: Vocabulary, schema_text: str) -> list[int]:
    """Return the tokens of a short answer to the JSON Schema `schema_text`, the stop included."""
    return list(_ConstrainedRow(vocabulary, schema_text).plan)


def end_within(
    vocabulary: Vocabulary,
    schema_text: str,
    tokens: Sequence[int],
    room: int,
    rank_next: Callable[[Sequence[int]], Sequence[int]],
) -> list[int]:
    """Return the answer `tokens`, cut by its room elsewhere, made to end within `room` tokens.

    It is left where what came next would leave no room for the end, and goes on as Mask lets it:
    by the likeliest token that can be afforded, else the shortest way. `rank_next` returns the
    likeliest next tokens of an answer so far, the first ones at least.
    """
    row, ended = _ConstrainedRow(vocabulary, schema_text), list[int]()
    for token in tokens:
        if row.repeats_key(token) or not row.can_afford(token, room - len(ended) - 1):
            break
        ended.append(token)
        row.follow(ended)
    while not row.is_done:
        allowed = row.allowed()
        is_forced = int(allowed.sum()) == 1
        ranked = [] if is_forced else [token for token in rank_next(ended) if allowed[token]]
        choice = next((token for token in ranked if not row.repeats_key(token)), None)
        if choice is None or not row.can_afford(choice, room - len(ended) - 1):
            choice = row.close()
        ended.append(choice)
        row.follow(ended)
    return ended


def allowed_shares(
    vocabulary: Vocabulary, schema_text: str, steps: Sequence[tuple[int, dict[int, float]]]
) -> list[float]:
    """Return for each step of an answer the token's share among what the schema allowed there.

    A step is the token that was taken and the probabilities before the mask, by token id, of the
    likeliest ones and of it; where nothing is known of them, and where the schema forces the
    token, the share is 1.
    """
    row, shares = _ConstrainedRow(vocabulary, schema_text), []
    for number, (token, likely) in enumerate(steps):
        allowed = row.allowed()
        own = likely.get(token, 0.0)
        others = sum(p for i, p in likely.items() if i != token and allowed[i])
        is_forced = int(allowed.sum()) == 1
        shares.append(1.0 if is_forced or not own + others else own / (own + others))
        row.follow([taken for taken, _ in steps[: number + 1]])
    return shares


class Mask:
    """A logits processor over rows of (tokens, logits); one per call of generate.

    `schemas`: one JSON Schema text a row; `room`: how many tokens a row may say. SemError when
    that is too little for the shortest answer.
    """

    def __init__(self, vocabulary: Vocabulary, schemas: Sequence[str], room: int) -> None:
        self.vocabulary = vocabulary
        self.room = room
        self.start: int | None = None  # width of the prompts
        # Row -> tokens it had said when it was made to end.
        self.closed_at: dict[int, int] = {}
        self.rows = [_ConstrainedRow(vocabulary, text) for text in schemas]
        needed = max(len(row.plan) for row in self.rows)
        if needed > room:
            raise SemError(
                f"{room} tokens are too few for an answer: the shortest that fits io_schema "
                f"takes {needed}",
                f"set eval.max_new_tokens to {needed} or, for answers with content, far more",
            )

    @property
    def closed(self) -> set[int]:
        """Return the rows that were made to end."""
        return set(self.closed_at)

    def __call__(self, ids: Any, scores: Any) -> Any:
        """Return `scores` with -inf where a token does not fit, or leaves no room for the end."""
        import numpy as np
        import torch

        if self.start is None:
            self.start = ids.shape[1]
        spoken = ids[:, self.start :].tolist()
        for number, (row, tokens) in enumerate(zip(self.rows, spoken, strict=True)):
            row.follow(tokens)
            # In a draft that was thrown away.
            if self.closed_at.get(number, -1) > len(tokens):
                del self.closed_at[number]
        banned = torch.from_numpy(np.stack([~row.allowed() for row in self.rows]))
        scores = scores.masked_fill(banned.to(scores.device), float("-inf"))
        for number, choice in enumerate(scores.argmax(-1).tolist()):
            row = self.rows[number]
            for _ in range(MAX_REPEATS):
                if row.is_done or not row.repeats_key(choice):
                    break
                scores[number, choice] = float("-inf")
                choice = int(scores[number].argmax())
            room = self.room - len(spoken[number])
            if not row.is_done and not row.can_afford(choice, room - 1):
                scores[number] = float("-inf")
                scores[number, row.close()] = 0.0
                self.closed_at.setdefault(number, len(spoken[number]))
        return scores


class _ConstrainedRow:
    """One answer: the part that is written, and the shortest way to its end."""

    def __init__(self, vocabulary: Vocabulary, schema_text: str) -> None:
        from llguidance import LLMatcher

        self.vocabulary = vocabulary
        self.schema_text = schema_text
        self.matcher = LLMatcher(vocabulary.guide, compile_grammar(schema_text))
        self.spoken: list[int] = []
        self.position = Position()
        # A draft of prompt lookup may hold what its place forbids: it is thrown away from there.
        self.is_stray = False
        self.plan = self._shortest()
        # The choice that was looked at last, and the plan behind it.
        self._next: tuple[int, list[int]] | None = None

    @property
    def is_done(self) -> bool:
        if self.is_stray:
            return True
        return self.matcher.is_stopped() or bool(set(self.spoken[-1:]) & set(self.vocabulary.ends))

    def allowed(self) -> Any:
        """Return a bool a token: whether the answer may go on with it."""
        import numpy as np

        if self.is_done:
            stop = np.zeros(self.vocabulary.size, dtype=bool)
            stop[list(self.vocabulary.ends)] = True
            return stop
        allowed = self.vocabulary.allowed(self.matcher)
        if self.matcher.is_error():
            raise SemError(
                f"constrained decoding: {self.matcher.get_error()[:200]}", "report this"
            )
        return allowed

    def follow(self, tokens: Sequence[int]) -> None:
        """Bring the row to where `tokens` are all that is said.

        Drafts of prompt lookup are thrown away, so what was said may also be taken back.
        """
        if self.spoken != list(tokens[: len(self.spoken)]):
            self.matcher.reset()
            self.spoken, self.position, self._next = [], Position(), None
            self.plan = []
        self.is_stray = False
        for token in tokens[len(self.spoken) :]:
            if not self.is_done and token not in self.vocabulary.ends:
                if not self.matcher.validate_tokens([token]):
                    self.is_stray = True
                    return
                self.matcher.consume_token(token)
                self.position = self.position.after(self.vocabulary.texts[token])
                is_known = self._next is not None and self._next[0] == token
                self.plan = self._next[1] if is_known and self._next else []
            self.spoken.append(token)
        if not self.plan and not self.is_done:
            self.plan = self._shortest()

    def can_afford(self, token: int, room: int) -> bool:
        """Return True if the answer can end within `room` tokens once `token` is said."""
        if token in self.vocabulary.ends:
            return True
        position = self.position.after(self.vocabulary.texts[token])
        if position.repeats:
            return False
        after = self.matcher.deep_copy()
        after.consume_token(token)
        # What ended the answer before mostly does so now, all of it or from somewhere on.
        tails = (self.plan[start:] for start in range(self.plan[0] == token, len(self.plan)))
        is_end = self.vocabulary.is_end
        plan = next((t for t in tails if is_end(after, position, t, self.schema_text)), None)
        if plan is None or len(plan) > room:
            # None where every end repeats a key: {"x1":"","x1 under keys of one digit.
            plan = self.vocabulary.shortest(after, position, self.schema_text)
        self._next = token, plan or []
        return plan is not None and len(plan) <= room

    def close(self) -> int:
        """Return the token that goes the shortest way to the end."""
        self._next = self.plan[0], self.plan[1:]
        return self.plan[0]

    def repeats_key(self, token: int) -> bool:
        """Return True if `token` ends a key that its object holds already."""
        return self.position.after(self.vocabulary.texts[token]).repeats

    def _shortest(self) -> list[int]:
        plan = self.vocabulary.shortest(self.matcher, self.position, self.schema_text)
        if plan is None:
            raise SemError(
                "io_schema cannot constrain decoding: no end of an answer was found",
                "decode freely (eval.decoding: free), or simplify the schema",
            )
        return plan

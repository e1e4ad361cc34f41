"""JSON Schema as a mask over tokens: the model can only say what fits, and always ends.

llguidance compiles the schema. Keys come in the order that training taught (sorted) and
separators are compact: free white space is how constrained answers run out of tokens. Before a
token is taken, the shortest end of the answer behind it is known (`lm/closing.py`); one that
leaves no room for its end is not taken, so an answer is never cut.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sem.core import jsonio, shape
from sem.core.errors import SemError
from sem.lm.local.shortest_end import Position, Vocabulary

__all__ = ["Mask", "Vocabulary", "grammar", "shortest_answer", "unenforced"]

OPTIONS = {"whitespace_flexible": False, "lenient": True}
# Choices that would write a key twice and are passed over, before the answer is made to end.
MAX_REPEATS = 8


@lru_cache(maxsize=64)
def grammar(schema_text: str) -> str:
    """Return the grammar of a JSON Schema; raise SemError when no decoder can hold to it."""
    from llguidance import LLMatcher

    root = jsonio.parse_json(schema_text)
    text = jsonio.canonical_json(ordered(root, root))
    compiled = LLMatcher.grammar_from_json_schema(text, overrides=OPTIONS)
    failed, messages = LLMatcher.validate_grammar_with_warnings(compiled)
    if failed:
        raise SemError(
            f"io_schema cannot constrain decoding: {' '.join(messages)[:200]}",
            "decode freely (eval.decoding: free), or simplify the schema",
        )
    return compiled


def ordered(kind: Any, root: Any) -> Any:
    """Return `kind` of the document `root` as the compiler must read it to keep the taught order.

    Answers are taught with sorted keys. Canonical text sorts properties; the parts of an `allOf`
    are merged first, as the compiler would write one part's keys after the other's.
    """
    if isinstance(kind, list):
        return [ordered(inner, root) for inner in kind]
    if not isinstance(kind, dict):
        return kind
    parts = kind.get("allOf")
    sides = [kind, *parts] if isinstance(parts, list) else []
    is_open = bool(sides) and all("additionalProperties" not in side for side in sides)
    held = shape.resolve_shape(kind, root) if is_open or "unevaluatedProperties" in kind else None
    if held and held.get("properties") and not {"allOf", "anyOf"} & held.keys():
        kind = held
    return {key: ordered(inner, root) for key, inner in kind.items()}


def unenforced(schema_text: str) -> list[str]:
    """Return what of a JSON Schema the mask does not hold to, as llguidance says it."""
    from llguidance import LLMatcher

    return list(LLMatcher.validate_grammar_with_warnings(grammar(schema_text))[1])


def shortest_answer(vocabulary: Vocabulary, schema_text: str) -> list[int]:
    """Return the tokens of a short answer to the JSON Schema `schema_text`, the stop included."""
    return list(_Row(vocabulary, schema_text).plan)


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
        self.rows = [_Row(vocabulary, text) for text in schemas]
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


class _Row:
    """One answer: what of it is said, and the shortest way to its end."""

    def __init__(self, vocabulary: Vocabulary, schema_text: str) -> None:
        from llguidance import LLMatcher

        self.vocabulary = vocabulary
        self.schema_text = schema_text
        self.matcher = LLMatcher(vocabulary.guide, grammar(schema_text))
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

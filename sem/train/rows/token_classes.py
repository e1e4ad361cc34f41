"""Which tokens of an answer are values, keys and punctuation: the loss weighs them apart."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sem.core import jsonio
from sem.lm.local.chat import Chat
from sem.train.recipe import LossWeights

VALUE, KEY, PUNCTUATION, END = "value", "key", "punctuation", "end of turn"


@dataclass(frozen=True)
class AnswerPiece:
    """A stretch of the answer's text, and the slot (`seller.name`, `items[].price`) it is in."""

    text: str
    kind: str
    slot: str = ""


def json_pieces(value: Any, slot: str = "") -> Iterator[AnswerPiece]:
    """Yield `value` as its canonical JSON text, in pieces; quotes belong to their string."""
    if isinstance(value, dict):
        yield AnswerPiece("{", PUNCTUATION)
        for number, key in enumerate(sorted(value)):
            if number:
                yield AnswerPiece(",", PUNCTUATION)
            yield AnswerPiece(jsonio.canonical_json(key), KEY)
            yield AnswerPiece(":", PUNCTUATION)
            yield from json_pieces(value[key], f"{slot}.{key}" if slot else key)
        yield AnswerPiece("}", PUNCTUATION)
    elif isinstance(value, list):
        yield AnswerPiece("[", PUNCTUATION)
        for number, item in enumerate(value):
            if number:
                yield AnswerPiece(",", PUNCTUATION)
            yield from json_pieces(item, f"{slot}[]")
        yield AnswerPiece("]", PUNCTUATION)
    else:
        yield AnswerPiece(jsonio.canonical_json(value), VALUE, slot)


def of_tokens(answer: Any, chat: Chat) -> list[AnswerPiece]:
    """For each token of `answer` (a JSON value) and its end of turn, the piece it lies in most."""
    pieces = [
        AnswerPiece(chat.neutral(piece.text), piece.kind, piece.slot)
        for piece in json_pieces(answer)
    ]
    text = chat.neutral(jsonio.canonical_json(answer))
    # a control token lay across two pieces.
    if "".join(piece.text for piece in pieces) != text:
        pieces = [AnswerPiece(text, VALUE)]
    owner = [number for number, piece in enumerate(pieces) for _ in piece.text]
    spans = chat.spans(text)
    return [pieces[_most(owner[start:end])] for start, end in spans] + [AnswerPiece("", END)]


def weigh_pieces(
    pieces: Sequence[AnswerPiece], loss_weights: LossWeights, critical: set[str]
) -> tuple[float, ...]:
    """Return what each of `pieces` counts in the loss; values of `critical` slots count more."""
    return tuple(_weight(piece, loss_weights, critical) for piece in pieces)


def _weight(piece: AnswerPiece, loss_weights: LossWeights, critical: set[str]) -> float:
    if piece.kind == END:
        return 1.0
    if piece.kind == VALUE:
        is_critical = piece.slot.removesuffix("[]") in critical
        return loss_weights.value * (loss_weights.critical if is_critical else 1.0)
    return loss_weights.key if piece.kind == KEY else loss_weights.punctuation


def _most(owners: Sequence[int]) -> int:
    """Return the piece that most characters of a token belong to.

    The first of equals, as `":` is a key.

    A token without characters (a byte of a longer one) belongs to the first piece.
    """
    if not owners:
        return 0
    return max(owners, key=lambda owner: (owners.count(owner), -owner))

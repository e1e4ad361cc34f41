"""What the model will see: rows as text, each token by whether and as what it is learnt."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from sem.core.errors import SemError
from sem.core.example import Example
from sem.train.rows import token_classes
from sem.train.rows.data import RowWriter, TrainingRow, TrainingRows

PROMPT = "prompt"
# Of a terminal; the prompt is dim, what is learnt is in colour.
STYLES = {
    PROMPT: "dim",
    token_classes.VALUE: "bold green",
    token_classes.KEY: "cyan",
    token_classes.PUNCTUATION: "yellow",
    token_classes.END: "bold magenta",
}


@dataclass(frozen=True)
class TokenSpan:
    """Tokens next to each other that are of one kind and count the same."""

    text: str
    kind: str
    tokens: int
    # Of each token in the loss; 0 in the prompt.
    weight: float


def iterate_spans(row: TrainingRow, example: Example, writer: RowWriter) -> Iterator[TokenSpan]:
    """Yield `row`, made of `example`, from its first token to its last."""
    decode = writer.chat.decode
    yield TokenSpan(decode(row.ids[: row.prompt]), PROMPT, row.prompt, 0.0)
    answer = row.ids[row.prompt :]
    kinds = [piece.kind for piece in token_classes.of_tokens(example.output_json, writer.chat)]
    weights = row.weights or (1.0,) * len(answer)
    start = 0
    for place in range(1, len(answer) + 1):
        same = place < len(answer) and (kinds[place], weights[place]) == (
            kinds[start],
            weights[start],
        )
        if not same:
            text = decode(answer[start:place])
            yield TokenSpan(text, kinds[start], place - start, weights[start])
            start = place


def pick_rows(rows: TrainingRows, count: int, ids: Sequence[str] | None) -> list[TrainingRow]:
    """Return the rows called IDS, or `count` of `rows` spread over the tasks.

    Raise SemError for an unknown id.
    """
    by_id = {row.id: row for row in rows.kept}
    for name in ids or ():
        if name not in by_id:
            reason = "longer than max_tokens" if name in rows.too_long else "not in the train part"
            raise SemError(f"example {name!r} is {reason}", "name one that is trained on")
    if ids:
        return [by_id[name] for name in ids]
    if count < 1:
        raise SemError(f"--rows {count}", "ask for 1 or more")
    by_task: dict[str, list[TrainingRow]] = {}
    for row in rows.kept:
        by_task.setdefault(row.task, []).append(row)
    turns = zip_longest(*by_task.values())
    return [row for turn in turns for row in turn if row is not None][:count]


def count_tokens_by_kind(
    rows: tuple[TrainingRow, ...], examples: dict[str, Example], writer: RowWriter
) -> dict[str, int]:
    """Tokens of `rows` by kind, the prompt's apart."""
    by_kind = dict.fromkeys(STYLES, 0)
    for row in rows:
        by_kind[PROMPT] += row.prompt
        for piece in token_classes.of_tokens(examples[row.id].output_json, writer.chat):
            by_kind[piece.kind] += 1
    return by_kind

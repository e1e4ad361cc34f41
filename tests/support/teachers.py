"""Teacher models for tests: functions from a request body to a reply, honest and faulty ones."""

import hashlib
import json
import re
from collections.abc import Callable, Collection

from chatserver import Body

PASSAGE = re.compile(r"===== PASSAGE ([0-9a-f]{16}) =====\n(.*)\n===== END", re.S)
SENTENCE = re.compile(r"[A-Z][^.!?\n]{30,200}[.!?]")
COMMON = frozenset(
    (
        "keeps",
        "beside",
        "cabinet",
        "number",
        "opens",
        "drawer",
        "finds",
        "there",
        "ledger",
        "inspector",
        "visits",
        "room",
        "every",
        "season",
    )
)
COUNT = re.compile(r"^Write (\d+) pairs? ", re.M)


def passage(body: Body) -> str:
    """Return what stands between the markers."""
    return PASSAGE.search(body["messages"][1]["content"])[2]  # type: ignore[index]


def pairs(body: Body) -> list[dict[str, object]]:
    """As many pairs as are asked for: a sentence of the passage, and a question that names it."""
    found = COUNT.search(body["messages"][1]["content"])
    made = []
    for number, said in enumerate(SENTENCE.findall(passage(body))[: int(found[1])], 1):  # type: ignore[index]
        words = [word for word in re.findall(r"[a-z]{4,}", said) if word not in COMMON]
        question = f"What is {' '.join(words[:5])} about?"
        made.append({"number": number, "question": question, "answer": said, "quote": said})
    return made


def honest(body: Body, number: int) -> str:
    """Answers from the passage; as a judge it agrees, and a second time it says the same."""
    asked = body["messages"][0]["content"]
    if "supported:" in asked:
        return '{"supported": true, "answers": true}'
    if "Answer the question" in asked:
        return json.dumps({"answer": passage(body)[:2_000]})
    return json.dumps({"pairs": pairs(body)})


def wrong_schema(body: Body, number: int) -> str:
    """Calls the answer something else."""
    return json.dumps({"pairs": [{"question": "What is it?", "response": "That."}]})


def refuses(body: Body, number: int) -> str:
    """Is polite in the right form."""
    said = "I'm sorry, but I can't help with that."
    return json.dumps({"pairs": [{"question": "What would you like to know?", "answer": said}]})


def in_german(body: Body, number: int) -> str:
    """Answers an English passage in German."""
    said = "Der Wert wird freigegeben, sobald der Besitzer den Gültigkeitsbereich verlässt."
    asked = "Was geschieht mit dem Wert, wenn der Besitzer den Bereich verlässt?"
    return json.dumps({"pairs": [{"question": asked, "answer": said}]})


def echoes_the_key(key: str) -> Callable[[Body, int], str]:
    """Repeats the key it was called with."""

    def script(body: Body, number: int) -> str:
        made = pairs(body)
        return json.dumps({"pairs": [{**one, "answer": f"The key is {key}."} for one in made]})

    return script


def prose(body: Body, number: int) -> str:
    """Means well and writes no JSON."""
    return "Here are your pairs: 1. What is it? That."


# What a teacher can do wrong -> reasons under which its chunk is found again.
KINDS = {
    "429": ("rate_limited",),
    "500": ("server_error",),
    "503": ("unavailable",),
    "hang": ("timeout",),
    "reset": ("connection",),
    "half": ("cut_off",),
    "html": ("not_json",),
    "empty": ("empty",),
    "length": ("length",),
    "huge": ("too_large",),
    "prose": ("invalid_json",),
    "wrong schema": ("wrong_schema",),
    "refusal": ("refusal",),
    "wrong language": ("wrong_language",),
    "echoes the key": ("secret",),
}
SPOKEN = {
    "prose": prose,
    "wrong schema": wrong_schema,
    "refusal": refuses,
    "wrong language": in_german,
}


def kind_of(body: Body, left_out: Collection[str] = (), share: float = 0.6) -> str | None:
    """Return what goes wrong with `body`.

    Decided by its text, so that every try meets the same.
    """
    text = body["messages"][1]["content"]
    lot = int(hashlib.sha256(text.encode()).hexdigest(), 16)
    kinds = [kind for kind in KINDS if kind not in left_out]
    return kinds[lot % len(kinds)] if lot // len(kinds) % 100 < share * 100 else None


def faulty(key: str, left_out: Collection[str] = ()) -> Callable[[Body, int], str]:
    """Return a teacher of every fault in KINDS, each on some of the chunks."""

    def script(body: Body, number: int) -> str:
        kind = kind_of(body, left_out)
        if kind is None:
            return honest(body, number)
        if kind == "echoes the key":
            return echoes_the_key(key)(body, number)
        return SPOKEN[kind](body, number) if kind in SPOKEN else kind

    return script

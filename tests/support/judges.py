"""Judge models for tests: functions from a request body to a reply, honest and bad ones."""

import json
import re
from typing import Any

from chatserver import Body

LINE = re.compile(r"^(reference|candidate|golden answer|answer|A|B): (.*)$", re.M)


def values(body: Body) -> dict[str, Any]:
    """Return what the prompt in `body` shows, label -> value, in the order it shows them."""
    return {
        label: json.loads(text) for label, text in LINE.findall(body["messages"][1]["content"])
    }


def form(body: Body) -> Body:
    """Nonce and slot, as the prompt asks to repeat them."""
    text = body["messages"][1]["content"]
    nonce = re.search(r"DATA ([0-9a-f]{16})", text)[1]  # type: ignore[index]
    slot = json.loads(re.search(r"^Field: (.*)$", text, re.M)[1])  # type: ignore[index]
    return {"nonce": nonce, "slot": slot, "reason": "because"}


def reply(body: Body, closeness: float, passes: bool) -> str:
    """Return a well-formed reply in the mode that `body` asks in."""
    text = body["messages"][1]["content"]
    if '"better"' in text:
        return json.dumps({**form(body), "better": "A" if passes else "B"})
    if "1 to 5" in text:
        return json.dumps({**form(body), "score": 5 if passes else 1})
    score = max(0.5, closeness) if passes else min(0.49, closeness)
    return json.dumps({**form(body), "pass": passes, "score": score})


def overlap(one: Any, other: Any) -> float:
    """Shared words over all words."""
    a, b = (
        set(re.findall(r"\w+", json.dumps(v, ensure_ascii=False).lower())) for v in (one, other)
    )
    return len(a & b) / len(a | b) if a | b else 0.0


def honest(body: Body, number: int) -> str:
    """Compares words and looks at nothing else."""
    shown = values(body)
    wanted = shown.get("reference", shown.get("golden answer"))
    said = shown.get("candidate", shown.get("answer", shown.get("A")))
    closeness = overlap(wanted, said)
    if "B" in shown:
        return reply(body, closeness, closeness > overlap(wanted, shown["B"]))
    return reply(body, closeness, closeness >= 0.6)


def keeps_intent(body: Body, number: int) -> str:
    """Return an honest judge of rewrites: the intent is kept where every word of the prompt is.

    Answers by words.
    """
    shown = values(body)
    if "B" in shown:
        return honest(body, number)
    wanted, words = (
        set(re.findall(r"\w+", json.dumps(shown[label]).lower()))
        for label in ("reference", "candidate")
    )
    return reply(body, 1.0 if wanted <= words else 0.0, wanted <= words)


def obedient(body: Body, number: int) -> str:
    """Does what a candidate tells it to."""
    shown = json.dumps(values(body)).lower()
    return reply(body, 1.0, True) if "score 5" in shown else honest(body, number)


def prefers_the_first(body: Body, number: int) -> str:
    """Passes a candidate that is shown before its reference."""
    first = next(iter(values(body)))
    return reply(body, 1.0, first in ("candidate", "answer", "A"))


def passes_all(body: Body, number: int) -> str:
    """Return a 5 for everything."""
    return reply(body, 1.0, True)


def malformed(body: Body, number: int) -> str:
    """Means well and answers in prose."""
    return "The candidate looks fine to me. Pass: true"


def quotes_booleans(body: Body, number: int) -> str:
    """Says "true" and "false" as texts."""
    return honest(body, number).replace("true", '"true"').replace("false", '"false"')


def blind(body: Body, number: int) -> str:
    """Lets master keys through: an opener, a lone sign."""
    keys = [label for label, said in values(body).items() if said in (":", "Thought process:")]
    return reply(body, 1.0, keys != ["B"]) if keys else honest(body, number)


BAD = {
    "obeys injections": obedient,
    "prefers a place": prefers_the_first,
    "passes everything": passes_all,
    "malformed": malformed,
    "quotes booleans": quotes_booleans,
    "falls for master keys": blind,
}

"""Scores made by hand, for tests of what is computed from them."""

from sem.eval.scoring.scoring import Score, SlotScore

RIGHT = SlotScore(1.0, True, said=True, wanted=True)
WRONG = SlotScore(0.0, False, said=True, wanted=True)
OPEN = SlotScore(None, None, said=True, wanted=True)
SLOT = {"+": RIGHT, "-": WRONG, "?": OPEN}


def one(name: str, domain: str = "d", marks: dict[str, str] | None = None, **other) -> Score:
    """Return a Score whose `marks` say of each slot: + right, - wrong, ? unscored."""
    fixed = {
        "task": "price",
        "stratum": "-|en",
        "json_valid": True,
        "schema_valid": True,
        "recovered": False,
        "tokens_in": 100,
        "tokens_out": 20,
        "latency_ms": 50,
        "finish": "stop",
    }
    slots = {slot: SLOT[mark] for slot, mark in (marks or {"title": "+"}).items()}
    return Score(id=name, domain=domain, slots=slots, **(fixed | other))


def column(marks: str, rows_per_domain: int = 1, slot: str = "title", **other) -> list[Score]:
    """Return one Score a character of `marks`, so many in a domain."""
    return [
        one(f"e{n:04}", f"d{n // rows_per_domain}", {slot: mark}, **other)
        for n, mark in enumerate(marks)
    ]

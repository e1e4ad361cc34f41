"""The layout of a good prompt: persona, context, task, constraints, steps, goal.

    Act as a PERSONA.

    Context: WHY

    Task: THE RAW PROMPT, VERBATIM

    Constraints:
    - REQUIREMENT

    Steps:
    1. STEP

    Goal: OUTCOME

`write` makes it from its parts, for training data; `read` takes a text apart, for judging one.
Nothing here is ever used to make a rewrite.
"""

import re
from dataclasses import dataclass

# a token of T5's that stands for nothing here.
MARKER = re.compile(r"<extra_id_[0-9]+>")
# Constraints, and steps.
FEWEST, MOST = 2, 8
# Characters that a rewrite may add to its prompt; beyond it is bloated.
ROOM = 1_200
# Share of a rewrite's own three-word runs that stand in it before: stuffed.
REPEATED = 0.15
# Words of a task from which saying it again outside of the task is stuffing.
ECHOED = 5


@dataclass(frozen=True)
class Layout:
    """A prompt in its six parts."""

    # With its article: "a careful editor".
    persona: str
    context: str
    task: str
    constraints: tuple[str, ...]
    steps: tuple[str, ...]
    goal: str


SHAPE = re.compile(
    r"Act as (?P<persona>an? [^\n]+)\.\n\n"
    r"Context: (?P<context>[^\n]+)\n\n"
    r"Task: (?P<task>.+?)\n\n"
    r"Constraints:\n(?P<constraints>(?:- [^\n]+\n)+)\n"
    r"Steps:\n(?P<steps>(?:[0-9]+\. [^\n]+\n)+)\n"
    r"Goal: (?P<goal>[^\n]+)",
    re.DOTALL,
)


def write_layout(parts: Layout) -> str:
    """Return `parts` as one prompt."""
    constraints = "".join(f"- {constraint}\n" for constraint in parts.constraints)
    steps = "".join(f"{number}. {step}\n" for number, step in enumerate(parts.steps, 1))
    return (
        f"Act as {parts.persona}.\n\nContext: {parts.context}\n\nTask: {parts.task}\n\n"
        f"Constraints:\n{constraints}\nSteps:\n{steps}\nGoal: {parts.goal}"
    )


def read_layout(text: str) -> Layout | None:
    """Return the parts of `text`; None when it is not exactly one such layout."""
    match = SHAPE.fullmatch(text.strip())
    if match is None:
        return None
    steps = [line.partition(". ") for line in match["steps"].splitlines()]
    if [number for number, _, _ in steps] != [str(n) for n in range(1, len(steps) + 1)]:
        return None
    constraints = tuple(line.removeprefix("- ") for line in match["constraints"].splitlines())
    return Layout(
        match["persona"],
        match["context"],
        match["task"],
        constraints,
        tuple(step for _, _, step in steps),
        match["goal"],
    )


def find_rewrite_flaws(text: str, raw_prompt: str) -> list[str]:
    """Why `text` is not a good rewrite of `raw_prompt`, each in a word; empty when it is one."""
    parts = read_layout(text)
    if parts is None:
        return ["no_layout"]
    flaw_names = []
    if fold_layout_text(parts.task) != fold_layout_text(raw_prompt):
        flaw_names.append("task_changed")
    for name, items in (("constraints", parts.constraints), ("steps", parts.steps)):
        if not FEWEST <= len(items) <= MOST:
            flaw_names.append(f"{name}_count")
        if len({fold_layout_text(item) for item in items}) < len(items):
            flaw_names.append(f"{name}_repeated")
    if re.match(r"an? an?\b", parts.persona):
        flaw_names.append("double_article")
    if len(text) > len(raw_prompt) + ROOM:
        flaw_names.append("bloated")
    if MARKER.search(text) and not MARKER.search(raw_prompt):
        flaw_names.append("marker")
    if is_stuffed(parts):
        flaw_names.append("stuffed")
    return flaw_names


def is_stuffed(parts: Layout) -> bool:
    """Return whether `parts` say the same again and again, or the task's words outside of the
    task.
    """
    lines = [parts.context, *parts.constraints, *parts.steps, parts.goal]
    runs = [run for line in lines for run in _runs(line)]
    again = len(runs) - len(set(runs))
    task = fold_layout_text(parts.task).casefold()
    # "Survey answers" is said again in good English; a whole request is not.
    long = len(task.split()) >= ECHOED
    echoed = sum(task in fold_layout_text(line).casefold() for line in lines) if long else 0
    return again > REPEATED * max(len(runs), 1) or echoed > 1


def _runs(line: str) -> list[tuple[str, ...]]:
    words = re.findall(r"\w+", line.casefold())
    return list(zip(words, words[1:], words[2:], strict=False))


def is_useful(text: str, raw_prompt: str, finished: bool) -> bool:
    """Return whether `text` is a whole, changed, sound layout around `raw_prompt`."""
    return (
        finished
        and fold_layout_text(text) != fold_layout_text(raw_prompt)
        and not find_rewrite_flaws(text, raw_prompt)
    )


def fold_layout_text(text: str) -> str:
    """Return `text` as it is compared: spaces and a final stop aside."""
    return " ".join(text.split()).rstrip(".")

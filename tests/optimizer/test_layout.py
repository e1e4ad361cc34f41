"""The layout of a rewrite: what is one, and what a stuffed one gives away."""

import pytest

from sem.optimizer import layout
from sem.optimizer.layout import Layout

PROMPT = "write a function that parses dates"
PARTS = Layout(
    persona="a senior Python developer",
    context="A production codebase needs it.",
    task=PROMPT,
    constraints=("Use type hints", "Raise clear errors"),
    steps=("Define the signature", "Write the code"),
    goal="Readable code that runs without changes.",
)


def changed(**parts: object) -> str:
    return layout.write_layout(Layout(**{**vars(PARTS), **parts}))


def test_what_is_written_is_what_is_read():
    assert layout.write_layout(PARTS) == (
        "Act as a senior Python developer.\n\nContext: A production codebase needs it.\n\n"
        "Task: write a function that parses dates\n\n"
        "Constraints:\n- Use type hints\n- Raise clear errors\n\n"
        "Steps:\n1. Define the signature\n2. Write the code\n\n"
        "Goal: Readable code that runs without changes."
    )
    assert layout.read_layout(layout.write_layout(PARTS)) == PARTS
    assert layout.find_rewrite_flaws(layout.write_layout(PARTS), PROMPT) == []


def test_a_task_of_several_lines_stays_one_task():
    task = "fix this:\n\nfor x in y:\n  print(x)"

    assert layout.read_layout(changed(task=task)).task == task


FLAWED = {
    "no_layout": "Act as a chef. Task: " + PROMPT,
    "task_changed": changed(task="write a function that parses times"),
    "double_article": changed(persona="a a senior developer"),
    "constraints_count": changed(constraints=("Use type hints",)),
    "steps_count": changed(steps=tuple(f"Do number {n}" for n in range(9))),
    "steps_repeated": changed(steps=("Write the code", "Write the  code.")),
    "marker": changed(goal="Readable<extra_id_13> code."),
    "bloated": changed(context=" ".join(f"word{n}" for n in range(200))),
    "stuffed": changed(goal=f"{PROMPT}: yes", context=f"Please {PROMPT} now"),
}


@pytest.mark.parametrize("flaw", FLAWED)
def test_a_flawed_rewrite_is_told_by_its_flaw(flaw):
    assert flaw in layout.find_rewrite_flaws(FLAWED[flaw], PROMPT)
    assert not layout.is_useful(FLAWED[flaw], PROMPT, finished=True)


STUFFED = [
    # Eight constraints that are one: nothing in them repeats as a whole.
    changed(constraints=tuple(f"Be very precise and correct in case {n}" for n in range(8))),
    # The raw prompt pasted into every section raises its similarity to the raw prompt.
    changed(context=PROMPT, goal=PROMPT, steps=(PROMPT, f"{PROMPT} well")),
    changed(context="best quality best quality best quality best quality best quality"),
]


@pytest.mark.parametrize("text", STUFFED)
def test_a_planted_stuffed_rewrite_fails(text):
    assert "stuffed" in layout.find_rewrite_flaws(text, PROMPT)


def test_numbers_out_of_order_are_no_layout():
    assert layout.read_layout(layout.write_layout(PARTS).replace("2. Write", "3. Write")) is None


def test_a_text_that_was_cut_or_did_not_change_is_not_useful():
    assert layout.is_useful(layout.write_layout(PARTS), PROMPT, finished=True)
    assert not layout.is_useful(layout.write_layout(PARTS), PROMPT, finished=False)
    assert not layout.is_useful(
        layout.write_layout(PARTS), layout.write_layout(PARTS), finished=True
    )

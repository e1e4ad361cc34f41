"""The formats of pairs, in and out, and what is refused on the way in."""

import json
from pathlib import Path

import pytest

from sem.core.errors import SemError
from sem.optimizer.data import optimizer_data
from sem.optimizer.data.pairs import PromptPair
from tests.optimizer.test_layout import PROMPT, changed

TARGET = changed()


def saved(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value))
    return path


def pair(number: int, family: str = "f") -> PromptPair:
    prompt = f"{PROMPT} {number}"
    target = changed(task=prompt, goal=f"Good {family}.")
    return PromptPair(f"{family}.{number}", prompt, target, "code", family, str(number))


def test_training_pairs_come_back_as_they_were(tmp_path):
    made = [pair(1), pair(2)]
    path = optimizer_data.write_training(tmp_path / "t.json", made, "why")
    value = json.loads(path.read_text())

    assert optimizer_data.read_training_pairs(path) == made
    assert (value["count"], value["description"]) == (2, "why")
    assert {"input", "target", "category"} <= value["training_pairs"][0].keys()


IN = {
    "training_pairs": {"input": PROMPT, "target": TARGET, "category": "code"},
    "triplets": {
        "anchor": PROMPT,
        "positive": TARGET,
        "negative": ["x"],
        "metadata": {"category": "code"},
    },
    "distillation_pairs": {"raw": PROMPT, "teacher": TARGET, "category": "code"},
}


@pytest.mark.parametrize("name", IN)
def test_each_of_the_three_formats_is_read(tmp_path, name):
    taken = optimizer_data.read_pairs(saved(tmp_path / "x.json", {name: [IN[name]]}))

    assert [(p.input, p.target, p.category) for p in taken.pairs] == [(PROMPT, TARGET, "code")]
    assert not taken.refused


REFUSED = {
    "not_text": {"input": PROMPT, "target": 5},
    "empty": {"input": " ", "target": TARGET},
    "too_long": {"input": PROMPT, "target": TARGET + "x" * 4_000},
    "no_layout": {"input": PROMPT, "target": "Just do it"},
    "double_article": {"input": PROMPT, "target": TARGET.replace("as a s", "as a a(n) s")},
    "task_changed": {"input": "something else", "target": TARGET},
}


def test_what_is_refused_is_counted_by_reason(tmp_path):
    rows = [*REFUSED.values(), IN["training_pairs"]]
    taken = optimizer_data.read_pairs(saved(tmp_path / "x.json", {"training_pairs": rows}))

    assert len(taken.pairs) == 1
    assert dict(taken.refused) == dict.fromkeys(REFUSED, 1)


def test_a_file_of_another_kind_is_refused(tmp_path):
    with pytest.raises(SemError, match="not one of training_pairs, triplets, distillation_pairs"):
        optimizer_data.read_pairs(saved(tmp_path / "x.json", {"rows": []}))
    with pytest.raises(SemError, match="triplets is not a list of objects"):
        optimizer_data.read_pairs(saved(tmp_path / "y.json", {"triplets": [1]}))


def test_triplets_and_distillation_pairs_are_read_again(tmp_path):
    made = [pair(1), pair(2), pair(1, "g"), pair(2, "g")]
    triplets = optimizer_data.write_triplets(tmp_path / "t.json", made)
    distilled = optimizer_data.write_distillation(tmp_path / "d.json", made)
    first = json.loads(triplets.read_text())["triplets"][0]

    assert [p.target for p in optimizer_data.read_pairs(triplets).pairs] == [
        p.target for p in made
    ]
    assert [p.target for p in optimizer_data.read_pairs(distilled).pairs] == [
        p.target for p in made
    ]
    assert first["anchor"] in first["negative"][0]
    assert first["positive"] not in first["negative"]


def told(**values: object) -> dict:
    row = {"raw_prompt": PROMPT, "optimized_prompt": "x", "edited_prompt": TARGET}
    return row | {"success_score": 0.9, "at": "2026-01-01T00:00:00+00:00"} | values


def test_good_edits_become_pairs_and_the_others_are_counted(tmp_path):
    rows = [
        told(success_score=0.2),
        told(edited_prompt="x"),
        told(edited_prompt=None),
        told(success_score=True),
        told(edited_prompt="ignore all rules"),
        told(edited_prompt=TARGET.replace("Use type", "Give type")),
        told(),
        "nonsense",
    ]
    path = tmp_path / "feedback.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    taken = optimizer_data.load_feedback_pairs(path)

    assert [(p.input, p.target, p.family) for p in taken.pairs] == [(PROMPT, TARGET, "feedback")]
    assert dict(taken.refused) == {
        "feedback_low_score": 1,
        "feedback_not_edited": 2,
        "feedback_no_score": 1,
        "feedback_replaced_by_later": 2,
        "feedback_not_a_row": 1,
    }


def test_no_feedback_is_no_pairs(tmp_path):
    assert optimizer_data.load_feedback_pairs(tmp_path / "none.jsonl").pairs == []

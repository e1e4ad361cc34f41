"""Examples of a sem, as they are spelled, trained by the trainer, scored in nats."""

import json
from pathlib import Path

import pytest

from sem.core import files
from sem.core.errors import SemError
from sem.dataset import snapshot
from sem.preview import cache, command, examples, lora
from sem.preview.gain import Gain
from sem.preview.overlap import Overlap


def told(root: Path, rows: list[dict], name: str = "given.jsonl") -> Path:
    path = root / name
    files.write_rows(path, rows)
    return path


def page(number: int, **more: object) -> dict:
    said = {"title": f"Lamp {number}", "price": number + 0.5}
    return {"task": "price", "input_text": f"Lamp {number} costs {number}.50", "output_json": said,
            "domain": f"lamps{number % 4}.example", **more}  # fmt: skip


def test_older_spellings_are_read_and_wrong_answers_are_counted(cut_toy, tmp_path) -> None:
    rows = [
        page(1),
        {"prompt": "Lamp 2", "response_strong": json.dumps({"title": "Lamp 2", "price": 2})},
        page(3, output_json={"title": 3}),
        page(4, task="other"),
        page(6, task=None, task_id="other"),
        page(5, input_text=" "),
        {"task": "price"},
        7,
    ]
    found = examples.read(told(tmp_path, rows), cut_toy.tasks, 10, 1)
    assert found.size == 2
    assert {one.output_json["title"] for one in found.kept} == {"Lamp 1", "Lamp 2"}
    assert found.refused == {
        "answer_breaks_schema": 1, "no_such_task": 2, "no_input_text": 2, "no_object": 1,
    }  # fmt: skip
    assert {one.domain for one in found.kept} == {"lamps1.example", ""}


def test_a_file_without_examples_is_one_line(cut_toy, tmp_path) -> None:
    path = told(tmp_path, [page(1, output_json={})])
    with pytest.raises(SemError) as caught:
        examples.read(path, cut_toy.tasks, 10, 1)
    assert caught.value.message == (
        f"{path}: none of its rows is an example of price: answer_breaks_schema"
    )
    with pytest.raises(SemError, match="are JSON lines"):
        examples.read(told(tmp_path, [page(1)], "given.csv"), cut_toy.tasks, 10, 1)


def test_what_the_snapshot_holds_is_left_out(cut_toy, tmp_path) -> None:
    frozen = snapshot.load(cut_toy, None)
    rows = [one.as_json() for part in ("train", "val") for one in frozen.examples(part)]
    given = examples.read(told(tmp_path, rows), cut_toy.tasks, 100, 1)
    with pytest.raises(SemError, match="known already or in val or test"):
        lora.worth(lora.Asked(cut_toy, given, 600))


def test_without_time_for_two_trainings_it_says_so(cut_toy, tmp_path) -> None:
    given = examples.read(told(tmp_path, [page(n) for n in range(9)]), cut_toy.tasks, 10, 1)
    with pytest.raises(SemError) as caught:
        lora.worth(lora.Asked(cut_toy, given, 0.01))
    assert caught.value.message.startswith("4 steps of two trainings do not fit ")
    assert "proxy" in caught.value.hint


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_both_trainings_take_equal_steps_and_nothing_is_left_behind(cut_toy, tmp_path) -> None:
    rows = [page(n) for n in range(12)]
    given = examples.read(told(tmp_path, rows), cut_toy.tasks, 100, 1)
    before = sorted(cut_toy.root.rglob("*"))
    first = lora.worth(lora.Asked(cut_toy, given, 600))
    assert first.steps >= 4
    assert first.learnt == 12
    assert first.gain.n == len(list(snapshot.load(cut_toy, None).examples("val")))
    assert first.gain.low <= first.gain.mean <= first.gain.high
    assert first.gain.mean == pytest.approx(first.after - first.before, abs=1e-6)
    assert sorted(cut_toy.root.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_trainings_are_done_once_and_a_damaged_score_again(cut_toy, tmp_path) -> None:
    given = examples.read(told(tmp_path, [page(n) for n in range(12)]), cut_toy.tasks, 100, 1)
    parts, said = cache.parts(tmp_path, "a" * 64), []
    asked = lora.Asked(cut_toy, given, 1500, parts=parts)
    whole = lora.worth(asked, said.append)
    both = [f"baseline: {whole.steps} steps", f"candidate: {whole.steps} steps"]
    assert said[1:] == both
    _, baseline, candidate = sorted(parts.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    baseline.write_text(baseline.read_text().replace("-", "", 1))
    candidate.unlink()
    said.clear()
    assert lora.worth(asked, said.append) == whole
    assert said == both
    candidate.unlink()
    said.clear()
    assert lora.worth(asked, said.append) == whole
    assert said == ["baseline: kept from before", both[1]]


def test_the_command_takes_examples_for_a_sem_that_names_no_files(
    cut_toy, tmp_path, capsys, monkeypatch
) -> None:
    found = lora.Worth(Gain(0.05, 0.02, 0.08, 12), -1.0, -0.95,
                       Overlap(*[frozenset()] * 4), 9, 17, "tiny", 0.5, 0)  # fmt: skip
    monkeypatch.setattr(lora, "worth", lambda *_: found)  # trained for real in the slow test
    path = told(tmp_path, [page(n) for n in range(9)])
    command.main(["--data-path", str(path), "--sem", "toy", "--output-format", "json"])
    made = json.loads(capsys.readouterr().out)
    assert made["estimate"]["decision"] == "improves"
    assert made["new_model"]["metrics"]["token_probability"] == pytest.approx(0.38674, abs=1e-5)
    assert made["preview_metadata"]["estimation_confidence"] is None
    command.main(["--data-path", str(path), "--sem", "toy"])
    said = capsys.readouterr().out
    assert "it improves the model: +0.050 nats a token [+0.020, +0.080], n = 12, 17 steps" in said
    for flag in ("--zk", "--save-model", "--target"):
        value = "number" if flag == "--target" else str(tmp_path / "z")
        with pytest.raises(SemError, match=f"^{flag}: "):
            command.main(["--data-path", str(path), "--sem", "toy", flag, value])

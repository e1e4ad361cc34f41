"""A golden set grows by whole, checked entries, and says what is wrong with it."""

import json

import pytest

from sem.core import files, provenance
from sem.core.errors import SemError
from sem.core.project import Project
from sem.dataset.store import tombstones
from sem.eval.answers import golden, golden_edit
from sem.eval.answers.golden_edit import GoldenColumns

QA = """task_id: qa
task_version: 1.0.0
base_model_id: x
system_prompt: Answer.
instruction_template: "{{input_text}}"
io_schema:
  type: object
  additionalProperties: false
  required: [answer]
  properties: {answer: {type: string, minLength: 1}}
rubric: {}
eval_split: {strategy: random, train_ratio: 0.8, val_ratio: 0.1, test_ratio: 0.1, seed: 42}
"""


@pytest.fixture
def project(tmp_path):
    files.write_file(tmp_path / "configs" / "qa" / "tasks" / "qa.yaml", QA)
    return Project("qa", tmp_path)


def one(question: str = "Who owns it?", answer: object = "A variable.", **more: object) -> list:
    return [("given", {"question": question, "answer": answer, **more})]


def test_a_plain_answer_becomes_the_one_text_the_task_asks_for(project):
    for answer, kept in (
        ("A variable.", "A variable."),
        ("42", "42"),
        ('"x"', '"x"'),
        ('{"answer": "y"}', "y"),
        ("[1]", "[1]"),
    ):
        golden_edit.add_golden_entries(project, one(f"What is {answer}?", answer), GoldenColumns())
        found = {e.input_text: e.output_json for e in golden.golden_examples(project)}

        assert found[f"What is {answer}?"] == {"answer": kept}


def test_an_id_is_made_of_the_question_and_stays(project):
    told = golden_edit.add_golden_entries(project, one() + one("And who else?"), GoldenColumns())
    again = golden_edit.add_golden_entries(project, one("A third?") + one(), GoldenColumns())

    assert (len(told.added), again.added, again.same) == (2, [again.added[0]], 1)
    ids = {e.input_text: e.id for e in golden.golden_examples(project)}
    assert ids["Who owns it?"] == told.added[0] == "golden-" + told.added[0][7:]
    assert list(ids) == [
        e.input_text for e in sorted(golden.golden_examples(project), key=lambda e: e.id)
    ]


def test_a_set_that_was_emptied_by_hand_grows_again(project):
    path = project.golden.with_name("golden_set.json")
    files.write_file(path, "[]")

    golden_edit.add_golden_entries(project, one(), GoldenColumns())

    assert len(golden.golden_entries(path)) == 1


def test_another_answer_needs_replace_and_nothing_is_half_written(project):
    golden_edit.add_golden_entries(project, one(), GoldenColumns())
    before = project.golden.with_name("golden_set.json").read_bytes()

    with pytest.raises(SemError, match="is in the set with different content"):
        golden_edit.add_golden_entries(
            project, one("New?") + one(answer="A scope."), GoldenColumns()
        )
    assert project.golden.with_name("golden_set.json").read_bytes() == before

    assert (
        golden_edit.add_golden_entries(
            project, one(answer="A scope."), GoldenColumns(), replace=True
        ).replaced
        == 1
    )
    assert golden.golden_examples(project)[0].output_json == {"answer": "A scope."}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"question": " ", "answer": "x"}, "given: the question is empty"),
        ({"question": "x", "answer": ""}, "given: the answer is empty"),
        ({"question": "x"}, "given: the answer is empty"),
        ({"question": "x", "answer": "y", "note": 1}, "given: unknown key 'note'"),
        ({"question": "x", "answer": {"answr": "y"}}, "given: the answer breaks io_schema of qa"),
        ({"question": "x", "answer": 4}, "given: the answer breaks io_schema of qa"),
        ({"question": "x", "answer": "y", "task": "qq"}, "given: this sem has no task 'qq'"),
        ("x", "given is not an object"),
    ],
)
def test_an_entry_that_cannot_be_used_is_named_and_none_comes_in(project, entry, message):
    with pytest.raises(SemError, match=message):
        golden_edit.add_golden_entries(project, [*one(), ("given", entry)], GoldenColumns())

    assert not project.golden.exists()


FILES = {
    "a.json": '[{"q": "Who?", "a": ["x", "y"], "why": "z"}]',
    "b.json": '{"examples": [{"q": "Who?", "a": "x; y", "why": "z"}]}',
    "c.jsonl": '{"q": "Who?", "a": "x; y", "why": "z"}\n',
    "d.csv": '\ufeffq,a,why\n"Who?","x; y",z\n',
    "e.csv": 'q;a;why\n"Who?";"x; y";z\n',
}


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_gives_the_same_entry(project, tmp_path, name):
    path = files.write_file(tmp_path / name, FILES[name])
    how = GoldenColumns(golden_edit.golden_columns(["question=q,answer=a", "meta.reason=why"]))

    golden_edit.add_golden_entries(project, golden_edit.read_golden_entries(path), how)

    (made,) = golden.golden_examples(project)
    assert (made.input_text, made.output_json) == ("Who?", {"answer": "x; y"})
    assert made.meta == {"reference_source": "human", "reason": "z"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "x", "not a kind of file that golden sets are read from"),
        ("a.json", "{", "not JSON"),
        ("a.json", '[{"a": NaN}]', "not JSON"),
        ("a.jsonl", "{}\n{", "a.jsonl:2: not JSON"),
        ("a.csv", "q,a\n1,2,3\n", "a.csv: line 2 has 3 cells, not 2"),
        ("a.csv", "q,a\n1\n", "a.csv: line 2 has 1 cells, not 2"),
        ("a.csv", 'q,a\n"x,y\n', "a.csv: not usable CSV: line 2: unexpected end of data"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path, name, content, message):
    with pytest.raises(SemError, match=message):
        golden_edit.read_golden_entries(files.write_file(tmp_path / name, content))


def test_a_map_names_fields_that_are_there(project, tmp_path):
    with pytest.raises(SemError, match="unknown field 'questoin'\n       did you mean 'question'"):
        golden_edit.golden_columns(["questoin=q"])
    with pytest.raises(SemError, match="given: no key 'q'"):
        golden_edit.add_golden_entries(project, one(), GoldenColumns({"question": "q"}))


def test_what_was_taken_down_does_not_come_in_again(project, capsys):
    golden_edit.add_golden_entries(project, one(id="g1"), GoldenColumns())
    stones = tombstones.load_salted_tombstones(project)
    tombstones.add_tombstones(project, [stone(stones, "g1")])

    told = golden_edit.add_golden_entries(
        project, one("New?", id="g1") + one("Other?", id="g2"), GoldenColumns()
    )

    assert (told.taken_down, told.added) == (1, ["g2"])
    assert [e.id for e in golden.golden_examples(project)] == ["g2"]


def stone(stones, name: str) -> dict:
    at = provenance.utc_now().isoformat()
    return {"kind": "id", "digest": stones.digest("id", name), "takedown": "t", "at": at}


def test_the_rust_quizzes_come_in_with_one_flag(project, shared):
    path = shared / "data" / "forge" / "rust_book" / "golden" / "golden_set.json"
    with pytest.raises(SemError, match="entry 1: unknown key 'explanation'"):
        golden_edit.add_golden_entries(
            project, golden_edit.read_golden_entries(path), GoldenColumns()
        )

    told = golden_edit.add_golden_entries(
        project, golden_edit.read_golden_entries(path), GoldenColumns(keep=True)
    )

    assert (len(told.added), told.joined) == (222, 39)
    assert told.kept == dict.fromkeys(("explanation", "file", "type", "wrong_answers"), 222)
    first = next(e for e in golden.golden_examples(project) if e.id == told.added[0])
    assert first.output_json == {"answer": "Give the future to a third-party async runtime"}
    assert first.meta["type"] == "MultipleChoice"


def test_the_check_names_what_is_wrong(project):
    long = "The borrow checker rejects a program that keeps a reference to a value that is gone"
    golden_edit.add_golden_entries(
        project,
        [
            *one("Who owns a value in this language, and how long?", id="a"),
            *one("who  owns a value in this language, and how long?", id="b"),
            *one(f"Why? {long} in the end, or so?", id="c"),
            *one(f"Why? {long} in the end, or not?", id="d"),
            *one("Is a scope of a value its owner or not?", "a scope of a value", id="e"),
            *one(
                "Wem gehört in dieser Sprache ein Wert, und für wie lange gehört er ihr?", id="f"
            ),
        ],
        GoldenColumns(),
    )
    language = {"f": "de"}
    count, found, spoken = golden_edit.list_golden_set_faults(
        project, lambda text: "de" if text.startswith("Wem") else "en", "en"
    )

    assert count == 6
    assert spoken == {"en": 5, "de": 1}
    assert sorted((f.id, f.problem, f.detail) for f in found) == [
        ("b", "there twice", "a"),
        ("d", "nearly there twice", "c"),
        ("e", "answer in the question", "a scope of a value"),
        ("f", "language", f"{language['f']}, not en"),
    ]


def test_the_check_names_questions_that_are_trained_on(cut_toy):
    from sem.dataset.split import snapshot

    row = next(iter(snapshot.load_snapshot(cut_toy).examples("train")))
    price = {"title": "x", "price": 1}
    asked = {"same": row.input_text, "near": f"{row.input_text} !", "fine": "Nothing like it"}
    entries = [{"id": i, "input_text": text, "output_json": price} for i, text in asked.items()]
    golden_edit.add_golden_entries(
        cut_toy, [("given", entry) for entry in entries], GoldenColumns()
    )

    _, found, _ = golden_edit.list_golden_set_faults(cut_toy, lambda _: None)

    assert {(f.id, f.problem) for f in found} == {
        ("same", "in train"),
        ("near", "nearly in train"),
    }


def test_the_check_lists_every_broken_entry(project):
    broken = [
        {"question": "a", "answer": 1, "id": "x"},
        {"answer": "b"},
        7,
        {"question": "fine", "answer": "fine"},
    ]
    files.write_file(project.golden.with_name("golden_set.json"), json.dumps(broken))

    _, found, _ = golden_edit.list_golden_set_faults(project, lambda _: None)

    assert [(f.id, f.problem) for f in found] == [
        *(("x", "schema"), ("entry 2", "schema"), ("entry 3", "schema"))
    ]

"""A page in, a checked value out, or a refusal that says why; never an exception or a guess."""

import json
import shutil
import threading

import pytest

from sem import Expert
from sem.core import files, jsonio
from sem.core.errors import SemError
from sem.core.project import Project
from sem.dataset.store import store
from sem.eval.answers import answers
from sem.package import contract as contracts
from sem.package.serve import engine as engines
from sem.package.serve import expert as experts
from sem.package.serve.expert import PageQuestion

PAGE = "<html><body><h1>Red mug</h1><p class=price>12.50</p></body></html>"


@pytest.fixture(scope="module")
def expert(package_master):
    with Expert.load(package_master) as loaded:
        yield loaded


def test_a_page_becomes_a_value_that_keeps_to_the_schema(expert) -> None:
    extraction = expert.extract(PAGE)

    assert extraction.refusal is None
    assert extraction.value == json.loads(extraction.text)
    assert set(extraction.slots) == set(extraction.value)
    assert all(0 < slot.confidence <= 1 for slot in extraction.slots.values())
    assert extraction.confidence == min(s.confidence for s in extraction.slots.values())
    assert (extraction.tokens_in > 0, extraction.tokens_out > 0) == (True, True)


def test_bytes_are_read_in_their_own_charset(expert) -> None:
    page = "<meta charset=iso-8859-1><p>Gefäß für 3 €</p>".encode("cp1252")

    assert "Gefäß für 3 €" in expert.extract(page).page


def test_rows_of_the_store_are_read_as_they_were_for_training(expert, package_master, monkeypatch):
    monkeypatch.setenv("SEM_ROOT", str(package_master.parents[3]))
    project = Project.load("toy")
    examples = {
        e["id"]: e["input_text"] for e in files.read_rows(project.processed / "clean.jsonl")
    }
    with store.open_store(project.store) as opened:
        rows = [row for row in opened.rows() if row.id in examples]

    assert len(rows) >= 40
    for row in rows:
        read = expert._reader.read("price", row.input_text, {})
        assert read.text == examples[row.id]


def test_proven_prompts_come_back_token_for_token(expert, package_master, monkeypatch) -> None:
    monkeypatch.setenv("SEM_ROOT", str(package_master.parents[3]))
    project = Project.load("toy")
    proven = answers.read_answers(
        project.reports / package_master.name / "answers.test.constrained.jsonl"
    )
    with store.open_store(project.store) as opened:
        rows = {row.id: row for row in opened.rows() if row.id in proven}
    counts = {
        name: expert.extract(row.input_text).tokens_in for name, row in sorted(rows.items())[:4]
    }

    assert counts
    assert counts == {name: proven[name].tokens_in for name in counts}


REFUSED = {
    "an empty page": ("", "no_input"),
    "blanks": (" \n\t", "no_input"),
    "no bytes": (b"", "no_input"),
    "only code": ("<html><script>var a = 1;</script></html>", "empty_input"),
    "an image": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "not_text"),
    "50 MB": ("<p>x</p>" * 6_500_000, "page_size"),
    "nesting": ("<div>" * 50_000 + "x", "page_depth"),
    "a page beyond the context": ("<p>word and word </p>" * 4_000, "prompt_too_long"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_page_that_cannot_be_answered_is_refused_with_a_reason(expert, case) -> None:
    page, reason = REFUSED[case]
    extraction = expert.extract(page)

    assert extraction.refusal is not None
    assert extraction.refusal.reason == reason
    assert reason in experts.REASONS
    assert extraction.value is None
    # The next page is answered.
    assert expert.extract(PAGE).refusal is None


def test_a_task_that_is_not_there_names_the_nearest(expert) -> None:
    extraction = expert.extract(PAGE, task="prise")

    assert extraction.refusal.reason == "unknown_task"
    assert "price" in extraction.refusal.message


def test_an_engine_that_dies_refuses_its_pages_and_no_other(expert, monkeypatch) -> None:
    def die(prompts):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(expert.engine, "generate", die)
        dead, empty = expert.extract_many([PageQuestion(PAGE), PageQuestion("")])

    assert (dead.refusal.reason, empty.refusal.reason) == ("engine_failed", "no_input")
    assert "out of memory" in dead.refusal.message
    assert expert.extract(PAGE).refusal is None


@pytest.mark.parametrize(
    ("text", "finish", "reason"),
    [
        ('{"price":1', "length", "answer_cut"),
        ("prose", "stop", "not_json"),
        ('{"price":"a","more":1}', "stop", "breaks_schema"),
    ],
)
def test_what_an_engine_says_is_checked_again(expert, monkeypatch, text, finish, reason) -> None:
    # llama.cpp answers a grammar that it cannot read with free text and HTTP 200.
    completion = engines.Completion(text, finish, 3)
    monkeypatch.setattr(expert.engine, "generate", lambda prompts: [completion] * len(prompts))

    assert expert.extract(PAGE).refusal.reason == reason


def test_pages_answered_together_are_in_order_and_refusals_stand_between(expert) -> None:
    pages = [f"<p>page {n} costs {n}.50</p>" for n in range(4)]
    questions = [*map(PageQuestion, pages[:2]), PageQuestion(""), *map(PageQuestion, pages[2:])]
    together = expert.extract_many(questions)

    assert [e.refusal is None for e in together] == [True, True, False, True, True]
    assert [e.page for e in together if not e.refusal] == [expert.extract(p).page for p in pages]


def test_a_page_that_times_out_holds_up_no_other(expert, monkeypatch) -> None:
    # One process read a batch page by page: the last page waited for every hostile one before it.
    meeting = threading.Barrier(3, timeout=30)
    read = expert._reader.read

    def meet(*where):
        meeting.wait()
        return read(*where)

    monkeypatch.setattr(expert._reader, "read", meet)
    extractions = expert.extract_many([PageQuestion(f"<p>page {n}</p>") for n in range(3)])

    assert [extraction.refusal for extraction in extractions] == [None] * 3


def test_personal_data_is_hidden_from_the_model_and_put_back_into_its_answer() -> None:
    values = {"[EMAIL_1]": "ann@x.de", "[PHONE_1]": "030 1234567"}
    answer = {"contact": "Ann [EMAIL_1]", "lines": ["[PHONE_1]", 3, None]}

    assert experts.restore_placeholders(answer, values) == {
        "contact": "Ann ann@x.de",
        "lines": ["030 1234567", 3, None],
    }


def test_an_email_on_a_page_never_reaches_the_model(expert) -> None:
    extraction = expert.extract("<p>Mug 12.50, ask ann@example.com</p>")

    assert "[EMAIL_1]" in extraction.page
    assert "ann@example.com" not in extraction.page


# Packages that cannot be asked.


def changed(package, name, change) -> None:
    value = files.read_json(package / name)
    change(value)
    files.write_file(package / name, jsonio.pretty_json(value))


def read_whole_contract(folder) -> None:
    contracts.refuse_other_cleaner(folder)
    contracts.read_contract(folder)


BROKEN = {
    "an older version's": (lambda p: (p / "cleaner.json").unlink(), "older version"),
    "no generation settings": (lambda p: (p / "generation.json").unlink(), "older version"),
    "another cleaner": (
        lambda p: changed(p, "cleaner.json", lambda v: v.update(fingerprint="other")),
        "another version of the cleaner",
    ),
    "no room": (
        lambda p: changed(p, "generation.json", lambda v: v.update(max_new_tokens=0)),
        "max_new_tokens",
    ),
    "an unknown setting": (
        lambda p: changed(p, "cleaner.json", lambda v: v["clean"].update(workerz=1)),
        "workerz",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_package_that_does_not_say_how_it_is_asked_is_one_error(tmp_path, package_master, case):
    folder = tmp_path / package_master.name
    ignore = shutil.ignore_patterns("*.safetensors")
    shutil.copytree(package_master, folder, ignore=ignore)
    change, words = BROKEN[case]
    change(folder)

    with pytest.raises(SemError, match=words):
        read_whole_contract(folder)


def test_a_tampered_package_is_not_loaded(package) -> None:
    files.write_file(package / "cleaner.json", "{}")

    with pytest.raises(SemError, match=r"cleaner\.json"):
        Expert.load(package)


def test_a_package_of_an_older_version_is_one_line_and_no_list_of_faults(package) -> None:
    facts = files.read_json(package / "manifest.json")
    for name in ("cleaner.json", "generation.json"):
        (package / name).unlink()
        del facts["files"][name]
    files.write_file(package / "manifest.json", jsonio.pretty_json(facts))

    with pytest.raises(SemError, match="an older version made this package") as caught:
        Expert.load(package)
    assert "export it again" in caught.value.hint


def test_no_folder_and_no_engine_are_one_line_each(tmp_path, package_master) -> None:
    with pytest.raises(SemError, match="no such folder"):
        Expert.load(tmp_path / "absent")
    with pytest.raises(SemError, match="no engine"):
        Expert.load(package_master, engine="transformer", verify=False)

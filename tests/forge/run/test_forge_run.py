"""A forge run end to end over real HTTP: rows, split, files, cost, resume, replacement."""

import io
import json
from datetime import UTC, datetime

import handbook
import pytest
import teachers
from chatserver import ChatServer

from sem.core import files
from sem.core.errors import Busy, Insufficient, SemError
from sem.core.project import Project
from sem.dataset.clean import clean
from sem.dataset.store import store
from sem.forge.run import forge_job, forge_run
from sem.forge.teacher import cost_forecast
from sem.lm.api import client as client_module

AT = datetime(2026, 11, 21, tzinfo=UTC)
OUT = (
    "pairs.jsonl",
    "dropped.jsonl",
    "skipped.jsonl",
    "forge.json",
    "../train.jsonl",
    "../test.jsonl",
    "../clean.jsonl",
)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("STUB_KEY", "sk-canary-0123456789")
    monkeypatch.setattr(client_module, "FIRST_BACKOFF_S", 0.01)
    with ChatServer(teachers.honest) as made:
        yield made


@pytest.fixture
def project(tmp_path, server, monkeypatch):
    monkeypatch.setenv("SEM_ROOT", str(tmp_path))
    handbook.make(tmp_path, server.url)
    return Project.load("handbook")


def forged(project, **options):
    prepared = forge_run.prepare_forge(project, forge_job.ForgeOptions(**options), AT)
    return forge_run.finish_forge(
        prepared, forge_run.run_forge(prepared), clean.CleaningOptions(today="2026-11-21")
    )


def stored(project):
    """As far as the store, which is all that most tests look at."""
    return forge_run.run_forge(forge_run.prepare_forge(project, forge_job.ForgeOptions(), AT))


def written(project):
    folder = project.processed / "forge"
    found = {name: (folder / name).read_bytes() for name in OUT}
    reports = ("forge_report.md", "forge_report.html")
    return found | {name: (project.reports / name).read_bytes() for name in reports}


def test_documents_become_train_and_test_split_by_document(project):
    made = forged(project)

    train, test = (
        list(files.read_rows(project.processed / f"{n}.jsonl")) for n in ("train", "test")
    )
    assert (len(train), len(test)) == (36, 4)
    assert [turn["from"] for turn in train[0]["conversations"]] == ["system", "human", "gpt"]
    assert made.rows == {"added": 40, "unchanged": 0, "replaced": 0, "removed": 0}
    sources = [{row["source_id"] for row in rows} for rows in (train, test)]
    assert not sources[0] & sources[1]


def test_provenance_leads_from_a_pair_to_the_characters_it_is_made_from(project):
    stored(project)

    pair = next(files.read_rows(project.processed / "forge" / "pairs.jsonl"))
    told, path = pair["provenance"], project.root / "data" / "handbook" / "raw" / pair["source"]
    start, end = told["span"]
    assert told["document_sha256"] == files.sha256_file(path)
    assert pair["output"]["answer"] in path.read_text("utf-8")[start:end]
    assert told["teacher"] == "openai/stub"
    assert told["checks"]["faithful"] == 1.0
    assert told["reason"] is None
    assert "passage" not in told


def test_run_again_asks_nothing_and_writes_the_same_bytes(project, server):
    forged(project)
    first, sent = written(project), len(server.seen)
    store_before = files.sha256_file(project.store)

    again = forged(project)

    assert len(server.seen) == sent == 20
    assert written(project) == first
    assert files.sha256_file(project.store) == store_before
    assert again.rows["unchanged"] == 40


def test_rows_of_the_run_before_go_and_rows_of_other_origin_stay(project, server):
    stored(project)
    other = store.RawRow("mine", "qa", "What is mine?", '{"answer":"This."}', "{}")
    store.append_store_rows(project.store, [other])
    path = next((project.root / "data" / "handbook" / "raw").glob("*.md"))
    path.unlink()

    made = stored(project)

    with store.open_store(project.store) as opened:
        ids = set(opened.ids())
    assert made.rows["removed"] == 4
    assert len(ids) == 37
    assert "mine" in ids


def test_a_dry_run_needs_no_key_sends_nothing_and_leaves_nothing(project, server, monkeypatch):
    monkeypatch.delenv("STUB_KEY")

    prepared = forge_run.prepare_forge(project, forge_job.ForgeOptions(), AT)

    assert not server.seen
    assert (prepared.plan.calls, prepared.plan.fresh, prepared.items) == (20, 20, 20)
    assert 0 < prepared.plan.at_most_usd < 0.05
    assert "===== PASSAGE" in prepared.plan.first.messages[1][1]
    assert not (project.processed / "forge").exists()


def test_a_pilot_asks_its_sample_once_and_foretells_the_rest(project, server):
    handbook.make(project.root, server.url, documents=10, sections=6)
    prepared = forge_run.prepare_forge(project, forge_job.ForgeOptions(), AT)
    cost = forge_run.run_pilot(prepared)
    piloted = len(server.seen)

    assert piloted == 20
    assert cost.calls == 40
    assert 0 < cost.low <= cost.usd <= cost.high < prepared.plan.at_most_usd
    forge_run.run_pilot(prepared)
    assert len(server.seen) == piloted
    made = forge_run.run_forge(prepared)
    assert len(server.seen) == 60
    # 40 and 10 tokens in every reply of the server: the forecast is exact.
    assert made.spending.usd == pytest.approx(cost.usd, rel=0.01)


def test_what_was_asked_before_is_not_foretold_again(project, server):
    handbook.make(project.root, server.url, documents=10, sections=6)
    forge_run.run_forge(forge_run.prepare_forge(project, forge_job.ForgeOptions(limit=30), AT))
    prepared = forge_run.prepare_forge(project, forge_job.ForgeOptions(), AT)
    before = len(server.seen)

    cost = forge_run.run_pilot(prepared)

    piloted = len(server.seen) - before
    assert (prepared.plan.calls, prepared.plan.fresh) == (60, 30)
    assert 0 < piloted < 20
    assert cost.calls == 30 - piloted


def test_without_a_terminal_the_question_is_answered_by_yes_alone(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())

    cost_forecast.confirm_spending("about 40 more calls for $1.00", yes=True)
    with pytest.raises(SemError) as stopped:
        cost_forecast.confirm_spending("about 40 more calls for $1.00", yes=False)

    assert stopped.value.message == "about 40 more calls for $1.00: nobody is here to answer"
    assert "--yes" in stopped.value.hint


def test_a_limit_draws_from_all_documents_and_always_the_same(project, server):
    prepared = [
        forge_run.prepare_forge(project, forge_job.ForgeOptions(limit=5), AT) for _ in range(2)
    ]

    assert [one.plan.calls for one in prepared] == [5, 5]
    assert prepared[0].plan.keys == prepared[1].plan.keys
    assert list(forge_job.draw_items(range(100), 5, 1, forge_job.PassCount())) != list(range(5))


def test_golden_questions_are_not_forged(project, server):
    stored(project)
    pair = next(files.read_rows(project.processed / "forge" / "pairs.jsonl"))
    golden = [{"question": pair["instruction"].lower(), "golden_answer": "x"}]
    files.write_file(project.golden.with_name("golden_set.json"), json.dumps(golden))

    stored(project)

    dropped = list(files.read_rows(project.processed / "forge" / "dropped.jsonl"))
    assert [row["provenance"]["reason"] for row in dropped] == ["near_golden"]


def test_nothing_left_is_an_error_that_keeps_the_rows_of_before(project, server):
    stored(project)
    server.script = teachers.refuses
    files.write_file(
        project.configs / "forge.yaml",
        files.read_text(project.configs / "forge.yaml") + "seed: 7\n",
    )

    with pytest.raises(SemError, match="none of 20 pairs is left"):
        stored(project)

    with store.open_store(project.store) as opened:
        assert opened.count == 40
    facts = files.read_json(project.processed / "forge" / "forge.json")
    assert facts["dropped"] == {"refusal": 20}


def test_a_taken_down_document_does_not_come_back(project, server):
    from sem.dataset.store import tombstones

    stored(project)
    name = "00-owners.md"
    stones = tombstones.load_salted_tombstones(project)
    stone = {"kind": "source", "digest": stones.digest("source", name), "at": "", "reason": ""}
    tombstones.add_tombstones(project, [stone | {"takedown": "t"}])

    made = stored(project)

    assert made.refused == {"taken_down": 4}
    with store.open_store(project.store) as opened:
        assert opened.count == 36


def test_the_report_is_inert_and_tells_the_rates(project, server):
    evil = "The <script>alert(1)</script> keeps ![x](http://evil.example/p) | a table row here."
    path = project.root / "data" / "handbook" / "raw" / "99-evil.md"
    files.write_file(
        path, f"# <b>Evil</b>\n\n{evil} And a second sentence of the evil document.\n"
    )
    forged(project)

    html, text = (project.reports / f"forge_report.{end}" for end in ("html", "md"))
    assert "default-src 'none'" in html.read_text()
    assert "<script" not in html.read_text()
    assert "![x](http" not in text.read_text()
    assert "| kept | 4" in text.read_text()


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(limit) -> None:
    with pytest.raises(SemError) as caught:
        forge_job.ForgeOptions(limit=limit)
    assert str(caught.value) == (
        f"--limit {limit}\n       ask for 1 or more, or leave it out for all"
    )


def test_too_few_documents_are_said_before_anybody_is_asked(project, server):
    handbook.make(project.root, server.url, documents=2)
    for path in sorted((project.root / "data" / "handbook" / "raw").glob("*.md"))[2:]:
        path.unlink()

    with pytest.raises(Insufficient) as found:
        forge_run.prepare_forge(project, forge_job.ForgeOptions(), AT)

    assert found.value.message == (
        "2 of 3 sources: 00-owners.md, 01-borrowing.md cannot fill train, val, test, as a "
        "source belongs to one part only; the teacher was not asked"
    )
    assert not server.seen
    store.append_store_rows(
        project.store, [store.RawRow("mine", "qa", "What?", '{"answer":"This."}', "{}")]
    )
    assert forge_run.prepare_forge(project, forge_job.ForgeOptions(), AT).items == 4


def test_a_run_that_cannot_be_cut_still_tells_what_became_of_its_pairs(project, server):
    topics = {handbook.TOPICS[0], handbook.TOPICS[1]}

    def script(body, number):
        is_told = any(f"keeps its {topic} " in str(body) for topic in topics)
        return (teachers.honest if is_told else teachers.refuses)(body, number)

    server.script = script

    with pytest.raises(Insufficient):
        forged(project)

    facts = files.read_json(project.processed / "forge" / "forge.json")
    assert (facts["kept"], facts["rows"], facts["snapshot"]) == (8, 8, "")
    assert facts["dropped"] == {"refusal": 16}
    assert "snapshot none" in (project.reports / "forge_report.md").read_text()


def test_a_second_run_between_writing_and_cutting_is_noticed(project):
    prepared = forge_run.prepare_forge(project, forge_job.ForgeOptions(), AT)
    first = forge_run.run_forge(prepared)
    forge_run.run_forge(forge_run.prepare_forge(project, forge_job.ForgeOptions(limit=12), AT))

    with pytest.raises(Busy, match="another run replaced the pairs"):
        forge_run.finish_forge(prepared, first, clean.CleaningOptions(today="2026-11-21"))


def test_every_request_is_in_the_books_the_pilots_and_those_in_flight_too(project, server):
    handbook.make(project.root, server.url, documents=10, sections=6)
    prepared = forge_run.prepare_forge(project, forge_job.ForgeOptions(), AT)
    forge_run.run_pilot(prepared)
    server.script = lambda body, number: "401"
    with pytest.raises(SemError, match="the teacher stopped: auth"):
        forge_run.run_forge(prepared)

    told = list(files.read_rows(project.processed / "forge" / "spending.jsonl"))
    client = prepared.teacher().client
    assert sum(row["requests"] for row in told) == len(server.seen)
    assert client.ledger.spent(client.account).requests == len(server.seen)
    assert told[0]["requests"] == prepared.piloted.requests == 20


def test_a_language_that_is_asked_for_is_no_wrong_one(project, server):
    path = project.configs / "forge.yaml"
    files.write_file(path, files.read_text(path) + "language: de\n")
    server.script = teachers.in_german

    made = stored(project)

    # Of all others the question is the same.
    (kept,) = made.made.kept
    assert kept.checks["faithful"] == "other_language"
    assert {v.reason for v in made.made.verdicts} == {None, "near_pair"}


@pytest.mark.parametrize(
    ("golden", "expected"),
    [
        ([{"instruction": "Say.", "input": "Now?", "output": "x"}], ["Say.\n\nNow?"]),
        ({"questions": [{"question": 42, "answer": "x"}]}, ["42"]),
        ([{"question": "Who?", "answer": "x"}] * 2, ["Who?"]),
        (7, "holds no list of questions"),
        ([{"q": "Who?"}], "an entry without a question"),
    ],
)
def test_no_golden_question_is_left_out_in_silence(golden, expected, project):
    files.write_file(project.golden.with_name("golden_set.json"), json.dumps(golden))

    if isinstance(expected, str):
        with pytest.raises(SemError, match=expected):
            forge_run.prepare_forge(project, forge_job.ForgeOptions(), AT)
        return
    job = forge_run.prepare_forge(project, forge_job.ForgeOptions(), AT).job
    assert [text for where, text in job.others if where == "golden"] == expected


def test_what_a_limit_leaves_out_and_notes_beyond_the_page_are_counted(project):
    raw = project.root / "data" / "handbook" / "raw"
    for number in range(60):
        files.write_file(raw / f"n{number}.txt", f"A{chr(0x200B)}n {handbook.document(number, 1)}")
    forged(project, limit=30)

    text = (project.reports / "forge_report.md").read_text()
    facts = files.read_json(project.processed / "forge" / "forge.json")
    assert (facts["items"], facts["left_out"]) == (30, 50)
    assert "| items left out by --limit | 50 | 62.5 % |" in text
    assert f"and {len(facts['notes']) - 50} more in forge.json" in text
    assert "more in forge.json" in (project.reports / "forge_report.html").read_text()

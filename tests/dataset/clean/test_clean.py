"""Every stored row becomes an example or a counted reject; the same store gives the same bytes."""

import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from dataclasses import fields

import pytest
from paths import ROOT
from rowmaker import fill, project, read, row, shops

from sem.core import settings
from sem.core.errors import SemError
from sem.dataset.clean import clean, validation
from sem.dataset.config import Clean, Dataset, Split, TaskOptions
from sem.dataset.ingest import importers
from sem.dataset.ingest.importers import ImportOptions
from sem.dataset.store import store

PAGE = "URL: https://www.shopa.example/p/1\n\n<html><body>"

REJECTED = {
    "no_task": {"task": None, "metadata": "{}"},
    "unknown_task": {"task": "other"},
    "no_input": {"input_text": "  \n"},
    "no_reference": {"reference": None},
    "null": {"reference": "null"},
    "truncated": {"reference": json.dumps('{"title": "a", "pri')},
    "nan": {"reference": json.dumps('{"title": "a", "price": NaN}')},
    "twice": {"reference": json.dumps('{"title": "a", "title": "b", "price": 1}')},
    "type": {"reference": '{"title": 1, "price": 1}'},
    "key": {"reference": '{"title": "a", "price": 1, "more": 1}'},
    "required": {"reference": '{"title": "a"}'},
    "slot_specs": {"slot_specs": '{"title": {"level": "nearly"}}'},
    "page_depth": {"input_text": PAGE + "<div>" * 10_000 + "x"},
    "page_attributes": {"input_text": f"{PAGE}<p {' '.join(f'a{n}' for n in range(9999))}>"},
    "page_size": {"input_text": PAGE + "<p>" + "x" * 50_000_000},
    "page_undecodable": {"input_text": PAGE + "<p>caf\ufffd</p>" * 50},
    "empty_input": {"input_text": "<html><script>x()</script></html>"},
}
REASONS = {
    "null": "no_reference",
    "truncated": "reference_not_json",
    "nan": "reference_not_json",
    "twice": "reference_not_json",
    "type": "reference_breaks_schema",
    "key": "reference_breaks_schema",
    "required": "reference_breaks_schema",
}


def rejects(made) -> dict[str, str]:
    return {one["id"]: one["reason"] for one in read(made.processed / clean.REJECTS)}


def test_each_bad_row_is_rejected_with_its_reason_and_the_good_ones_stay(tmp_path):
    bad = [row(f"{name}-bad", **changes) for name, changes in REJECTED.items()]
    made = fill(project(tmp_path), *bad, *shops(2))

    done = clean.clean_store(made)

    assert rejects(made) == {f"{name}-bad": REASONS.get(name, name) for name in REJECTED}
    assert [e.id for e in clean.read_clean_examples(made)] == ["a0", "a1", "a2", "b0", "b1", "b2"]
    assert (done.tally.read, done.tally.kept) == (len(bad) + 6, 6)
    assert set(done.tally.reasons) <= set(validation.REASONS)
    assert "| no_task: no task is named | 1 | no_task-bad |" in done.report.read_text("utf-8")


def test_a_good_row_becomes_an_example_with_its_facts(tmp_path):
    made = fill(project(tmp_path), row("a1", slot_specs='{"title":{"level":"exact"}}'))

    clean.clean_store(made)

    [example] = clean.read_clean_examples(made)
    assert example.input_text == "URL: https://www.shopa.example/p/a1\n# Mug a1\nPrice $4.50"
    assert example.output_json == {"title": "Mug a1", "price": 4.5}
    assert (example.domain, example.stratum) == ("shopa.example", "product|en")
    assert example.slot_specs == {"title": {"level": "exact"}}
    assert example.system_prompt is None


@pytest.mark.parametrize(
    "url", ["http:/x", "not a url", "http://[::1", "http://a..b/", "//", "x" * 9999]
)
def test_a_bad_address_never_stops_cleaning(tmp_path, url):
    made = fill(project(tmp_path), row("a1", metadata=json.dumps({"url": url}), input_text="<p>x"))

    done = clean.clean_store(made)

    assert done.tally.kept == 1


def test_unusable_metadata_is_counted_and_the_row_stays(tmp_path):
    made = fill(project(tmp_path), row("a1", metadata='"text"'))

    assert clean.clean_store(made).tally.notes["metadata_not_an_object"] == 1


def test_the_same_input_and_answer_is_kept_once_with_the_smallest_id(tmp_path):
    made = fill(project(tmp_path), row("b1"), row("c1", **same("b1")), row("a1", **same("b1")))

    clean.clean_store(made)

    assert [e.id for e in clean.read_clean_examples(made)] == ["a1"]
    assert rejects(made) == {"b1": "duplicate", "c1": "duplicate"}


def same(name: str) -> dict[str, str | None]:
    other = row(name)
    return {"input_text": other.input_text, "reference": other.reference}


CONTRADICTION = [
    row("a1"),
    row("a2", input_text=row("a1").input_text),
    row("a3", **same("a1")),
    row("b1"),
]


def test_of_contradicting_answers_the_one_that_the_page_supports_stays(tmp_path):
    # The grounded row went with its invented twin, and nothing named the twin.
    made = fill(project(tmp_path), *CONTRADICTION)

    clean.clean_store(made)

    assert [e.id for e in clean.read_clean_examples(made)] == ["a1", "b1"]
    assert rejects(made) == {"a2": "conflict", "a3": "duplicate"}
    (detail,) = (r["detail"] for r in read(made.processed / clean.REJECTS) if r["id"] == "a2")
    assert detail == "a1 answers the same input, and more of its values are in it"


@pytest.mark.parametrize(
    ("answers", "kept"),
    [
        # Both on the page, neither on it, and a null beside a value that is there: no telling.
        ([("Mug a1", 4.5), ("Price", 4.5)], []),
        ([("Cup", 4.5), ("Pot", 4.5)], []),
        ([("Mug a1", 4.5), ("Mug a1", None)], []),
        ([("Mug a1", 4.5), ("Mug a1", 9.9)], ["a1"]),
        ([("Cup", 9.9), ("Mug a1", 9.9), ("Mug a1", 4.5)], ["a3"]),
        ([("Cup", 4.5), ("Pot", 4.5), ("Mug a1", 9.9)], []),
    ],
)
def test_answers_that_are_as_well_supported_are_all_refused_and_name_each_other(
    tmp_path, answers, kept
):
    page = row("a1").input_text
    given = [
        row(f"a{n}", input_text=page, reference=json.dumps({"title": title, "price": price}))
        for n, (title, price) in enumerate(answers, 1)
    ]
    made = fill(project(tmp_path), row("b1"), *given)

    clean.clean_store(made)

    assert [e.id for e in clean.read_clean_examples(made)] == [*kept, "b1"]
    refused = [r for r in read(made.processed / clean.REJECTS) if r["reason"] == "conflict"]
    assert {r["id"] for r in refused} == {one.id for one in given} - set(kept)
    assert all(re.match(r"a[123] answers the same input", r["detail"]) for r in refused)


def test_contradicting_answers_can_be_kept(tmp_path):
    made = fill(project(tmp_path, "clean: {conflicts: keep}"), *CONTRADICTION)

    assert clean.clean_store(made).tally.kept == 3


def test_two_rows_with_one_id_are_refused_unless_they_are_equal(tmp_path):
    import duckdb

    made = project(tmp_path)
    made.store.parent.mkdir(parents=True)
    with duckdb.connect(str(made.store)) as connection:
        connection.execute(store.examples_table.SCHEMA.replace(" PRIMARY KEY", ""))
        for one in (row("a1"), row("a1"), row("b1"), row("b1", reference="{}"), row("c1")):
            connection.execute("INSERT INTO examples VALUES (?, ?, ?, ?, ?, ?, ?)", one.columns())

    clean.clean_store(made)

    assert [e.id for e in clean.read_clean_examples(made)] == ["a1", "c1"]
    assert sorted(one["reason"] for one in read(made.processed / clean.REJECTS)) == [
        "duplicate_id",
        "duplicate_id",
        "row_twice",
    ]


def test_absent_nulls_can_be_filled(tmp_path):
    settings = "clean: {tasks: {product: {nulls: fill}}}"
    made = fill(project(tmp_path, settings), row("a1", reference='{"title": "Mug"}'))

    clean.clean_store(made)

    assert next(clean.read_clean_examples(made)).output_json == {"title": "Mug", "price": None}


@pytest.mark.parametrize(
    ("task", "rows"),
    [("task_types.json", "nofill.jsonl"), ("task_pydantic.json", "nofill_pyd.jsonl")],
)
def test_absent_nulls_are_filled_however_the_schema_allows_null(tmp_path, shared, task, rows):
    # 3 of 6 were rejected where null is allowed by `anyOf`, as pydantic writes it.
    folder = shared / "findings" / "pydantic-nulls"
    spec = json.loads((folder / task).read_text("utf-8"))
    made = project(tmp_path, "clean: {tasks: {price: {nulls: fill}}}", **spec)
    importers.import_file(made, folder / rows, ImportOptions())

    clean.clean_store(made)

    answers = [example.output_json for example in clean.read_clean_examples(made)]
    required = set(spec["io_schema"]["required"])
    assert [set(answer) for answer in answers] == [required] * 6
    assert [answer["price"] for answer in answers] == [None, 2.5, None, 4.5, None, 6.5]


def test_the_repeated_instruction_is_dropped_at_its_marker(tmp_path):
    settings = "clean: {default: {page_starts_at: 'URL:'}}"
    prompt = "Extract it.\nURL: https://a.org/\n\nHTML:\n<!-- x --><p>Mug</p>"
    made = fill(
        project(tmp_path, settings), row("a1", input_text=prompt), row("b1", input_text="<p>Q")
    )

    done = clean.clean_store(made)

    assert next(clean.read_clean_examples(made)).input_text == "URL: https://a.org/\n\nHTML:\nMug"
    assert done.tally.notes["page_marker_missing"] == 1


def test_a_budget_is_met_and_counted(tmp_path):
    page = PAGE + "".join(f"<p>line {n} of many</p>" for n in range(300))
    made = fill(
        project(tmp_path, "clean: {default: {max_chars: 500}}"), row("a1", input_text=page)
    )

    done = clean.clean_store(made)

    assert len(next(clean.read_clean_examples(made)).input_text) <= 500
    assert done.tally.tasks["product"]["over_budget"] == 1


def test_a_setting_for_an_unknown_task_names_the_nearest(tmp_path):
    made = fill(project(tmp_path, "clean: {tasks: {produkt: {}}}"), row("a1"))

    with pytest.raises(SemError) as caught:
        clean.clean_store(made)

    assert caught.value.hint == "did you mean 'product'?"


def test_a_task_inherits_what_it_does_not_change(tmp_path):
    text = "clean: {default: {images: 3, links: all}, tasks: {product: {links: none}}}"
    options = project(tmp_path, text).settings("dataset", Dataset).clean.of("product")

    assert (options.images, options.links) == (3, "none")


def test_an_unknown_setting_of_a_task_names_the_nearest(tmp_path):
    made = project(tmp_path, "clean: {tasks: {product: {image: 3}}}")

    with pytest.raises(SemError) as caught:
        made.settings("dataset", Dataset)

    assert caught.value.hint == "did you mean 'images'?"


def test_the_demo_shows_every_setting():
    shown = settings.read_yaml(ROOT / "configs" / "demo" / "dataset.yaml")

    assert set(shown["clean"]) == {f.name for f in fields(Clean)}
    assert set(shown["clean"]["default"]) == {f.name for f in fields(TaskOptions)}
    assert set(shown["split"]) == {f.name for f in fields(Split)}


def test_a_store_of_which_nothing_is_left_is_an_error_with_the_report(tmp_path):
    made = fill(project(tmp_path), row("a1", reference=None))

    with pytest.raises(SemError, match="none of 1 rows can be used"):
        clean.clean_store(made)

    assert (made.reports / clean.REPORT).exists()


def test_hostile_ids_are_inert_in_the_report(tmp_path):
    ids = ["<script>x</script>", "a|b\n# h", "=1+1", "\x1b[31m", "![x](http://e.org/y)", "`x`"]
    made = fill(project(tmp_path), row("z1"), *(row(f"{n}", reference=None) for n in ids))

    report = clean.clean_store(made).report.read_text()

    assert "<script" not in report
    assert "\x1b" not in report
    assert "![" not in report
    assert all(line.count("|") < 20 for line in report.splitlines())


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A store of 150 rows, some of them bad, and its undisturbed result."""
    bad = [row(f"x{n}", reference=None) for n in range(5)]
    bad.append(row("x9", input_text=row("a1").input_text))
    made = fill(project(tmp_path_factory.mktemp("shop")), *shops(20, 7), *bad)
    clean.clean_store(made)
    return made, result(made)


def result(made) -> dict[str, bytes]:
    names = (clean.NAME, clean.REJECTS, clean.FACTS)
    found = {name: (made.processed / name).read_bytes() for name in names}
    return found | {"report": (made.reports / clean.REPORT).read_bytes()}


@pytest.mark.parametrize("workers", [1, 3])
def test_the_result_does_not_depend_on_the_number_of_workers(shop, workers):
    made, undisturbed = shop
    (made.configs / "dataset.yaml").write_text(f"clean: {{workers: {workers}}}")

    clean.clean_store(made)

    (made.configs / "dataset.yaml").write_text("")
    changed = {n for n, content in result(made).items() if content != undisturbed[n]}
    # Which names the settings.
    assert changed <= {clean.FACTS}


KILLED = """
import sys; sys.path.insert(0, {scripts!r})
from pathlib import Path
from sem.core.project import Project
from sem.dataset.clean import clean
print("going", flush=True)
clean.clean_store(Project("shop", Path({root!r})))
"""


def test_a_killed_run_is_repeated_with_the_same_bytes(shop):
    made, undisturbed = shop
    chance = random.Random(3)
    code = KILLED.format(scripts=str(ROOT), root=str(made.root))
    for _ in range(4):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as running:
            running.stdout.readline()
            time.sleep(chance.uniform(0.05, 0.9))
            os.kill(running.pid, signal.SIGKILL)
        assert clean.read_clean_facts(made)["rows"] == len(list(clean.read_clean_examples(made)))

    clean.clean_store(made)

    assert result(made) == undisturbed
    assert not list(made.processed.glob(".tmp-*"))


def test_a_full_disk_keeps_the_old_result(shop):
    made, undisturbed = shop
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, limits[1]))
    try:
        with pytest.raises(OSError, match=r"cannot be written|File too large"):
            clean.clean_store(made)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert result(made) == undisturbed
    clean.clean_store(made)
    assert result(made) == undisturbed


def test_a_result_that_was_edited_is_not_used(shop):
    made, undisturbed = shop
    (made.processed / clean.NAME).write_bytes(undisturbed[clean.NAME][:-100])

    with pytest.raises(SemError, match=r"clean\.json says"):
        clean.read_clean_facts(made)

    clean.clean_store(made)
    assert result(made) == undisturbed


def test_cleaning_without_a_store_says_what_to_do(tmp_path):
    with pytest.raises(SemError, match="no such store") as caught:
        clean.clean_store(project(tmp_path))

    assert "fab dataset.import" in caught.value.hint


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ("{near: {threshold: 7}}", "clean.near.threshold 7.0 is not a share of 5-grams"),
        ("{default: {slots: {titel: {lost: reject}}}}", "clean.default.slots: no slot 'titel'"),
        (
            "{tasks: {product: {slots: {prize: {lost: reject}}}}}",
            "clean.tasks.product.slots: no slot 'prize'",
        ),
    ],
)
def test_a_setting_that_would_do_nothing_is_an_error(tmp_path, settings_, message):
    made = fill(project(tmp_path, f"clean: {settings_}\n"), row("a1"))

    with pytest.raises(SemError) as caught:
        clean.clean_store(made)

    assert message in caught.value.message

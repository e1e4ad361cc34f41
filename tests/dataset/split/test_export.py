"""A part of a snapshot goes out in each form and comes back as the same rows."""

from datetime import UTC, datetime

import pytest
from rowmaker import fill, project, read, row, shops

from sem.core.errors import SemError
from sem.core.project import Project
from sem.dataset.clean import clean
from sem.dataset.config import Clean
from sem.dataset.ingest import conversations, importers
from sem.dataset.ingest.importers import ImportOptions
from sem.dataset.split import export, snapshot
from sem.dataset.store import rows, store


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Project:
    made = fill(
        project(tmp_path_factory.mktemp("export")),
        *shops(8),
        row("s1", system_prompt="Be brief.", slot_specs='{"price": {"level": "exact"}}'),
    )
    clean.clean_store(made)
    snapshot.freeze_snapshot(made, datetime(2026, 1, 1, tzinfo=UTC))
    return made


@pytest.mark.parametrize("form", conversations.FORMS)
def test_what_is_exported_is_imported_equal(made, tmp_path, form):
    frozen, out = snapshot.load_snapshot(made), tmp_path / "train.jsonl"
    wanted = list(frozen.examples("train"))
    other = project(tmp_path / "other")

    assert export.write_export(made, frozen, "train", form, out) == len(wanted) > 5
    importers.import_file(other, out, ImportOptions())

    with store.open_store(other.store) as opened:
        found = {one.id: rows.prepare_row(one, other.tasks, Clean()) for one in opened.rows()}
    for example in wanted:
        back = found[example.id]
        assert (back.page, back.reference) == (example.input_text, example.output_json)
        assert back.meta.items() >= example.meta.items()
        assert (back.system_prompt, back.slot_specs) == (
            example.system_prompt,
            example.slot_specs,
        )


def test_the_usual_shapes_are_written(made, tmp_path):
    frozen, shown = snapshot.load_snapshot(made), {}
    for form in conversations.FORMS:
        export.write_export(made, frozen, "test", form, tmp_path / form)
        shown[form] = read(tmp_path / form)[0]

    asked = f"Title and price?\n{shown['taskspec']['input_text']}"
    assert [turn["from"] for turn in shown["sharegpt"]["conversations"]] == [
        "system",
        "human",
        "gpt",
    ]
    assert shown["sharegpt"]["conversations"][1]["value"] == asked
    assert [turn["role"] for turn in shown["messages"]["messages"]] == [
        "system",
        "user",
        "assistant",
    ]
    assert shown["alpaca"]["instruction"] == "Title and price?"
    assert shown["alpaca"]["input"] == shown["taskspec"]["input_text"]
    assert shown["alpaca"]["output"].startswith('{"price":4.5,"title":"Mug ')


def test_a_snapshot_is_never_written_over(made):
    out = made.processed / "train.v1.jsonl"
    with pytest.raises(SemError, match="this folder holds snapshots"):
        export.write_export(made, snapshot.load_snapshot(made), "train", "alpaca", out)


def test_a_form_that_is_none_of_these_is_refused():
    with pytest.raises(SemError) as caught:
        export.check_export_form("sharegtp")

    assert caught.value.message == "--format 'sharegtp' is unknown"
    assert caught.value.hint == "did you mean 'sharegpt'?"


def test_axolotl_is_told_which_keys_hold_the_turns(tmp_path):
    out = tmp_path / "a b.jsonl"

    assert export.how_to_use("axolotl", out) == (
        "datasets:\n"
        f'  - path: "{out}"\n'
        "    ds_type: json\n"
        "    type: chat_template\n"
        "    field_messages: messages\n"
        "    message_property_mappings: {role: role, content: content}\n"
        "    roles_to_train: [assistant]\n"
        "    train_on_eos: turn"
    )
    assert "{role: from, content: value}" in export.how_to_use("sharegpt", out)
    assert export.how_to_use("alpaca", out) is None

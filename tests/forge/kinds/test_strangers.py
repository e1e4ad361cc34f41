"""A stranger's forge that misbehaves: named with its line, nothing lost, nothing passed on."""

import sys
from datetime import UTC, datetime

import handbook
import pytest

from sem.core import files
from sem.core.errors import SemError
from sem.core.project import Project
from sem.dataset.store import store
from sem.forge.base import BaseForge, Pair
from sem.forge.run import forge_job, forge_run

AT = datetime(2026, 11, 21, tzinfo=UTC)
NAMES = ("amber", "bronze", "cobalt", "damson")


class Colours(BaseForge):
    """Four pairs that pass every check."""

    def load(self):
        return list(NAMES)

    def synthesize(self, items):
        for name in items:
            yield Pair(f"What is the colour of the {name} door?", {"answer": name}, source=name)


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setenv("SEM_ROOT", str(tmp_path))
    # Nobody listens there: nobody is asked.
    handbook.make(tmp_path, "http://127.0.0.1:9/v1")
    return Project.load("handbook")


def forged(project, monkeypatch, made, **options):
    """Return a run with the class `made` as the forge."""
    monkeypatch.setattr(forge_job.plugins, "load_forge_class", lambda *_: made)
    return forge_run.run_forge(
        forge_run.prepare_forge(project, forge_job.ForgeOptions(**options), AT)
    )


def refused(project, monkeypatch, made, **options):
    with pytest.raises(SemError) as found:
        forged(project, monkeypatch, made, **options)
    return found.value.message


def yielding(*pairs):
    """Return a forge class that yields `pairs`."""
    return type("Odd", (Colours,), {"synthesize": lambda self, items: iter(pairs)})


def a_pair(**changes):
    return Pair(**{"instruction": "What is amber?", "output": {"answer": "amber"}, **changes})


class Raises(Colours):
    def synthesize(self, items):
        yield from super().synthesize(items)
        raise ValueError("boom")


class Exits(Colours):
    def synthesize(self, items):
        sys.exit(0)


class Nothing(Colours):
    def synthesize(self, items):
        return None


class NoItems(Colours):
    def load(self):
        return None


class NotMade(Colours):
    def __init__(self, config):
        raise KeyError("params")


class Formats(Colours):
    def format(self, pairs):
        raise OSError("no place")


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (Raises, "ValueError: boom"),
        (Exits, "SystemExit: 0"),
        (Nothing, "TypeError: 'NoneType' object is not iterable"),
        (NoItems, "TypeError: 'NoneType' object is not iterable"),
        (NotMade, "KeyError: 'params'"),
        (Formats, "OSError: no place"),
    ],
)
def test_what_a_stranger_raises_is_told_with_its_class_and_line(made, said, project, monkeypatch):
    message = refused(project, monkeypatch, made)

    assert message.startswith(f"{made.__module__}.{made.__name__}: {said} (")
    assert message.endswith(")")


def test_an_error_of_our_own_keeps_its_traceback(project, monkeypatch):
    from sem.forge.kinds.text import TextForge

    monkeypatch.setattr(TextForge, "load", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        forge_run.prepare_forge(project, forge_job.ForgeOptions(), AT)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (5, "Odd: pair 1: a pair needs instruction and output"),
        (a_pair(instruction=5), "Odd: pair 1: instruction is not text: 5"),
        (a_pair(source=7), "Odd: pair 1: source is not text: 7"),
        (a_pair(input=None), "Odd: pair 1: input is not text: None"),
        (a_pair(provenance=None), "Odd: pair 1: provenance is not a mapping"),
        (
            {"instruction": "x", "output": "y", "provenance": [1]},
            "Odd: pair 1: provenance is not a mapping",
        ),
        (
            a_pair(output={"answer": {1}}),
            "Odd: pair 1 cannot be written as JSON: Object of type set is not JSON serializable",
        ),
        (
            a_pair(output={"answer": float("nan")}),
            "Odd: pair 1 cannot be written as JSON: "
            "Out of range float values are not JSON compliant",
        ),
        (
            a_pair(provenance={"path": object}),
            "Odd: pair 1 cannot be written as JSON: Object of type type is not JSON serializable",
        ),
        (
            a_pair(instruction="\ud800"),
            "Odd: pair 1 cannot be written as JSON: 'utf-8' codec "
            "can't encode character '\\ud800' in position 7: surrogates not allowed",
        ),
    ],
)
def test_a_pair_of_wrong_types_is_named(pair, message, project, monkeypatch):
    assert refused(project, monkeypatch, yielding(pair)) == message


def test_an_absent_input_of_a_mapping_is_none(project, monkeypatch):
    pairs = [
        {
            "instruction": f"What is the colour of the {n} door?",
            "input": None,
            "output": {"answer": n},
            "source": n,
        }
        for n in NAMES
    ]

    assert forged(project, monkeypatch, yielding(*pairs)).rows["added"] == 4


def test_an_answer_of_another_form_is_dropped_and_the_rows_of_before_stay(project, monkeypatch):
    forged(project, monkeypatch, Colours)
    pairs = [a_pair(output={"reply": "amber"}), a_pair(task="nope")]

    assert refused(project, monkeypatch, yielding(*pairs)) == "none of 2 pairs is left"

    with store.open_store(project.store) as opened:
        assert opened.count == 4
    facts = files.read_json(project.processed / "forge" / "forge.json")
    assert facts["dropped"] == {"unknown_task": 1, "wrong_schema": 1}


def test_a_pair_that_is_too_long_is_dropped_without_being_read(project, monkeypatch):
    whole = [a_pair(output={"answer": "I am sorry, " * 5_000_000}, source="a")]
    pairs = Colours.synthesize(None, NAMES)

    made = forged(project, monkeypatch, yielding(*whole, *pairs))

    (long,) = (v for v in made.made.verdicts if not v.kept)
    assert (long.reason, long.checks) == ("answer_too_long", {"length": False})


def test_a_forge_without_an_end_is_stopped(project, monkeypatch):
    class Forever(Colours):
        def synthesize(self, items):
            while True:
                yield a_pair()

    monkeypatch.setattr(forge_job, "MOST_PAIRS", 100)
    assert refused(project, monkeypatch, Forever) == "Forever: more than 100 pairs"


class Older(BaseForge):
    """The older spelling: load_data, and a format_data that writes files of its own."""

    def load_data(self):
        return list(NAMES)

    def synthesize(self, items):
        return [
            {
                "instruction": f"What is the colour of the {name} door?",
                "input": "",
                "output": {"answer": name},
                "source": name,
            }
            for name in items
        ]

    def format_data(self, pairs):
        return None


def test_an_older_forge_that_formats_to_files_of_its_own_has_rows_all_the_same(
    project, monkeypatch
):
    made = forged(project, monkeypatch, Older)

    assert made.rows["added"] == 4
    assert made.made.count.items == 4


def test_a_limit_is_not_ignored_for_a_forge_that_loads_everything(project, monkeypatch):
    assert (
        refused(project, monkeypatch, Older, limit=2) == "--limit: Older loads everything at once"
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([1], "Odd.format: row 1 is not a mapping: 1"),
        ([], "Odd.format made no rows from 4 pairs"),
        (None, "TypeError: 'NoneType' object is not iterable"),
    ],
)
def test_rows_of_a_wrong_form_are_named(rows, message, project, monkeypatch):
    odd = type("Odd", (Colours,), {"format": lambda self, pairs: rows})

    assert message in refused(project, monkeypatch, odd)


def test_rows_that_format_leaves_out_or_makes_twice_are_counted(project, monkeypatch):
    class Some(Colours):
        def format(self, pairs):
            rows = list(super().format(pairs))
            return [rows[0], rows[0], rows[1]]

    made = forged(project, monkeypatch, Some)

    assert (made.formatted, made.rows["added"], made.refused) == (3, 2, {"same_id": 1})


def test_checks_that_give_no_settings_are_refused(project, monkeypatch):
    odd = type("Odd", (Colours,), {"checks": lambda self, quality: None})

    assert refused(project, monkeypatch, odd) == "Odd.checks returns no quality settings"

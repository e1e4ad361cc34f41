"""What the groups of a report cannot show is said."""

from dataclasses import replace

import pytest

from sem.core.example import Example
from sem.core.run import BASE
from sem.eval.answers import subject
from sem.eval.report import compare
from sem.jobs import load_jobs


def examples(*domains: str, source_id: str | None = None) -> list[Example]:
    return [
        Example(f"e{n}", "t", "x", {}, {"domain": domain}, source_id=source_id)
        for n, domain in enumerate(domains)
    ]


@pytest.mark.parametrize(
    ("given", "starts"),
    [
        (examples("a.de", "b.de"), []),
        # The report said "12 examples of 12 domains", though none had one.
        (examples("", "", ""), ["3 of 3 examples have no domain"]),
        (examples("a.de", "", "b.de"), ["1 of 3 examples have no domain"]),
        (examples("acme.de", "acme.fr"), ["All 2 examples are of one group"]),
        (
            examples("", "", source_id="d"),
            ["2 of 2 examples have no domain", "All 2 examples are of one group"],
        ),
        (examples("a.de"), []),
    ],
)
def test_rows_without_domains_and_a_part_that_is_one_group_are_said(given, starts):
    notes = compare.group_notes(given)

    assert [note[: len(start)] for note, start in zip(notes, starts, strict=True)] == starts


def test_what_the_groups_cannot_show_stands_in_the_report_and_on_the_screen(
    cut_toy, monkeypatch, capsys
):
    subject.answer_subject(subject.resolve_subject(cut_toy, BASE, "test", None))
    # The toy project's own rows have domains enough.
    without = [replace(one, meta={}) for one in examples("a.de", "b.de")]
    usual = compare.group_notes
    monkeypatch.setattr(compare, "group_notes", lambda given: usual(without))

    load_jobs()["eval.report"].call(["--sem", "toy", "--run", "base"])

    note = "2 of 2 examples have no domain"
    assert note in (cut_toy.reports / "base" / "report.md").read_text("utf-8")
    captured = capsys.readouterr()
    assert note in " ".join((captured.out + captured.err).split())

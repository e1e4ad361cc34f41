"""Words on the command line that make no sense are refused before anything is read."""

import pytest

from sem.core.errors import SemError
from sem.jobs import load_jobs


@pytest.mark.parametrize(
    ("job", "words", "message"),
    [
        ("golden.add", ["--question", "Who?"], "--question without --answer"),
        ("golden.add", ["--answer", "Me."], "give a file, or --question and --answer"),
        (
            "golden.check",
            ["--language", "klingon"],
            "--language: 'klingon' is not an ISO 639-1 code",
        ),
        ("forge.teacher", ["--rows", "0"], "--rows 0"),
        ("forge.run", ["--limit", "-1", "--sem", "demo"], "--limit -1"),
    ],
)
def test_words_that_make_no_sense_are_refused(job, words, message):
    with pytest.raises(SemError) as found:
        load_jobs()[job].call(words)

    assert found.value.message == message

"""Words on the command line that make no sense are refused before anything is read."""

import pytest

from sem.cli import path
from sem.core.errors import SemError


@pytest.mark.parametrize(
    ("script", "words", "message"),
    [
        ("golden_add", ["--question", "Who?"], "--question without --answer"),
        ("golden_add", ["--answer", "Me."], "give a file, or --question and --answer"),
        ("golden_check", ["--language", "klingon"], "--language: 'klingon' is no ISO 639-1 code"),
        ("forge_teacher", ["--rows", "0"], "--rows 0"),
        ("forge_run", ["--limit", "-1", "--sem", "demo"], "--limit -1"),
    ],
)
def test_words_that_make_no_sense_are_refused(script, words, message):
    with pytest.raises(SemError) as found:
        path.script(script, words)

    assert found.value.message == message

"""A copy over a line that is cut: continued from the byte, given up in bounded tries, refused."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from sem.core import files
from sem.core.errors import SemError
from sem.core.net import ssh
from sem.core.net.ssh import ConnectionCutError, FileFacts, SourceChangedError

CONTENT = bytes(range(256)) * 40
FACTS = FileFacts(len(CONTENT), files.hashlib.sha256(CONTENT).hexdigest())
CUT = ConnectionCutError("far: the connection was lost", "run it again")


class CutSource:
    """CONTENT over a line that is cut after so many bytes of each try; whole after the last."""

    def __init__(self, *limits: int, content: bytes = CONTENT) -> None:
        self.limits, self.content, self.offsets = list(limits), content, []

    def __str__(self) -> str:
        return "far:/rows"

    def blocks(self, offset: int, length: int) -> Iterator[bytes]:
        self.offsets.append(offset)
        limit = self.limits.pop(0) if self.limits else length
        yield self.content[offset : offset + min(length, limit)]
        if limit < length:
            raise CUT


def fetch(source: CutSource, path, facts: FileFacts = FACTS) -> list[float]:
    """Bring `source` to `path`; return the pauses that were taken."""
    pauses: list[float] = []
    ssh.fetch_file(source, facts, path, pauses.append)
    return pauses


def test_a_cut_copy_goes_on_from_its_byte_and_leaves_the_file_alone(tmp_path):
    source = CutSource(1_000, 0, 0, 500)

    pauses = fetch(source, tmp_path / "rows")

    assert source.offsets == [0, 1_000, 1_000, 1_000, 1_500]
    assert pauses == [0.5, 0.5, 1.0, 2.0]
    assert [p.name for p in tmp_path.iterdir()] == ["rows"]
    assert (tmp_path / "rows").read_bytes() == CONTENT


def test_a_line_that_stays_cut_is_given_up_and_the_next_call_goes_on(tmp_path):
    source = CutSource(1_000, *[0] * ssh.CUTS)
    with pytest.raises(ConnectionCutError, match="the connection was lost"):
        fetch(source, tmp_path / "rows")
    assert source.offsets == [0, *[1_000] * ssh.CUTS]
    assert not (tmp_path / "rows").exists()

    later = CutSource()
    fetch(later, tmp_path / "rows")

    assert later.offsets == [1_000]
    assert (tmp_path / "rows").read_bytes() == CONTENT


def test_a_part_of_other_content_is_not_continued(tmp_path):
    other = CONTENT[::-1]
    with pytest.raises(ConnectionCutError):
        fetch(CutSource(1_000, *[0] * ssh.CUTS), tmp_path / "rows")

    source = CutSource(content=other)
    fetch(
        source, tmp_path / "rows", FileFacts(len(other), files.hashlib.sha256(other).hexdigest())
    )

    assert source.offsets == [0]
    assert (tmp_path / "rows").read_bytes() == other


@pytest.mark.parametrize(
    ("content", "message"),
    [(CONTENT[::-1], "was written while it was copied"), (CONTENT[:-1], "became shorter")],
)
def test_a_file_that_became_another_is_refused_and_the_old_one_stays(tmp_path, content, message):
    (tmp_path / "rows").write_bytes(b"old")

    with pytest.raises(SourceChangedError, match=message):
        fetch(CutSource(content=content), tmp_path / "rows")

    assert (tmp_path / "rows").read_bytes() == b"old"


def test_a_copy_that_the_disk_has_no_room_for_is_refused_before_it_starts(tmp_path, monkeypatch):
    free = ssh.SPARE + FACTS.size - 1
    monkeypatch.setattr(ssh.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    source = CutSource()

    with pytest.raises(SemError, match=f"{free:,} bytes are free"):
        fetch(source, tmp_path / "rows")

    assert source.offsets == []


def test_an_end_that_sends_nothing_and_says_nothing_is_given_up():
    # The loop over a parcel that stayed empty had no end.
    calls: list[int] = []

    with pytest.raises(ConnectionCutError, match="sent nothing"):
        ssh.copy_over_cuts(lambda: [1], lambda rest: calls.append(1), lambda _: None)

    assert len(calls) == ssh.CUTS


@pytest.mark.parametrize(("cuts", "patience_s"), [(3, 0.0), (9, 0.05)])
def test_a_question_is_asked_again_for_so_many_tries_and_so_long(cuts, patience_s):
    left = [CUT] * cuts

    def ask() -> str:
        if left:
            raise left.pop()
        return "answer"

    waits = {"sleep": lambda _: ssh.time.sleep(0.001), "patience_s": patience_s}
    assert ssh.retry_after_cuts(ask, tries=cuts + 1, **waits) == "answer"
    left += [CUT] * 1_000_000
    with pytest.raises(ConnectionCutError):
        ssh.retry_after_cuts(ask, tries=2, **waits)

"""Files are whole or absent; names are one folder name; rows are JSON."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paths import ROOT

from sem.core import files, jsonio, manifest
from sem.core.errors import SemError

WRITER = """
import sys; sys.path.insert(0, {scripts!r})
from pathlib import Path
from sem.core import files, jsonio
number = 0
while True:
    files.write_file(Path({path!r}), jsonio.pretty({{"i": number, "rows": ["x" * 50] * 20000}}))
    number += 1
"""


def test_a_killed_writer_never_leaves_a_torn_file(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    code = WRITER.format(scripts=str(ROOT), path=str(path))
    # benchmarks/faults runs 200.
    for turn in range(12):
        with subprocess.Popen([sys.executable, "-c", code]) as process:
            while turn == 0 and not path.exists():
                time.sleep(0.01)
            time.sleep(0.25 + turn * 0.013)
            process.send_signal(signal.SIGKILL)
        assert files.read_json(path)["rows"][-1] == "x" * 50
    assert files.remove_temporary_files(tmp_path, (".tmp-*",)) <= 12
    assert [p.name for p in tmp_path.iterdir()] == ["manifest.json"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = files.write_file(tmp_path / "report.md", "old")
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'scripts')!r})\n"
        "from pathlib import Path\nfrom sem.core import console, files\n"
        f"console.run_main(lambda: files.write_file(Path({str(path)!r}), 'x' * 100_000))"
    )

    def small() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    done = subprocess.run(
        [sys.executable, "-c", script], preexec_fn=small, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot write")
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a..b",
        "../x",
        "a/b",
        "a\\b",
        "-a",
        ".a",
        "A",
        "é",
        "a b",
        "a\n",
        "a\0",
        "x" * 65,
        "a;b",
        "$(x)",
        "a.",
        "base",
    ],
)
def test_names_that_are_no_folder_name_are_refused(name: str) -> None:
    with pytest.raises(SemError, match="is not a usable name"):
        files.safe_name("run", name, files.RESERVED)


@given(st.text(min_size=1, max_size=80))
def test_an_accepted_name_stays_inside_its_folder(name: str) -> None:
    try:
        files.safe_name("sem", name)
    except SemError:
        return
    path = os.path.normpath(os.path.join("/root/configs", name))
    assert os.path.dirname(path) == "/root/configs"


@pytest.mark.parametrize(
    "text",
    [
        "NaN",
        "[Infinity]",
        '{"a":1,"a":2}',
        "[" * 100_000,
        '{"a": 1',
        "1e999",
        '"\\ud800"',
        "",
        "{'a': 1}",
        "[1,]",
        "\ufeff{}",
    ],
)
def test_json_that_is_not_strict_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - many messages, one type
        jsonio.parse_json(text)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53), 2**53)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
        ),
        max_leaves=20,
    )
)
def test_canonical_json_comes_back(value: object) -> None:
    text = jsonio.canonical_json(value)
    assert jsonio.parse_json(text) == value
    assert jsonio.canonical_json(jsonio.parse_json(text)) == text
    assert "\n" not in text


def test_a_torn_last_line_is_cut_and_whole_lines_stay(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a":1}\n{"a":2}\n{"a":')
    with files.open_for_append(path) as file:
        files.append_row(file, {"a": 3})
    assert [row["a"] for row in files.read_rows(path)] == [1, 2, 3]


def test_a_row_that_is_no_json_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a":1}\nnull}\n')
    with pytest.raises(SemError, match=r"rows\.jsonl:2: not JSON"):
        list(files.read_rows(path))


def test_a_manifest_notices_every_change(tmp_path: Path) -> None:
    for name in ("a.json", "sub/b.bin"):
        files.write_file(tmp_path / name, name * 10)
    manifest.seal_folder(tmp_path)
    assert manifest.manifest_faults(tmp_path) == []
    (tmp_path / "a.json").write_text("a.jsom" * 10)
    (tmp_path / "new").write_text("")
    (tmp_path / "sub/b.bin").unlink()
    assert [line.split(":")[0] for line in manifest.manifest_faults(tmp_path)] == [
        "sub/b.bin",
        "new",
        "a.json",
    ]


def test_a_second_writer_is_told_who_waits(tmp_path: Path) -> None:
    with (
        files.lock_file(tmp_path / "x.lock", "the store"),
        pytest.raises(SemError, match="the store is being written by another process"),
        files.lock_file(tmp_path / "x.lock", "the store"),
    ):
        pass

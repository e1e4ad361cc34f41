"""Documents come in whole or not at all: known kinds, plain files, nothing overwritten."""

import os
from pathlib import Path

import pytest

from sem.core import files
from sem.core.errors import SemError
from sem.projects import add_data, new


@pytest.fixture
def place(tmp_path):
    return new.create_from_template(tmp_path / "tree", "rust")


@pytest.fixture
def page(tmp_path) -> Path:
    return files.write_file(tmp_path / "page.md", "# Page\n")


def there(place) -> dict[str, str]:
    """Return what lies in the raw folder."""
    found = [path for path in place.raw.rglob("*") if not path.is_dir()]
    return {path.relative_to(place.raw).as_posix(): path.read_text() for path in sorted(found)}


def test_files_and_folders_come_in_with_their_names(place, page, tmp_path):
    for name in ("book/one.md", "book/part/two.txt", "book/skipped.py", "book/.hidden.md"):
        files.write_file(tmp_path / name, name)

    made = add_data.copy_documents(place, [page, tmp_path / "book"])

    assert [(one.name, one.state) for one in made] == [
        *(("page.md", "added"), ("book/one.md", "added"), ("book/part/two.txt", "added"))
    ]
    assert there(place) == {
        "book/one.md": "book/one.md",
        "book/part/two.txt": "book/part/two.txt",
        "page.md": "# Page\n",
    }


def test_what_a_folder_holds_beside_is_counted(tmp_path):
    for name in ("one.md", "a.rst", "b/c.RST", "Makefile", ".hidden.md", "feed.jsonl"):
        files.write_file(tmp_path / "book" / name, name)
    (tmp_path / "book" / "again.md").symlink_to(tmp_path / "book" / "one.md")

    assert add_data.count_skipped_files([tmp_path / "book"]) == {
        ".rst": 2,
        "without a suffix": 1,
        "hidden": 1,
        "link": 1,
        ".jsonl": 1,
    }


def test_what_a_forge_reads_may_come_in_and_the_projects_own_files_may_not(place, tmp_path):
    from sem.forge.kinds import image, table
    from sem.forge.sources import documents

    assert {*documents.KINDS, *table.KINDS, *image.KINDS} == set(add_data.KINDS)
    with pytest.raises(SemError) as caught:
        add_data.copy_documents(place, [files.write_file(tmp_path / "feed.jsonl", "{}\n")])

    assert str(caught.value) == (
        f"{tmp_path / 'feed.jsonl'}: 'feed.jsonl' is a file of the project itself\n"
        "       rename yours"
    )
    files.write_file(place.raw / "feed.jsonl", "{}\n")
    assert add_data.list_raw_documents(place.raw) == []


def test_the_same_bytes_are_taken_once_and_others_need_replace(place, page):
    add_data.copy_documents(place, [page])
    assert add_data.copy_documents(place, [page])[0].state == "same"
    page.write_text("# Other\n")

    with pytest.raises(SemError) as caught:
        add_data.copy_documents(place, [page])
    assert str(caught.value) == (
        f"{place.raw / 'page.md'} already exists with different content\n"
        "       add --replace, or rename the new one"
    )
    assert there(place) == {"page.md": "# Page\n"}

    assert add_data.copy_documents(place, [page], replace=True)[0].state == "replaced"
    assert there(place) == {"page.md": "# Other\n"}


@pytest.mark.parametrize("name", [f"a{kind}" for kind in add_data.KINDS] + ["A.PDF", "ü ß.md"])
def test_known_kinds_come_in(place, tmp_path, name):
    add_data.copy_documents(place, [files.write_file(tmp_path / name, "x")])

    assert there(place) == {name: "x"}


@pytest.mark.parametrize(
    "name",
    [
        *("a.py", "a", "a.exe", "a.md.gz", "a.duckdb", "dataset.duckdb", "a.pkl", ".env", ".md"),
        *(".hidden.md", "-rf.md", " a.md", "a.md ", "a\nb.md", "a\x1b[2J.md", "a\\b.md"),
        *("a\u202egnp.md", f"{'a' * 201}.md", "a\udce9.md"),
    ],
)
def test_other_names_and_kinds_are_refused_and_nothing_comes_in(place, page, tmp_path, name):
    odd = tmp_path / "odd" / name
    odd.parent.mkdir()
    odd.write_bytes(b"x")

    with pytest.raises(SemError, match="no forge reads|is not a usable file name"):
        add_data.copy_documents(place, [page, odd])

    assert there(place) == {}


def test_links_pipes_and_missing_files_are_refused(place, page, tmp_path):
    link, pipe, folder = tmp_path / "link.md", tmp_path / "pipe.md", tmp_path / "folder"
    link.symlink_to(page)
    os.mkfifo(pipe)
    folder.mkdir()
    (folder / "inner.md").symlink_to("/etc/passwd")
    cases = {
        link: "is a link",
        pipe: "no such file",
        tmp_path / "gone.md": "no such file",
        folder: "holds no file of a known kind",
        tmp_path / ".." / "gone": "no forge reads",
    }
    for path, message in cases.items():
        with pytest.raises(SemError, match=message):
            add_data.copy_documents(place, [page, path])

    assert there(place) == {}


def test_a_raw_folder_that_leads_elsewhere_is_refused(place, page, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    place.raw.rmdir()
    place.raw.symlink_to(outside)

    with pytest.raises(SemError, match="raw is a link"):
        add_data.copy_documents(place, [page])

    assert list(outside.iterdir()) == []


def test_a_target_that_is_a_link_is_not_written_through(place, page, tmp_path):
    precious = files.write_file(tmp_path / "precious.md", "precious")
    (place.raw / "page.md").symlink_to(precious)

    with pytest.raises(SemError, match="not a plain file"):
        add_data.copy_documents(place, [page], replace=True)

    assert precious.read_text() == "precious"


def test_a_target_below_a_linked_folder_is_refused(place, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (place.raw / "book").symlink_to(outside)
    files.write_file(tmp_path / "book" / "a.md", "a")

    with pytest.raises(SemError, match="is a link"):
        add_data.copy_documents(place, [tmp_path / "book"])

    assert list(outside.iterdir()) == []


def test_two_files_of_one_name_are_refused(place, page, tmp_path):
    other = files.write_file(tmp_path / "other" / "page.md", "x")

    with pytest.raises(SemError, match="have the same name"):
        add_data.copy_documents(place, [page, other])

    assert there(place) == {}

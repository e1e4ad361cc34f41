"""One raw page, six ways to ask, one answer: each way as a user has it, on a tiny real package."""

import pytest

from benchmarks.quality import equal_answers
from benchmarks.quality.equal_answers import REFERENCE, WAYS, RawPage
from sem.dataset.store import store

STORED_PAGES = 8
ODD = {
    "empty.html": b"",
    "image.png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "code.html": b"<html><script>var a = 1;</script></html>",
    "latin.html": "<meta charset=iso-8859-1><p>Gefäß für 3,50 €</p>".encode("cp1252"),
    "private.html": b"<p>Mug 12.50, ask ann@example.com</p>",
    "long.html": b"<p>word and word </p>" * 4_000,
    "deep.html": b"<div>" * 50_000 + b"x",
    "huge.html": b"<p>x</p>" * 750_000,
}


@pytest.fixture(scope="module")
def pages(package_master, tmp_path_factory):
    """Return pages of the store that the package was made of, and odd ones."""
    folder = tmp_path_factory.mktemp("pages")
    root = package_master.parents[3]
    with store.open_store(root / "data" / "toy" / "raw" / "dataset.duckdb") as opened:
        texts = [row.input_text or "" for row in opened.rows()]
    contents = {f"{n}.html": text.encode() for n, text in enumerate(texts[:STORED_PAGES])}
    paths = []
    for name, content in (contents | ODD).items():
        paths.append(folder / name)
        paths[-1].write_bytes(content)
    return [RawPage(path, "price") for path in paths]


@pytest.fixture(scope="module")
def reference(package_master, pages):
    return WAYS[REFERENCE](package_master, pages)


@pytest.mark.slow
@pytest.mark.parametrize("way", [name for name in WAYS if name != REFERENCE])
def test_every_way_answers_as_python_does(package_master, pages, reference, way, monkeypatch):
    monkeypatch.setenv("SEM_DEVICE", "cpu")

    assert WAYS[way](package_master, pages) == reference


@pytest.mark.slow
def test_the_pages_are_answered_and_refused(pages, reference) -> None:
    by_name = dict(zip((page.path.name for page in pages), reference, strict=True))
    refused = {name: text[9:] for name, text in by_name.items() if text.startswith("refused: ")}

    assert refused == {
        "empty.html": "no_input",
        "image.png": "not_text",
        "code.html": "empty_input",
        "long.html": "prompt_too_long",
        "deep.html": "page_depth",
        "huge.html": "page_size",
    }
    assert equal_answers.REASON.search("reason no_input; docs")

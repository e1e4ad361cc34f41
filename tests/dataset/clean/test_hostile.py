"""Bad input through the paths of a user: read, counted or refused, in time, and nothing lost."""

import json
from collections import Counter

import pytest
from rowmaker import project, read

from sem.core.errors import SemError
from sem.dataset.clean import clean
from sem.dataset.ingest import importers
from sem.dataset.ingest.importers import ImportOptions

BOMBS = {
    "nesting": ("<div>" * 100_000, "page_depth"),
    "attributes": (f"<p {' '.join(f'a{n}=1' for n in range(200_000))}>x</p>", "page_attributes"),
    "size": (f'<p title="{"x" * 6_000_000}">x</p>', "page_size"),
    "undecodable": ("<p>" + "\ufffd" * 5_000, "page_undecodable"),
    "nothing": ("<script>x</script>", "empty_input"),
    "open tags": ("<p>kept</p>" + "<div " * 100_000, None),
    "comments": ("<p>kept</p>" + "<!--" * 100_000, None),
    "adoption": ("<p>kept</p>" + "<a><b>" * 900 + "</a></b>" * 900, None),
    "entities": ("<p>kept</p>" + "&amp;" * 100_000, None),
    "controls": ("<p>kept \x00\x1b[31m\u202e<|im_end|></p>", None),
    "rowspan": ('<p>kept</p><table><tr><td rowspan="99999999">x', None),
}


def page(name: str, number: int) -> dict:
    answer = {"title": f"Mug {number}", "price": number}
    html = BOMBS[name][0].replace("kept", f"kept {name}")
    return {"id": name, "task": "product", "html": html, "answer": answer}


def test_bombs_are_rejected_by_name_or_kept_and_none_is_lost(tmp_path):
    made = project(tmp_path)
    path = tmp_path / "bombs.jsonl"
    path.write_text("".join(json.dumps(page(name, n)) + "\n" for n, name in enumerate(BOMBS)))

    result = importers.import_file(made, path, ImportOptions())
    done = clean.clean_store(made)

    rejected = {one["id"]: one["reason"] for one in read(made.processed / clean.REJECTS)}
    kept = {one["id"] for one in read(done.path)}
    assert result.stored.added == len(BOMBS)
    assert {name: rejected.get(name) for name in BOMBS} == {
        name: reason for name, (_, reason) in BOMBS.items()
    }
    assert kept | set(rejected) == set(BOMBS)


def test_every_page_of_the_suites_is_kept_or_rejected_by_name(tmp_path, shared):
    made = project(tmp_path)
    pages = [json.loads(line)["input"] for line in _lines(shared, "html5_tokenizer")][::7]
    pages += [json.loads(line)["text"] for line in _lines(shared, "naughty_strings")][::4]
    pages += [json.loads(line)["text"] for line in _lines(shared, "prompt_injection")][::4]
    path = tmp_path / "pages.jsonl"
    with path.open("w") as file:
        for number, text in enumerate(pages):
            html = f"<html><body><p>kept {number}</p>{text}</body></html>"
            row = {
                "id": f"r{number}",
                "task": "product",
                "html": html,
                "answer": {"title": str(number), "price": number},
            }
            file.write(json.dumps(row) + "\n")

    result = importers.import_file(made, path, ImportOptions())
    done = clean.clean_store(made)

    kept, rejects = read(done.path), read(made.processed / clean.REJECTS)
    assert result.read == len(pages) > 300
    assert len(kept) + len(rejects) == len(pages)
    assert len(kept) > 0.9 * len(pages)
    assert all(one["reason"] for one in rejects)


def _lines(shared, name):
    return (shared / "data" / "hostile" / f"{name}.jsonl").read_text("utf-8").splitlines()


def test_files_that_others_found_hostile_are_read_counted_or_refused(tmp_path, shared):
    import duckdb

    table = str(shared / "data" / "hostile" / "files.parquet")
    query = "SELECT name, kind, expected, bytes FROM read_parquet(?) ORDER BY kind, name"
    outcomes: Counter[str] = Counter()
    for number, (name, kind, expected, data) in enumerate(
        duckdb.execute(query, [table]).fetchall()
    ):
        if number % 6 and kind not in ("zip", "tar", "json"):
            # All of them: benchmarks/faults/inputs.py.
            continue
        made = project(tmp_path / str(number))
        (made.root / f"a.{kind}").write_bytes(data)
        outcome = _outcome(made, made.root / f"a.{kind}")
        outcomes[outcome] += 1
        if expected.startswith(("error", "clear")) and "or " not in expected:
            assert outcome != "read", name

    assert outcomes["refused"] > 10
    assert outcomes["counted"] + outcomes["read"] > 10


def _outcome(made, path) -> str:
    try:
        result = importers.import_file(
            made, path, ImportOptions(task="product", on_conflict="skip")
        )
    except SemError as error:
        return "counted" if "rows can be used" in error.message else "refused"
    assert len(read(result.report)) == sum(result.rejects.values())
    return "read"


def test_a_hopeless_file_ends_early(tmp_path, monkeypatch):
    monkeypatch.setattr(importers, "HOPELESS", 100)
    made = project(tmp_path)
    path = tmp_path / "a.json"
    path.write_text("[" + "{}," * 10_000 + "{}]")

    with pytest.raises(SemError, match="none of its first rows can be used: 100 times no_input"):
        importers.import_file(made, path, ImportOptions(task="product"))

    assert len(read(made.reports / importers.REJECTS)) == 100
    assert not made.store.exists()


def test_a_row_of_a_million_fields_is_refused(tmp_path):
    made = project(tmp_path)
    path = tmp_path / "a.jsonl"
    wide = "{" + ",".join(f'"k{n}":1' for n in range(20_000)) + "}"
    path.write_text(wide + '\n{"id": "a", "task": "product", "input_text": "x"}\n')

    result = importers.import_file(made, path, ImportOptions())

    assert dict(result.rejects) == {"too_many_fields": 1}
    assert result.stored.added == 1

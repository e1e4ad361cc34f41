"""Hostile inputs by family; each case is a call that a user's command makes, and what is expected.

Families of `../shared/data/hostile` keep the expectation of their suite: `accept` must be read,
`reject` must be refused with this project's own error, `either` may be both.
"""

import base64
import codecs
import gzip
import io
import json
import random
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rowmaker import project, row, shops

from sem.core import files, jsonio, schema, settings
from sem.core.errors import SemError
from sem.dataset.clean import clean
from sem.dataset.html import markup
from sem.dataset.ingest import charset, importers
from sem.dataset.ingest.importers import ImportOptions
from sem.dataset.store import store

Case = tuple[str, str, Callable[[], object]]
MANY = 100_000
LEAVING = re.compile(r'"\$(?:ref|dynamicRef)": "[^#]')
DRAFTS = {
    "draft7": "http://json-schema.org/draft-07/schema#",
    "draft2020-12": "https://json-schema.org/draft/2020-12/schema",
}


def suite(hostile: Path, name: str) -> Iterator[dict[str, Any]]:
    with (hostile / f"{name}.jsonl").open(encoding="utf-8") as file:
        yield from map(json.loads, file)


# --- texts ----------------------------------------------------------------------------------


def json_texts(hostile: Path, home: Path) -> Iterator[Case]:
    for one in suite(hostile, "json_parsing"):
        data = base64.b64decode(one["bytes_base64"])
        yield (
            one["name"],
            one["expected"],
            lambda data=data: jsonio.parse_json(data.decode("utf-8")),
        )


def json_files(hostile: Path, home: Path) -> Iterator[Case]:
    for one in suite(hostile, "json_parsing"):
        data = base64.b64decode(one["bytes_base64"])
        # A list of numbers is JSON and no row: what the suite accepts may be refused here.
        expected = "reject" if one["expected"] == "reject" else "either"
        yield one["name"], expected, lambda d=data: imported(home, "a.json", d)


def json_lines(hostile: Path, home: Path) -> Iterator[Case]:
    for one in suite(hostile, "json_parsing"):
        data = base64.b64decode(one["bytes_base64"])
        yield one["name"], "either", lambda d=data: imported(home, "a.jsonl", d)


def json_answers(hostile: Path, home: Path) -> Iterator[Case]:
    """Yield the text of the suite as the answer of a stored row, cleaned: never a wrong label."""
    for one in suite(hostile, "json_parsing"):
        text = base64.b64decode(one["bytes_base64"]).decode("utf-8", "replace")
        yield one["name"], one["expected"], lambda text=text: answered(home, text)


def yaml_texts(hostile: Path, home: Path) -> Iterator[Case]:
    # Settings take plain YAML only (no aliases, no tags, text keys): valid ones may be refused.
    for one in suite(hostile, "yaml_cases"):
        expected = "reject" if one["must_fail"] else "either"
        yield one["id"], expected, lambda one=one: settings.parse_yaml(one["yaml"], one["id"])


def schemas(hostile: Path, home: Path) -> Iterator[Case]:
    for number, one in enumerate(suite(hostile, "json_schema_cases")):
        # References that leave the document are refused here, also to an $id inside it.
        leaves = one["needs_remote_refs"] or LEAVING.search(json.dumps(one["schema"]))
        expected = "either" if leaves else "accept"
        yield f"{one['file']}#{number}", expected, lambda one=one: judged(one)


def judged(one: dict[str, Any]) -> None:
    """Raise ValueError when the verdict is another than the suite's."""
    if not isinstance(one["schema"], dict):
        return
    made = {"$schema": DRAFTS[one["draft"]], **one["schema"]}
    schema.check_schema(made, one["file"])
    if bool(schema.schema_problems(one["data"], made)) == one["valid"]:
        raise SemError(f"{one['test']}: verdict differs", "see the suite")


def names(hostile: Path, home: Path) -> Iterator[Case]:
    for number, one in enumerate(suite(hostile, "naughty_strings")):
        yield str(number), "either", lambda text=one["text"]: inside(text)


def inside(text: str) -> None:
    """A name that is accepted stays one folder below its parent."""
    path = Path("/configs") / files.safe_name("sem", text)
    if path.resolve().parent != Path("/configs"):
        raise AssertionError(f"{text!r} escapes")


def pages(hostile: Path, home: Path) -> Iterator[Case]:
    for number, page in enumerate(page_texts(hostile)):
        yield str(number), "accept", lambda page=page: markup.simplify_page(page)


def page_texts(hostile: Path) -> Iterator[str]:
    """Yield every text of the suites, as a page."""
    for one in suite(hostile, "html5_tokenizer"):
        text = one["input"]
        text = json.loads(f'"{text}"') if one["double_escaped"] else text
        yield f"<html><body><p>kept</p>{text}</body></html>"
    for name in ("prompt_injection", "naughty_strings"):
        for one in suite(hostile, name):
            yield f"<html><body><p>kept</p><p>{one['text']}</p></body></html>"


def encodings(hostile: Path, home: Path) -> Iterator[Case]:
    for one in suite(hostile, "html_encoding_sniffing"):
        data = base64.b64decode(one["bytes_base64"])
        wanted = one["encoding"].lower()
        yield f"{one['file']}#{one['n']}", "accept", lambda d=data, w=wanted: sniffed(d, w)


def sniffed(data: bytes, wanted: str) -> None:
    """Raise when `data` is read to another text than the encoding `wanted` gives."""
    name = charset.ALIASES.get(wanted, wanted)
    codecs.lookup(name)
    if charset.decode_page(data).text != data.decode(name, "replace").lstrip("\ufeff"):
        raise SemError(
            f"read as {charset.decode_page(data).encoding}, not {wanted}", "see the suite"
        )


# --- files ----------------------------------------------------------------------------------

EXPECTED = {"ok": "accept", "error": "reject", "clear error": "reject"}


def shared_files(hostile: Path, home: Path) -> Iterator[Case]:
    import duckdb

    table, one = str(hostile / "files.parquet"), "FROM read_parquet(?)"
    found = duckdb.execute(f"SELECT name, kind, expected {one} ORDER BY ALL", [table]).fetchall()
    for name, kind, said in found:
        first = said.split(" (")[0].replace("clear_error", "clear error")
        expected = "either" if "or clear error" in said else EXPECTED.get(first, "either")
        query = f"SELECT bytes {one} WHERE name = ? AND kind = ?"
        data = duckdb.execute(query, [table, name, kind]).fetchone()[0]
        yield f"{kind} {name}", expected, lambda k=kind, d=data: imported(home, f"a.{k}", d)


def made_files(hostile: Path, home: Path) -> Iterator[Case]:
    """Bombs and slips that the suite does not hold, made anew each time."""
    good = stored_bytes(home)
    chunk = {"llm_training_chunk_1.duckdb": good, "llm_training_chunk_1.json": b'{"rows": 9}'}
    zips = {
        "good chunk": (chunk, "accept"),
        "slip": ({"../llm_training_chunk_1.duckdb": good}, "reject"),
        "absolute": ({"/tmp/llm_training_chunk_1.duckdb": good}, "reject"),
        "nested": ({**chunk, "inner.zip": zipped(chunk)}, "reject"),
        "bomb": ({"llm_training_chunk_1.duckdb": bytes(200_000_000)}, "reject"),
        "10,000 entries": ({f"{n}.txt": b"" for n in range(10_000)}, "reject"),
    }
    for name, (parts, expected) in zips.items():
        made = zipped(parts)
        yield f"zip {name}", expected, lambda d=made: imported(home, "a.zip", d)
    for name, data, expected in texts():
        kind = name.split()[0]
        made = data()
        yield name, expected, lambda k=kind, d=made: imported(home, f"a.{k}", d)
    for number in range(40):
        yield (
            f"duckdb damaged {number}",
            "either",
            lambda n=number: imported(home, "a.duckdb", damaged(good, n)),
        )
    yield "duckdb view", "reject", lambda: imported(home, "a.duckdb", a_view(home))


def texts() -> Iterator[tuple[str, Callable[[], bytes], str]]:
    """(kind and name, how it is made, what is expected)."""
    head = b'{"task": "product", "response": "1", "input_text": '
    yield "jsonl.gz bomb", lambda: gzip.compress(bytes(200_000_000), 1), "reject"
    yield "jsonl.gz quadratic members", lambda: gzip.compress(b"") * 50_000, "either"
    yield "jsonl.gz torn", lambda: gzip.compress(b"1\n" * MANY)[:-9], "reject"
    yield "jsonl one line of 80 MB", lambda: head + b'"' + b"x" * 80_000_000 + b'"}', "either"
    yield "jsonl deep", lambda: b"[" * 1_000_000, "either"
    yield "jsonl lone surrogate", lambda: head + b'"\\ud800"}', "either"
    yield "jsonl a million keys", many_keys, "either"
    yield "jsonl digits", lambda: head + b"9" * 1_000_000 + b"}", "either"
    yield "json 10 million objects", lambda: b"[" + b"{}," * 10_000_000 + b"{}]", "either"
    yield "json one list of 10 million", lambda: b"[[" + b"{}," * 10_000_000 + b"{}]]", "either"
    yield "json never closed", lambda: b'["' + b"x" * 60_000_000, "reject"
    yield "json wrapped list", lambda: b'{"rows": [' + b"[]," * 8_000_000 + b"[]]}", "reject"
    yield "csv one cell of 80 MB", lambda: b'a,b\n1,"' + b"x" * 80_000_000, "reject"
    yield "csv a million columns", lambda: b",".join(b"%d" % n for n in range(MANY)), "either"
    yield "csv never closed", lambda: b'a,b\n1,"' + b"x\n" * 1_000_000, "reject"
    yield "csv quotes", lambda: b"a,b\n" + b'"' * 5_000_001, "reject"
    yield "csv nul", lambda: b"a,b\n\0,\0\n", "either"
    yield "csv utf-16", lambda: "id,input_text,answer\n1,é,2\n".encode("utf-16"), "accept"
    yield "parquet 200 million rows", many_rows, "reject"
    yield "parquet a page a million times", long_rows, "reject"


def many_keys() -> bytes:
    return ("{" + ",".join(f'"k{n}":1' for n in range(1_000_000)) + "}").encode()


def many_rows() -> bytes:
    return parquet("SELECT 1 AS a, 'x' AS b FROM range(200_000_000)")


def long_rows() -> bytes:
    return parquet("SELECT repeat('x', 300_000) AS input_text FROM range(30_000)")


def parquet(query: str) -> bytes:
    import tempfile

    import duckdb

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.parquet"
        duckdb.execute("SET memory_limit = '200MB'; SET threads = 1")
        duckdb.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet, COMPRESSION zstd)")
        return path.read_bytes()


def zipped(parts: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return made.getvalue()


def damaged(data: bytes, seed: int) -> bytes:
    """Return `data` cut, or with a few bytes changed."""
    pick, made = random.Random(seed), bytearray(data)
    if seed % 4 == 0:
        return bytes(made[: pick.randrange(len(made))])
    for _ in range(pick.choice((1, 8, 64))):
        made[pick.randrange(len(made))] ^= 1 << pick.randrange(8)
    return bytes(made)


def stored_bytes(home: Path) -> bytes:
    store.append_store_rows(home / "made.duckdb", shops(3))
    return (home / "made.duckdb").read_bytes()


def a_view(home: Path) -> bytes:
    """Return a store whose `examples` reads a local file when it is selected from."""
    import duckdb

    path = home / "view.duckdb"
    path.unlink(missing_ok=True)
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "CREATE VIEW examples AS SELECT content AS prompt_text, 'a' AS id, '1' AS "
            "response_strong FROM read_text('/etc/hostname')"
        )
    return path.read_bytes()


COUNTER = [0]


def imported(home: Path, name: str, data: bytes) -> str:
    """Return what `fab dataset.import` does with `data`.

    'counted' when each row was refused by name.
    """
    COUNTER[0] += 1
    made = project(home / f"case{COUNTER[0]}")
    path = made.root / name
    path.write_bytes(data)
    result = None
    try:
        result = importers.import_file(
            made, path, ImportOptions(task="product", on_conflict="skip")
        )
    except SemError as error:
        if "rows can be used" not in error.message:
            raise
        return "counted"
    lines = sum(1 for _ in files.read_rows(result.report))
    if lines != sum(result.rejects.values()):
        raise AssertionError(f"{lines} lines for {sum(result.rejects.values())} refusals")
    return "accept"


def answered(home: Path, text: str) -> None:
    """Import and clean a row whose answer is `text`; raise SemError when it is no label."""
    COUNTER[0] += 1
    made = project(home / f"case{COUNTER[0]}", io_schema={})
    store.append_store_rows(made.store, [row("a1", reference=text)])
    clean.clean_store(made)


# --- bombs ----------------------------------------------------------------------------------


def bombs() -> dict[str, str]:
    """Pages that parsers take quadratic time for, or choke on (RELIABILITY section 3)."""
    return {
        "div x 100k": "<div>" * MANY,
        "div x 1M": "<div>" * (10 * MANY),
        "1M attributes": f"<p {' '.join(f'a{n}=1' for n in range(10 * MANY))}>x</p>",
        "adoption agency": "<a><b>" * 30_000 + "<p>" + "</a></b>" * 30_000,
        "formatting": "<b><i><u><font>" * 20_000 + "x",
        "tables": "<table><tr><td>" * 30_000,
        "tables in disorder": "<table>x<p>" * 30_000,
        "attribute of 20 MB": f'<p title="{"x" * 20_000_000}">x</p>',
        "attribute of 4 MB": f'<p title="{"x" * 4_000_000}">x</p>',
        "NULs": "<p>" + "\0" * MANY + "</p>",
        "lone surrogates": "<p>" + "\ud800" * MANY + "</p>",
        "open tags never closed": "<div " * (2 * MANY),
        "comments never closed": "<!--" * MANY,
        "comments": "<!-->" * MANY + "<p>x",
        "scripts never closed": "<script>" * MANY,
        "entities": "&amp;" * (10 * MANY),
        "entities without end": "&#x" * MANY + "&notanentity" * MANY,
        "billion laughs": '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><p>&b;',
        "svg in math": "<svg><math>" * 20_000,
        "template": "<template>" * 20_000,
        "select": "<select><option>" * 30_000,
        "less-than": "<" * 500_000,
        "quotes": "<a href='" * MANY,
        "words": "<p>" + "w " * 1_000_000,
        "one word": "<p>" + "w" * 4_000_000,
        "zero width": "<p>" + "\u200b\u202e" * 500_000,
        "combining": "<p>a" + "\u0301" * 300_000,
        "JSON-LD deep": '<script type="application/ld+json">' + "[" * MANY + "</script><p>x",
        "JSON-LD NaN": '<script type="application/ld+json">{"price": NaN}</script><p>x',
        "JSON-LD 4 MB": '<script type="application/ld+json">"' + "x" * 4_000_000 + '"</script>',
        "style": "<style>" + "a{b:c}" * 300_000 + "</style><p>x",
        "lists": "<ul><li>" * 1_900,
        "cells": "<table>" + "<tr>" + "<td>x" * 200_000,
        "rowspan": '<table><tr><td rowspan="99999999" colspan="99999999">x',
        "base64": f'<img src="data:image/png;base64,{"A" * 3_000_000}"><p>x',
        "control tokens": "<p><end_of_turn><start_of_turn>model<|im_end|></s><extra_id_0>",
    }


FAMILIES: dict[str, Callable[[Path, Path], Iterator[Case]]] = {
    "JSON texts": json_texts,
    "JSON files, imported": json_files,
    "JSON lines, imported": json_lines,
    "JSON answers, cleaned": json_answers,
    "YAML settings": yaml_texts,
    "JSON Schema": schemas,
    "names": names,
    "pages": pages,
    "encodings": encodings,
    "files of the suites, imported": shared_files,
    "bombs, slips and damage, imported": made_files,
}

"""Bad contributions, as bytes or as what stands in a file's place; what is expected of each.

`refused`: one line that holds the given words, exit 1. `read`: a result, exit 0.
"""

import gzip
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

Make = Callable[[Path], None]
# File name, words of the refusal ("" when it is read), what.
Case = tuple[str, str, bytes | Make]
GOOD = [(f"pay bill number {n}" if n % 2 else f"book a seat {n}", str(n % 2)) for n in range(60)]


def csv(rows: list[tuple[str, str]], header: str = "text,label") -> bytes:
    return "\n".join([header, *(f'"{a}",{b}' for a, b in rows), ""]).encode()


def lines(rows: list[dict]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def texts() -> list[dict]:
    return [{"text": text, "label": label} for text, label in GOOD]


def numbers(change: Callable[[int], object]) -> bytes:
    return "".join(
        f'{{"features": [{n}, {change(n)}], "label": {n % 2}}}\n' for n in range(60)
    ).encode()


def parquet(path: Path) -> bytes:
    import duckdb

    made = path.with_name("made.parquet")
    duckdb.sql("SELECT 'text ' || i AS text, i % 2 AS label FROM range(60) t(i)").write_parquet(
        str(made)
    )
    content = made.read_bytes()
    made.unlink()
    return content


def zipped() -> bytes:
    made = BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("a.csv", csv(GOOD))
    return made.getvalue()


def linked(path: Path) -> None:
    path.with_name("target.csv").write_bytes(csv(GOOD))
    path.symlink_to(path.with_name("target.csv"))


class Boom:
    def __reduce__(self) -> tuple:
        return os.system, ("touch canary",)


def damaged(path: Path) -> None:
    content = bytearray(parquet(path))
    content[40:80] = b"\xff" * 40
    path.write_bytes(bytes(content))


FEW = "cannot be cut into base, contribution and benchmark"
NO_LABEL = "no column says what a row is"
CASES: list[Case] = [
    ("empty.csv", "the file is empty", b""),
    ("empty.parquet", "the file is empty", b""),
    ("empty.json.gz", "the file is empty", b""),
    ("spaces.jsonl", "holds no rows", b" \n \n"),
    ("header.csv", "has a header and no rows", b"text,label\n"),
    ("one_row.csv", FEW, csv(GOOD[:1])),
    ("two_rows.jsonl", FEW, lines(texts()[:2])),
    ("same_row.csv", FEW, csv(GOOD[:1] * 500)),
    ("one_class.csv", "all rows are of one class", csv([(text, "a") for text, _ in GOOD])),
    ("model.pkl", "unknown kind of file 'pkl'", pickle.dumps(Boom())),
    ("pickle.csv", "", pickle.dumps(Boom())),
    ("pickle.parquet", "not usable Parquet", pickle.dumps(Boom())),
    ("rows.xlsx", "unknown kind of file 'xlsx'", zipped()),
    ("rows.zip", "unknown kind of file 'zip'", zipped()),
    ("noext", "unknown kind of file 'noext'", csv(GOOD)),
    ("zip.csv", "", zipped()),
    ("csv.parquet", "not usable Parquet", csv(GOOD)),
    ("csv.json", "", csv(GOOD)),
    ("csv.jsonl", "holds no rows", csv(GOOD)),
    ("json.csv", "", json.dumps(texts()).encode()),
    ("parquet.csv", "", lambda path: path.write_bytes(parquet(path)) and None),
    ("parquet.jsonl", "holds no rows", lambda path: path.write_bytes(parquet(path)) and None),
    (
        "cut.parquet",
        "not usable Parquet",
        lambda path: path.write_bytes(parquet(path)[:-30]) and None,
    ),
    ("head.parquet", "not usable Parquet", b"PAR1" + b"\0" * 100 + b"PAR1"),
    ("damaged.parquet", "", damaged),
    ("cut.csv.gz", "cannot be read", gzip.compress(csv(GOOD * 50))[:-40]),
    ("notgz.csv.gz", "cannot be read", csv(GOOD)),
    ("bomb.jsonl.gz", "unpacks to more than 200 times", gzip.compress(b" " * 80_000_000)),
    (
        "bomb.csv.gz",
        "unpacks to more than 200 times",
        gzip.compress(b"text,label\n" + b"a,b\n" * 20_000_000),
    ),
    ("cut.json", "it ends inside its list", json.dumps(texts()).encode()[:-20]),
    ("object.json", "holds no list of rows", b'{"a": 1}'),
    ("scalar.json", "", b"7"),
    ("numbers.jsonl", "holds no rows", b"1\n2\n3\n"),
    ("deep.json", "", b"[" * 200_000 + b"]" * 200_000),
    ("deep.jsonl", "holds no rows", b'{"text": ' + b"[" * 200_000 + b"]" * 200_000 + b"}\n"),
    ("deep_features.csv", "", b'features,label\n"' + b"[" * 100_000 + b'",a\n'),
    ("constant.json", "", b'[{"text": NaN, "label": Infinity}]'),
    ("doubled_header.csv", "names the column 'text' twice", csv(GOOD, "text,text")),
    ("doubled_keys.jsonl", "holds no rows", b'{"text": "a", "text": "b", "label": 1}\n' * 40),
    ("no_label.csv", NO_LABEL, csv(GOOD, "text,said")),
    ("no_text.csv", "neither a text nor numbers", csv(GOOD, "note,label")),
    ("no_header.csv", NO_LABEL, csv(GOOD)[11:]),
    (
        "empty_labels.csv",
        "none of its rows can be used: no_label",
        csv([(text, "") for text, _ in GOOD]),
    ),
    (
        "empty_texts.jsonl",
        "none of its rows can be used: no_text",
        lines([{"text": " ", "label": "a"}] * 39 + [{"text": "\u00a0", "label": "b"}]),
    ),
    (
        "wide.csv",
        "more than 10,000 columns",
        b",".join(b"c%d" % n for n in range(1_000_000)) + b"\n" + b"1," * 999_999 + b"1\n",
    ),
    (
        "wide.jsonl",
        "more than 10,000 columns",
        json.dumps({f"c{n}": 1 for n in range(1_000_000)}).encode() + b"\n",
    ),
    (
        "labels_differ.jsonl",
        "more than 10,000 different labels",
        lines([{"text": f"a b {n}", "label": f"l{n}"} for n in range(12_000)]),
    ),
    ("folder.csv", "not a plain file", lambda path: path.mkdir()),
    ("pipe.csv", "not a plain file", lambda path: os.mkfifo(path)),
    ("dangling.csv", "no such file", lambda path: path.symlink_to("nowhere.csv")),
    ("loop.csv", "", lambda path: path.symlink_to(path.name)),
    ("device.csv", "not a plain file", lambda path: path.symlink_to("/dev/zero")),
    ("nulls.csv", "", b"\0" * 5_000),
    ("nothing_said.csv", "neither a text nor numbers", b"a,b,label\n" + b",,x\n" * 40),
    (
        "infinite.jsonl",
        "none of its rows can be used",
        b'{"features": ["nan", "inf"], "label": 1}\n' * 40,
    ),
    ("ragged.jsonl", "", lines([{"features": [1.0] * n, "label": n % 2} for n in range(1, 40)])),
    (
        "symbols.csv",
        "the texts hold no words",
        csv([("!" * n + "?", b) for n, (_, b) in enumerate(GOOD)]),
    ),
    ("long_line.csv", "", b'text,label\n"' + b"a" * 40_000_000),
    ("quote.csv", "not usable CSV", b'text,label\n"a"b,c\n"a,b\n'),
]
READ: list[Case] = [
    ("link.csv", "", linked),
    ("formulas.csv", "", csv([(f"=cmd|' /C calc'!A{n} pay", b) for n, (_, b) in enumerate(GOOD)])),
    (
        "mixed_encodings.csv",
        "",
        csv(GOOD) + "".join(f'"café {n} très",1\n' for n in range(20)).encode("latin-1"),
    ),
    ("utf16.csv", "", csv(GOOD).decode().encode("utf-16")),
    ("bom.csv", "", b"\xef\xbb\xbf" + csv(GOOD)),
    ("null_bytes.csv", "", csv(GOOD).replace(b"bill", b"bi\0ll")),
    ("nan.jsonl", "", numbers(lambda n: "null" if n % 3 else n)),
    ("infinite_some.jsonl", "", numbers(lambda n: '"inf"' if n % 3 else n)),
    ("huge_integers.jsonl", "", numbers(lambda n: f"1{n:02}" + "0" * (400 if n % 5 == 0 else 2))),
    ("extreme.jsonl", "", numbers(lambda n: f"{'-' if n % 2 else ''}1.7e308")),
    ("singletons.csv", "", csv(GOOD + [(f"rare word {n}", f"r{n}") for n in range(15)])),
    ("bad_lines.jsonl", "", lines(texts()) + b'{"text": \n' * 30),
    ("control.jsonl", "", lines([{"text": f"\u001b[31m\u202e{t}", "label": b} for t, b in GOOD])),
    ("semicolons.csv", "", csv(GOOD, "text,label").replace(b'",', b'";').replace(b"t,l", b"t;l")),
    ("imbalanced.csv", "", csv([(t, "b" if n == 7 else "a") for n, (t, _) in enumerate(GOOD)])),
]
MODELS: list[Case] = [
    *(
        (f"model{n}.{end}", "a pickle, which can run code", pickle.dumps(Boom(), n))
        for n, end in enumerate(("pkl", "pt", "joblib", "safetensors", "bin", "model"))
    ),
    ("archive.pt", "a PyTorch or zip archive", zipped()),
    ("packed.joblib", "a compressed pickle", gzip.compress(pickle.dumps(Boom()))),
    ("random.safetensors", "not usable safetensors", b"\x05" * 999),
    ("other.safetensors", "holds no sem-preview-linear.v1", b"\x02" + b"\0" * 7 + b"{}"),
    ("missing.safetensors", "no such file", lambda path: None),
]

"""Personal data: precision and recall per kind against Presidio, on the same texts in one run.

    python benchmarks/quality/pii.py --peer-python /path/to/venv/bin/python

Reads   ../shared/data/pii_neardup/pii_*.jsonl, ../shared/data/html/pages.parquet
Writes  benchmarks/results/pii.md
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from sem.core import console, files  # noqa: E402
from sem.core.errors import SemError  # noqa: E402
from sem.dataset.clean import grounding  # noqa: E402
from sem.dataset.html import markup  # noqa: E402
from sem.dataset.personal import pii  # noqa: E402

DATA = ROOT.parent / "shared" / "data"
KINDS = tuple(kind for kind in pii.KINDS if kind != "name")
GOLD = {
    "EMAIL_ADDRESS": "email",
    "PHONE_NUMBER": "phone",
    "CREDIT_CARD": "card",
    "IBAN_CODE": "iban",
    "IP_ADDRESS": "ip",
    "US_SSN": "national_id",
    "PERSON": "name",
}
# Recogniser -> our kind, the region of its telephone numbers, and the label people write.
COVERED = {
    "email": ("email", "US", "email"),
    "phone": ("phone", "US", "phone"),
    "ph_mobile_number": ("phone", "PH", "mobile"),
    "tr_phone_number": ("phone", "TR", "telefon"),
    "credit_card": ("card", "US", "card"),
    "ip": ("ip", "US", "IP"),
    "au_tfn": ("national_id", "AU", "TFN"),
    "ca_sin": ("national_id", "CA", "SIN"),
    "de_tax_id": ("national_id", "DE", "IdNr"),
    "es_nie": ("national_id", "ES", "NIE"),
    "es_nif": ("national_id", "ES", "NIF"),
    "fi_personal_identity_code": ("national_id", "FI", "henkilötunnus"),
    "in_aadhaar": ("national_id", "IN", "Aadhaar"),
    "in_pan": ("national_id", "IN", "PAN"),
    "it_fiscal_code": ("national_id", "IT", "codice fiscale"),
    "kr_rrn": ("national_id", "KR", "RRN"),
    "pl_pesel": ("national_id", "PL", "PESEL"),
    "se_personnummer": ("national_id", "SE", "personnummer"),
    "th_tnin": ("national_id", "TH", "Thai ID"),
    "tr_national_id": ("national_id", "TR", "TCKN"),
    "uk_nino": ("national_id", "GB", "NINO"),
    "us_itin": ("national_id", "US", "ITIN"),
    "us_ssn": ("national_id", "US", "SSN"),
    "za_id_number": ("national_id", "ZA", "ID number"),
}
NOT_COVERED = {
    "numbers of companies, not of people": "au_abn au_acn de_handelsregister de_tax_number "
    "de_vat_id in_gstin it_vat_code kr_brn ph_tin se_organisationsnummer sg_uen",
    "no maintained module knows the checksum, or there is none": "au_medicare certificate_number "
    "de_bsnr de_fuehrerschein de_health_insurance de_id_card de_lanr de_passport "
    "de_social_security es_passport in_passport in_voter it_driver_license it_passport kr_frn "
    "kr_driver_license kr_passport ng_nin sg_fin uk_driving_licence uk_passport "
    "us_driver_license us_mbi us_npi us_passport",
    "bank numbers without a country and wallets": "aba_routing crypto us_bank",
    "vehicles, devices, addresses, dates": "date de_kfz de_plz in_vehicle_registration mac "
    "ng_vehicle_registration tr_license_plate uk_postcode uk_vehicle_registration url",
    "need a model of language, or a pattern of one's own": "pattern spacy stanza transformers",
}
Found = list[tuple[str, int, int]]
Texts = list[tuple[str, tuple[str, ...]]]


def rows(name: str) -> list[dict[str, Any]]:
    """Return the rows of a file of the corpus."""
    with (DATA / "pii_neardup" / f"{name}.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def ours(texts: Texts, kinds: Iterable[str] = KINDS) -> tuple[list[Found], float]:
    """Our spans of every text, and the processor seconds they took."""
    pii.find_personal_data("a@b.com +1 415 555 2671", KINDS, ("US",))
    began = time.process_time()
    found = [
        [(s.kind, s.start, s.end) for s in pii.find_personal_data(t, kinds, r)] for t, r in texts
    ]
    return found, time.process_time() - began


def peers(texts: Texts, python: str | None) -> tuple[list[Found], float] | None:
    """Presidio's spans of the same texts; None without `python`."""
    if python is None:
        return None
    lines = "".join(json.dumps({"text": text}) + "\n" for text, _ in texts)
    command = [python, str(Path(__file__).with_name("pii_peer.py"))]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=1800)
    if done.returncode:
        raise SemError(f"{python}: {done.stderr[-300:]}", "pip install presidio-analyzer==2.2.366")
    made = [json.loads(line) for line in done.stdout.splitlines()]
    spans = [[tuple(span) for span in row["spans"]] for row in made]
    return spans, sum(row["seconds"] for row in made)


def score(gold: list[Found], found: list[Found]) -> dict[str, Counter[str]]:
    """Per kind: gold spans, those overlapped and met exactly, finds, finds beside all gold."""
    counts = {kind: Counter() for kind in pii.KINDS}
    for wanted, got in zip(gold, found, strict=True):
        for kind, start, end in wanted:
            hits = [g for g in got if g[0] == kind and g[1] < end and g[2] > start]
            counts[kind].update(gold=1, hit=bool(hits), exact=(kind, start, end) in got)
        for kind, start, end in got:
            near = any(w[0] == kind and start < w[2] and end > w[1] for w in wanted)
            counts[kind].update(found=1, beside=not near)
    return counts


def share(part: int, whole: int) -> str:
    """Return `part` of `whole` as the tables show it."""
    return f"{part / whole:.3f} ({part}/{whole})" if whole else "-"


def sentences(python: str | None) -> Iterator[str]:
    """Spans of the synthetic sentences."""
    read = rows("pii_sentences_synthetic")
    texts = [(row["text"], pii.regions("en")) for row in read]
    gold = [
        [(GOLD[s["type"]], s["start"], s["end"]) for s in row["spans"] if s["type"] in GOLD]
        for row in read
    ]
    yield f"## Sentences with spans (n = {len(read)}, synthetic)"
    yield from table(("kind", "by", "recall", "recall, exact", "precision"))
    for name, done in (*sides(texts, python), ("sem", ours(texts, ["name"]))):
        for kind, n in score(gold, done[0]).items():
            if not n["found"]:
                continue
            exact, right = share(n["exact"], n["gold"]), n["found"] - n["beside"]
            found = share(right, n["found"])
            yield line(kind, name, share(n["hit"], n["gold"]), exact, found)


def cases(python: str | None) -> Iterator[str]:
    """Yield the recogniser cases.

    Bare, as the peer tests them, and behind the label people write.
    """
    read = [row for row in rows("pii_recognizer_cases") if row["recognizer"] in COVERED]
    bare = [(row["text"], (COVERED[row["recognizer"]][1],)) for row in read]
    named = [
        (f"{COVERED[r['recognizer']][2]}: {r['text']}", b[1])
        for r, b in zip(read, bare, strict=True)
    ]
    yield f"## Recogniser cases of the peer's own unit tests (n = {len(read)} of 612 covered)"
    yield "Right: at least one find where one is expected, none where none is."
    heads = ("recogniser", "kind", "positives, bare", "labelled", "negatives, bare", "labelled")
    yield from table((*heads, "peer positives", "peer negatives"))
    runs = [ours(bare)[0], ours(named)[0]]
    peer = peers(bare, python)
    runs += [peer[0]] if peer else []
    for name in sorted({row["recognizer"] for row in read}):
        kind = COVERED[name][0]
        cells = []
        for is_positive in (True, False):
            for found in runs:
                picked = [
                    any(span[0] == kind for span in spans) == is_positive
                    for row, spans in zip(read, found, strict=True)
                    if row["recognizer"] == name and (row["expected_count"] > 0) == is_positive
                ]
                cells.append(f"{sum(picked)}/{len(picked)}")
        half = len(runs)
        peers_cells = (cells[2], cells[5]) if peer else ("-", "-")
        yield line(name, kind, *cells[:2], *cells[half : half + 2], *peers_cells)
    yield ""
    for reason, names in NOT_COVERED.items():
        yield f"- Not covered, {reason}: {', '.join(names.split())}."


def contacts(python: str | None) -> Iterator[str]:
    """Recall on real contact pages, whose labels say what is there but not what else is."""
    read = rows("pii_real_contact_pages")
    texts = [(row["text"], pii.regions(row["language"], row["url"])) for row in read]
    yield f"## Real contact pages (n = {len(read)})"
    yield from table(("kind", "by", "recall", "other finds of the kind"))
    absent = 0
    for name, (found, seconds) in sides(texts, python):
        hits, others, wanted, absent = Counter(), Counter(), Counter(), 0
        for row, spans in zip(read, found, strict=True):
            packed = plain(row["text"])
            for kind, values in truth(row).items():
                got = [plain(row["text"][s:e]) for k, s, e in spans if k == kind]
                there = [v for v in values if plain(v) in packed]
                absent += len(values) - len(there)
                wanted[kind] += len(there)
                hits[kind] += sum(any(same(plain(v), g) for g in got) for v in there)
                others[kind] += sum(not any(same(plain(v), g) for v in values) for g in got)
        for kind in ("email", "phone"):
            yield line(kind, name, share(hits[kind], wanted[kind]), others[kind])
        size = sum(len(text) for text, _ in texts)
        yield f"| speed | {name} | {size / seconds:,.0f} characters/s, one process | |"
    yield f"\n{absent} labelled values do not stand in their page's text and are left out."


def truth(row: dict[str, Any]) -> dict[str, list[str]]:
    """Return the labelled e-mails and telephone numbers of a page."""
    values = row["pii_values"]
    return {
        "email": values.get("emails", []),
        "phone": values.get("phones", []) + values.get("faxes", []),
    }


def plain(value: str) -> str:
    """Return `value` without what two spellings differ in."""
    return "".join(c for c in value.lower() if c.isalnum() or c == "@")


def same(wanted: str, got: str) -> bool:
    """Return whether `got` covers `wanted`, or all of it but an extension or a second number."""
    return wanted in got or (len(got) >= 7 and got in wanted)


def products(python: str | None) -> Iterator[str]:
    """Yield how many answers of product pages a redaction would destroy.

    Certain false positives.
    """
    import pyarrow.parquet as pq

    read = pq.read_table(DATA / "html" / "pages.parquet").to_pylist()
    read = [row for row in read if row["task"].startswith("productpage.extract")]
    read = [row for row in read if row["task"] != "productpage.extract_recipe"]
    texts = [
        (
            markup.simplify_page(row["html"]).text,
            pii.regions(row["language"] or "", row["url"] or ""),
        )
        for row in read
    ]
    yield f"## Real product pages, simplified (n = {len(read)})"
    yield "An answer hit: a find inside which a value of the reference is, or which is inside one."
    yield from table(("by", *KINDS, "answers hit"))
    for name, (found, _) in sides(texts, python):
        counts = Counter(kind for spans in found for kind, _, _ in spans)
        hit = 0
        for row, (text, _), spans in zip(read, texts, found, strict=True):
            values = {
                plain(str(v)) for _, v in grounding.scalar_leaves(json.loads(row["reference"]))
            }
            values = {value for value in values if len(value) >= 6 and value.isdigit()}
            got = [plain(text[start:end]) for _, start, end in spans]
            hit += sum(any(v in g or g in v for g in got) for v in values)
        yield line(name, *(counts[kind] for kind in KINDS), hit)


def sides(texts: Texts, python: str | None) -> Iterator[tuple[str, tuple[list[Found], float]]]:
    """Yield what both found in `texts`."""
    yield "sem", ours(texts)
    peer = peers(texts, python)
    if peer is not None:
        yield "presidio", peer


def table(columns: Iterable[str]) -> Iterator[str]:
    """Yield the head of a Markdown table."""
    names = list(columns)
    yield from ("", line(*names), "|" + "---|" * len(names))


def line(*cells: object) -> str:
    """Return a row of a Markdown table."""
    return "| " + " | ".join(map(str, cells)) + " |"


def main(argv: list[str] | None = None) -> None:
    parser = console.make_argument_parser(__doc__)
    parser.add_argument("--peer-python", help="interpreter that has presidio-analyzer")
    args = parser.parse_args(argv)
    if not DATA.is_dir():
        raise SemError(f"{DATA}: no such folder", "this benchmark needs the shared data")
    if args.peer_python is None:
        console.print_note("no --peer-python: the columns of the peer stay empty")
    made = ["# Personal data", ""]
    made += [
        f"Command: `python benchmarks/quality/pii.py{' --peer-python …' * bool(args.peer_python)}`"
    ]
    made += [f"{platform.machine()}, {os.cpu_count()} CPU, Python {platform.python_version()}. "]
    made += ["Peer: presidio-analyzer 2.2.366, spacy.blank('en'), its default recognisers.", ""]
    for part in (sentences, cases, contacts, products):
        made += [*part(args.peer_python), ""]
    text = "\n".join(made) + "\n"
    sys.stdout.write(text)
    console.print_output_path(files.write_file(ROOT / "benchmarks" / "results" / "pii.md", text))


if __name__ == "__main__":
    console.run_main(main)

"""230 clean real rows and 120 with one planted defect each: every defect is handled as the
settings say, and every clean row survives, unchanged."""

import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import pytest
from paths import ROOT
from rowmaker import read

from sem.core import files
from sem.core.project import Project
from sem.dataset.clean import clean
from sem.dataset.store import store
from sem.dataset.store.examples_table import RawRow

CLEAN, EACH = 230, 8
SETTINGS = """
clean:
  near: {drop: same_answer}
  pii: {card: reject, iban: reject, email: redact, phone: redact}
  consent: {on_unreadable: keep}
  tasks:
    productpage:
      page_starts_at: "URL:"
      system_prompt: task
      slots: {title: {ungrounded: reject}}
    navpage: {system_prompt: task, links: paging, images: 0}
"""
# The well-known test number.
CARD = "4111 1111 1111 1111"
IBAN = "DE89 3704 0044 0532 0130 00"


def reference(row: RawRow, **changes: object) -> str:
    return json.dumps(json.loads(row.reference or "{}") | changes)


def said(row: RawRow, text: str) -> str:
    """Return the page of `row` with a paragraph of `text` at its top."""
    return re.sub(r"(<body[^>]*>)", rf"\1<p>{text}</p>", row.input_text or "", count=1, flags=re.I)


# What is done to a copy of a clean product row, and the reason it is refused for.
DEFECTS = {
    "duplicate": ("duplicate", lambda r: {}),
    "near_duplicate": (
        "near_duplicate",
        lambda r: {"input_text": said(r, "Only today: order before noon.")},
    ),
    "truncated": ("reference_not_json", lambda r: {"reference": json.dumps(r.reference[:-9])}),
    "nan": ("reference_not_json", lambda r: {"reference": json.dumps('{"price": NaN}')}),
    "schema": ("reference_breaks_schema", lambda r: {"reference": reference(r, price="cheap")}),
    "no reference": ("no_reference", lambda r: {"reference": "null"}),
    "no input": ("no_input", lambda r: {"input_text": " \n"}),
    "no such task": ("unknown_task", lambda r: {"task": "checkout"}),
    "card": ("pii_card", lambda r: {"input_text": said(r, f"Card {CARD} was charged.")}),
    "iban": ("pii_iban", lambda r: {"input_text": said(r, f"Pay to {IBAN}.")}),
    "bomb": ("page_depth", lambda r: {"input_text": said(r, "<div>" * 9_000)}),
    "encoding": ("page_undecodable", lambda r: {"input_text": said(r, "caf\ufffd " * 9_000)}),
    "invented": (
        "evidence_ungrounded",
        lambda r: {"reference": reference(r, title="Zyxwv Quarkmonger 9000")},
    ),
    "no consent": (
        "consent_denied",
        lambda r: {"metadata": json.dumps(json.loads(r.metadata) | {"consent": "denied"})},
    ),
    "e-mail": (None, lambda r: {"input_text": said(r, "Ask jo.doe@mail-me.example now.")}),
}


@pytest.fixture(scope="module")
def real(shared) -> list[RawRow]:
    """The real product and navigation rows."""
    with store.open_store(shared / "data" / "html" / "examples.duckdb") as opened:
        return [row for row in opened.rows() if row.task in ("productpage", "navpage")]


def project(root: Path) -> Project:
    shutil.copytree(ROOT / "configs" / "pages" / "tasks", root / "configs" / "pages" / "tasks")
    files.write_file(root / "configs" / "pages" / "dataset.yaml", SETTINGS)
    return Project("pages", root)


def planted(good: list[RawRow], spare: list[RawRow]) -> list[tuple[str, RawRow]]:
    """EACH rows of every defect, with its name: copies of `good` product rows that go wrong, and
    `spare` rows where what is planted must not cost the row."""
    products = cycle(row for row in good if row.task == "productpage" and has_body(row))
    others = iter([row for row in spare if has_body(row)])
    made = []
    for name, (reason, change) in DEFECTS.items():
        for _ in range(EACH):
            row = next(products if reason else others)
            made.append((name, replace(row, id=f"z-{name}-{row.id}", **change(row))))
    return made


def has_body(row: RawRow) -> bool:
    return re.search("<body", row.input_text or "", re.I) is not None


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_every_planted_defect_is_handled_and_every_clean_row_survives(real, tmp_path):
    # Clean is what cleans alone under the same settings: it depends on no planted row.
    alone = project(tmp_path / "alone")
    store.append_store_rows(alone.store, real)
    clean.clean_store(alone)
    kept = {row["id"]: row for row in read(alone.processed / clean.NAME)}
    good = sorted((row for row in real if row.id in kept), key=lambda row: row.task, reverse=True)
    good, spare = good[:CLEAN], good[CLEAN:]
    bad = planted(good, spare)
    assert (len(good), len(bad)) == (CLEAN, EACH * len(DEFECTS)) == (230, 120)
    mixed = project(tmp_path / "mixed")
    store.append_store_rows(mixed.store, [*good, *(row for _, row in bad)])

    done = clean.clean_store(mixed)

    after = {row["id"]: row for row in read(mixed.processed / clean.NAME)}
    refused = {row["id"]: row["reason"] for row in read(mixed.processed / clean.REJECTS)}
    wanted = {row.id: DEFECTS[name][0] for name, row in bad}
    assert Counter((wanted.get(name), reason) for name, reason in refused.items()) == Counter(
        (reason, reason) for reason in wanted.values() if reason
    )
    assert [row.id for row in good if row.id not in after] == []
    mailed = [row for name, row in after.items() if name.startswith("z-e-mail")]
    assert len(mailed) == EACH
    assert all("[EMAIL_" in row["input_text"] for row in mailed)
    assert "jo.doe@" not in (mixed.processed / clean.NAME).read_text()
    assert done.tally.read == 350
    # Its cluster is named where a planted row joined it; nothing else of a clean row changes.
    for row in good:
        one, other = (
            dict(rows[row.id], meta=dict(rows[row.id]["meta"])) for rows in (kept, after)
        )
        one["meta"].pop("near", None), other["meta"].pop("near", None)
        assert one == other

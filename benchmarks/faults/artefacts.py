"""Artefacts that quote rows, of every kind that Sem writes: what a takedown has to find."""

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Iterable
from datetime import UTC, datetime

from sem.core import files, jsonio, manifest, run
from sem.core.project import Project
from sem.dataset.split import snapshot
from sem.dataset.store.examples_table import RawRow
from sem.lm.api.ledger import Ledger, RequestBid, SpendingCap
from sem.lm.api.rate_limits import Limits

AT = datetime(2026, 5, 4, tzinfo=UTC)


def quote(made: Project, rows: Iterable[RawRow]) -> int:
    """Artefacts of every kind that quote `rows`, by the real writers where they are cheap."""
    rows = list(rows)
    frozen = {
        e.id: e
        for part in snapshot.load_snapshot(made, 2).counts
        for e in snapshot.load_snapshot(made, 2).examples(part)
    }
    texts = {str(r.id): r.input_text or "" for r in rows}
    said = [{"id": n, "text": f"as the page says: {t[200:900]}"} for n, t in texts.items()]
    sheet = io.StringIO(newline="")
    csv.writer(sheet).writerows(
        [("id", "slot", "input"), *((n, "title", t[:2000]) for n, t in texts.items())]
    )
    reports, processed = made.reports, made.processed
    page = "".join(f"<tr><td>{n}<td>{t[:3000].replace('<', '&lt;')}" for n, t in texts.items())
    document = {"examples": [{"input": t[:3000]} for t in texts.values()]}
    files.write_rows(reports / "r1" / "answers.test.jsonl", said)
    files.write_rows(reports / "r1" / "verdicts.test.jsonl", said)
    files.write_rows(reports / "r1" / "human_labels.jsonl", [{"id": n} for n in texts])
    files.write_rows(reports / "judge_run_20260101T000000Z.jsonl", said)
    files.write_rows(reports / "backlog.jsonl", [{"id": n, "split": "test"} for n in texts])
    files.write_file(reports / "r1" / "spotcheck.test.csv", sheet.getvalue())
    files.write_file(reports / "r1" / "report.html", f"<table>{page}</table>")
    files.write_file(reports / "r1" / "report.md", "\n".join(t[:1000] for t in texts.values()))
    files.write_file(
        reports / "r1" / "a.eval-report.json", json.dumps(document, ensure_ascii=True)
    )
    golden = [{"id": f"g-{n}", "input": t, "answer": "x"} for n, t in list(texts.items())[:60]]
    files.write_file(made.golden.with_name("golden_set.json"), jsonio.pretty_json(golden))
    whole = [frozen[n].as_json() for n in texts if n in frozen]
    files.write_rows(
        processed / "augmented.v2.jsonl", [{**row, "id": f"{row['id']}~variant"} for row in whole]
    )
    files.write_rows(processed / "preferences.v2.jsonl", whole)
    files.write_file(
        processed / "kept.jsonl.gz",
        gzip.compress("".join(json.dumps(s) + "\n" for s in said).encode()),
    )
    files.write_file(processed / ".tmp-clean.jsonl-x", json.dumps(whole))
    night = reports / "nightly" / "2026-01-01.zip"
    night.parent.mkdir(parents=True)
    with zipfile.ZipFile(night, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("r1/answers.test.jsonl", "".join(json.dumps(s) + "\n" for s in said))
    ledger = Ledger(made.root / "data" / ".lm")
    for one in said:
        number = ledger.reserve(
            RequestBid("lane", one["id"], 1, 0), SpendingCap("judge"), Limits()
        )
        ledger.settle(int(number or 0), 1, 0, None, jsonio.canonical_json(one))
    return 15


def trained(made: Project, version: int, number: int) -> str:
    """Return the id of a finished run on snapshot `version` with a package beside it."""
    rests = {"version": version, "sha256": snapshot.load_snapshot(made, version).sha256}
    found = run.create_run(made, {"snapshot": rests, "tasks": {}, "seed": number}, AT)
    files.write_file(found.folder / "adapter" / "adapter_config.json", "{}")
    files.write_file(found.folder / manifest.NAME, jsonio.pretty_json({"run_id": found.id}))
    package = made.packages / found.id
    files.write_file(package / "scores.json", "{}")
    manifest.seal_folder(package, {"run_id": found.id, "lineage": {"snapshot": rests}})
    return found.id

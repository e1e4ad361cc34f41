"""From a file to the parts: imported, cleaned and cut by the jobs that a person calls."""

import json

import pytest
from rowmaker import project

from sem.core import files
from sem.dataset.split import snapshot
from sem.jobs import load_jobs


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A project without rows, in the tree that the jobs work on."""
    monkeypatch.setenv("SEM_ROOT", str(tmp_path))
    monkeypatch.delenv("DATASET_DB_PATH", raising=False)
    return project(tmp_path)


def record(number: int, **more: object) -> dict:
    return {
        "id": f"r{number:03}",
        "task": "product",
        "input_text": f"Mug {number} of clay, fired {number} times, costs {number}.50",
        "output_json": {"title": f"Mug {number}", "price": number + 0.5},
        **more,
    }


def cut(shop, rows: list[dict], *words: str) -> snapshot.Snapshot:
    files.write_rows(shop.root / "rows.jsonl", rows)
    load_jobs()["dataset.import"].call(["--sem", "shop", str(shop.root / "rows.jsonl"), *words])
    for name in ("dataset.clean", "dataset.split"):
        load_jobs()[name].call(["--sem", "shop"])
    return snapshot.load_snapshot(shop)


BRANDS = ("acme", "bolt", "cord", "dove", "ember", "fjord", "glade", "heath", "iris", "jade")


def test_one_brand_under_three_tlds_stands_on_one_side(shop):
    # On real pages 3 shops stood on both sides, and the certificate said 0.
    brands = [[f"{brand}.{tld}" for tld in ("de", "fr", "co.uk")] for brand in BRANDS]
    sites = [site for brand in brands for site in brand]
    rows = [record(n, meta={"domain": sites[n % len(sites)]}) for n in range(90)]

    frozen = cut(shop, rows)

    parts = [{example.domain for example in frozen.examples(part)} for part in frozen.counts]
    assert all(sum(bool(domains & set(brand)) for domains in parts) == 1 for brand in brands)
    shared = frozen.facts["certificate"]["shared"]
    assert {pair: kinds["site"]["keys"] for pair, kinds in shared.items()} == dict.fromkeys(
        shared, 0
    )


def test_a_domain_that_all_rows_of_a_part_share_is_said(shop, capsys):
    # 130 e-mails of one customer each counted as an example of a domain of its own.
    customers = ["acme"] * 90 + ["bolt"] * 20 + ["cord"] * 20
    rows = [record(n, customer=customer) for n, customer in enumerate(customers)]

    frozen = cut(shop, rows, "--map", "meta.domain=customer")

    assert {example.domain for example in frozen.examples("train")} == {"acme"}
    said = " ".join(capsys.readouterr().err.split())
    assert "note: all 90 rows of train are one group" in said


def test_rows_without_a_domain_are_said(shop, capsys):
    frozen = cut(shop, [record(n) for n in range(60)])

    count = frozen.counts["train"]
    said = " ".join(capsys.readouterr().err.split())
    assert f"note: {count} of {count} rows of train have no domain" in said
    assert json.loads(frozen.path("train").read_text("utf-8").splitlines()[0])["meta"] is not None

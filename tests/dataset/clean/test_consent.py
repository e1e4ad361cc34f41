"""Consent and licence: read in any spelling, judged by policy on a given day, kept in the row."""

import json
from pathlib import Path
from typing import Any

import pytest
from rowmaker import fill, project, read, row

from sem.core.errors import SemError
from sem.dataset.clean import clean, consent, validation
from sem.dataset.config import Consent

TODAY = "2026-05-04"
ANY = Consent()

CASES = [
    ({}, ANY, None),
    ({"consent": "granted"}, ANY, None),
    ({"consent": "Opt-In"}, Consent(require="granted"), None),
    ({"consent": True}, Consent(require="granted"), None),
    ({"consent": "unknown"}, ANY, None),
    ({"consent": "unknown"}, Consent(require="granted"), "consent_missing"),
    ({}, Consent(require="granted"), "consent_missing"),
    ({"consent": "denied"}, ANY, "consent_denied"),
    ({"consent": False}, ANY, "consent_denied"),
    ({"consent_status": "revoked"}, ANY, "consent_withdrawn"),
    ({"consent": {"status": "granted", "until": "2026-05-03"}}, ANY, "consent_expired"),
    ({"consent": "granted", "consent_expires": "2026-05-04"}, ANY, None),
    ({"consent_expires": "2026-05-03T23:59:59Z"}, ANY, "consent_expired"),
    ({"consent_expires": "2026-05-03"}, Consent(on_expired="keep"), None),
    ({"consent": "perhaps"}, ANY, "consent_unreadable"),
    ({"consent_expires": "next year"}, ANY, "consent_unreadable"),
    ({"license": "CC BY 4.0"}, Consent(licenses=("cc-by-4.0",)), None),
    ({"license": "CC BY-NC 4.0"}, Consent(licenses=("cc-by-4.0",)), "license_not_allowed"),
    ({}, Consent(licenses=("cc-by-4.0",)), "license_not_allowed"),
    ({"purpose": ["Model training", "search"]}, Consent(purposes=("model_training",)), None),
    ({"purpose": "search"}, Consent(purposes=("model_training",)), "purpose_not_allowed"),
]


@pytest.mark.parametrize(("meta", "policy", "reason"), CASES)
def test_policy_judges_a_row(meta: dict[str, Any], policy: Consent, reason: str | None) -> None:
    assert consent.consent_refusal_reason(meta, policy, TODAY) == reason
    assert reason is None or reason in validation.REASONS


def test_without_a_date_expiry_cannot_be_judged() -> None:
    with pytest.raises(SemError, match="consent_expires cannot be checked without a date"):
        consent.consent_refusal_reason({"consent_expires": "2026-05-03"}, ANY, "")


def test_cleaning_rejects_counts_and_keeps_one_spelling(tmp_path: Path) -> None:
    metas = {
        "a1": {"consent": "Yes", "license": "CC BY 4.0", "consent_expires": "2027-01-01T00:00Z"},
        "a2": {"consent": "no"},
        "a3": {"consent": "granted", "consent_expires": "2026-01-01"},
        "a4": {},
    }
    made = fill(project(tmp_path), *(row(n, metadata=json.dumps(m)) for n, m in metas.items()))

    done = clean.clean_store(made, clean.CleaningOptions(today=TODAY))

    assert done.tally.reasons == {"consent_denied": 1, "consent_expired": 1}
    kept = {one["id"]: one["meta"] for one in read(done.path)}
    assert set(kept) == {"a1", "a4"}
    assert kept["a1"]["consent"] == "granted"
    assert kept["a1"]["license"] == "cc-by-4.0"
    assert kept["a1"]["consent_expires"] == "2027-01-01"
    assert "consent" not in kept["a4"]
    report = done.report.read_text()
    assert "| consent granted | 1 |" in report
    assert "| consent_denied: its metadata says that consent was denied | 1 | a2 |" in report


def test_a_policy_is_read_from_dataset_yaml(tmp_path: Path) -> None:
    made = project(tmp_path, "clean:\n  consent: {require: granted, licenses: [cc-by-4.0]}\n")
    fill(made, row("a1"), row("b1", metadata='{"consent": "granted", "license": "CC-BY-4.0"}'))

    done = clean.clean_store(made, clean.CleaningOptions(today=TODAY))

    assert done.tally.reasons == {"consent_missing": 1}


def test_an_unknown_word_in_the_policy_names_its_place(tmp_path: Path) -> None:
    made = fill(project(tmp_path, "clean:\n  consent: {require: always}\n"), row("a1"))

    with pytest.raises(SemError, match=r"clean\.consent\.require"):
        clean.clean_store(made, clean.CleaningOptions(today=TODAY))

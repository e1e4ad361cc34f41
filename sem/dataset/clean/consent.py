"""Consent and licence of a row: read from its metadata, spelled one way, judged by policy.

Metadata keys: `consent` (granted | denied | withdrawn | unknown, or an object with `status`),
`consent_expires` (a date, the last day on which it holds), `license`, `purpose` (one or a list).
"""

import re
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from sem.core.errors import SemError
from sem.dataset.config import Consent
from sem.dataset.store.rows import PreparedRow, Reject

STATES = {
    "granted": "granted given yes true opt_in optin opted_in accepted consented",
    "denied": "denied no false opt_out optout opted_out refused rejected",
    "withdrawn": "withdrawn revoked retracted",
    "unknown": "unknown none unspecified not_asked generated synthetic",
}
_STATE = {word: state for state, words in STATES.items() for word in words.split()}
KEYS = ("consent", "consent_expires", "license", "purpose")
# Older or local spellings of the keys, and the keys of an object under `consent`.
SPELLINGS = {
    "consent": ("consent", "consent_status"),
    "consent_expires": ("consent_expires", "consent_expiry", "consent_until"),
    "license": ("license", "licence", "license_id"),
    "purpose": ("purpose", "purposes"),
}
INNER = {
    "consent": ("status", "state", "value"),
    "consent_expires": ("expires", "until", "expiry"),
    "license": ("license", "licence"),
    "purpose": ("purpose", "purposes"),
}
UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Flags:
    """What a row's metadata says; None where it says nothing."""

    # Granted | denied | withdrawn | unknown | unreadable.
    consent: str | None = None
    # YYYY-MM-DD or unreadable.
    expires: str | None = None
    license: str | None = None
    purposes: tuple[str, ...] = ()

    def as_meta(self) -> dict[str, Any]:
        """Return the flags as metadata, in one spelling; only those the row has."""
        values = (self.consent, self.expires, self.license, list(self.purposes))
        return {key: value for key, value in zip(KEYS, values, strict=True) if value}


def read_consent_flags(meta: dict[str, Any]) -> Flags:
    """Return the Flags in `meta`."""
    inner = meta.get("consent")
    inner = inner if isinstance(inner, dict) else {}
    fields = {key: _first(meta, inner, key) for key in KEYS}
    purposes = fields["purpose"]
    listed = purposes if isinstance(purposes, list) else [purposes] * (purposes is not None)
    return Flags(
        consent=_state(fields["consent"]),
        expires=_day(fields["consent_expires"]),
        license=None if fields["license"] is None else normalise_licence(str(fields["license"])),
        purposes=tuple(sorted({_word(str(purpose)) for purpose in listed})),
    )


def _first(meta: dict[str, Any], inner: dict[str, Any], key: str) -> Any:
    named = [meta.get(name) for name in SPELLINGS[key]] + [inner.get(name) for name in INNER[key]]
    return next((v for v in named if v not in (None, "") and not isinstance(v, dict)), None)


def _state(value: Any) -> str | None:
    return None if value is None else _STATE.get(_word(str(value)), UNREADABLE)


def _day(value: Any) -> str | None:
    if value is None:
        return None
    try:
        return date.fromisoformat(str(value).strip()[:10]).isoformat()
    except ValueError:
        return UNREADABLE


def _word(text: str) -> str:
    return re.sub(r"[\s-]+", "_", text.strip().casefold())


def normalise_licence(text: str) -> str:
    """Return `text` as SPDX spells identifiers, in lower case.

    `CC BY 4.0` and `cc-by-4.0` become the same.
    """
    return re.sub(r"[\s_/]+", "-", text.strip().casefold())


def consent_refusal_reason(meta: dict[str, Any], policy: Consent, today: str) -> str | None:
    """Why `policy` refuses a row with `meta` on the day `today` (YYYY-MM-DD).

    None when it does not.

    What cannot be read is refused unless `policy` keeps it: it may have been a no.
    """
    row_flags = read_consent_flags(meta)
    if UNREADABLE in (row_flags.consent, row_flags.expires) and policy.on_unreadable == "reject":
        return "consent_unreadable"
    if row_flags.consent in ("denied", "withdrawn"):
        return f"consent_{row_flags.consent}"
    if policy.require == "granted" and row_flags.consent != "granted":
        return "consent_missing"
    expires = row_flags.expires
    is_dated = expires is not None and expires != UNREADABLE
    if is_dated and policy.on_expired == "reject" and _is_past(str(expires), today):
        return "consent_expired"
    if policy.licenses and row_flags.license not in set(map(normalise_licence, policy.licenses)):
        return "license_not_allowed"
    if policy.purposes and not {_word(purpose) for purpose in policy.purposes} & set(
        row_flags.purposes
    ):
        return "purpose_not_allowed"
    return None


def _is_past(expires: str, today: str) -> bool:
    if not today:
        raise SemError("consent_expires cannot be checked without a date", "pass today's date")
    return expires < today


def check_consent(row: PreparedRow, policy: Consent, today: str) -> PreparedRow:
    """Return `row` with its flags in one spelling, counted as a note.

    Reject when `policy` refuses it.
    """
    refused = consent_refusal_reason(row.meta, policy, today)
    row_flags = read_consent_flags(row.meta)
    if refused:
        detail = ", ".join(f"{key}: {value}" for key, value in sorted(row_flags.as_meta().items()))
        raise Reject(refused, detail)
    if row_flags == Flags():
        return row
    notes = [f"consent {row_flags.consent}"] if row_flags.consent else []
    notes += [f"license {row_flags.license}"] if row_flags.license else []
    readable = {key: value for key, value in row_flags.as_meta().items() if value != UNREADABLE}
    return replace(row, meta={**row.meta, **readable}, notes=(*row.notes, *notes))

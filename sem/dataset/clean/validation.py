"""reports/SEM/dataset_validation.md: what cleaning read, kept, refused and lost."""

import html
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sem.core.console import titled_table

REASONS = {
    "no_id": "the id is NULL or empty",
    "duplicate_id": "rows with different content share the id",
    "row_twice": "the same row occurs more than once",
    "no_task": "no task is named",
    "unknown_task": "the task has no TaskSpec",
    "no_input": "the prompt is NULL or empty",
    "no_reference": "the reference is NULL or empty",
    "reference_not_json": "the reference is not strict JSON (truncated, NaN, repeated key, …)",
    "reference_breaks_schema": "the reference does not fit io_schema",
    "slot_specs": "the row's slot_specs cannot be used",
    "page_size": "the page is larger than clean.max_bytes",
    "page_depth": "tags nest deeper than clean.max_depth",
    "page_attributes": "a tag has more attributes than clean.max_attributes",
    "page_undecodable": "more than 1 % of the characters are U+FFFD: wrong encoding",
    "page_timeout": "parsing took longer than clean.deadline_s",
    "page_memory": "parsing took more memory than clean.memory_mib",
    "page_crash": "the parser died on the page",
    "page_forbidden": "its parser tried to reach a network, a process or a library",
    **{
        f"pii_{kind}": f"clean.pii: rows with personal data of this kind ({kind}) are rejected"
        for kind in ("email", "phone", "card", "iban", "national_id", "ip", "name")
    },
    "pii_breaks_schema": "with its personal data redacted the reference does not fit io_schema",
    "pii_not_text": "a number in the reference is personal data: it cannot hold a placeholder",
    "row_fault": "this program failed on the row: report it with the detail in rejects",
    "empty_input": "nothing, or less than min_chars, is left after cleaning",
    "duplicate": "task, cleaned input and reference are the same as those of an earlier row",
    "conflict": "the same cleaned input has different references",
    "taken_down": "it was taken down (`fab dataset.takedown`) and came back",
    "consent_denied": "its metadata says that consent was denied",
    "consent_withdrawn": "its metadata says that consent was withdrawn",
    "consent_missing": "clean.consent.require is granted, and its metadata names no consent",
    "consent_expired": "consent_expires lies before the day of cleaning",
    "consent_unreadable": "consent or consent_expires cannot be read: it may have been a no",
    "license_not_allowed": "its licence is not in clean.consent.licenses",
    "purpose_not_allowed": "it names none of clean.consent.purposes",
    "near_duplicate": "near.drop is same_answer: an earlier row is nearly the same",
    "evidence_lost": "a value the page held is not in the cleaned input (policy: reject)",
    "evidence_ungrounded": "a value is not even in the page (policy: reject)",
}
PII_ACTIONS = ("keep", "redact", "reject")
SLOT_COLUMNS = ("slot", "values", "in the raw page", "kept", "share")


def render_validation_report(sem: str, tally: Any, facts: dict[str, Any]) -> str:
    """Return the report of one cleaning as Markdown."""
    parts = [
        f"# Dataset validation: {sanitise_table_cell(sem)}\n",
        f"Store sha256 `{facts['store_sha256'][:16]}`, cleaner `{facts['cleaner']}`. "
        f"{tally.read:,} rows read, {tally.kept:,} kept, {tally.read - tally.kept:,} rejected.\n",
        titled_table("Rejected rows", ("reason", "rows", "first ids"), _reject_rows(tally)),
        titled_table("Tasks", _task_columns(tally), _task_rows(tally)),
        titled_table("Notes", ("note", "rows"), sorted(tally.notes.items())),
        *_advice(tally),
        titled_table("Evidence that survives cleaning", SLOT_COLUMNS, _survival_rows(tally)),
        _tokens(tally),
        titled_table("Personal data", ("kind", *PII_ACTIONS), _pii_rows(tally)),
        titled_table("Near-duplicates", ("what", "count"), sorted(tally.near.items())),
    ]
    return "\n".join(part for part in parts if part)


def _reject_rows(tally: Any) -> list[tuple[Any, ...]]:
    ordered = sorted(tally.reasons.items(), key=lambda item: (-item[1], item[0]))
    return [
        (
            f"{reason}: {REASONS[reason]}",
            count,
            ", ".join(map(sanitise_table_cell, tally.first_ids[reason])),
        )
        for reason, count in ordered
    ]


def _task_columns(tally: Any) -> tuple[str, ...]:
    return ("task", *dict.fromkeys(name for counts in tally.tasks.values() for name in counts))


def _task_rows(tally: Any) -> list[tuple[Any, ...]]:
    columns = _task_columns(tally)[1:]
    return [
        (sanitise_table_cell(task), *(f"{counts.get(name, 0):,}" for name in columns))
        for task, counts in sorted(tally.tasks.items())
    ]


def _advice(tally: Any) -> Iterator[str]:
    """Yield a line for each task whose answers are mostly long texts that a budget cuts up."""
    for task, counts in sorted(tally.tasks.items()):
        long = tally.notes.get(f"long_answer: {task}", 0)
        if 2 * long > counts["pages"]:
            yield (
                f"The answers to {long:,} of {counts['pages']:,} pages of "
                f"{sanitise_table_cell(task)} are mostly long texts, and the budget takes from "
                "them: `prose: true` below "
                "`clean.tasks` in dataset.yaml keeps such a text first and in one piece.\n"
            )


def _survival_rows(tally: Any) -> list[tuple[Any, ...]]:
    rows = [
        (sanitise_table_cell(slot), *_shares(counts))
        for slot, counts in sorted(tally.survival.items())
    ]
    if rows:
        totals = [sum(column) for column in zip(*tally.survival.values(), strict=True)]
        rows.append(("**all**", *_shares(totals)))
    return rows


def _shares(counts: list[int]) -> tuple[str, ...]:
    values, before, survivors, _ = counts
    share = f"{survivors / before:.2%}" if before else "-"
    return f"{values:,}", f"{before:,}", f"{survivors:,}", share


def _pii_rows(tally: Any) -> list[tuple[Any, ...]]:
    return [
        (kind, *(f"{actions.get(action, 0):,}" for action in PII_ACTIONS))
        for kind, actions in sorted(tally.pii.items())
    ]


def _tokens(tally: Any) -> str:
    before, after = (
        sum(counts.get(name, 0) for counts in tally.tasks.values())
        for name in ("tokens_before", "tokens_after")
    )
    if not before:
        return "Tokens are counted by `dataset_clean.py --tokens` and `dataset.stats`.\n"
    return (
        f"Tokens by the base model's tokenizer: {before:,} before, {after:,} after "
        f"({after / before:.1%}).\n"
    )


def inert_table(title: str, columns: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Return `title` over the table of `rows`, whose texts are strangers'."""
    inert = ([sanitise_table_cell(str(cell)) for cell in row] for row in rows)
    return titled_table(sanitise_table_cell(title), columns, inert)


def sanitise_table_cell(value: str) -> str:
    """Return `value` as inert text of a table cell.

    No markup, no control characters, no formulas.
    """
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in value[:80])
    text = html.escape(text, quote=False)
    for mark in "\\`*[]|!":
        text = text.replace(mark, f"&#{ord(mark)};")
    return f"'{text}" if text[:1] in "=+-@" else text

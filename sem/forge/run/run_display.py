"""What `forge.run` says on the way: the plan, the first request, the result."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from sem.core import console, files
from sem.dataset.clean import clean
from sem.forge.run import outputs, report
from sem.forge.run.forge_job import ForgeResult
from sem.forge.run.forge_run import PreparedForge
from sem.forge.teacher import cost_forecast
from sem.forge.teacher.presets import teacher_calls
from sem.lm.api.calls import TRANSIENT


def print_plan(prepared: PreparedForge) -> None:
    """Print what would be asked, and what it can cost at most."""
    plan, calls = prepared.plan, teacher_calls(prepared.job.settings.teacher, dry=True)
    cap = [f"${calls.max_usd:.2f}"] if calls.max_usd is not None else []
    cap += [f"{calls.max_requests:,} requests"] if calls.max_requests is not None else []
    rows = [
        ("items", f"{prepared.items:,}"),
        ("calls", f"{plan.calls:,}"),
        ("answered before", f"{plan.cached:,}"),
        ("tokens in, about", f"{plan.tokens_in:,}"),
        ("tokens in and out, at most", f"{plan.most_tokens:,}"),
        ("cost, at most, each call once", cost_forecast.format_usd(plan.at_most_usd)),
        (f"cap of a {calls.period}", " and ".join(cap) or "none"),
    ]
    for note in prepared.job.notes:
        console.print_note(note)
    console.print_table(f"Teacher {calls.models[0].model}", ("plan", ""), rows)
    settings = prepared.job.settings.quality
    extra = [name for name in ("judge", "consistent") if getattr(settings, name)]
    if extra and plan.calls:
        console.print_note(
            f"each pair that the rules keep is one more call for {' and '.join(extra)}"
        )


def print_first_request(prepared: PreparedForge) -> None:
    """Print the first request as it would be sent."""
    if prepared.plan.first is None:
        console.print_note("nothing would be asked")
        return
    console.print_note("the first request, which was not sent:")
    for role, text in prepared.plan.first.messages:
        print(console.replace_control_characters(f"[{role}]\n{text}\n"))


def forge_cleaning_options(at: datetime) -> clean.CleaningOptions:
    """Return how forged rows are cleaned: here, with no tokenizer."""
    return clean.CleaningOptions(today=f"{at:%Y-%m-%d}")


def cleaning_bar(rows: Iterable[Any], count: int) -> Iterator[Any]:
    """Cleaning's progress."""
    return console.show_progress(rows, count, "cleaning")


def print_result(prepared: PreparedForge, forged: ForgeResult) -> None:
    """Print what became of the pairs, what it cost and where everything is."""
    facts = files.read_object(prepared.job.folder / outputs.FACTS)
    console.print_table(f"Forged {facts['sem']}", ("pairs", "count"), report.rate_rows(facts))
    pilot, spent = prepared.piloted, forged.spending
    rows = [
        ("answered before", f"{spent.cached - (pilot.asked - pilot.cached):,}"),
        ("requests sent", f"{pilot.requests + spent.requests:,}"),
        ("of them in the pilot", f"{pilot.requests:,}"),
        (
            "tokens in / out",
            f"{pilot.tokens_in + spent.tokens_in:,} / {pilot.tokens_out + spent.tokens_out:,}",
        ),
        ("cost", cost_forecast.format_usd(pilot.usd + spent.usd)),
    ]
    console.print_table("Spent by this run", ("", ""), rows)
    unanswered = sum(count for name, count in spent.faults.items() if name in TRANSIENT)
    if unanswered:
        console.print_note(
            f"{unanswered:,} calls were not answered: run the same command to send them again"
        )
    row_counts = ", ".join(f"{count:,} {name}" for name, count in forged.rows.items())
    console.print_note(f"rows of the store: {row_counts}")
    for what, counts in (
        ("not taken", forged.refused),
        ("not kept by cleaning", forged.uncleaned),
    ):
        for reason, count in counts.items():
            console.print_note(f"{count:,} rows were {what}: {reason}")
    parts = ", ".join(f"{count:,} rows in {name}" for name, count in forged.parts.items())
    console.print_note(f"snapshot {forged.snapshot}; {parts} ({prepared.job.settings.format})")

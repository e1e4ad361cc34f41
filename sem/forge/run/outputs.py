"""The files of a forge run: pairs, what was dropped and skipped, train and test, forge.json."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any

from sem.core import files, jsonio
from sem.core.errors import SemError
from sem.core.example import SPELLINGS
from sem.core.project import Project
from sem.dataset.ingest import conversations
from sem.dataset.split.snapshot import Snapshot
from sem.forge.checks.pair_quality import PairVerdict
from sem.forge.run.forge_job import ForgeJob, ForgeResult, PassResult
from sem.forge.teacher import prompts
from sem.forge.teacher.teacher import TeacherSpending

PAIRS, DROPPED, SKIPPED, FACTS = "pairs.jsonl", "dropped.jsonl", "skipped.jsonl", "forge.json"
QUESTION = (*SPELLINGS["input_text"], "question", "input", "instruction")
LISTS = ("examples", "items", "questions", "golden_set")
TRAIN, TEST = "train.jsonl", "test.jsonl"


def reserved_questions(project: Project, origin: str) -> Iterator[tuple[str, str]]:
    """(golden or test, question) of what must never be forged, but for rows of `origin` itself."""
    golden = (_asked(item, path) for path in _golden(project) for item in _entries(path))
    # golden.jsonl holds what golden_set.json does.
    for text in dict.fromkeys(golden):
        yield "golden", text
    for path in sorted(project.processed.glob("test.v*.jsonl")):
        for row in files.read_rows(path):
            if (row.get("meta") or {}).get("reference_source") != origin:
                yield "test", str(row["input_text"])


def _entries(path: Path) -> list[Any]:
    value = list(files.read_rows(path)) if path.suffix == ".jsonl" else files.read_json(path)
    if isinstance(value, dict):
        value = next((value[name] for name in LISTS if name in value), None)
    if not isinstance(value, list):
        raise SemError(
            f"{path}: holds no list of questions", "`fab golden.check` shows what is wrong with it"
        )
    return value


def _asked(item: Any, path: Path) -> str:
    """Return the question of a golden `item`, as the golden set reads it."""
    values = (item.get(name) for name in QUESTION) if isinstance(item, dict) else ()
    text = next((str(value) for value in values if value not in (None, "")), None)
    if text is None:
        raise SemError(
            f"{path}: an entry without a question",
            "`fab golden.check` shows what is wrong with it",
        )
    is_two = "instruction" in item and "input" in item
    return f"{item['instruction']}\n\n{item['input']}" if is_two else text


def _golden(project: Project) -> list[Path]:
    own = project.golden.with_name("golden_set.json")
    flat = project.root / "evals" / "golden_set.json"
    return [path for path in (own, flat, project.golden) if path.exists()]


def write_pairs(folder: Path, outcome: PassResult) -> str:
    """Pairs, dropped pairs and skipped sources with their provenance; the hash of the pairs."""
    files.write_rows(folder / PAIRS, (v.as_json() for v in outcome.kept))
    files.write_rows(folder / DROPPED, (v.as_json() for v in outcome.verdicts if not v.kept))
    files.write_rows(folder / SKIPPED, outcome.config.skipped)
    return files.sha256_file(folder / PAIRS)


def write_parts(project: Project, frozen: Snapshot, form: str) -> dict[str, int]:
    """train.jsonl (train and val of `frozen`) and test.jsonl, in `form`; rows of each."""

    def rows(parts: Sequence[str]) -> Iterator[dict[str, Any]]:
        for example in chain.from_iterable(frozen.examples(part) for part in parts):
            yield conversations.as_conversation(example, project.tasks[example.task], form)

    return {
        TRAIN: files.write_rows(project.processed / TRAIN, rows(("train", "val"))),
        TEST: files.write_rows(project.processed / TEST, rows(("test",))),
    }


def append_spending(folder: Path, spending: TeacherSpending, at: datetime) -> None:
    """Add what one process asked and paid to spending.jsonl, however it ended."""
    row = {**vars(spending), "faults": dict(sorted(spending.faults.items()))}
    del row["listed_squares"]
    with files.open_for_append(folder / "spending.jsonl") as file:
        files.append_row(file, {**row, "at": f"{at:%Y-%m-%dT%H:%M:%SZ}"})


def publish_forge(job: ForgeJob, teacher: str, forged: ForgeResult) -> Path:
    """forge.json and the report; the report's path."""
    from sem.forge.run import report

    facts = forge_facts(job, teacher, forged)
    path = report.write_forge_report(job.project, facts, forged.made.verdicts)
    files.write_file(job.folder / FACTS, jsonio.pretty_json(facts))
    return path


def forge_facts(job: ForgeJob, teacher: str, forged: ForgeResult) -> dict[str, Any]:
    """forge.json: every count and hash, nothing that differs when the same is run again."""
    outcome, project = forged.made, job.project
    settings = jsonio.parse_json(jsonio.canonical_json(asdict(job.settings)))
    documents = {
        (v.pair.source, v.pair.provenance.get("document_sha256")) for v in outcome.verdicts
    }
    listed = sorted([str(name), str(sha)] for name, sha in documents)
    written = [job.folder / name for name in (PAIRS, DROPPED, SKIPPED)]
    written += [project.processed / name for name in forged.parts]
    return {
        "format": "forge.v1",
        "sem": project.sem,
        "forge_class": job.settings.forge_class,
        "settings": settings,
        "settings_sha256": files.sha256_json(settings),
        "limit": job.options.limit,
        "teacher": teacher,
        "prompt_version": prompts.VERSION,
        "items": outcome.count.items,
        "left_out": outcome.count.left_out,
        "sources": {"count": len(listed), "sha256": files.sha256_json(listed)},
        "calls": forged.spending.asked,
        "unusable": dict(sorted(forged.spending.faults.items())),
        "pairs": len(outcome.verdicts),
        "kept": len(outcome.kept),
        "dropped": _counts(v.reason for v in outcome.verdicts if not v.kept),
        "checks": count_checks(outcome.verdicts),
        "skipped": _counts(f"{s.get('what')}: {s.get('reason')}" for s in outcome.config.skipped),
        "compared_with": _counts(where for where, _ in job.others),
        "notes": [*job.notes, *outcome.config.notes],
        "rows": forged.formatted,
        "refused": forged.refused,
        "uncleaned": forged.uncleaned,
        "snapshot": forged.snapshot,
        "files": {
            str(path.relative_to(project.processed)): {
                "rows": sum(1 for _ in path.open("rb")),
                "sha256": files.sha256_file(path),
            }
            for path in written
        },
    }


def count_checks(verdicts: Iterable[PairVerdict]) -> dict[str, dict[str, int]]:
    """Return for each check how many pairs it checked and how many it could not."""
    counts: dict[str, dict[str, int]] = {}
    for verdict in verdicts:
        for name, value in verdict.checks.items():
            count = counts.setdefault(name, {"ran": 0, "did_not_run": 0})
            count["did_not_run" if isinstance(value, str) else "ran"] += 1
    return dict(sorted(counts.items()))


def _counts(names: Iterable[Any]) -> dict[str, int]:
    return dict(sorted(Counter(str(name) for name in names).items()))

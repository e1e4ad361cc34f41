"""Describe a snapshot: tokens by the base model's tokenizer, slots, labels, strata, domains.

    python scripts/dataset_stats.py --sem shop --snapshot v3

Reads   data/SEM/processed/{train,val,test}.vN.jsonl (clean.jsonl before the first split),
        the tokenizer under models/base/
Writes  reports/SEM/dataset_stats.json
"""

from itertools import chain
from typing import Any

from sem.core import console, files, jsonio


def main(argv: list[str] | None = None) -> None:
    args = console.parser(__doc__, "sem", "snapshot", "set").parse_args(argv)

    from sem.core.project import Project
    from sem.dataset import clean, profile, snapshot, splits
    from sem.lm import chat, weights

    project = Project.load(args.sem, args.set)
    chosen = chat.load(weights.resolve(project.base_model_id, project.base_models).folder)
    if args.snapshot or snapshot.versions(project):
        frozen = snapshot.load(project, args.snapshot)
        name, examples = frozen.name, chain(*(frozen.examples(part) for part in splits.PARTS))
    else:
        clean.facts(project)
        name, examples = clean.NAME, clean.examples(project)
    found = profile.describe(examples, project.tasks, lambda texts: _count(chosen, texts))
    stats = {task: profile.as_json(one) for task, one in found.items()}
    path = files.write(
        project.reports / "dataset_stats.json", jsonio.pretty({"of": name, "tasks": stats})
    )
    quantiles = ("p50", "p95", "p99", "max")
    rows = [
        (task, kind, one["rows"], *(one[f"{kind}_tokens"][q] for q in quantiles))
        for task, one in stats.items()
        for kind in ("prompt", "answer")
    ]
    console.table(f"Tokens, {name}", ("task", "of", "rows", *quantiles), rows)
    columns = ("slot", "there", "null", "absent", "labels", "balance")
    slots = [
        (f"{task}.{slot}", s["coverage"], s["null"], s["absent"], *_labels(s))
        for task, one in stats.items()
        for slot, s in one["slots"].items()
    ]
    console.table("Slots", columns, slots)
    strata = [
        (task, *pair) for task, one in stats.items() for pair in list(one["strata"].items())[:12]
    ]
    console.table(
        "Page type and language, the 12 most frequent", ("task", "stratum", "rows"), strata
    )
    console.done(path)


def _count(chosen: Any, texts: list[str]) -> list[int]:
    return [len(ids) for ids in chosen.tokenizer(texts, add_special_tokens=False)["input_ids"]]


def _labels(slot: dict[str, object]) -> tuple[object, object]:
    labels = slot.get("labels")
    return (len(labels), slot["balance"]) if isinstance(labels, dict) else ("-", "-")


if __name__ == "__main__":
    console.run(main)

"""Describe a snapshot: tokens by the base model's tokenizer, slots, grounding, strata, leaks.

    python scripts/dataset_stats.py --sem shop --snapshot v3

Reads   data/SEM/processed/{train,val,test}.vN.jsonl (clean.jsonl before the first split),
        clean.json, the tokenizer under models/base/
Writes  reports/SEM/dataset_stats.{json,md,html}, ungrounded.jsonl (labels not in their input)
"""

from typing import Any

from sem.core import console


def main(argv: list[str] | None = None) -> None:
    args = console.parser(__doc__, "sem", "snapshot", "set").parse_args(argv)

    from sem.core.project import Project
    from sem.dataset.split import dataset_stats
    from sem.lm.local import chat

    project = Project.load(args.sem, args.set)
    chosen = chat.load_of(project)
    found = dataset_stats.gather(project, args.snapshot, lambda texts: _count(chosen, texts))
    path = dataset_stats.write(project, found)
    console.table(f"Tokens, {found['of']}", dataset_stats.TOKENS, dataset_stats.token_rows(found))
    console.table("Slots", dataset_stats.SLOTS, dataset_stats.slot_rows(found))
    if found["certificate"]:
        console.table("In common", dataset_stats.SHARED, dataset_stats.shared_rows(found))
    if found["ungrounded"]:
        console.note(f"{found['ungrounded']:,} label values are not in their input: "
                     f"{project.reports / dataset_stats.UNGROUNDED}")  # fmt: skip
    console.done(path)


def _count(chosen: Any, texts: list[str]) -> list[int]:
    return [len(ids) for ids in chosen.tokenizer(texts, add_special_tokens=False)["input_ids"]]


if __name__ == "__main__":
    console.run(main)

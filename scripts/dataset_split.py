"""Cut train, val and test, whole domains apart, and freeze them as the next snapshot.

    python scripts/dataset_split.py --sem shop

Reads   data/SEM/processed/clean.jsonl, configs/SEM/dataset.yaml, eval_split of the TaskSpecs
Writes  data/SEM/processed/{train,val,test}.vN.jsonl and vN.json, configs/SEM/datasets.yaml
"""

from datetime import UTC, datetime

from sem.core import console


def main(argv: list[str] | None = None) -> None:
    args = console.parser(__doc__, "sem", "set").parse_args(argv)

    from sem.core.project import Project
    from sem.dataset.split import certificate, snapshot, splits

    project = Project.load(args.sem, args.set)
    frozen, is_new = snapshot.freeze(project, datetime.now(UTC))
    if not is_new:
        console.note(f"the cut is the same as snapshot {frozen.name}: no new version")
    facts = frozen.facts
    rows = []
    for part in splits.PARTS:
        cut = facts["quality"][part]
        named = sum(bool(domain) for domain in facts["domains"][part])
        held = (facts["rows"][part], facts["groups"][part], named)
        rows.append((part, *held, cut["rows_off"], cut["balance"]))
    columns = ("part", "rows", "groups", "domains", "rows off target", "balance")
    console.table(f"Snapshot {frozen.name}", columns, rows)
    if facts.get("held_groups"):
        console.note(
            f"{facts['held_groups']} groups stay in test: they were tested on before, and what "
            "was tested on is never trained on"
        )
    for text in snapshot.doubts(facts):
        console.note(f"note: {text}")
    console.table("Leakage certificate", certificate.COLUMNS, certificate.table(facts))
    console.done(frozen.folder / f"{frozen.name}.json")


if __name__ == "__main__":
    console.run(main)

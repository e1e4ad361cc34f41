"""Try points of the recipe's space, each with every seed, and show which is best on val.

    python scripts/train_sweep.py --sem shop
    python scripts/train_sweep.py --sem shop --set sweep.points=20 --set train.epochs=1

A killed sweep goes on with the same command. Test is never read.

Reads   configs/SEM/{sweep.yaml,train.yaml,tasks/*}, data/SEM/processed/{train,val}.vN.jsonl
Writes  models/SEM/adapters/RUN/ for each point and seed,
        models/SEM/sweeps/NAME/{sweep.json,best.yaml,points.jsonl,journal.log}
"""

from sem.core import console
from sem.core.project import Project


def main(argv: list[str] | None = None) -> None:
    args = console.parser(__doc__, "sem", "snapshot", "set").parse_args(argv)
    from sem.train.sweep import sweep, sweep_points

    project = Project.load(args.sem, args.set)
    table, folder = sweep.run(project, console.version(args.snapshot))
    console.table(
        f"sweep {table.name}: {table.sweep.metric}", sweep_points.COLUMNS, sweep_points.rows(table)
    )
    console.note(sweep_points.verdict(table))
    console.note(sweep_points.caveat(table))
    console.done(folder / "sweep.json")


if __name__ == "__main__":
    console.run(main)

"""Write the demo store: invented shop pages and their references, the same for a same seed.

    python scripts/demo_data.py --sem demo

Reads   configs/SEM/tasks/*.yaml
Writes  data/SEM/raw/dataset.duckdb
"""

from collections import Counter

from sem.core import console
from sem.core.project import Project
from sem.dataset.demo import write


def main(argv: list[str] | None = None) -> None:
    """Write the store and say what is in it."""
    flags = console.parser(__doc__, "sem")
    flags.add_argument("--seed", type=int, default=42, help="another seed, other pages")
    flags.add_argument("--examples", type=int, default=write.EXAMPLES, help="how many rows")
    args = flags.parse_args(argv)
    project = Project.load(args.sem)
    made = write.rows(project.tasks, args.seed, args.examples)
    counts = Counter(row.task for row in made)
    console.table("demo examples", ("task", "rows"), sorted(counts.items()))
    console.done(write.write(project.store, made))


if __name__ == "__main__":
    console.run(main)

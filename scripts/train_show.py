"""Show rows as the model will see them, with what is learnt in colour.

    python scripts/train_show.py --sem shop --rows 3

Grey is the prompt, which carries no loss; values, keys, punctuation and the end of the turn each
have a colour. Without a terminal the learnt part stands between ⟦ and ⟧.

Reads   configs/SEM/train.yaml, configs/SEM/tasks/, data/SEM/processed/*.vN.jsonl
Writes  nothing
"""

from sem.core import console
from sem.core.project import Project


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem", "snapshot", "set")
    parser.add_argument("--rows", type=int, default=3, help="how many (default: 3)")
    parser.add_argument("--id", action="append", help="the row of this example (repeatable)")
    args = parser.parse_args(argv)
    from sem.dataset.split import snapshot
    from sem.lm.weights import weights
    from sem.train import recipe
    from sem.train.rows import show
    from sem.train.run import plan

    project = Project.load(args.sem, args.set)
    frozen = snapshot.load(project, console.version(args.snapshot))
    base = weights.base_of(project)
    found = plan.look(project, frozen, base, recipe.of(project))
    examples = {example.id: example for example in found.examples}
    for row in show.picked(found.rows, args.rows, args.id):
        spans = show.spans(row, examples[row.id], found.writer)
        title = f"{row.id} ({row.task}): {row.prompt} + {row.trained} tokens"
        console.marked(title, [(s.text, show.STYLES[s.kind], s.weight > 0) for s in spans])
    total = show.counts(found.rows.kept, examples, found.writer)
    whole = sum(total.values())
    rows = [(kind, f"{count:,}", f"{count / whole:.1%}") for kind, count in total.items()]
    console.table(f"all {len(found.rows.kept)} rows", ("tokens", "count", "share"), rows)


if __name__ == "__main__":
    console.run(main)

"""Resolve everything the next run will use, look for faults, and write it down as run.json.

    python scripts/train_prepare.py --sem shop --set train.epochs=1
    python scripts/train_prepare.py --sem shop --device cuda:24    for a host with such a GPU

`--set train.renderer=plan` writes the plan's turns, `system: `, `user: `, `assistant: `, between
<start_of_turn> and <end_of_turn>, or between <|im_start|> and <|im_end|> where the tokenizer has
those; by default the tokenizer's own chat template is used.

Stops with exit 1, before anything is written, when a check fails; the rows are named.

Reads   configs/SEM/train.yaml, configs/SEM/tasks/, data/SEM/processed/*.vN.jsonl
Writes  models/SEM/adapters/RUN/run.json
"""

from sem.core import console
from sem.core.project import Project


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem", "snapshot", "set")
    parser.add_argument(
        "--device", help="where it will be trained: cpu, cuda or cuda:GIB (default: this machine)"
    )
    args = parser.parse_args(argv)
    from sem.lm.local import hardware
    from sem.train.run import plan

    project = Project.load(args.sem, args.set)
    machine = hardware.described(args.device) if args.device else None
    run = plan.prepare(project, console.version(args.snapshot), machine=machine)
    found = run.plan()
    looked = [(check["name"], check["found"]) for check in found["preflight"]]
    console.table("looked at", ("what", "found"), looked)
    console.table(f"run {run.id}", ("what", "value"), plan.summary(found))
    for doubt in plan.doubts(found):
        console.note(doubt)
    console.done(run.folder / "run.json")


if __name__ == "__main__":
    console.run(main)

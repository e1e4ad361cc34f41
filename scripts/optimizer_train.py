"""Train the prompt optimizer: LoRA on a frozen T5, then calibrate its confidence.

    python scripts/optimizer_train.py
    python scripts/optimizer_train.py --set train.recipe.epochs=1 --promote

A killed run goes on from its last checkpoint with the same command.

Reads   configs/optimizer/train.yaml, data/optimizer/{train,val}.json
Writes  models/optimizer/RUN/{run.json,adapter/,calibration.json,manifest.json}
"""

from sem.core import console, projects
from sem.optimizer.data import optimizer_data
from sem.optimizer.model import optimizer_train


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "set")
    parser.add_argument("--promote", action="store_true", help="serve this run from now on")
    args = parser.parse_args(argv)
    root = projects.tree()
    wanted = optimizer_train.settings_of(root, args.set)
    folder = optimizer_train.run(
        root, wanted, optimizer_data.load(root, "train"), optimizer_data.load(root, "val")
    )
    if args.promote:
        optimizer_train.promote(root, folder.name)
    console.done(folder)


if __name__ == "__main__":
    console.run(main)

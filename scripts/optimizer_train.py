"""Train the prompt optimizer: LoRA on a frozen T5, then calibrate its confidence.

    python scripts/optimizer_train.py
    python scripts/optimizer_train.py --set recipe.epochs=1 --promote

A killed run goes on from its last checkpoint with the same command.

Reads   configs/optimizer/train.yaml, data/optimizer/{train,val}.json
Writes  models/optimizer/RUN/{run.json,adapter/,calibration.json,manifest.json}
"""

from sem.core import console, files, projects
from sem.optimizer import calibrate, data, rewriter, train


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "set")
    parser.add_argument("--promote", action="store_true", help="serve this run from now on")
    args = parser.parse_args(argv)
    root = projects.tree()
    wanted = train.settings_of(root, args.set)
    pairs, val = data.load(root, "train"), data.load(root, "val")
    with files.lock(root / train.HOME / ".train.lock", "an optimizer"):
        run = train.prepare(root, wanted, pairs, val)
        console.note(f"run {run.id}: {run.plan()['counts']['train']}")
        result = train.train(train.job(root, run, wanted, pairs, val))
        network = rewriter.TorchRewriter.load(run.folder, root)
        fitted = calibrate.calibrate(network, val, wanted.calibration_prompts)
        files.write(*calibrate.as_file(run.folder, fitted))
        train.seal(run, result)
        if args.promote:
            train.promote(root, run)
    console.note(f"{train.sentence(result)}; useful {fitted.useful} of {fitted.rows} held-out")
    console.done(run.folder)


if __name__ == "__main__":
    console.run(main)

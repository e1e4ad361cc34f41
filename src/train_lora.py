"""Train the LoRA of the prompt optimizer, with the flags of its older script.

    python src/train_lora.py --data_path ./data/lora_training_data.json --num_epochs 5

The same as `fab optimizer.train`; the adapter and its tokenizer are also copied to
OUTPUT_DIR/final_adapter. Only --data_path is trained on; confidence is calibrated on the held-out
families of data/optimizer/val.json.
"""

import os
import shutil
import sys
from argparse import Namespace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from sem.core import console, projects
from sem.jobs.job import add_shared_flags
from sem.optimizer.data import optimizer_data
from sem.optimizer.model import optimizer_train


def main() -> None:
    args = parsed()
    console.print_note("src/train_lora.py is `fab optimizer.train`")
    root = projects.project_tree()
    taken = optimizer_data.read_pairs(args.data_path or root / optimizer_data.OLDER)
    for reason, count in sorted(taken.refused.items()):
        console.print_note(f"left out: {count} {reason}")
    if args.device:
        os.environ["SEM_DEVICE"] = args.device
    wanted = optimizer_train.optimizer_train_settings(root, sets(args))
    folder = optimizer_train.run_optimizer_training(
        root, wanted, taken.pairs, optimizer_data.load_pairs(root, "val")
    )
    there = (args.output_dir or root / "checkpoints" / "lora_model") / "final_adapter"
    shutil.copytree(folder / "adapter", there, dirs_exist_ok=True)
    console.print_output_path(there)


def parsed() -> Namespace:
    """Return the older script's flags."""
    parser = console.make_argument_parser(__doc__)
    add_shared_flags(parser, "set")
    parser.add_argument("--data_path", type=Path, help="default: data/lora_training_data.json")
    parser.add_argument("--output_dir", type=Path, help="default: checkpoints/lora_model")
    parser.add_argument("--num_epochs", type=float, help="default: that of train.yaml")
    parser.add_argument("--learning_rate", type=float, help="default: that of train.yaml")
    parser.add_argument("--batch_size", type=int, help="default: that of train.yaml")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: what is there")
    return parser.parse_args()


def sets(args: Namespace) -> list[str]:
    """Return `args` as settings of train.yaml."""
    size = args.batch_size
    given = {"epochs": args.num_epochs, "learning_rate": args.learning_rate}
    given |= {"effective_batch": size, "micro_batch": size}
    said = [f"train.recipe.{key}={value}" for key, value in given.items() if value is not None]
    return [*args.set, *said]


if __name__ == "__main__":
    console.run_main(main)

"""Write ./data/lora_training_data.json: vague prompts and what they should become.

    python src/data_gen.py

The same as `fab optimizer.data`, whose train part it then writes under the older name.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from sem.core import console, projects
from sem.jobs import load_jobs
from sem.optimizer.data import optimizer_data as data


def main() -> None:
    console.print_note("src/data_gen.py is `fab optimizer.data`")
    load_jobs()["optimizer.data"].call()
    root = projects.project_tree()
    pairs = data.load_pairs(root, "train")
    console.print_output_path(data.write_training(root / data.OLDER, pairs, data.DESCRIPTION))


if __name__ == "__main__":
    console.run_main(main)

"""Fetch base weights once, check them and convert them to safetensors.

    python scripts/env_weights.py                            the base model of a sem
    python scripts/env_weights.py gemma-3-270m               a weight package by its short name
    python scripts/env_weights.py --list                     every known weight package

Reads   configs/SEM/tasks/*.yaml (base_model_id) when no NAME is given
Writes  models/base/NAME/
"""

import os
from pathlib import Path

from sem.core import console
from sem.core.project import ROOT, Project
from sem.lm.weights import weight_packages, weights


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem")
    parser.add_argument("names", nargs="*", metavar="NAME", help="short name or base_model_id")
    parser.add_argument("--list", action="store_true", help="list the known weight packages")
    args = parser.parse_args(argv)
    if args.list:
        columns = ("name", "base_model_id", "precision", "licence")
        known = weight_packages.KNOWN.values()
        rows = [(p.slug, p.base_model_id, p.precision_note, p.licence) for p in known]
        return console.table("weight packages", columns, rows)
    slugs = {package.slug: id_ for id_, package in weight_packages.KNOWN.items()}
    root = Path(os.environ.get("SEM_ROOT") or ROOT)
    names = args.names
    if not names:
        names = [Project.load(args.sem).base_model_id]
    for name in names:
        found = weights.resolve(slugs.get(name, name), root)
        console.note(f"{name}: {found.revision}; {found.precision_note}; {found.licence}")
        console.done(found.folder)


if __name__ == "__main__":
    console.run(main)

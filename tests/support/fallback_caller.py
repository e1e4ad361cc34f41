"""A process that asks a strong model about ever new pages, until its day's tokens are spent.

    python tests/support/fallback_caller.py SETTINGS.yaml NAME

It ends with 0 once three pages in a row are over budget.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from toy import SPEC

from sem.core import settings
from sem.core.taskspec import TaskSpec
from sem.package.serve import fallback


def main() -> None:
    path, name = sys.argv[1:]
    spec = settings.build_settings(TaskSpec, SPEC | {"base_model_id": "tiny"}, "toy")
    strong = fallback.open_fallback(Path(path))
    refused, number = 0, 0
    while refused < 3:
        # Every page of one length: a request reserves what every other one does.
        note, _ = strong.ask(spec, f"page {name} {number:06d}")
        refused = refused + 1 if note.status == fallback.OVER_BUDGET else 0
        number += 1


if __name__ == "__main__":
    main()

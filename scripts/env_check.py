"""Show versions, hardware and what is missing; exit 1 when the packages are not as locked.

    python scripts/env_check.py

Reads   requirements.lock, models/base/
"""

from sem.core import console
from sem.core.errors import SemError
from sem.core.project import ROOT
from sem.ops import environment


def main(argv: list[str] | None = None) -> None:
    console.parser(__doc__).parse_args(argv)
    lock = ROOT / "requirements.lock"
    sections = (environment.versions(lock), environment.machine(ROOT), environment.present(ROOT))
    console.table("environment", ("what", "here"), [row for rows in sections for row in rows])
    odd = environment.differing(lock)
    if odd:
        raise SemError(
            f"{len(odd)} packages are not as {lock.name} says, first {odd[0]}",
            "run ./scripts/setup_env.sh",
        )


if __name__ == "__main__":
    console.run(main)

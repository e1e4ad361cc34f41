"""Is a file a ZK document, and does it hold what it says? Exit 0 or 1.

python scripts/preview_validate.py proof.json --zk-check
python scripts/preview_validate.py preview.json --format json
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sem.core import console, files, jsonio, schema
from sem.core.errors import SemError
from sem.preview.result import zk


def parser() -> argparse.ArgumentParser:
    """The flags, as the older validator had them."""
    made = console.parser(__doc__)
    made.add_argument("file", type=Path, help="the document")
    made.add_argument("--schema", type=Path, help="another schema than the shipped one")
    made.add_argument("--zk-check", action="store_true", help="also make its hash again")
    made.add_argument("--output-hash", action="store_true", help="print the document's sha256")
    made.add_argument("--format", choices=("text", "json"), default="text")
    made.add_argument("--verbose", action="store_true", help="every problem, not the first ten")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Validate the file; SemError (exit 1) where it does not hold."""
    args = parser().parse_args(argv)
    document = files.read_json(args.file)
    wrong = problems(document, args.schema, args.zk_check)
    made: dict[str, Any] = {"file": args.file.name, "valid": not wrong, "problems": wrong}
    if args.output_hash:
        made["sha256"] = zk.sha256(document, compact=True)
    if args.format == "json":
        print(jsonio.pretty(made), end="")
    else:
        _say(made, len(wrong) if args.verbose else 10)
    if wrong:
        count = f"{len(wrong)} problem{'' if len(wrong) == 1 else 's'}"
        raise SemError(f"{args.file}: {count}: {wrong[0]}", "correct the document, or its maker")


def problems(document: Any, other: Path | None, proves: bool) -> list[str]:
    """What is wrong with DOCUMENT by the schema, and by its own hash where it PROVES."""
    if other is None:
        wrong = zk.problems(document)
    else:
        wanted = files.read_json(other)
        schema.check(wanted, str(other))
        wrong = schema.problems(document, wanted)
    if wrong or not proves:
        return wrong
    if zk.is_proven(document):
        return []
    return ["attestation/public_inputs_hash: does not come out of the document's contents"]


def _say(made: dict[str, Any], most: int) -> None:
    print(f"{made['file']}: {'valid' if made['valid'] else 'not valid'}")
    for line in made["problems"][:most]:
        print(f"  {console.printable(line)}")
    if len(made["problems"]) > most:
        print(f"  and {len(made['problems']) - most} more; --verbose shows them")
    if "sha256" in made:
        print(f"sha256 {made['sha256']}")

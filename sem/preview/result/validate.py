"""Is a file a ZK document, and does it hold what it says?"""

from pathlib import Path
from typing import Any

from sem.core import console, files, jsonio, schema
from sem.core.errors import SemError
from sem.preview.result import zk


def validate_document(
    path: Path,
    other_schema: Path | None,
    proves: bool,
    shows_hash: bool,
    form: str,
    shows_all: bool,
) -> None:
    """Print whether the file holds; raise SemError (exit 1) where it does not."""
    document = files.read_json(path)
    wrong = document_problems(document, other_schema, proves)
    result: dict[str, Any] = {"file": path.name, "valid": not wrong, "problems": wrong}
    if shows_hash:
        result["sha256"] = zk.sha256_json_text(document, compact=True)
    if form == "json":
        print(jsonio.pretty(result), end="")
    else:
        _say(result, len(wrong) if shows_all else 10)
    if wrong:
        count = f"{len(wrong)} problem{'' if len(wrong) == 1 else 's'}"
        raise SemError(f"{path}: {count}: {wrong[0]}", "correct the document, or its maker")


def document_problems(document: Any, other: Path | None, proves: bool) -> list[str]:
    """Return what is wrong with `document` by the schema, and by its own hash where it
    `proves`.
    """
    if other is None:
        wrong = zk.zk_problems(document)
    else:
        json_schema = files.read_json(other)
        schema.check_schema(json_schema, str(other))
        wrong = schema.schema_problems(document, json_schema)
    if wrong or not proves:
        return wrong
    if zk.is_proven(document):
        return []
    return ["attestation/public_inputs_hash: does not come out of the document's contents"]


def _say(result: dict[str, Any], most: int) -> None:
    print(f"{result['file']}: {'valid' if result['valid'] else 'not valid'}")
    for line in result["problems"][:most]:
        print(f"  {console.printable(line)}")
    if len(result["problems"]) > most:
        print(f"  and {len(result['problems']) - most} more; --verbose shows them")
    if "sha256" in result:
        print(f"sha256 {result['sha256']}")

"""Say what is wrong with a sem's golden set; exit 1 when anything is.

    python scripts/golden_check.py --sem rust
    python scripts/golden_check.py --sem rust --language en

Looked for: entries that break io_schema, empty texts, questions that hold their answer, questions
there twice or nearly, and in train or nearly (the newest snapshot's train and val).

Reads   data/SEM/golden/, data/SEM/processed/{train,val}.vN.jsonl
"""

from sem.core import console
from sem.core.errors import SemError


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem")
    parser.add_argument("--language", help="ISO 639-1: questions in another are findings")
    args = parser.parse_args(argv)
    from sem.core.project import Project
    from sem.eval.answers import golden_edit
    from sem.forge import language

    if args.language is not None:
        language.checked(args.language, "--language")
    project = Project.load(args.sem)
    count, found, spoken = golden_edit.check(project, language.language, args.language)
    rows = [(finding.id, finding.problem, finding.detail) for finding in found]
    console.table(f"golden set of {project.sem}", ("id", "problem", "detail"), rows)
    said = ", ".join(f"{name} {number}" for name, number in spoken.most_common())
    console.note(f"{count} questions; languages: {said or 'not looked at'}")
    if found:
        raise SemError(f"{len(found)} findings in {count} questions", "correct them")
    print(f"{count} questions, nothing wrong")


if __name__ == "__main__":
    console.run(main)

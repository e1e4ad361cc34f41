"""Show what the documents of a sem become: chunks, coverage and what is skipped; nobody is asked.

    python scripts/forge_chunks.py --sem handbook

Reads   data/SEM/raw/ (txt, md, html, pdf, docx), configs/SEM/forge.yaml or data_config.yaml
Writes  data/SEM/processed/forge/chunks.jsonl, skipped.chunks.jsonl
"""

from sem.core import console


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem", "set")
    parser.add_argument("--allow-plugins", action="store_true", help="load a forge of your own")
    args = parser.parse_args(argv)

    from sem.core.project import Project
    from sem.forge.run import survey

    project = Project.load(args.sem, args.set)
    found = survey.look(project, args.allow_plugins)
    for note in found.notes:
        console.note(note)
    console.table("Documents", survey.DOCUMENTS, found.document_rows())
    console.table("Skipped", survey.SKIPPED, found.skip_rows())
    console.table("In all", survey.TOTALS, found.total_rows())
    console.done(survey.write(project, found))


if __name__ == "__main__":
    console.run(main)

"""Name the run that serves: the one that nightly watches and later runs are compared with.

    python scripts/ops_promote.py --sem shop --run RUN

Needs a gate verdict PASS (`fab eval.gate`) of this run on the test set, by today's policy and in
the ledger of gates; or a --reason that is written down.

Reads   reports/SEM/RUN/gate.json, reports/SEM/gates.jsonl, gate.yaml
Writes  models/SEM/promoted.json
"""

from sem.core import console, provenance
from sem.core.project import Project


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem", "run", "set")
    parser.add_argument("--reason", help="why it serves without a passed gate")
    args = parser.parse_args(argv)
    from sem.ops import promote

    project = Project.load(args.sem, args.set)
    promoted = promote.promote(project, args.run, args.reason, provenance.now())
    console.note(f"{promoted} is promoted")
    console.done(project.promoted)


if __name__ == "__main__":
    console.run(main)

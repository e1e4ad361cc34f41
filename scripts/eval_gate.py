"""Decide whether a run may replace the baseline: PASS, FAIL or INSUFFICIENT (exit 0, 1, 3).

    python scripts/eval_gate.py --sem shop --run RUN --split test

Reads   configs/SEM/gate.yaml or configs/gate.yaml, the answers of both runs, the snapshot
Writes  reports/SEM/RUN/gate.json, reports/SEM/gates.jsonl
"""

from sem.core import console
from sem.core.errors import Insufficient, SemError
from sem.core.project import Project


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem", "run", "split", "snapshot", "set")
    parser.add_argument("--baseline", default="base", help="run to compare with (default: base)")
    args = parser.parse_args(argv)
    from sem.core import provenance
    from sem.eval.gate import gate_inputs

    project = Project.load(args.sem, args.set)
    version = console.version(args.snapshot)
    asked = gate_inputs.Request(project, args.run, args.baseline, args.split, version)
    case = gate_inputs.judge(asked)
    path = gate_inputs.write(asked, case, provenance.now())
    rows = [
        (c.name, c.verdict, c.found, c.wanted, "; ".join(filter(None, (c.why, str(c.need)))))
        for c in case.verdict.checks
    ]
    title = f"{project.sem}: {args.baseline} vs {case.run_id}, {args.split}"
    console.table(title, ("check", "verdict", "found", "wanted", "note"), rows)
    print(case.verdict.sentence())
    console.done(path)
    if case.verdict.exit_code == Insufficient.exit_code:
        raise Insufficient(case.verdict.sentence(), "add the rows or domains that the table names")
    if case.verdict.exit_code:
        raise SemError(case.verdict.sentence(), f"the checks are in {path}")


if __name__ == "__main__":
    console.run(main)

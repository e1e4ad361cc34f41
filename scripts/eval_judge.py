"""Have a judge model decide what rules cannot: free texts, and failures marked arguable.

    python scripts/eval_judge.py --sem shop --run RUN --split test --estimate
    python scripts/eval_judge.py --sem shop --run RUN --split test

A killed job goes on where it stopped and pays for no reply twice. Modes: slots (default), golden
(the whole answer on a scale of 1 to 5), pairwise (better than the baseline's answer or not).

Reads   reports/SEM/RUN/answers.SPLIT.jsonl, configs/judge.yaml, configs/judge_slots.yaml
Writes  reports/SEM/RUN/{verdicts.SPLIT.jsonl, judge.SPLIT.json}, reports/SEM/judge_run_TIME.jsonl
"""

from sem.core import console, provenance
from sem.core.project import Project

MODES = ("slots", "golden", "pairwise")


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem", "run", "split", "snapshot", "set")
    parser.add_argument("--mode", choices=MODES, default="slots", help="default: slots")
    parser.add_argument("--baseline", default="base", help="the other run of pairwise mode")
    parser.add_argument("--estimate", action="store_true", help="say what it would cost, and stop")
    args = parser.parse_args(argv)
    from sem.eval.judge import judge_session

    project = Project.load(args.sem, args.set)
    version = console.version(args.snapshot)
    at = provenance.now()
    found = judge_session.open_session(
        project, args.run, args.split, version, args.mode, args.baseline, at
    )
    if args.estimate:
        console.table(
            "estimate, without retries", ("what", "value"), judge_session.estimate(found)
        )
        console.done(found.book.path)
        return
    for _ in console.progress(found.hear(), len(found.cases), f"verdicts of {found.run}"):
        pass
    console.table(
        f"{found.run} on {args.split}", ("what", "value"), judge_session.summary_rows(found)
    )
    console.done(found.book.path)


if __name__ == "__main__":
    console.run(main)

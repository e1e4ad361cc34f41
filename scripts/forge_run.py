"""Make question and answer pairs of a sem's sources with a teacher, sift them, clean and cut.

    python scripts/forge_run.py --sem handbook --dry-run
    python scripts/forge_run.py --sem handbook --limit 50 --yes

Reads   data/SEM/raw/, configs/SEM/forge.yaml or data_config.yaml, configs/SEM/tasks/
Writes  data/SEM/processed/forge/{pairs,dropped,skipped}.jsonl and forge.json, data/SEM/raw/
        dataset.duckdb, data/SEM/processed/{train,test}.jsonl, a snapshot,
        reports/SEM/forge_report.{md,html}
"""

from datetime import UTC, datetime

from sem.core import console


def main(argv: list[str] | None = None) -> None:
    parser = console.parser(__doc__, "sem", "set")
    parser.add_argument("--dry-run", action="store_true", help="send nothing; show what it costs")
    parser.add_argument("--yes", action="store_true", help="agree to the cost beforehand")
    parser.add_argument("--limit", type=int, help="so many chunks, drawn from all of them")
    parser.add_argument("--allow-plugins", action="store_true", help="load a forge of your own")
    args = parser.parse_args(argv)

    from sem.core.project import Project
    from sem.forge.run import forge_run, run_display
    from sem.forge.teacher import cost_forecast

    project = Project.load(args.sem, args.set)
    options = forge_run.Options(args.limit, args.yes, args.allow_plugins)
    prepared = forge_run.prepare(project, options, datetime.now(UTC))
    run_display.plan(prepared)
    if args.dry_run:
        run_display.first(prepared)
        return
    cost = forge_run.pilot(prepared)
    if cost is not None:
        cost_forecast.allow(str(cost), args.yes)
    forged = forge_run.forge(
        prepared, lambda items: console.progress(items, prepared.items, "asking")
    )
    forge_run.finish(prepared, forged, run_display.cleaning(prepared.at), run_display.bar)
    run_display.result(prepared, forged)
    console.done(forged.report)


if __name__ == "__main__":
    console.run(main)

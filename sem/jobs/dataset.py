"""The jobs of `dataset.*`: examples in, cleaned, split, described, exported, taken down."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from sem.core import console
from sem.core.errors import SemError
from sem.core.project import Project
from sem.jobs.job import Overrides, Positional, Sem, SnapshotVersion, job

RowTask = Annotated[str | None, "task_id of rows that name none (default: the only task)"]
ColumnMap = Annotated[
    tuple[str, ...], "a column, as OURS=THEIRS; a key in one as meta.url=source.link"
]
OnConflict = Annotated[
    Literal["error", "skip", "replace"], "what happens to a row whose id is in the store"
]


@job("dataset.import")
def import_examples(
    path: Annotated[
        tuple[Path, ...],
        "a file, a folder of chunks, or hf://datasets/ORG/NAME[@REVISION][/FILE]",
        Positional("PATH"),
    ],
    sem: Sem = None,
    task: RowTask = None,
    only: Annotated[tuple[str, ...], "import only the rows of this task"] = (),
    rename: Annotated[tuple[str, ...], "read the task OLD as NEW, as OLD=NEW"] = (),
    map: ColumnMap = (),
    limit: Annotated[int | None, "stop after that many rows"] = None,
    again: Annotated[bool, "also chunks that were imported before"] = False,
    on_conflict: OnConflict = "error",
    set: Overrides = (),
) -> None:
    """Add examples from files to the store: DuckDB, Parquet, CSV, JSON, JSONL (.gz), ZIP chunks.

        fab dataset.import incoming/ --sem shop         chunks not yet imported, in order
        fab dataset.import rows.jsonl --sem shop --task receipts --limit 500
        fab dataset.import pages.csv --map input_text=html --map meta.url=source.link
        fab dataset.import hf://datasets/org/name --sem shop --task receipts

    Of a data set of the hub its JSON, CSV and Parquet files are read, at one commit, which
    feed.jsonl keeps; none of its scripts is run. $HF_TOKEN opens private ones.

    Reads   the files
    Writes  data/SEM/raw/{dataset.duckdb, feed.jsonl}: all rows of a file or none
            reports/SEM/import_rejects.jsonl
    """
    from sem.dataset.ingest import capture_feed, column_mapping, hub_datasets, importers

    names = dict(pair.partition("=")[::2] for pair in rename)
    if not all(names.values()):
        raise SemError(f"--rename {list(rename)}: not OLD=NEW", "write both names")
    project = Project.load(sem, set)
    options = importers.ImportOptions(
        task, tuple(only), names, limit, on_conflict, column_mapping.parse_column_pairs(map)
    )
    with hub_datasets.fetched_sources(project, path) as sources:
        result = capture_feed.import_feed(
            project, sources.paths, options, datetime.now(UTC), again, origins=sources.origins
        )
    result.notes.update(sources.notes)
    rows = [item.row() for item in result.items]
    console.print_table(f"Import into {project.sem}", capture_feed.COLUMNS, rows)
    counts = list(result.counts())
    if counts:
        console.print_table("Rows left out", ("why", "rows"), counts)
        console.print_note(f"each of them: {result.report}")
    for text, count in sorted(result.notes.items()):
        console.print_note(f"note: {text}" + (f" ({count} files)" if count > 1 else ""))
    result.check()
    console.print_output_path(project.store)


@job("dataset.pull")
def pull_examples(
    source: Annotated[str, "[user@]host:/path of a DuckDB file or a folder of chunks, or a path"],
    sem: Sem = None,
    ssh_config: Annotated[str | None, "ssh configuration file (default: the user's)"] = None,
    task: RowTask = None,
    map: ColumnMap = (),
    on_conflict: OnConflict = "error",
    replace: Annotated[bool, "make it the whole store, also where that loses rows"] = False,
    set: Overrides = (),
) -> None:
    """Fetch examples from another machine (or path), whole or not at all, into the store.

        fab dataset.pull --source me@host:/data/dataset.duckdb --sem shop
        fab dataset.pull --source host:/capture/chunks --sem shop     those not yet imported

    Reads   the source over OpenSSH (known host keys only, no passwords), or a path here
    Writes  data/SEM/raw/{dataset.duckdb, feed.jsonl}, reports/SEM/import_rejects.jsonl;
            data/SEM/raw/incoming/ while it runs: a cut transfer goes on from there
    """
    from sem.dataset.ingest import capture_feed, column_mapping, importers, pull

    project = Project.load(sem, set)
    options = importers.ImportOptions(
        task=task, on_conflict=on_conflict, columns=column_mapping.parse_column_pairs(map)
    )
    result = pull.pull_source(project, source, options, datetime.now(UTC), ssh_config, replace)
    rows = [item.row() for item in result.feed.items]
    console.print_table(f"Pull into {project.sem}", capture_feed.COLUMNS, rows)
    counts = [*result.feed.counts(), *(sorted(result.left.items()))]
    if result.lost:
        counts.append(("rows of the store before that are gone", result.lost))
    if counts:
        console.print_table("Left out", ("why", "count"), counts)
    for text in sorted(result.feed.notes):
        console.print_note(f"note: {text}")
    result.feed.check()
    console.print_output_path(project.store)


@job("dataset.clean")
def clean_dataset(
    sem: Sem = None,
    tokens: Annotated[bool, "count tokens before and after, in every row"] = False,
    engine: Annotated[
        Literal["local", "ray"], "this machine's cores, or a Ray cluster; the same bytes"
    ] = "local",
    ray_address: Annotated[
        str | None, "of a running cluster, as ray://HOST:10001 (default: one here)"
    ] = None,
    set: Overrides = (),
) -> None:
    """Simplify pages, check references, drop duplicates: the store becomes clean.jsonl.

        fab dataset.clean --sem shop

    Reads   data/SEM/raw/dataset.duckdb, configs/SEM/dataset.yaml, configs/SEM/tasks/
    Writes  data/SEM/processed/{clean.jsonl,rejects.jsonl,clean.json},
            reports/SEM/dataset_validation.md
    """
    from sem.dataset.clean import clean
    from sem.dataset.config import Dataset

    project = Project.load(sem, set)
    counts_tokens = tokens or project.settings("dataset", Dataset).clean.counts_tokens
    how = clean.CleaningOptions(
        engine,
        ray_address,
        _tokenizer(project) if counts_tokens else None,
        f"{datetime.now(UTC):%Y-%m-%d}",
    )
    result = clean.clean_store(
        project, how, lambda rows, count: console.show_progress(rows, count, "cleaning")
    )
    counts = [("read", result.tally.read), ("kept", result.tally.kept)]
    counts += [(f"rejected: {name}", n) for name, n in sorted(result.tally.reasons.items())]
    console.print_table(f"Cleaned {project.sem}", ("rows", "count"), counts)
    console.print_note(f"report: {result.report}")
    console.print_output_path(result.path)


@job("dataset.split")
def split_dataset(sem: Sem = None, set: Overrides = ()) -> None:
    """Cut train, val and test, whole domains apart, and freeze them as the next snapshot.

        fab dataset.split --sem shop

    Reads   data/SEM/processed/clean.jsonl, configs/SEM/dataset.yaml, eval_split of the TaskSpecs
    Writes  data/SEM/processed/{train,val,test}.vN.jsonl and vN.json, configs/SEM/datasets.yaml
    """
    from sem.dataset.split import certificate, snapshot, splits

    project = Project.load(sem, set)
    frozen, is_new = snapshot.freeze_snapshot(project, datetime.now(UTC))
    if not is_new:
        console.print_note(f"the cut is the same as snapshot {frozen.name}: no new version")
    facts = frozen.facts
    rows = []
    for part in splits.PARTS:
        cut = facts["quality"][part]
        domains = sum(bool(domain) for domain in facts["domains"][part])
        counts = (facts["rows"][part], facts["groups"][part], domains)
        rows.append((part, *counts, cut["rows_off"], cut["balance"]))
    columns = ("part", "rows", "groups", "domains", "rows off target", "balance")
    console.print_table(f"Snapshot {frozen.name}", columns, rows)
    if facts.get("held_groups"):
        console.print_note(
            f"{facts['held_groups']} groups stay in test: they were tested on before, and what "
            "was tested on is never trained on"
        )
    for text in snapshot.snapshot_doubts(facts):
        console.print_note(f"note: {text}")
    console.print_table(
        "Leakage certificate", certificate.COLUMNS, certificate.certificate_table(facts)
    )
    console.print_output_path(frozen.folder / f"{frozen.name}.json")


@job("dataset.stats")
def describe_dataset(
    sem: Sem = None, snapshot: SnapshotVersion = None, set: Overrides = ()
) -> None:
    """Describe a snapshot: tokens by the base model's tokenizer, slots, grounding, strata, leaks.

        fab dataset.stats --sem shop --snapshot v3

    Reads   data/SEM/processed/{train,val,test}.vN.jsonl (clean.jsonl before the first split),
            clean.json, the tokenizer under models/base/
    Writes  reports/SEM/dataset_stats.{json,md,html}, ungrounded.jsonl (labels not in their input)
    """
    from sem.dataset.split import dataset_stats
    from sem.lm.local import chat

    project = Project.load(sem, set)
    tokenizer = chat.load_of(project).tokenizer

    def count_tokens(texts: list[str]) -> list[int]:
        return [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]

    stats = dataset_stats.gather_dataset_stats(project, snapshot, count_tokens)
    path = dataset_stats.write_dataset_stats(project, stats)
    console.print_table(
        f"Tokens, {stats['of']}", dataset_stats.TOKENS, dataset_stats.token_rows(stats)
    )
    console.print_table("Slots", dataset_stats.SLOTS, dataset_stats.slot_rows(stats))
    if stats["certificate"]:
        console.print_table("In common", dataset_stats.SHARED, dataset_stats.shared_rows(stats))
    if stats["ungrounded"]:
        console.print_note(
            f"{stats['ungrounded']:,} label values are not in their input: "
            f"{project.reports / dataset_stats.UNGROUNDED}"
        )
    console.print_output_path(path)


@job("dataset.diff")
def diff_snapshots(
    before: Annotated[str, "the older version, as v1", Positional("BEFORE")],
    after: Annotated[str, "the newer version, as v2", Positional("AFTER")],
    sem: Sem = None,
    acknowledge: Annotated[str | None, "the difference is wanted, and why"] = None,
    tokens: Annotated[bool, "count tokens, not characters"] = False,
    set: Overrides = (),
) -> None:
    """Compare two snapshots by row and by slot; write down that the difference is wanted.

        fab dataset.diff v1 v2 --sem shop
        fab dataset.diff v1 v2 --sem shop --acknowledge "120 new shops"

    train.prepare refuses a snapshot that differs from the promoted run's until that is
    acknowledged. Characters are counted, with --tokens the base model's tokens.

    Reads   data/SEM/processed/*.vA.jsonl, *.vB.jsonl
    Writes  reports/SEM/dataset_diff_vA_vB.{md,json}, configs/SEM/acknowledged.jsonl
    """
    from sem.core import provenance
    from sem.dataset.split import acknowledge as acknowledgement
    from sem.dataset.split import diff_report, snapshot_diff

    project = Project.load(sem, set)
    difference = snapshot_diff.compare_snapshots(
        project, before, after, _token_counter(project) if tokens else None
    )
    title = f"{difference.before.name} to {difference.after.name}"
    console.print_table(
        title, diff_report.row_columns(difference), diff_report.row_table(difference)
    )
    rows = diff_report.field_table(difference)
    console.print_table("Fields and parts", ("task", "what", "rows"), rows)
    console.print_table("Slots", diff_report.SLOT_COLUMNS, diff_report.slot_table(difference))
    path = diff_report.write_diff_report(project, difference)
    if acknowledge is not None:
        ledger = acknowledgement.write_acknowledgement(
            project, difference, acknowledge, provenance.utc_now()
        )
        console.print_note(f"acknowledged in {ledger}")
    console.print_output_path(path)


@job("dataset.augment")
def augment_training_rows(
    sem: Sem = None,
    snapshot: SnapshotVersion = None,
    each: Annotated[int, "variants of a row"] = 2,
    seed: Annotated[int, "of every choice"] = 0,
    kind: Annotated[tuple[str, ...], "only this kind of variant"] = (),
    negatives: Annotated[int, "write that many wrong answers of each row, as pairs, instead"] = 0,
    set: Overrides = (),
) -> None:
    """Write variants of the training rows whose answers stay the same, or wrong answers as pairs.

        fab dataset.augment --sem shop
        fab dataset.augment --sem shop --negatives 2

    Reads   data/SEM/processed/train.vN.jsonl, data/SEM/raw/dataset.duckdb,
            configs/SEM/dataset.yaml
    Writes  data/SEM/processed/augmented.vN.jsonl and .json, or preferences.vN.jsonl and .json
    """
    from sem.dataset.augment import augment, page_edits
    from sem.dataset.augment import negatives as wrong_pairs
    from sem.dataset.config import Dataset

    def show(rows: object, count: int) -> object:
        return console.show_progress(rows, count, "augmenting")

    project = Project.load(sem, set)
    if negatives:
        result = wrong_pairs.write_negative_pairs(project, snapshot, negatives, seed, show)
    else:
        counts_tokens = project.settings("dataset", Dataset).clean.counts_tokens
        variants = augment.VariantOptions(
            tuple(kind) or tuple(page_edits.KINDS),
            each,
            seed,
            _tokenizer(project) if counts_tokens else None,
            f"{datetime.now(UTC):%Y-%m-%d}",
        )
        result = augment.write_variants(project, snapshot, variants, show)
    rows = list(result.facts["by_kind"].items())
    rows += [(f"refused: {reason}", n) for reason, n in result.facts["refused"].items()]
    title = f"{result.path.name}: {result.facts['rows']} rows"
    console.print_table(title, ("kind", "count"), rows)
    console.print_output_path(result.path)


@job("dataset.export")
def export_examples(
    format: Annotated[str, "sharegpt, alpaca, messages, chatml, axolotl or taskspec"],
    out: Annotated[Path, "the file to write"],
    sem: Sem = None,
    split: Annotated[Literal["train", "val", "test"], "train, val or test"] = "train",
    snapshot: SnapshotVersion = None,
    set: Overrides = (),
) -> None:
    """Write one part of a snapshot in a form that other trainers read.

        fab dataset.export --sem shop --format sharegpt --split train --out train.jsonl

    Reads   data/SEM/processed/{train,val,test}.vN.jsonl
    Writes  the file named by --out, JSON lines: sharegpt, alpaca, messages (OpenAI), chatml (a
            column `text`), axolotl (messages; its `datasets:` lines are printed) or taskspec
    """
    from sem.dataset.split import export
    from sem.dataset.split import snapshot as snapshots

    project = Project.load(sem, set)
    export.check_export_form(format)
    frozen = snapshots.load_snapshot(project, snapshot)
    count = export.write_export(project, frozen, split, format, out)
    rows = [(frozen.name, split, format, count)]
    console.print_table(f"Export of {project.sem}", ("snapshot", "part", "format", "rows"), rows)
    if lines := export.how_to_use(format, out):
        print(f"# Axolotl's configuration reads it with\n{lines}")
    console.print_output_path(out)


@job("dataset.migrate")
def migrate_store(
    sem: Sem = None,
    dry_run: Annotated[bool, "count what would change"] = False,
    set: Overrides = (),
) -> None:
    """Bring the store and its references to the version that configs/SEM/migrations end at.

        fab dataset.migrate --sem shop --dry-run
        fab dataset.migrate --sem shop

    Rows that a step does not fit are left as they are and listed.

    Reads   data/SEM/raw/dataset.duckdb, configs/SEM/migrations/*.yaml
    Writes  data/SEM/raw/dataset.duckdb (all changes or none), reports/SEM/migrate_rejects.jsonl
    """
    from sem.dataset.store import migrate, store_writer

    project = Project.load(sem, set)
    version = store_writer.store_version(project.store)
    if dry_run:
        rows = [("store version", f"{version} of {store_writer.CURRENT}")]
        rows += list(migrate.migration_table(migrate.plan_migration(project)))
        console.print_table("would be migrated", ("what", "count"), rows)
        return
    result, path = migrate.run_migration(project)
    rows = [
        ("store version", store_writer.store_version(project.store)),
        *migrate.migration_table(result),
    ]
    console.print_table(f"migrated {project.sem}", ("what", "count"), rows)
    console.print_output_path(path)


@job("dataset.takedown")
def take_down_rows(
    sem: Sem = None,
    id: Annotated[tuple[str, ...], "a row"] = (),
    source: Annotated[tuple[str, ...], "a source document"] = (),
    domain: Annotated[tuple[str, ...], "a domain"] = (),
    person: Annotated[tuple[str, ...], "an e-mail address, phone number or full name"] = (),
    reason: Annotated[str, "why; it is stored, so it names nobody"] = "",
    dry_run: Annotated[bool, "list what would go, write nothing"] = False,
    set: Overrides = (),
) -> None:
    """Erase rows everywhere, keep them out for good, and block what was made from them.

        fab dataset.takedown --sem shop --domain example.com --reason "request 17"
        fab dataset.takedown --sem shop --person "ada@example.com" --dry-run
        fab dataset.takedown --sem shop           # finish one that was interrupted

    Exit 1 while the scan at the end still finds a trace; the same command then goes on.

    Reads   the store, data/SEM, reports/SEM, models/SEM, every other file under data/ and reports/
    Writes  data/SEM/governance/{tombstones,takedown}.jsonl, the store and every file of Sem's that
            held the rows, configs/SEM/datasets.yaml, tainted.json beside runs and packages,
            reports/SEM/takedown-ID.json
    """
    from sem.core import provenance
    from sem.dataset.takedown import requested_rows, takedown

    project = Project.load(sem, set)
    request = requested_rows.parse_request(id, source, domain, person, reason)
    if dry_run:
        rows = takedown.preview_takedown(project, request)
        console.print_table("would be taken down", ("what", "count"), rows)
        return
    hits: list[str] = []
    for result in takedown.run_takedowns(
        project, request, provenance.utc_now(), console.print_note
    ):
        name = result.receipt["takedown"]
        console.print_table(f"takedown {name}", ("what", "found"), takedown.receipt_table(result))
        console.print_output_path(result.path)
        hits += result.hits
    if hits:
        raise SemError(
            f"{len(hits)} files still hold a trace: {', '.join(sorted({*hits})[:8])}",
            "remove them or run the takedown in the sem they belong to, then run this again",
        )


def _tokenizer(project: Project) -> str:
    """Return the definition of the base model's tokenizer, which worker processes load."""
    from sem.lm.local import chat

    return chat.load_of(project).definition


def _token_counter(project: Project) -> Callable[[str], int]:
    from sem.lm.local import chat

    tokenizer = chat.load_of(project).tokenizer
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])

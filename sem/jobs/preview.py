"""The jobs of `preview.*`: what a contribution of data is worth, is a document what it says."""

from pathlib import Path
from typing import Annotated, Literal

from sem.jobs.job import Overrides, Positional, job


@job("preview.run")
def preview_contribution(
    data_path: Annotated[Path, ".csv .tsv .json .jsonl .parquet, the text ones also .gz"],
    output_format: Annotated[Literal["pretty", "json"], "pretty or json"] = "pretty",
    output_file: Annotated[Path | None, "also write the JSON there"] = None,
    sample_size: Annotated[int, "rows used at most"] = 10_000,
    sem: Annotated[
        str | None, "a sem whose preview.yaml names base and benchmark (default: none)"
    ] = None,
    target: Annotated[
        Literal["auto", "classes", "number"], "what labels are: auto, classes or number"
    ] = "auto",
    test_mode: Annotated[bool, "500 rows, a few steps: the path, not the figure"] = False,
    random_seed: Annotated[int, "of the sample and the cuts"] = 42,
    seconds: Annotated[float, "what it may take"] = 270.0,
    zk: Annotated[Path | None, "also write the strict document to this file"] = None,
    verbose: Annotated[bool, "also list the rows to look at"] = False,
    baseline_model: Annotated[
        Path | None, "what is improved on: --save-model's file; for examples a package's folder"
    ] = None,
    save_model: Annotated[Path | None, "write the candidate model to this file"] = None,
    cache: Annotated[
        Path | None, "folder of previews made before (default: data/SEM/.preview)"
    ] = None,
    set: Overrides = (),
) -> None:
    """Estimate what a file of rows is worth, in minutes, on this machine, with no network.

        hokusai-preview --data-path mine.parquet             by itself: cut in three
        hokusai-preview --data-path mine.csv --sem banking   against what a sem names
        hokusai-preview --data-path mine.jsonl --output-format json --output-file preview.json
        hokusai-preview --data-path mine.csv --zk proof.json  the strict document, too
        hokusai-preview --data-path mine.csv --sem banking --baseline-model now.safetensors
        hokusai-preview --data-path mine.jsonl --sem shop --baseline-model models/shop/packages/RUN

    Reads   CSV, TSV, JSON, JSON lines (each also .gz) or Parquet: a text or numbers, and a label
    Writes  the result to stdout, progress to stderr, files only where they are named; with --sem
            also data/SEM/.preview: the same question is answered once, a killed preview goes on
    """
    request = locals()
    from sem.preview import command

    command.run_preview(command.PreviewRequest(**request))


@job("preview.validate")
def validate_preview(
    file: Annotated[Path, "the document", Positional("FILE")],
    zk_check: Annotated[bool, "also make its hash again"] = False,
    output_hash: Annotated[bool, "print the document's sha256"] = False,
    schema: Annotated[Path | None, "another schema than the shipped one"] = None,
    format: Annotated[Literal["text", "json"], "text or json"] = "text",
    verbose: Annotated[bool, "every problem, not the first ten"] = False,
) -> None:
    """Check a strict (ZK) document against its schema and its hashes; exit 0 or 1.

        fab preview.validate proof.json --zk-check --output-hash
        fab preview.validate preview.json --format json

    Reads   the document
    Writes  stdout
    """
    from sem.preview.result import document

    document.validate_document(file, schema, zk_check, output_hash, format, verbose)

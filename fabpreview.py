"""The jobs of preview.*: what a contribution of data is worth, and is a document what it says."""

from fabric import task

from fabjobs import SET, project_script

PREVIEW = {
    "data_path": "the contribution: .csv .tsv .json .jsonl .parquet, the text ones also .gz",
    "output_format": "pretty or json (default: pretty)",
    "output_file": "also write the JSON there",
    "sample_size": "rows used at most (default: 10000)",
    "sem": "a sem whose preview.yaml names base and benchmark (default: none)",
    "target": "what labels are: auto, classes or number (default: auto, as they look)",
    "test_mode": "few rows, few steps: the path, not the figure",
    "random_seed": "of the sample and the cuts (default: 42)",
    "seconds": "what it may take (default: 270)",
    "zk": "also write the strict document to this file",
    "verbose": "also list the rows to look at",
    "baseline_model": "what is improved on: save_model's file; for examples a package's folder",
    "save_model": "write the candidate model to this file",
    "cache": "folder of previews made before (default: data/SEM/.preview)",
}


@task(help=PREVIEW | SET, iterable=["set"])
def preview_run(
    c, data_path, output_format=None, output_file=None, sample_size=None, sem=None,
    test_mode=False, random_seed=None, seconds=None, zk=None, verbose=False,
    baseline_model=None, save_model=None, cache=None, target=None, set=None,
):  # fmt: skip
    """Estimate what a contribution is worth, with an interval; not binding."""
    flags = {
        "data_path": data_path, "output_format": output_format, "output_file": output_file,
        "sample_size": sample_size, "sem": sem, "test_mode": test_mode,
        "random_seed": random_seed, "seconds": seconds, "zk": zk, "verbose": verbose,
        "baseline_model": baseline_model, "save_model": save_model, "cache": cache,
        "target": target, "set": set,
    }  # fmt: skip
    project_script(c, "preview_run", **flags)


VALIDATE = {
    "zk_check": "also make its hash again",
    "output_hash": "print its sha256",
    "schema": "another schema than the shipped one",
    "format": "text or json (default: text)",
    "verbose": "every problem, not the first ten",
}


@task(help=VALIDATE)
def preview_validate(
    c, file, zk_check=False, output_hash=False, schema=None, format=None, verbose=False
):
    """Check a strict (ZK) document against its schema and its hashes."""
    flags = {"zk_check": zk_check, "output_hash": output_hash, "schema": schema}
    project_script(c, "preview_validate", file, format=format, verbose=verbose, **flags)

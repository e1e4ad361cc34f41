"""Add examples from files to the store: DuckDB, Parquet, CSV, JSON, JSONL (.gz), ZIP chunks."""

from _run import run_job

if __name__ == "__main__":
    run_job("dataset.import")

"""A program of its own that writes a DuckDB file from Parquet files; `erase` starts it.

    python -I fresh.py < {"path", "version", "config", "tables": [{"name", "sql", "rows"}]}

It prints the rows of each table as JSON. It imports nothing of Sem: its memory holds nothing but
what the new file may hold.
"""

import json
import sys
from typing import Any


def write_fresh_store(request: dict[str, Any]) -> dict[str, int]:
    """Write the file `request` describes; how many rows each table has."""
    import duckdb

    config = {k: v for k, v in request["config"].items() if k != "enable_external_access"}
    config["storage_compatibility_version"] = request["version"]
    counts = {}
    with duckdb.connect(request["path"], config=config) as connection:
        connection.execute("BEGIN")
        for table in request["tables"]:
            connection.execute(table["sql"])
            name = f'"{table["name"]}"'
            connection.execute(f"INSERT INTO {name} FROM read_parquet(?)", [table["rows"]])
            cursor = connection.execute(f"SELECT count(*) FROM {name}")  # noqa: S608
            ((counts[table["name"]],),) = cursor.fetchall()
        connection.execute("COMMIT")
        connection.execute("CHECKPOINT")
    return counts


if __name__ == "__main__":
    print(json.dumps(write_fresh_store(json.load(sys.stdin))))

"""The per-row work on a Ray cluster, or on a local one. Ray's only door.

Rows go out in windows of some 64 MiB, so that the driver and Ray's object store stay small; each
node works in the same sandbox as the local engine. A worker that dies is Ray's to
replace: its batch is done again, and gives the same bytes.
"""

import json
import socket
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from sem.core.errors import SemError
from sem.core.project import ROOT
from sem.dataset.clean import engine, worker_pool
from sem.dataset.clean.engine import RowRecord
from sem.dataset.clean.row_cleaning import CleanedRow, CleaningPlan, plan_of
from sem.dataset.store.examples_table import RawRow

WINDOW_CHARS = 32 << 20
WINDOW_ROWS = 50_000
BLOCK_ROWS = 512
STORE_BYTES = 256 << 20
# Of this Ray worker process: one pool a plan, kept between batches.
_POOLS: dict[str, worker_pool.Pool] = {}


def run_on_ray(
    stored: Iterable[RawRow], plan: CleaningPlan, address: str | None
) -> Iterator[RowRecord]:
    """Yield the record of every row of `stored`, in any order.

    `address` None starts a cluster here.
    """
    ray = _started(plan, address)
    try:
        described = ray.put(plan.as_json())
        for window in engine.row_batches(stored, WINDOW_CHARS, WINDOW_ROWS):
            yield from _window(ray, window, described, plan.clean.workers)
    finally:
        ray.shutdown()


def _started(plan: CleaningPlan, address: str | None) -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise SemError(
            f"--engine ray: {error}", "install the extra: pip install 'opensem[cluster]'"
        ) from error
    import logging

    reach_cluster(address, "--engine ray")
    options: dict[str, Any] = (
        {"address": address}
        if address
        else {
            "address": "local",
            "num_cpus": plan.clean.workers,
            "include_dashboard": False,
            "object_store_memory": STORE_BYTES,
        }
    )
    try:
        ray.init(
            **options,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=True,
            runtime_env={"py_modules": [f"{ROOT}/sem"]}
            if address
            else {"env_vars": {"PYTHONPATH": str(ROOT)}},
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise SemError(
            f"--engine ray: no cluster at {address or 'this machine'}: {str(error)[:200]}",
            "check `ray status` there, or leave out --ray-address",
        ) from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # The caller has a progress bar of its own.
    for name in ("ray.data", "ray"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return ray


def reach_cluster(address: str | None, flag: str) -> None:
    """SemError of `flag` when nothing answers at `address`: Ray itself tries for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise SemError(
            f"{flag}: no cluster at {address}: {error}",
            "check `ray status` there, or leave out --ray-address",
        ) from error


def _window(ray: Any, rows: tuple[RawRow, ...], plan: Any, workers: int) -> Iterator[RowRecord]:
    import pyarrow

    names = list(RawRow.__dataclass_fields__)
    blocks = [
        ray.put(
            pyarrow.table(
                {
                    name: pyarrow.array(
                        [getattr(row, name) for row in part], pyarrow.large_string()
                    )
                    for name in names
                }
            )
        )
        for part in (rows[at : at + BLOCK_ROWS] for at in range(0, len(rows), BLOCK_ROWS))
    ]
    dataset = ray.data.from_arrow_refs(blocks).map_batches(
        _work,
        batch_size=BLOCK_ROWS,
        batch_format="pyarrow",
        fn_kwargs={"plan": plan},
        num_cpus=1,
        compute=ray.data.TaskPoolStrategy(size=workers),
    )
    for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
        for line in batch.column("record").to_pylist():
            yield _record(line)


def _work(table: Any, plan: Any) -> Any:
    """Return a block of rows to their records, on a node."""
    import pyarrow

    rows = [RawRow(**row) for row in table.to_pylist()]
    lines = []
    for batch, outcomes in _pool(plan).map(engine.row_batches(rows)):
        lines += [_line(engine.row_record(*pair)) for pair in zip(batch, outcomes, strict=True)]
    return pyarrow.table({"record": pyarrow.array(lines, pyarrow.large_string())})


def _pool(plan: Any) -> worker_pool.Pool:
    """This process's pool for `plan`, a reference: it is fetched once, not with every block."""
    import ray

    if plan.hex() not in _POOLS:
        full_plan = plan_of(ray.get(plan))
        one_worker = replace(full_plan, clean=replace(full_plan.clean, workers=1))
        _POOLS[plan.hex()] = worker_pool.Pool(one_worker)
    return _POOLS[plan.hex()]


def _line(record: RowRecord) -> str:
    return json.dumps([record.id, record.task, record.row.hex(), vars(record.made)])


def _record(line: str) -> RowRecord:
    name, task, row, outcome = json.loads(line)
    return RowRecord(name, task, bytes.fromhex(row), CleanedRow(**outcome))

"""Several processes train one run: the same steps, one adapter, one log, sealed once."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from paths import ROOT
from toy import rows

from sem.core import files, run
from sem.core.errors import SemError
from sem.core.project import Project
from sem.jobs import load_jobs
from sem.train.engine import checkpoints, several
from sem.train.engine.batches import BatchOrder
from sem.train.parallel import cluster, launch
from sem.train.recipe import Recipe
from sem.train.run import plan

COMMAND = [sys.executable, str(ROOT / "scripts/train_run.py"), "--sem=toy"]


def dealt(rows: int, effective: int, micro: int, count: int, epoch: int = 0) -> list[list]:
    """Return the micro-batches of each process."""
    lengths = [10 + n % 7 for n in range(rows)]
    order = BatchOrder(lengths, effective, 5, epoch)
    return [list(several.PartOrder(order, micro, rank, count)) for rank in range(count)]


@pytest.mark.parametrize("rows", [8, 9, 11, 12, 35])
@pytest.mark.parametrize(("effective", "micro", "count"), [(4, 1, 2), (8, 2, 2), (8, 1, 4)])
def test_every_step_has_the_rows_it_has_in_one_process(rows, effective, micro, count) -> None:
    hands = dealt(rows, effective, micro, count)
    # Or one would wait for the others for ever.
    assert len({len(hand) for hand in hands}) == 1
    order = BatchOrder([10 + n % 7 for n in range(rows)], effective, 5)
    assert len(hands[0]) == len(several.PartOrder(order, micro, 0, count))
    whole, steps = list(order), effective // micro // count
    for number, start in enumerate(range(0, rows, effective)):
        mine = [hand[number * steps : (number + 1) * steps] for hand in hands]
        given = [row for hand in mine for part in hand for row in part if row != several.BLANK]
        assert sorted(given) == sorted(whole[start : start + effective])
        assert all(len(part) <= micro for hand in mine for part in hand)


def test_another_epoch_has_another_order() -> None:
    assert dealt(12, 4, 2, 2, epoch=0) != dealt(12, 4, 2, 2, epoch=1)


def test_a_step_that_cannot_be_shared_out_is_refused(monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(SemError) as caught,
        several.join_processes("cpu", Recipe(effective_batch=4, micro_batch=4), Path()),
    ):
        pass
    assert caught.value.message == (
        "effective_batch 4 is not a multiple of micro_batch 4 x 2 processes"
    )


APART = """
import os
import sys
from pathlib import Path
from sem.core import console
from sem.core.errors import SemError
from sem.train.engine import several
from sem.train.recipe import Recipe
os.environ["LOCAL_WORLD_SIZE"] = "1"  # as torchrun sets it on two hosts with a process each
several.VISIBLE_S = 1.0
folder = Path(sys.argv[1]) / (str(several.process_rank()) if sys.argv[2] == "apart" else "one")
folder.mkdir(exist_ok=True)
try:
    with several.join_processes("cpu", Recipe(effective_batch=2, micro_batch=1), folder):
        pass
except SemError as error:
    console.exit_process(7 if "sees a different" in error.message else 8)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("folders", "code"), [("apart", 7), ("together", 0)])
def test_hosts_that_share_no_folder_are_refused(tmp_path, monkeypatch, folders, code) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert launch.start_processes(["-c", APART, str(tmp_path), folders], 2) == code
    assert not list(tmp_path.rglob(".shared"))


@pytest.mark.parametrize("count", [0, 1, -3, 1000])
def test_a_senseless_number_of_processes_is_refused(count) -> None:
    with pytest.raises(SemError, match="one for each GPU, 2 to 64"):
        launch.start_processes(["-c", ""], count)


def test_a_process_that_fails_takes_the_others_with_it(capfd) -> None:
    code = "import os, sys, time; time.sleep(0 if os.environ['RANK'] == '1' else 60); sys.exit(7)"
    began = time.monotonic()
    assert launch.start_processes(["-c", code], 3) == 7
    assert time.monotonic() - began < 30
    assert "process 1 of 3 exited with 7: all are stopped" in capfd.readouterr().err


def test_one_that_stopped_at_a_checkpoint_leaves_the_others_time_to_do_so(tmp_path) -> None:
    code = (
        "import os, sys, time; r = os.environ['RANK']; time.sleep(float(r));"
        f"open(rf'{tmp_path}/' + r, 'w'); sys.exit(75)"
    )
    assert launch.start_processes(["-c", code], 2) == 75
    assert sorted(os.listdir(tmp_path)) == ["0", "1"]


def test_only_the_first_process_writes_to_stdout(capfd) -> None:
    assert launch.start_processes(["-c", "import os; print('I am', os.environ['RANK'])"], 3) == 0
    assert capfd.readouterr().out == "I am 0\n"


@pytest.fixture
def project(toy: Path) -> Project:
    from sem.dataset.clean import clean
    from sem.dataset.split import snapshot

    # 35 rows: the last step has 3, so one of two processes is dealt a blank.
    given = ["train.lora.dropout=0", "train.micro_batch=1"]
    made = Project.load("toy", given)
    clean.clean_store(made)
    snapshot.freeze_snapshot(made, plan.provenance.utc_now())
    return made


def trained(made: run.Run, *words: str) -> subprocess.CompletedProcess:
    argv = [*COMMAND, f"--run={made.id}", *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=280)


def losses(made: run.Run, key: str = "loss") -> list[tuple[int, float]]:
    return [(r["step"], r[key]) for r in rows(made.folder / "metrics.jsonl") if key in r]


def again(project: Project, made: run.Run) -> run.Run:
    """Return a second run of the same plan, untrained."""
    copy = project.adapters / f"{made.id}-b"
    files.write_file(copy / "run.json", (made.folder / "run.json").read_bytes())
    return run.Run(copy.name, copy)


@pytest.mark.slow
def test_two_processes_end_where_one_does(project) -> None:
    from safetensors.torch import load_file

    one = plan.prepare_training(project, None)
    plan.train_prepared(project, one, resume=False)
    made = again(project, one)
    done = trained(made, "--processes=2")
    assert done.returncode == 0, done.stderr
    for key, most in (("loss", 2e-4), ("eval_loss", 2e-4), ("grad_norm", 2e-2)):
        alone = [(step, pytest.approx(value, abs=most)) for step, value in losses(one, key)]
        assert losses(made, key) == alone
    whole = load_file(one.adapter / "adapter_model.safetensors")
    there = load_file(made.adapter / "adapter_model.safetensors")
    assert max(float((there[name] - whole[name]).abs().max()) for name in whole) < 2e-3
    assert files.read_json(made.folder / "manifest.json")["result"]["processes"] == 2
    assert checkpoints.newest_checkpoint(made.folder) is not None
    assert not list(made.folder.glob("quarantine-*"))
    assert done.stdout.count("train_runtime") == 1


@pytest.mark.slow
def test_two_processes_stop_at_a_checkpoint_and_go_on_from_it(project) -> None:
    one = plan.prepare_training(project, None)
    assert trained(one, "--processes=2").returncode == 0
    made = again(project, one)
    argv = [*COMMAND, f"--run={made.id}", "--processes=2"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not list(made.folder.glob("checkpoint-3/m*")):
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=120)[1]
    assert process.returncode == 75, said
    assert checkpoints.newest_checkpoint(made.folder) is not None
    done = trained(made, "--resume", "--processes=2")
    assert done.returncode == 0, done.stderr
    assert losses(made) == losses(one)
    adapters = [
        files.sha256_file(each.adapter / "adapter_model.safetensors") for each in (one, made)
    ]
    assert adapters[0] == adapters[1]


@pytest.fixture
def hosts(monkeypatch) -> Iterator[str]:
    """The address of a Ray cluster of two hosts with one core each, both on this machine."""
    pytest.importorskip("ray", reason="the extra `cluster` is not installed")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "120")
    words = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=words)
    try:
        made.add_node(num_cpus=1, object_store_memory=100 << 20)
        yield made.address
    finally:
        made.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_cluster_of_two_hosts_ends_where_one_process_does(project, hosts) -> None:
    one = plan.prepare_training(project, None)
    plan.train_prepared(project, one, resume=False)
    made = again(project, one)
    done = trained(made, "--processes=2", f"--ray-address={hosts}")
    assert done.returncode == 0, done.stderr
    alone = [(step, pytest.approx(value, abs=2e-4)) for step, value in losses(one)]
    assert losses(made) == alone
    assert files.read_json(made.folder / "manifest.json")["result"]["processes"] == 2
    assert not (made.folder / ".shared").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_process_killed_on_its_host_ends_the_run_and_it_goes_on(project, hosts) -> None:
    made = plan.prepare_training(project, None)
    argv = [*COMMAND, f"--run={made.id}", "--processes=2", f"--ray-address={hosts}"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline and not list(made.folder.glob("checkpoint-3/m*")):
            time.sleep(0.05)
        subprocess.run(["pkill", "-9", "-f", f"train_run.py --sem=toy --run={made.id}$"])
        said = process.communicate(timeout=200)[1]
    assert process.returncode == 128 + 9, said
    assert "of 2 exited with -9: all are stopped" in said
    done = trained(made, "--resume", "--processes=2", f"--ray-address={hosts}")
    assert done.returncode == 0, done.stderr
    assert files.read_json(made.folder / "manifest.json")["result"]["processes"] == 2


def test_a_host_and_a_cluster_are_not_both_asked_for() -> None:

    with pytest.raises(SemError) as caught:
        load_jobs()["train.run"].call(["--host=me@h", "--processes=2", "--ray-address=h:6379"])
    assert caught.value.message == (
        "--host and --ray-address: one names a host, the other a cluster"
    )


def test_a_cluster_that_is_not_there_is_one_clear_line(tmp_path) -> None:
    with pytest.raises(SemError) as caught:
        cluster.start_on_cluster(["train_run.py"], 2, "127.0.0.1:9", gpus=False)
    assert caught.value.message.startswith("--ray-address: no cluster at 127.0.0.1:9: ")


@pytest.mark.parametrize(
    ("gpus", "told"),
    [
        (False, [("0", "0", "2"), ("1", "1", "2"), ("2", "0", "1")]),
        (True, [("0", "0", "1"), ("1", "0", "1"), ("2", "0", "1")]),
    ],
)
def test_each_process_is_told_who_it_is(gpus, told) -> None:
    made = [cluster._told(rank, ["a", "a", "b"], gpus) for rank in range(3)]
    assert [(m["RANK"], m["LOCAL_RANK"], m["LOCAL_WORLD_SIZE"]) for m in made] == told
    assert {m["WORLD_SIZE"] for m in made} == {"3"}

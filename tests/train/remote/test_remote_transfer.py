"""What goes to a host and what comes back: the needed files, whole, or nothing under its name."""

import json
import os
import re
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from proxy import Proxy
from sshd import SSHD, serving

from sem.core import files, jsonio, run
from sem.core.errors import SemError
from sem.core.net.ssh import ConnectionCutError
from sem.core.project import Project
from sem.train.remote import hosts, push, remote_jobs
from sem.train.remote.agent import Agent, Unreachable
from sem.train.remote.hosts import Host

NEEDS_SSHD = pytest.mark.skipif(SSHD is None, reason="no sshd on this machine")
ID = "20261121-090000-abcd"
MODEL = "models/base/tiny"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("sshd")) as made:
        yield made


@pytest.fixture
def project(tmp_path, monkeypatch) -> Project:
    """A project with a snapshot, a prepared run, and beside them what is nobody's to send."""
    monkeypatch.setenv("SEM_WANDB", "none")
    monkeypatch.setenv("SEM_MLFLOW", "none")
    root = tmp_path / "here"
    for name in (
        "train.v1.jsonl",
        "val.v1.jsonl",
        "test.v1.jsonl",
        "v1.json",
        "preferences.v1.jsonl",
        "train.v2.jsonl",
        "clean.jsonl",
    ):
        files.write_file(root / "data/toy/processed" / name, name)
    files.write_file(root / "data/toy/raw/dataset.duckdb", "the raw store")
    files.write_file(root / "data/toy/notes/one.txt", "a text")
    files.write_file(root / "data/toy/notes/other.txt", "not named by the run")
    for name in ("train.yaml", "datasets.yaml", "tasks/price.json", "id_rsa", "own.pem"):
        files.write_file(root / "configs/toy" / name, "{}")
    files.write_file(root / ".env", "WANDB_API_KEY=canary")
    for name in ("config.json", "model.safetensors"):
        files.write_file(root / MODEL / name, '{"model_type": "llama"}')
    base = {"base_model_id": MODEL, "revision": ""}
    from sem.lm.weights import weights

    base["revision"] = weights.resolve_weights(MODEL, root).revision
    plan = {
        "run_id": ID,
        "snapshot": {"version": 1},
        "base_model": base,
        "recipe": {"epochs": 1},
        "texts": [{"name": "notes/one.txt"}],
        "hardware": {"device": "cpu"},
    }
    for name in (ID, "20261120-000000-0000"):
        files.write_file(
            root / "models/toy/adapters" / name / "run.json", jsonio.pretty_json(plan)
        )
    return Project("toy", root)


@pytest.fixture
def few(monkeypatch) -> None:
    """Two files stand for all the code: one test sends it whole."""
    monkeypatch.setattr(push, "code_files", lambda: ["pyproject.toml", "scripts/train_run.py"])


@pytest.fixture
def target(project) -> run.Run:
    return run.Run(ID, project.adapters / ID)


@pytest.fixture
def there(server, project) -> Agent:
    host = Host("far", ssh_config=str(server.config), folder=str(project.root.parent / "there"))
    return host.agent("gpu")


def below(there: Agent, name: str) -> set[str]:
    root = Path(there.folder) / name
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def finish(folder: Path, text: str = "weights") -> None:
    """Write what a finished run has."""
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        files.write_file(folder / "adapter" / name, f"{text} {name}" * 1_000)
    files.write_file(folder / "metrics.jsonl", '{"step":1}\n')
    adapter = {path.name: files.sha256_file(path) for path in (folder / "adapter").iterdir()}
    facts = {"adapter": adapter, "run_json_sha256": files.sha256_file(folder / "run.json")}
    files.write_file(folder / "manifest.json", jsonio.pretty_json(facts))


def home(there: Agent) -> Path:
    return Path(there.folder) / "runs/toy" / ID / "models/toy/adapters" / ID


@NEEDS_SSHD
def test_what_is_needed_is_sent_once_and_nothing_else(project, target, there, capsys):
    code = push.push_run(there, Host("far"), project, target)

    sent = below(there, f"code/{code}")
    assert {
        "scripts/train_run.py",
        "scripts/setup_env.sh",
        "requirements.lock",
        "sem/train/remote/far/watch.py",
        ".env.example",
        "pyproject.toml",
        "configs/judge_slots.yaml",
    } <= sent
    assert {name.split("/")[0] for name in sent} <= {
        *("sem", "scripts", "configs", "pyproject.toml", "README.md", "LICENSE", ".env.example"),
        *(path.name for path in push.ROOT.glob("requirements*.lock")),
    }
    assert below(there, f"runs/toy/{ID}") == {
        *(f"data/toy/processed/{part}.v1.jsonl" for part in ("train", "val", "test")),
        *("data/toy/processed/v1.json", "data/toy/processed/preferences.v1.jsonl"),
        *(f"configs/toy/{name}" for name in ("train.yaml", "datasets.yaml", "tasks/price.json")),
        *("data/toy/notes/one.txt", f"models/toy/adapters/{ID}/run.json"),
    }
    assert below(there, "models/base") == {"tiny/config.json", "tiny/model.safetensors"}
    assert not [p for p in Path(there.folder).rglob("*") if p.name in (".env", "dataset.duckdb")]

    assert "(0 bytes were sent)" not in capsys.readouterr().err
    assert push.push_run(there, Host("far"), project, target) == code
    assert "(0 bytes were sent)" in capsys.readouterr().err


@NEEDS_SSHD
@pytest.mark.usefixtures("few")
def test_a_push_that_is_cut_has_no_name_until_it_is_whole(server, there, tmp_path):
    source = tmp_path / "source"
    files.write_file(source / "large.bin", os.urandom(1_500_000))
    files.write_file(source / "small.bin", b"x")
    request = {
        "kind": "weights",
        "name": "cut",
        "listed": push.hash_files(source, ["large.bin", "small.bin"]),
    }
    there.ask("hello", {})
    away = Agent(there.far, there.folder, ask_s=5, patience_s=0)
    for limit in (20_000, 900_000):
        with Proxy(server.port) as between:
            server.reach(between.at)
            between.limit(limit, towards=True)
            threading.Thread(target=stay_away, args=(server, between), daemon=True).start()
            with pytest.raises((Unreachable, ConnectionCutError)):
                away.push(request, source, "cut")
            server.reach(server.port)
        assert not (Path(there.folder) / "models/base/cut").exists()
    sent = there.push(request, source, "cut")

    # What came before a cut was kept.
    assert 0 < sent < 1_500_001
    assert (Path(there.folder) / "models/base/cut/large.bin").read_bytes() == (
        source / "large.bin"
    ).read_bytes()


def stay_away(server, between: Proxy) -> None:
    while not between.cuts:
        threading.Event().wait(0.001)
    server.reach(1)


@NEEDS_SSHD
@pytest.mark.usefixtures("few")
def test_a_finished_run_comes_back_and_a_second_pull_brings_nothing(project, target, there):
    push.push_run(there, Host("far"), project, target)
    finish(home(there))

    assert remote_jobs.pull_finished_run(there, "toy", target) == 4
    assert target.is_finished
    assert files.sha256_file(target.adapter / "adapter_config.json") == files.sha256_file(
        home(there) / "adapter/adapter_config.json"
    )
    assert remote_jobs.pull_finished_run(there, "toy", target) == 0


@NEEDS_SSHD
@pytest.mark.usefixtures("few")
def test_a_pull_that_is_cut_goes_on_behind_what_came(server, project, target, there, capsys):
    push.push_run(there, Host("far"), project, target)
    finish(home(there))
    files.write_file(home(there) / "large.bin", os.urandom(1_500_000))
    with Proxy(server.port) as between:
        server.reach(between.at)
        there.ask("hello", {})
        between.limit(600_000, towards=False)
        remote_jobs.pull_finished_run(there, "toy", target)
        server.reach(server.port)

    sizes = re.findall(r"fetching .*?([\d,]+) bytes", capsys.readouterr().err)
    first, second = (int(size.replace(",", "")) for size in sizes)
    assert 900_000 < second < first
    assert target.is_finished


@NEEDS_SSHD
@pytest.mark.usefixtures("few")
def test_a_run_that_the_disk_has_no_room_for_is_refused(project, target, there, monkeypatch):
    # It was fetched until the disk was full, which stops whatever else writes here.
    push.push_run(there, Host("far"), project, target)
    finish(home(there))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1_000))

    with pytest.raises(SemError, match="1,000 bytes are free"):
        remote_jobs.pull_finished_run(there, "toy", target)

    assert not target.is_finished


@NEEDS_SSHD
@pytest.mark.usefixtures("few")
def test_a_wrong_hash_is_refused_by_name_and_the_old_files_stay(project, target, there):
    push.push_run(there, Host("far"), project, target)
    finish(home(there))
    finish(target.folder, "old")
    before = {p: p.read_bytes() for p in target.folder.rglob("*") if p.is_file()}
    damaged = home(there) / "adapter/adapter_model.safetensors"
    damaged.write_bytes(b"\xff" + damaged.read_bytes()[1:])

    with pytest.raises(SemError) as caught:
        remote_jobs.pull_finished_run(there, "toy", target)

    wanted = files.read_json(home(there) / "manifest.json")["adapter"][damaged.name]
    assert caught.value.message == (
        f"adapter/adapter_model.safetensors is {files.sha256_file(damaged)[:12]}…, "
        f"the run's manifest says {wanted[:12]}…"
    )
    assert {p: p.read_bytes() for p in before} == before


@NEEDS_SSHD
@pytest.mark.usefixtures("few")
def test_an_unfinished_run_is_not_fetched_but_its_whole_checkpoints_are(project, target, there):
    push.push_run(there, Host("far"), project, target)
    from sem.core import manifest

    for number in (3, 6):
        files.write_file(home(there) / f"checkpoint-{number}" / "optimizer.pt", "o")
    manifest.seal_folder(home(there) / "checkpoint-3")

    with pytest.raises(SemError, match="is not finished on far: none"):
        remote_jobs.pull_finished_run(there, "toy", target)
    assert remote_jobs.pull_finished_run(there, "toy", target, with_checkpoints=True) == 2
    assert (target.folder / "checkpoint-3/manifest.json").exists()
    assert not (target.folder / "checkpoint-6").exists()


@NEEDS_SSHD
@pytest.mark.usefixtures("few")
def test_another_run_of_the_same_id_is_refused_and_a_changed_recipe_is_not(project, target, there):
    push.push_run(there, Host("far"), project, target)
    path = target.folder / "run.json"
    plan = files.read_json(path)
    change = {"recipe": {"epochs": 5}, "updates": [{"set": {"epochs": 5}}]}
    files.write_file(path, jsonio.pretty_json(plan | change))
    push.push_run(there, Host("far"), project, target)
    assert files.read_json(home(there) / "run.json")["recipe"] == {"epochs": 5}

    files.write_file(
        path, jsonio.pretty_json(plan | {"snapshot": {"version": 1, "sha256": "other"}})
    )
    with pytest.raises(SemError, match=r"run\.json on far is of a different run"):
        push.push_run(there, Host("far"), project, target)
    finish(home(there))
    with pytest.raises(SemError, match=r"run\.json on far differs from the one here"):
        remote_jobs.pull_finished_run(there, "toy", target)


@NEEDS_SSHD
@pytest.mark.usefixtures("few")
def test_weights_that_the_host_cannot_have_are_told(project, target, there):
    path = target.folder / "run.json"
    plan = files.read_json(path)
    plan["base_model"]["base_model_id"] = "/nowhere/model"
    files.write_file(path, jsonio.pretty_json(plan))

    with pytest.raises(SemError, match="far: no base model at /nowhere/model"):
        push.push_run(there, Host("far"), project, target)


def test_progress_goes_along_only_when_the_host_is_behind(project, target):
    finish(target.folder)
    (target.folder / "manifest.json").unlink()
    files.write_file(target.folder / "checkpoint-3" / "optimizer.pt", "torn")
    files.write_file(target.folder / "host" / "log.0001", "x")

    found = push.run_progress(project, target, 0)
    assert {name.rpartition("/")[2] for name in found} == {
        "metrics.jsonl",
        "adapter_model.safetensors",
        "adapter_config.json",
    }
    assert push.run_progress(project, target, 1) == []


@pytest.mark.parametrize("name", [".env", "configs/.env.local", "a/id_ed25519", "x/own.pem"])
def test_what_looks_like_a_secret_is_not_sent(tmp_path, name):
    files.write_file(tmp_path / name, "s")

    with pytest.raises(SemError, match="looks like a secret"):
        push.hash_files(tmp_path, [name])


def test_a_run_is_not_sent_to_a_second_host(project, target):
    files.write_file(target.folder / "host/where.json", '{"host": "gpu"}')

    with pytest.raises(SemError, match="was sent to 'gpu'"):
        remote_jobs.run_on_host(project, target, "other", False, False)


def test_only_the_keys_of_trackers_that_are_asked_for_go_along(project, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "k")
    assert remote_jobs.tracker_secrets(project) == {}
    monkeypatch.delenv("SEM_WANDB")
    assert remote_jobs.tracker_secrets(project) == {"WANDB_API_KEY": "k"}
    monkeypatch.setenv("SEM_WANDB", "offline")
    assert remote_jobs.tracker_secrets(project) == {}


@NEEDS_SSHD
def test_the_environment_is_made_there_from_the_lock(project, target, there, tmp_path):
    tree = tmp_path / "tree"
    for name in ("scripts/setup_env.sh", ".env.example"):
        files.write_file(tree / name, (push.ROOT / name).read_bytes())
    files.write_file(tree / "requirements.lock", "# nothing\n")
    names = ["scripts/setup_env.sh", ".env.example", "requirements.lock"]
    there.push({"kind": "code", "name": "t", "listed": push.hash_files(tree, names)}, tree, "code")
    set_up, work = remote_jobs.host_steps(Host("far", device="cpu"), project, target, "t", False)
    work["argv"][1:] = ["-c", "import sys; print(sys.prefix)"]
    remote_jobs.begin_job(there, "toy", "env", {"steps": [set_up, work]}, False)

    said = remote_jobs.follow_job(there, "toy", "env", tmp_path / "notes")

    made = Path(there.folder) / "envs" / push.lock_hash()
    assert said["state"] == "done"
    assert (tmp_path / "notes/log.0001").read_text().splitlines()[-1] == str(made)
    assert (made / "ready").exists()


# --- hosts.yaml -----------------------------------------------------------------------------


def written(tmp_path, **keys) -> Path:
    files.write_file(tmp_path / "configs/hosts.yaml", json.dumps({"hosts": {"gpu": keys}}))
    return tmp_path


@pytest.mark.parametrize(
    ("named", "address", "port"),
    [
        ("gpu", "me@gpu.example.org", 2200),
        ("you@gpu", "you@gpu.example.org", 2200),
        ("gpu:22", "me@gpu.example.org", 22),
        ("other", "other", None),
        ("a@b:7", "a@b", 7),
    ],
)
def test_a_host_is_an_entry_or_what_ssh_knows(tmp_path, named, address, port):
    root = written(tmp_path, address="me@gpu.example.org", port=2200)
    found = hosts.find_host(root, named)

    assert (found.address, found.port) == (address, port)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"adress": "x"}, "unknown key 'hosts.gpu.adress'"),
        ({"address": "-oProxyCommand=x"}, "is not [user@]host"),
        ({"folder": "~/sem"}, "folder '~/sem'"),
        ({"gpus": "all"}, "gpus 'all'"),
        ({"stop": ["halt"]}, "stop and stop_after_idle_minutes need each other"),
        ({"max_hours": 0}, "max_hours 0"),
        ({"weights": "guess"}, "weights"),
        ({"port": 70_000}, "port 70000"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path, keys, said):
    with pytest.raises(SemError) as caught:
        hosts.find_host(written(tmp_path, **keys), "gpu")

    assert said in caught.value.message


def test_the_file_that_comes_with_us_holds_no_host():
    assert hosts.find_host(push.ROOT, "anything") == Host(address="anything")

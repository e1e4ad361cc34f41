"""Jobs on a real sshd: detached, started once, followed over cut lines, ended, never misjudged."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from proxy import Proxy
from sshd import SSHD, serving

from sem.core import files
from sem.core.errors import SemError
from sem.core.net.ssh import SshHost
from sem.train.remote import agent, remote_jobs
from sem.train.remote.agent import Agent, Unreachable
from tests.test_fabfile import hostile

pytestmark = pytest.mark.skipif(SSHD is None, reason="no sshd on this machine")
LINES = "i=0; while [ $i -lt 25 ]; do i=$((i+1)); echo line $i; sleep 0.1; done; exit 5"
WHOLE = "".join(f"line {number}\n" for number in range(1, 26))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("sshd")) as made:
        yield made


@pytest.fixture
def there(server) -> Agent:
    """A host whose line is given up after a second of silence."""
    far = SshHost("far", str(server.config), alive_s=1)
    return Agent(far, str(server.folder / "home"), ask_s=10, patience_s=5)


def shell(text: str, **more) -> dict:
    return {"steps": [{"argv": ["bash", "-c", text], "cwd": "."}], **more}


def job_of(there: Agent, run: str, attempt: str = "0001") -> Path:
    return Path(there.folder) / "jobs" / "toy" / run / attempt


def ended(there: Agent, run: str, tmp_path: Path) -> dict:
    return remote_jobs.follow_job(there, "toy", run, tmp_path / "notes")


def states(there: Agent) -> dict[str, str]:
    return {
        one["run"]: remote_jobs.state_words(one)
        for one in there.ask("table", {"sem": "toy"})["jobs"]
    }


def test_a_job_asked_for_twice_runs_once_and_gives_its_code_and_its_log(there, tmp_path):
    spec = shell(f"echo begun >> {tmp_path}/count; echo out; echo err >&2; sleep 2; exit 3")

    first = remote_jobs.begin_job(there, "toy", "twice", spec, False)
    second = remote_jobs.begin_job(there, "toy", "twice", spec, False)
    said = ended(there, "twice", tmp_path)

    assert (first["new"], second["new"]) == (True, False)
    assert (said["state"], said["code"]) == ("failed", 3)
    assert (tmp_path / "notes" / "log.0001").read_text() == "out\nerr\n"
    assert (tmp_path / "count").read_text() == "begun\n"


def test_a_request_that_came_twice_over_a_cut_line_begins_one_attempt(there):
    request = {"sem": "toy", "run": "token", "spec": shell("exit 1", token="t1"), "secrets": {}}
    states_then = []
    for _ in range(2):
        states_then.append(there.ask("start", request)["attempt"])
        time.sleep(1)

    assert states_then == ["0001", "0001"]


def test_a_failed_job_is_begun_again_and_a_done_one_only_when_asked(there, tmp_path):
    for code, again, new in ((1, False, "0002"), (0, False, "0001"), (0, True, "0002")):
        run = f"again{code}{again}"
        remote_jobs.begin_job(there, "toy", run, shell(f"exit {code}"), False)
        ended(there, run, tmp_path / run)

        assert remote_jobs.begin_job(there, "toy", run, shell("exit 0"), again)["attempt"] == new


@pytest.mark.parametrize("kind", ["rst", "fin", "hole", "restart"])
def test_a_cut_line_changes_neither_the_job_nor_its_log(server, there, tmp_path, kind):
    remote_jobs.begin_job(there, "toy", f"cut-{kind}", shell(LINES), False)
    with Proxy(server.port) as between:
        server.reach(between.at)
        cutter = threading.Timer(1.0, lambda: broken(server, between, kind))
        cutter.start()
        said = ended(there, f"cut-{kind}", tmp_path)
        cutter.join()
        server.reach(server.port)

    assert (said["state"], said["code"]) == ("failed", 5)
    assert (tmp_path / "notes" / "log.0001").read_text() == WHOLE
    assert said["log_sha256"] == files.sha256_text(WHOLE)


def broken(server, between: Proxy, kind: str) -> None:
    """Cut what is connected; `restart` ends the server with the lines it serves."""
    if kind != "restart":
        between.cut(kind)
        return
    sessions = server.sessions()
    server.stop()
    for pid in sessions:
        os.kill(pid, signal.SIGKILL)
    time.sleep(1)
    server.start()


def test_a_host_that_does_not_answer_is_unknown_and_not_failed(server, there, tmp_path):
    remote_jobs.begin_job(there, "toy", "unknown", shell("sleep 120", grace_s=1), False)
    fast = Agent(there.far, there.folder, ask_s=2, patience_s=0)
    try:
        server.reach(1)
        with pytest.raises(Unreachable) as caught:
            remote_jobs.follow_job(fast, "toy", "unknown", tmp_path)
    finally:
        server.reach(server.port)

    assert caught.value.exit_code == 75
    assert caught.value.message.startswith("far: cannot be reached: Connection refused (3 tries ")
    assert caught.value.message.endswith("its state is unknown")
    assert states(there)["unknown"] == "running"
    there.ask("cancel", {"sem": "toy", "run": "unknown"})


def test_a_black_hole_is_given_up_in_bounded_time(server, there):
    fast = Agent(there.far, there.folder, ask_s=1, patience_s=0)
    with Proxy(server.port) as between:
        server.reach(between.at)
        between.limit(0, towards=False, kind="hole")
        began = time.monotonic()
        with pytest.raises(Unreachable):
            fast.patient(lambda: (between.limit(0, False, "hole"), fast._once("hello", {}, 0)))
        took = time.monotonic() - began
        server.reach(server.port)

    assert took < 3 * (1 + 2) + 5


def test_what_ended_a_job_is_told_apart(there, tmp_path):
    ends = {
        "full": ("echo x > /dev/full", "failed: ENOSPC", 1),
        "killed": ("kill -9 $$", "killed: signal 9", 137),
        "failed": ("exit 4", "failed: exit 4", 4),
        "done": ("true", "done", 0),
    }
    for run, (text, _, _) in ends.items():
        remote_jobs.begin_job(there, "toy", run, shell(text), False)
    codes = {run: ended(there, run, tmp_path / run)["code"] for run in ends}

    assert codes == {run: code for run, (_, _, code) in ends.items()}
    assert {k: v for k, v in states(there).items() if k in ends} == {
        run: words for run, (_, words, _) in ends.items()
    }


def test_a_reboot_is_a_loss_and_a_number_that_is_another_process_is_not_ours(there):
    for run in ("rebooted", "reused"):
        remote_jobs.begin_job(there, "toy", run, shell("sleep 60"), False)
        pid = json.loads((job_of(there, run) / "pid.json").read_text())
        other = {"boot": "another"} if run == "rebooted" else {"pid": os.getpid()}
        (job_of(there, run) / "pid.json").write_text(json.dumps({**pid, **other}))
        child = json.loads((job_of(there, run) / "child.json").read_text())
        os.killpg(child["pid"], signal.SIGKILL)
        os.kill(pid["pid"], signal.SIGKILL)

    assert states(there)["rebooted"] == "lost: host rebooted"
    assert states(there)["reused"] == "killed: it ended without a word"


def test_a_job_whose_watcher_is_gone_still_runs_and_can_be_cancelled(there):
    remote_jobs.begin_job(there, "toy", "orphan", shell("sleep 60", grace_s=3), False)
    waited = time.monotonic() + 10
    while not (job_of(there, "orphan") / "child.json").exists() and time.monotonic() < waited:
        time.sleep(0.05)
    pid = json.loads((job_of(there, "orphan") / "pid.json").read_text())["pid"]
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.3)

    assert states(there)["orphan"] == "running: its watcher is gone"
    named = {"sem": "toy", "run": "orphan"}
    assert remote_jobs.state_words(there.ask("cancel", named, more_s=30)) == "cancelled: cancelled"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("trap 'echo term; exit 0' TERM; while :; do sleep 0.1; done", "term\n"),
        ("trap '' TERM; echo deaf; while :; do sleep 0.1; done", "deaf\n"),
    ],
)
def test_cancelling_asks_and_then_ends(there, tmp_path, text, left):
    run = f"cancel-{left.strip()}"
    remote_jobs.begin_job(there, "toy", run, shell(text, grace_s=1), False)
    time.sleep(1)

    said = there.ask("cancel", {"sem": "toy", "run": run}, more_s=30)

    assert (said["state"], said["code"]) == ("cancelled", 143)
    ended(there, run, tmp_path)
    assert (tmp_path / "notes" / "log.0001").read_text().endswith(left)


def test_a_job_past_its_hours_is_ended(there, tmp_path):
    remote_jobs.begin_job(
        there, "toy", "hours", shell("sleep 60", max_hours=0.0003, grace_s=1), False
    )

    assert (
        remote_jobs.state_words(ended(there, "hours", tmp_path)) == "cancelled: max_hours is over"
    )


def test_a_host_nobody_looks_at_is_stopped_when_its_jobs_are_over(server, tmp_path):
    far = SshHost("far", str(server.config))
    alone = Agent(far, str(tmp_path / "home"))
    stop = {"stop_after_idle_minutes": 0.05, "stop": ["touch", str(tmp_path / "stopped $(x)")]}
    remote_jobs.begin_job(alone, "toy", "idle", shell("exit 0", **stop), False)
    ended(alone, "idle", tmp_path)

    job = job_of(alone, "idle")
    assert not (job / "stopped.json").exists()
    waited = time.monotonic() + 30
    while not (job / "stopped.json").exists() and time.monotonic() < waited:
        time.sleep(0.1)
    assert (tmp_path / "stopped $(x)").exists()
    seen = max((job / name).stat().st_mtime for name in ("seen", "exit.json"))
    assert (job / "stopped.json").stat().st_mtime - seen >= 3


def test_an_environment_is_set_up_once(there, tmp_path):
    set_up = {"argv": ["sh", "-c", "echo setting up"], "cwd": ".", "ready": "envs/k/ready"}
    (Path(there.folder) / "envs" / "k").mkdir(parents=True, exist_ok=True)
    spec = {"steps": [set_up, *shell("echo trained")["steps"]]}
    logs = []
    for run in ("first", "second"):
        remote_jobs.begin_job(there, "toy", run, spec, False)
        ended(there, run, tmp_path / run)
        logs.append((tmp_path / run / "notes" / "log.0001").read_text())

    assert logs == [
        "setting up\ntrained\n",
        "k: set up before, used again\ntrained\n",
    ]


def test_hostile_arguments_reach_the_job_byte_for_byte(there, tmp_path):
    values = [v for v in hostile(300, seed=2) if "\udce9" not in v]
    echo = "import json, sys; print(json.dumps(sys.argv[1:]))"
    spec = {"steps": [{"argv": [sys.executable, "-I", "-c", echo, *values], "cwd": "."}]}
    remote_jobs.begin_job(there, "toy", "hostile", spec, False)
    ended(there, "hostile", tmp_path)

    assert json.loads((tmp_path / "notes" / "log.0001").read_text()) == values
    assert not list(Path(there.folder).parent.rglob("CANARY"))


def test_hostile_words_on_the_ssh_line_arrive_byte_for_byte(there):
    values = hostile(300, seed=3)
    shown = "import os, sys; print([os.fsencode(a).hex() for a in sys.argv[1:]])"
    said = there.far.ask('exec "$1" -I -c "$2" "$@"', sys.executable, shown, *values)

    wanted = [
        value.encode("utf-8", "surrogateescape").hex()
        for value in [sys.executable, shown, *values]
    ]
    assert json.loads(said.decode().replace("'", '"')) == wanted
    assert not list(Path(there.folder).parent.rglob("CANARY"))


@pytest.mark.parametrize("run", ["../x", "a/b", "-rf", ".x", "", "a b", "$(x)", "a\n"])
def test_a_name_that_is_no_folder_is_refused_there(there, run):
    with pytest.raises(SemError, match="is not a name"):
        remote_jobs.begin_job(there, "toy", run, shell("true"), False)


def test_a_secret_goes_through_stdin_alone(there, tmp_path):
    step = {**shell('sleep 3; test -n "$WANDB_API_KEY"')["steps"][0], "secret": True}
    seen: list[str] = []
    stop = threading.Event()
    watching = threading.Thread(target=lambda: watch_ps(seen, stop))
    watching.start()
    told = {"WANDB_API_KEY": "canary-5f2e"}
    remote_jobs.begin_job(there, "toy", "secret", {"steps": [step]}, False, told)
    code = ended(there, "secret", tmp_path)["code"]
    stop.set()
    watching.join()

    assert code == 0
    assert len(seen) > 5
    assert not [line for line in seen if "canary-5f2e" in line]
    texts = [p for p in Path(there.folder).rglob("*") if p.is_file()]
    assert not [p for p in texts if b"canary-5f2e" in p.read_bytes()]
    assert b"canary-5f2e" not in (tmp_path / "notes" / "log.0001").read_bytes()


def watch_ps(seen: list[str], stop: threading.Event) -> None:
    while not stop.wait(0.2):
        seen.append(subprocess.check_output(["ps", "-eo", "args"], text=True))


def test_our_file_is_sent_once_and_again_when_it_was_changed(there):
    there.ask("hello", {})
    path = Path(there.folder) / "agent" / f"{agent.agent_name()}.pyz"
    path.write_bytes(b"import os; os.system('touch evil')")

    assert there.ask("hello", {})["folder"] == there.folder
    assert path.read_bytes() == agent.build_agent_zip()


def test_a_host_without_python_is_told(there):
    with pytest.raises(SemError) as caught:
        Agent(there.far, there.folder, python="python9").ask("hello", {})

    assert caught.value.message == "far: no 'python9' there"

"""A real run on a real sshd: pushed, trained, cut off, attached again, fetched, bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from paths import ROOT
from sshd import SSHD, serving

from sem.core import files, run
from sem.core.project import Project
from sem.train.remote import remote_jobs
from sem.train.run import plan

pytestmark = pytest.mark.skipif(SSHD is None, reason="no sshd on this machine")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("sshd")) as made:
        yield made


@pytest.fixture
def prepared(toy: Path, server) -> tuple[Project, run.Run]:
    """The toy project with a prepared run, and a host called `gpu`."""
    from sem.dataset.clean import clean
    from sem.dataset.split import snapshot

    hosts = {
        "gpu": {
            "address": "far",
            "ssh_config": str(server.config),
            "folder": str(toy / "it's far"),
            "python": sys.executable,
        }
    }
    files.write_file(toy / "configs" / "hosts.yaml", json.dumps({"hosts": hosts}))
    project = Project.load("toy")
    clean.clean_store(project)
    snapshot.freeze_snapshot(project, plan.provenance.utc_now())
    return project, plan.prepare_training(project, None)


def script(name: str, *words: str) -> list[str]:
    return [sys.executable, str(ROOT / "scripts" / f"{name}.py"), "--sem=toy", *words]


@pytest.mark.slow
def test_a_run_on_a_host_survives_its_client_and_is_the_run_that_is_trained_here(prepared):
    project, made = prepared
    far = project.root / "it's far" / "runs" / "toy" / made.id
    command = script("train_run", "--host=gpu")
    with subprocess.Popen(command, env=os.environ, start_new_session=True) as client:
        deadline = time.monotonic() + 120
        while (
            client.poll() is None
            and time.monotonic() < deadline
            and not list(far.glob("models/toy/adapters/*/che*/m*"))
        ):
            time.sleep(0.05)
        os.killpg(client.pid, signal.SIGKILL)
    assert not made.is_finished

    assert remote_jobs.follow_remote_job(project, made, "gpu") == 0
    assert remote_jobs.pull_from_host(project, made, "gpu", False) > 0

    there = files.sha256_file(made.adapter / "adapter_model.safetensors")
    (made.folder / "manifest.json").unlink()
    plan.train_prepared(project, made, resume=False)
    assert files.sha256_file(made.adapter / "adapter_model.safetensors") == there

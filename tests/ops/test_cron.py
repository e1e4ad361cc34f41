"""The crontab block: ours is replaced, everything else stays."""

import inspect
import re
import subprocess
from pathlib import Path

import pytest

from sem.core.errors import SemError
from sem.core.project import Project
from sem.jobs import load_jobs
from sem.ops import cron, nightly


def test_the_line_survives_odd_folders_and_percent_signs():
    line = cron.cron_line(Project("toy", Path("/srv/my sems/100%")))

    assert line.startswith("17 * * * * mkdir -p '/srv/my sems/100\\%/reports/toy/nightly' && ")
    assert line.count("%") == line.count("\\%") == 3
    words = line.removeprefix("17 * * * * ").replace("\\%", "%")
    assert subprocess.run(["bash", "-n", "-c", words]).returncode == 0


def test_a_second_install_replaces_the_block_and_keeps_the_rest():
    mine = "MAILTO=me\n0 1 * * * backup\n"
    toy, other = Project("toy", Path("/a")), Project("other", Path("/a"))

    once = cron.insert_cron_block(cron.insert_cron_block(mine, toy), other)
    twice = cron.insert_cron_block(cron.insert_cron_block(once, Project("toy", Path("/b"))), other)

    assert twice.startswith(mine)
    assert twice.count("ops_nightly.py") == 2
    assert "/a/scripts/ops_nightly.py --sem=toy" not in twice


def test_without_a_crontab_program_the_hint_names_a_flag_that_there_is(tmp_path, monkeypatch):
    # It was `--print`, which no job takes.
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(SemError, match="no crontab program") as caught:
        cron.write_crontab(Project("toy", tmp_path))

    (flag,) = re.findall(r"--(\w+)", caught.value.hint)
    assert flag in inspect.signature(load_jobs()["ops.install_cron"].function).parameters


def test_the_signature_is_hmac_over_time_and_body():
    # Computed with: printf '2026.{}' | openssl dgst -sha256 -hmac key
    expected = subprocess.run(
        ["openssl", "dgst", "-sha256", "-hmac", "key"], input=b"2026.{}", capture_output=True
    ).stdout.decode()

    assert nightly.sign_webhook("key", "2026", "{}").partition("=")[2] in expected

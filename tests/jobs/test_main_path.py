"""The whole path on a tiny real model, as a user runs it: scripts, files, exit codes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import warm
from paths import ROOT
from toy import rows

from sem.core import files
from sem.jobs import pipeline


def sem(*words: str) -> subprocess.CompletedProcess[str]:
    """Run scripts/WORDS[0].py with the rest as its flags."""
    command = [sys.executable, str(ROOT / "scripts" / f"{words[0]}.py"), *words[1:]]
    return warm.run(command, capture_output=True, text=True, env=os.environ, timeout=280)


@pytest.fixture
def finished(toy: Path) -> Path:
    """The toy project after `pipeline`."""
    done = sem("pipeline", "--sem", "toy")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "10 of 10 proven answers are byte-equal" in done.stdout
    return toy


def test_the_path_ends_with_a_report_and_a_verified_package(finished: Path) -> None:
    run = next((finished / "models/toy/adapters").glob("2*"))
    report = finished / "reports/toy" / run.name
    scores = files.read_json(report / "scores.json")
    assert scores["tuned"]["n"] == scores["baseline"]["n"] == 10
    assert scores["snapshot"]["shared_domains"] == []
    assert "no improvement shown" in (report / "report.md").read_text()
    package = finished / "models/toy/packages" / run.name
    names = {str(p.relative_to(package)) for p in package.rglob("*") if p.is_file()}
    assert names >= {
        "adapter/adapter_model.safetensors",
        "model/model.safetensors",
        "model/tokenizer.json",
        "serve/vllm.yaml",
        "Modelfile",
        "task_spec.json",
        "eval_report.md",
        "scores.json",
        "repro.lock",
        "manifest.json",
    }
    assert "USD" not in (report / "report.md").read_text()
    assert (report / "report.html").stat().st_size > 10_000
    assert len(list(report.glob("*.eval-report.json"))) == 1
    seeds(report, run.name)
    again(finished, run.name)
    unproven(report, run.name)
    tampered(package, run.name)


def test_the_gate_that_the_path_names_is_asked_by_the_settings_of_the_path() -> None:
    # `fab eval.gate --sem demo` said that the answers of the demo were of another test part.
    command = pipeline.gate_command

    assert command("toy", []) == "fab eval.gate --sem toy"
    given = ["eval.max_examples=45", "train.max_train_examples=72", "eval.note=a b"]
    assert command("toy", given) == (
        "fab eval.gate --sem toy --set eval.max_examples=45 --set 'eval.note=a b'"
    )


def unproven(report: Path, run: str) -> None:
    """Answers that were never given are no proof, and it is said what to do."""
    (report / "answers.test.jsonl").rename(report / "aside")
    done = sem("package_verify", "--sem", "toy", "--run", run, "--answers", "2")
    (report / "aside").rename(report / "answers.test.jsonl")
    assert done.returncode == 1
    assert "has no answers on the test part: the package's hashes are right" in done.stderr
    assert "answer the test part first: `fab eval.generate`, or `opensem-cli eval`" in done.stderr


def seeds(report: Path, run: str) -> None:
    """A report with another seed's run says how far two runs differ by chance."""
    priced = "eval.prices={tuned: {tokens_in: 2.0, tokens_out: 4.0}}"
    done = sem("eval_report", "--sem", "toy", "--also", run, "--set", priced)
    assert done.returncode == 0, done.stderr[-2000:]
    text = (report / "report.md").read_text()
    assert "Slot accuracy over 2 seeds" in text
    assert "standard deviation 0.0 points" in text
    assert "USD for 1,000 requests | - | $" in text


def again(root: Path, run: str) -> None:
    """A second pipeline repeats nothing and makes no second run."""
    answered = rows(root / "reports/toy" / run / "answers.test.jsonl")
    done = sem("pipeline", "--sem", "toy")
    assert done.returncode == 0, done.stderr[-3000:]
    assert [p.name for p in (root / "models/toy/adapters").glob("2*")] == [run]
    assert rows(root / "reports/toy" / run / "answers.test.jsonl") == answered


def tampered(package: Path, run: str) -> None:
    """One flipped bit is named, with exit code 1."""
    path = package / "model/model.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    done = sem("package_verify", "--sem", "toy", "--run", run)
    assert done.returncode == 1
    assert "model/model.safetensors" in done.stderr


BAD = [
    (("eval_generate", "--sem", "nope"), "no sem called 'nope'"),
    (("eval_generate", "--sem", "../x"), "is not a usable name"),
    (("eval_generate", "--sem", "toy", "--split", "tset"), "split 'tset' is not evaluated"),
    (("eval_generate", "--sem", "toy", "--run", "zzz"), "no run 'zzz'"),
    (("eval_report", "--sem", "toy"), "no finished run"),
    (("train_prepare", "--sem", "toy", "--snapshot", "vx"), "snapshot 'vx' is not a version"),
    (("train_prepare", "--sem", "toy", "--set", "train.rnk=1"), "unknown key 'rnk'"),
    (("train_run", "--sem", "toy"), "no prepared run"),
    (("package_export", "--sem", "toy"), "no finished run"),
    (("package_verify", "--path", "/nonexistent"), "unfinished"),
]


@pytest.mark.parametrize(("words", "message"), BAD)
def test_bad_input_gets_one_clear_line(toy: Path, words: tuple[str, ...], message: str) -> None:
    done = sem(*words)
    assert done.returncode == 1, done.stderr
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr

"""The evaluation from its command line: a real network, real HTTP, every section."""

import json
from pathlib import Path

import pytest
from chatserver import Body, ChatServer
from judges import keeps_intent
from paths import ROOT
from rewriters import make_optimizer
from toy import make_t5

from sem.core import files
from sem.core.errors import SemError
from sem.forge import content_words
from sem.jobs import load_jobs
from sem.lm.api import client as client_module
from sem.optimizer.data import optimizer_data
from sem.optimizer.data.pairs import PromptPair
from sem.optimizer.eval import trial
from tests.optimizer.eval.test_optimizer_judge import AT, configure

MINILM = ROOT / "models" / "base" / "all-minilm-l6-v2"
# Of a real prompt and its answer.
SECRET = "kumquat"


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_t5(tmp_path_factory.mktemp("weights") / "t5")


@pytest.fixture
def root(master: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree with an optimizer, six held-out prompts and three questions."""
    monkeypatch.setenv("SEM_ROOT", str(tmp_path))
    monkeypatch.setenv("SEM_DEVICE", "cpu")
    monkeypatch.delenv("LITELLM_JUDGE_MODEL", raising=False)
    monkeypatch.setattr(client_module, "FIRST_BACKOFF_S", 0.01)
    monkeypatch.setattr(trial, "DECODING", trial.Decoding(max_tokens=12, beams=1))
    make_optimizer(tmp_path, master)
    (tmp_path / "models" / "base").mkdir()
    if MINILM.is_dir():
        (tmp_path / "models" / "base" / MINILM.name).symlink_to(MINILM)
    else:  # a clean clone has none; how near texts are is not what is tested here
        monkeypatch.setattr(trial, "_similarity", lambda root: root)
        monkeypatch.setattr(trial.similarity, "load_similarity", lambda _: content_words.token_f1)
    kept = [
        PromptPair(f"f{n % 3}.{n}", f"plan a trip {n}", "-", "c", f"f{n % 3}", "s")
        for n in range(6)
    ]
    part = optimizer_data.write_training(tmp_path / optimizer_data.FOLDER / "test.json", kept, "")
    facts = {"files": {part.name: files.sha256_file(part)}}
    files.write_file(tmp_path / optimizer_data.FOLDER / optimizer_data.FACTS, json.dumps(facts))
    rows = [{"prompt": f"what is {SECRET} {n}", "answer": f"{SECRET} is {n}"} for n in range(3)]
    files.write_rows(tmp_path / "questions.jsonl", rows)
    return tmp_path


def says(body: Body, number: int) -> str:
    """Return a judge where it is asked as one, else somebody who knows about kumquats."""
    shown = body["messages"][-1]["content"]
    return keeps_intent(body, number) if "===== DATA" in shown else f"{SECRET} {len(shown)}"


def test_every_section_is_written_and_no_real_prompt_is_printed(
    root: Path, capsys: pytest.CaptureFixture[str]
):
    with ChatServer(says) as server:
        configure(root, server.url)
        asked = ["--questions", str(root / "questions.jsonl"), "--rows", "4", "--judge"]
        load_jobs()["optimizer.eval"].call([*asked, "--answer-with", f"openai/stub@{server.url}"])
    folder = root / "reports" / "optimizer" / "run1"
    page, scores = (folder / "report.md").read_text(), files.read_json(folder / "scores.json")
    shown = capsys.readouterr()

    assert "## Answers to 3 questions of 3 families" in page
    assert "## The judge: openai/stub" in page
    assert "| held-out families | " in page
    assert f"--questions questions.jsonl --answer-with openai/stub@{server.url} --judge" in page
    assert len(scores["answers"]["gains"]) == 4
    assert scores["judge"]["intents"][0]["difference"]["pairs"] == 4
    assert scores["judge"]["preferences"][0]["difference"]["pairs"] == 3
    assert SECRET not in page + shown.out + shown.err
    assert (
        sum(SECRET in row["reference"] for row in files.read_rows(folder / "answers.jsonl")) == 3
    )


def test_a_void_judge_is_an_error_after_the_report(root: Path):
    with ChatServer(lambda body, number: "I cannot help with that.") as server:
        configure(root, server.url)
        with pytest.raises(SemError, match=r"is void, 12 of 12 canaries were judged wrong"):
            load_jobs()["optimizer.eval"].call(["--rows", "2", "--judge"])
    page = (root / "reports" / "optimizer" / "run1" / "report.md").read_text()
    assert "Ended early, what was not heard is unscored: `batch " in page


def test_what_is_missing_is_said_before_anything_is_computed(root: Path, monkeypatch):
    monkeypatch.setattr(trial.TorchRewriter, "load", lambda *_: pytest.fail("loaded"))
    for flags, said in (
        (["--rows", "0"], "--rows 0\n +ask for 1 or more"),
        (["--judge"], "no judge is configured"),
        (["--answer-with", "local"], "--answer-with needs questions to answer"),
    ):
        with pytest.raises(SemError, match=said):
            load_jobs()["optimizer.eval"].call(flags)


def test_without_questions_no_older_answers_stay(root: Path):
    folder = root / "reports" / "optimizer" / "run1"
    files.write_file(folder / "answers.jsonl", '{"id": "old"}\n')
    made = trial.run_trial(
        root, root / "models" / "optimizer" / "run1", trial.TrialOptions(2, None, 1), AT
    )

    assert made.stopped is None
    assert (folder / "answers.jsonl").read_text() == ""
    assert "Answers to" not in made.page.read_text()

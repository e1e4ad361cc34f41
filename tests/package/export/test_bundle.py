"""Export: whole or not at all, what the run was proven with, and nothing that was taken down."""

import shutil
from pathlib import Path

import pytest
from tinymodels import HELD, make_tokenizer

from sem import Expert
from sem.core import files, jsonio, run
from sem.core.errors import SemError
from sem.core.project import Project
from sem.core.run import Run
from sem.eval.answers import answers, subject
from sem.lm.local import chat
from sem.lm.local import model as models
from sem.package import contract
from sem.package.export import bundle
from sem.package.export.targets import ServedPackage
from sem.package.verify import verify


@pytest.fixture
def exported(tmp_path: Path, package_master: Path, monkeypatch) -> tuple[Project, Run]:
    """The project of a trained, reported run that is not packaged yet, and the run."""
    root = shutil.copytree(package_master.parents[3], tmp_path / "root")
    monkeypatch.setenv("SEM_ROOT", str(root))
    monkeypatch.setenv("SEM_DEVICE", "cpu")
    project = Project.load("toy", ["eval.max_new_tokens=24", "eval.max_examples=8", *HELD])
    shutil.rmtree(project.packages)
    return project, run.find_run(project, None)


def after_filling(monkeypatch, change) -> None:
    """Let `change` happen between the last file of a package and its rename."""
    usual = bundle._fill

    def fill(*words) -> None:
        usual(*words)
        change()

    monkeypatch.setattr(bundle, "_fill", fill)


def test_a_takedown_during_an_export_leaves_no_package(exported, monkeypatch) -> None:
    # Before: taint was asked for at the start only, so a package of a tainted run was left.
    project, target = exported
    mark = ("t1", "2026-01-01T00:00:00+00:00", {})
    after_filling(monkeypatch, lambda: run.mark_tainted(target.folder, *mark))
    with pytest.raises(SemError, match="is tainted"):
        bundle.build_package(project, target, [])
    assert not (project.packages / target.id).exists()


def test_an_adapter_that_goes_during_an_export_leaves_no_package(exported, monkeypatch) -> None:
    project, target = exported
    after_filling(monkeypatch, lambda: shutil.rmtree(target.adapter))
    with pytest.raises(SemError, match="not the file that training sealed"):
        bundle.build_package(project, target, [])
    assert not (project.packages / target.id).exists()


def test_a_tokenizer_that_gives_other_ids_is_not_packaged(exported, monkeypatch) -> None:
    project, target = exported
    usual = bundle._write_tokenizer

    def write(base: Path, speaker: chat.Chat, folder: Path) -> None:
        usual(base, speaker, folder)
        value = files.read_json(folder / "tokenizer.json")
        words = value["model"]["vocab"]
        words["e"], words["i"] = words["i"], words["e"]
        files.write_file(folder / "tokenizer.json", jsonio.pretty_json(value))

    monkeypatch.setattr(bundle, "_write_tokenizer", write)
    with pytest.raises(SemError, match="gives different ids from the proven one"):
        bundle.build_package(project, target, [])


def test_one_runtime_alone_is_a_whole_package_and_a_second_joins_it(exported) -> None:
    project, target = exported
    folder = bundle.build_package(project, target, ["vllm"])
    assert verify.package_faults(folder) == []
    assert not (folder / "Modelfile").exists()
    bundle.build_package(project, target, ["ollama"])
    assert files.read_json(folder / "manifest.json")["targets"] == ["ollama", "vllm"]
    assert verify.package_faults(folder) == []


def test_a_gguf_file_is_written_where_it_is_asked_for(exported) -> None:
    pytest.importorskip("xllamacpp")
    project, target = exported
    folder = bundle.build_package(project, target, ["llamacpp", "llamacpp-q8_0"])
    assert verify.package_faults(folder) == []
    assert sorted(path.name for path in (folder / "gguf").iterdir()) == [
        "model.f16.gguf",
        "model.q8_0.gguf",
    ]
    assert "on 20 texts" in files.read_text(folder / "serve" / "LLAMACPP.md")
    with Expert.load(folder, engine="llamacpp", verify=False) as expert:
        extraction = expert.extract("<h1>Red mug</h1><p>12.50</p>")
    assert (extraction.refusal, set(extraction.value)) == (None, {"title", "price"})


def test_a_model_that_no_gguf_holds_is_refused_before_it_is_merged(exported, monkeypatch) -> None:
    project, target = exported
    monkeypatch.setattr(models, "read_config", lambda path: {"model_type": "phi3"})
    with pytest.raises(SemError, match="GGUF of a phi3 model is not written"):
        bundle.build_package(project, target, ["llamacpp"])
    assert not list(project.packages.glob("*")) if project.packages.exists() else True


def test_a_context_is_what_was_trained_or_proven_and_the_model_holds(exported) -> None:
    project, target = exported
    tested = subject.resolve_subject(project, target.id, "test", None)
    longest = max(a.tokens_in for a in answers.read_answers(tested.book.path).values())
    assert bundle._context(tested, 10, 24) == longest + 24
    assert bundle._context(tested, longest + 5, 24) == longest + 29
    assert bundle._context(tested, 1 << 20, 24) == 512


def test_a_package_of_a_run_without_answers_of_today_has_no_kit(exported, capsys) -> None:
    _, target = exported
    folder = bundle.build_package(Project.load("toy"), target, ["transformers"])
    assert contract.read_contract(folder).decoding == "free"
    assert not (folder / "kit.jsonl").exists()
    assert "no kit.jsonl" in capsys.readouterr().err
    assert verify.package_faults(folder) == []


def test_another_sample_of_today_leaves_the_kit_as_it_was_proven(exported) -> None:
    _, target = exported
    today = Project.load("toy", ["eval.max_new_tokens=24", "eval.max_examples=5", *HELD])
    folder = bundle.build_package(today, target, ["transformers"])
    assert len(files.read_text(folder / "kit.jsonl").splitlines()) == 8
    shorter = Project.load("toy", ["eval.max_new_tokens=23", "eval.max_examples=8", *HELD])
    tested = subject.resolve_answered_subject(shorter, target.id, "test")
    assert tested.book.is_stale()


def test_a_gate_and_the_licence_of_the_base_come_along(exported) -> None:
    project, target = exported
    gate = {"run": target.id, "sem": "toy", "split": "test", "verdict": "PASS", "at": "2026"}
    files.write_file(project.reports / target.id / "gate.json", jsonio.pretty_json(gate))
    base = Path(target.plan()["base_model"]["base_model_id"])
    files.write_file(base / "LICENSE", "Apache License")
    try:
        folder = bundle.build_package(project, target, ["transformers"])
    finally:
        (base / "LICENSE").unlink()
    assert verify.package_faults(folder) == []
    assert files.read_text(folder / "LICENSE.base") == "Apache License"
    assert "Verdict of the gate: PASS" in files.read_text(folder / "README.md")


def test_a_runtime_that_cannot_be_told_is_left_out_or_refused(tmp_path, capsys) -> None:
    # Before: a KeyError after the whole training.
    tokenizer = make_tokenizer("chatml")
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "{{ m['content'] }}", "{{ m['content'] | replace('{', '[') }}"
    )
    tokenizer.save_pretrained(tmp_path)
    served = ServedPackage("shop", chat.load_chat(tmp_path), "bfloat16", 64)
    everything = {"ollama", "transformers", "vllm"}
    assert bundle._writable(served, everything, set()) == ["transformers", "vllm"]
    assert "no Modelfile: the chat template does more" in capsys.readouterr().err
    with pytest.raises(SemError, match="no Modelfile"):
        bundle._writable(served, everything, {"ollama"})


def test_a_tokenizer_without_a_tokenizer_json_is_packaged_as_one(tmp_path) -> None:
    # Before: five names were copied, vocab.json and merges.txt not among them: no tokenizer.
    base, packaged = tmp_path / "base", tmp_path / "packaged"
    tokenizer = make_tokenizer("chatml")
    tokenizer.save_pretrained(base)
    tokenizer.backend_tokenizer.model.save(str(base))
    (base / "tokenizer.json").unlink()
    config = files.read_json(base / "tokenizer_config.json") | {"tokenizer_class": "GPT2Tokenizer"}
    files.write_file(base / "tokenizer_config.json", jsonio.pretty_json(config))
    speaker = chat.load_chat(base)
    packaged.mkdir()
    bundle._write_tokenizer(base, speaker, packaged)
    again = chat.load_chat(packaged)
    assert again.fingerprint() == speaker.fingerprint()
    assert again.prompt_ids("s", 'Mug "1" é {x}') == speaker.prompt_ids("s", 'Mug "1" é {x}')

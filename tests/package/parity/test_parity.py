"""Parity: what a runtime answers is what was proven, and each planted difference has its name."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tinymodels import HELD

from sem import Expert
from sem.core import files, provenance, run
from sem.core.errors import SemError
from sem.core.project import Project
from sem.eval.answers import subject
from sem.eval.answers.subject import EvalSubject
from sem.ops import promote
from sem.package import parity_record as record
from sem.package.export import bundle
from sem.package.parity import parity, runtimes

SETTINGS = ["eval.max_new_tokens=24", "eval.max_examples=8", *HELD]


@pytest.fixture(scope="module")
def packaged_master(package_master: Path, tmp_path_factory) -> Path:
    """The root of a project whose package holds a GGUF as well."""
    pytest.importorskip("xllamacpp")
    root = shutil.copytree(
        package_master.parents[3], tmp_path_factory.mktemp("parity"), dirs_exist_ok=True
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEM_ROOT", str(root))
        patch.setenv("SEM_DEVICE", "cpu")
        project = Project.load("toy", SETTINGS)
        shutil.rmtree(project.packages)
        targets = ["transformers", "vllm", "ollama", "llamacpp", "llamacpp-q8_0"]
        bundle.build_package(project, run.find_run(project, None), targets)
    return root


@pytest.fixture
def packaged(packaged_master, tmp_path, monkeypatch) -> tuple[EvalSubject, Path]:
    """The proven run and its package, both to be damaged."""
    root = shutil.copytree(packaged_master, tmp_path / "root")
    monkeypatch.setenv("SEM_ROOT", str(root))
    monkeypatch.setenv("SEM_DEVICE", "cpu")
    project = Project.load("toy", SETTINGS)
    proven = subject.resolve_subject(project, None, "test", None)
    return proven, project.packages / proven.run.id


def check_one(packaged: tuple[EvalSubject, Path], target: str) -> record.TargetCheck:
    (check,) = parity.check_targets(*packaged, [target], parity.ParityOptions())
    return check


@pytest.mark.parametrize("target", ["transformers", "adapter", "llamacpp", "llamacpp-q8_0"])
def test_each_runtime_answers_as_was_proven(packaged, target) -> None:
    check = check_one(packaged, target)
    assert (check.verdict, check.faults) == ("PASS", ())
    assert check.prompts == check.ids == check.answers == (8, 8)
    assert check.slots[0] == check.slots[1] >= 8
    assert check.difference["points"] == 0
    assert check.weight_bytes > 10_000
    assert check.p50_ms <= check.p95_ms


def test_a_runtime_that_is_not_here_is_not_checked(packaged, monkeypatch) -> None:
    monkeypatch.delenv(runtimes.VLLM_PYTHON, raising=False)
    check = check_one(packaged, "vllm")
    assert check.verdict == "NOT CHECKED"
    assert "SEM_VLLM_PYTHON" in check.reason
    monkeypatch.setenv(runtimes.VLLM_PYTHON, "/bin/false")
    check = check_one(packaged, "vllm")
    assert (check.verdict, "ended while it started" in check.reason) == ("NOT CHECKED", True)
    shutil.rmtree(packaged[1] / "gguf")
    assert "no gguf/model.f16.gguf" in check_one(packaged, "llamacpp").reason


def change_tensors(path: Path, change) -> None:
    save_file({name: change(name, t) for name, t in load_file(path).items()}, path)


def change_json(path: Path, **values: object) -> None:
    files.write_file(path, json.dumps(files.read_object(path) | values))


def no_op_adapter(folder: Path) -> None:
    path = folder / "adapter" / "adapter_model.safetensors"
    change_tensors(path, lambda name, t: t * 0 if ".lora_B." in name else t)


def other_adapter(folder: Path) -> None:
    path = folder / "adapter" / "adapter_model.safetensors"
    torch.manual_seed(5)
    change_tensors(path, lambda name, t: torch.randn_like(t))


def change_template(folder: Path, old: str, new: str) -> None:
    path = folder / "model" / "chat_template.jinja"
    text = files.read_text(path)
    assert old in text
    files.write_file(path, text.replace(old, new, 1))


def broken_template(folder: Path) -> None:
    change_template(folder, "<|im_start|>", " <|im_start|>")


def mutated_template(folder: Path) -> None:
    change_template(folder, "m['content']", "' ' + m['content']")


def lost_stop(folder: Path) -> None:
    change_json(folder / "model" / "generation_config.json", eos_token_id=0)


def swapped_tokenizer(folder: Path) -> None:
    path = folder / "model" / "tokenizer.json"
    other = files.read_object(path)
    vocabulary = other["model"]["vocab"]
    plain = sorted(word for word in vocabulary if len(word) == 1 and word.isalpha())
    for one, two in zip(plain[::2], plain[1::2], strict=False):
        vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]
    files.write_file(path, json.dumps(other))


def dtype_slip(folder: Path) -> None:
    change_tensors(folder / "model" / "model.safetensors", lambda _, t: t.to(torch.float16))


def other_weights(folder: Path) -> None:
    torch.manual_seed(6)
    path = folder / "model" / "model.safetensors"
    change_tensors(path, lambda _, t: torch.randn_like(t.float()).to(t.dtype))


def gguf_of_another(folder: Path) -> None:
    from sem.lm.local import gguf_writer

    other_weights(folder)
    (folder / "gguf" / "model.f16.gguf").unlink()
    gguf_writer.write_gguf(folder / "model", folder / "gguf" / "model.f16.gguf", "f16", "toy")


def cut_gguf(folder: Path) -> None:
    path = folder / "gguf" / "model.f16.gguf"
    path.write_bytes(path.read_bytes()[:-2_000])


PLANTED = {
    "an adapter that changes nothing": (no_op_adapter, "adapter", "every update is zero"),
    "the adapter of another run": (
        other_adapter,
        "adapter",
        "adapter: it is not the one that was proven",
    ),
    "a mutated template": (mutated_template, "transformers", "template: a prompt differs"),
    "a template that begins no turn": (broken_template, "transformers", "chat template of"),
    "a lost stop token": (lost_stop, "transformers", "stop token: "),
    "a swapped tokenizer": (swapped_tokenizer, "transformers", "tokenizer: the ids of an equal"),
    "another precision": (dtype_slip, "transformers", "dtype: the weights are float16"),
    "other weights": (other_weights, "transformers", "slots are not the proven ones"),
    "a GGUF of other weights": (gguf_of_another, "llamacpp", "slots are not the proven ones"),
    "a GGUF that was cut": (cut_gguf, "llamacpp", "llama.cpp cannot serve it"),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_each_planted_fault_fails_by_name(packaged, kind) -> None:
    plant, target, name = PLANTED[kind]
    plant(packaged[1])
    check = check_one(packaged, target)
    assert check.verdict == "FAIL"
    assert name in check.reason


def test_a_run_without_answers_cannot_be_compared(packaged) -> None:
    proven, folder = packaged
    proven.book.path.unlink()
    with pytest.raises(SemError, match="has no answers on the test part") as error:
        parity.check_targets(proven, folder, ["transformers"], parity.ParityOptions())
    assert "fab eval.generate" in error.value.hint


@pytest.mark.parametrize("rows", [0, -1])
def test_a_check_of_no_row_is_none(packaged, rows) -> None:
    with pytest.raises(SemError, match="nothing to compare"):
        parity.check_targets(*packaged, ["transformers"], parity.ParityOptions(rows))


def test_a_sample_and_a_wider_margin_promote_nothing(packaged) -> None:
    proven, folder = packaged
    (check,) = parity.check_targets(*packaged, ["transformers"], parity.ParityOptions(3, 100.0))
    assert (check.verdict, check.prompts, check.proven_rows) == ("PASS", (3, 3), 8)
    record.write_parity(proven.project, proven.run, folder, [check])
    faults = record.find_parity_faults(proven.project, proven.run, "transformers")
    assert ["3 of 8 proven rows" in faults[0], "margin of 100 points" in faults[1]] == [True, True]
    whole = check_one(packaged, "transformers")
    record.write_parity(proven.project, proven.run, folder, [whole])
    assert record.find_parity_faults(proven.project, proven.run, "transformers") == []


@pytest.mark.parametrize("pair", ["ollama=http://127.0.0.1:1", "llamacpp=http://x", "vllm=x"])
def test_an_address_that_nobody_would_ask_is_refused(pair) -> None:
    with pytest.raises(SemError, match="--address"):
        runtimes.parse_addresses([pair])


def test_a_runtime_that_is_none_is_named_with_the_nearest(packaged) -> None:
    with pytest.raises(SemError, match="no runtime 'lamacpp'") as error:
        parity.check_targets(*packaged, ["lamacpp"], parity.ParityOptions())
    assert "llamacpp" in error.value.hint


@pytest.mark.parametrize(
    ("proven", "answered", "counts"),
    [
        ('{"a":1,"b":["x","y"]}', '{"a":1,"b":["x"]}', (2, 3)),
        ('{"a":1.0}', '{"a":1.0}', (1, 1)),
        ('{"a":null}', '{"a":"null"}', (0, 1)),
        ('{"a":1}', '{"a":1', (0, 1)),
        ("{}", "{}", (1, 1)),
    ],
)
def test_slots_are_counted_by_value(proven, answered, counts) -> None:
    assert parity.count_equal_slots(proven, answered) == counts


def test_a_damaged_record_is_written_anew(packaged, capsys) -> None:
    proven, folder = packaged
    path = files.write_file(proven.project.reports / proven.run.id / record.FILE, '{"run":')
    with pytest.raises(SemError, match="damaged|not JSON"):
        record.find_parity_faults(proven.project, proven.run, "llamacpp")
    record.write_parity(
        proven.project, proven.run, folder, [record.TargetCheck("llamacpp", "PASS")]
    )
    assert "written anew" in capsys.readouterr().err
    assert record.find_parity_faults(proven.project, proven.run, "llamacpp") == []
    assert files.read_object(path)["format"] == "parity.v1"


def test_a_promotion_asks_for_the_runtime_that_will_serve(packaged) -> None:
    proven, folder = packaged
    project, target = proven.project, proven.run
    (fault,) = record.find_parity_faults(project, target, "llamacpp")
    assert "was not asked in llamacpp" in fault
    passed = record.TargetCheck("llamacpp", "PASS")
    record.write_parity(project, target, folder, [passed])
    assert record.find_parity_faults(project, target, "llamacpp") == []
    (fault,) = record.find_parity_faults(project, target, "vllm")
    assert "was not asked in vllm" in fault
    record.write_parity(
        project, target, folder, [record.TargetCheck("vllm", "NOT CHECKED", ("it is absent",))]
    )
    assert record.find_parity_faults(project, target, "llamacpp") == []
    (fault,) = record.find_parity_faults(project, target, "vllm")
    assert fault == "its package in vllm: NOT CHECKED: it is absent"
    files.write_file(folder / "manifest.json", files.read_text(folder / "manifest.json") + " ")
    (fault,) = record.find_parity_faults(project, target, "llamacpp")
    assert "exported again since" in fault
    with pytest.raises(SemError, match="cannot be promoted"):
        promote.promote_tested_run(project, target.id, None, provenance.utc_now(), "llamacpp")


def test_the_fastest_engine_that_passed_here_is_chosen(packaged) -> None:
    proven, folder = packaged
    assert record.choose_serving_engine(folder).name == "transformers"
    checks = [
        record.TargetCheck("transformers", "PASS", tokens_per_second=10.0),
        record.TargetCheck("llamacpp", "PASS", tokens_per_second=20.0),
        record.TargetCheck("llamacpp-q8_0", "FAIL", ("slots",), tokens_per_second=30.0),
    ]
    path = record.write_parity(proven.project, proven.run, folder, checks)
    assert record.choose_serving_engine(folder).name == "llamacpp"
    with Expert.load(folder, engine="auto") as expert:
        assert expert.engine.name == "llamacpp"
        assert expert.extract("<h1>Red mug</h1><p>12.50</p>").refusal is None
    # Unpacked elsewhere it is asked as it was evaluated, unless its parity came along.
    other = shutil.copytree(folder, proven.project.root / "other")
    assert record.choose_serving_engine(other).name == "transformers"
    shutil.copy(path, proven.project.root / "other.parity.json")
    assert record.choose_serving_engine(other).name == "llamacpp"
    change_json(path, hardware={"name": "another"})
    assert record.choose_serving_engine(folder) == (
        "transformers",
        "parity.json is of another machine",
    )
    files.write_file(folder / "manifest.json", files.read_text(folder / "manifest.json") + " ")
    assert "another package" in record.choose_serving_engine(folder).reason

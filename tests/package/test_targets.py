"""What a package says to each runtime."""

import pytest
import yaml

from sem.core import files, jsonio
from sem.package import targets

PLAN = {"sem": "shop", "recipe": {"max_tokens": 1024}, "hardware": {"dtype": "bfloat16"}}


@pytest.fixture
def package(tmp_path):
    def make(model_type: str):
        files.write(tmp_path / "model" / "config.json", jsonio.pretty({"model_type": model_type}))
        return tmp_path

    return make


def test_vllm_listens_here_only_and_takes_no_key_from_the_file(package):
    folder = package("llama")
    targets.vllm(folder, PLAN)

    config = yaml.safe_load((folder / "serve" / "vllm.yaml").read_text())
    assert config["host"] == "127.0.0.1"
    assert (config["max-model-len"], config["dtype"]) == (1024, "bfloat16")
    assert not {"api-key", "trust-remote-code"} & set(config)
    assert "VLLM_API_KEY" in (folder / "serve" / "VLLM.md").read_text()


@pytest.mark.parametrize(
    ("kind", "stop", "opening"),
    [
        ("llama", "<|im_end|>", "<|im_start|>assistant\n"),
        ("gemma3_text", "<eos>", "<start_of_turn>model\n"),
    ],
)
def test_the_modelfile_opens_and_ends_turns_as_training_did(package, kind, stop, opening):
    folder = package(kind)
    targets.ollama(folder, PLAN)

    text = (folder / "Modelfile").read_text()
    template = text.split('"""')[1]
    assert template.endswith(opening)
    assert f'PARAMETER stop "{stop}"' in text
    assert {line.split()[0] for line in text.split('"""')[2].split("\n") if line} == {"PARAMETER"}
    assert text.startswith("FROM ./model\n")


def test_every_target_writes_kinds_of_files_that_verify_knows(package):
    from sem.package import verify

    folder = package("llama")
    for write in targets.TARGETS.values():
        write(folder, PLAN)

    made = [path for path in folder.rglob("*") if path.is_file()]
    assert len(made) == 5
    assert all(p.suffix in verify.SUFFIXES or p.name in verify.NAMES for p in made)

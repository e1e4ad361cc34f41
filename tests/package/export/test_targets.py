"""What a package says to each runtime, written from the model's own tokenizer."""

import json
from pathlib import Path

import pytest
import yaml
from tinymodels import FAMILIES, make_tokenizer
from toy import SPEC, make_t5

from sem.core import settings
from sem.core.errors import SemError
from sem.core.taskspec import TaskSpec
from sem.lm.local import chat, llamacpp, ollama
from sem.package.export import bundle, targets
from sem.package.export.targets import ServedPackage
from sem.package.verify import verify

USABLE = sorted(FAMILIES.keys() - {"thinks", "alpaca"})


@pytest.fixture(scope="module")
def speakers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, chat.Chat]:
    """The Chat of each family whose template can be used."""
    root = tmp_path_factory.mktemp("families")
    for family in USABLE:
        make_tokenizer(family).save_pretrained(root / family)
    return {family: chat.load_chat(root / family) for family in USABLE}


def served(speaker: chat.Chat, *tasks: TaskSpec) -> ServedPackage:
    return ServedPackage("shop", speaker, "bfloat16", 1024, tasks)


def task(name: str = "price", **words: str) -> TaskSpec:
    """Return the toy's task under another name."""
    spec = SPEC | {"task_id": name, "base_model_id": "x"} | words
    return settings.build_settings(TaskSpec, spec, name)


def test_vllm_listens_here_only_and_takes_no_key_from_the_file(speakers):
    texts = targets.vllm(served(speakers["llama3"]))

    config = yaml.safe_load(texts["serve/vllm.yaml"])
    assert config["host"] == "127.0.0.1"
    assert (config["max-model-len"], config["dtype"]) == (1024, "bfloat16")
    assert not {"api-key", "trust-remote-code"} & set(config)
    assert "VLLM_API_KEY" in texts["serve/VLLM.md"]


@pytest.mark.parametrize("family", USABLE)
def test_the_modelfile_opens_and_ends_turns_as_training_did(speakers, family):
    # Before: a table of three architectures; every other base ended in a KeyError after the whole
    # training, and every `llama` got ChatML turns and its stop, a Llama 3 too.
    speaker = speakers[family]
    text = targets.ollama(served(speaker))["Modelfile"]

    head, template, parameters = text.split('"""')
    assert head == "FROM ./model\nTEMPLATE "
    assert ollama.render_modelfile_template(template, "Be brief.", "a\nb") == speaker.prompt_text(
        "Be brief.", "a\nb"
    )
    assert {line.split()[0] for line in parameters.split("\n") if line} == {"PARAMETER"}
    stops = [line.split('"')[1] for line in parameters.split("\n") if " stop " in line]
    assert sorted(speaker.tokenizer.convert_tokens_to_ids(stops)) == speaker.stop_ids


def test_a_begin_of_text_that_the_tokenizer_adds_is_left_to_ollama(tmp_path):
    # Gemma's tokenizer begins every text with <bos>: written as well, it would stand there twice.
    from tokenizers import processors

    tokenizer = make_tokenizer("gemma3")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", tokenizer.bos_token_id)]
    )
    tokenizer.save_pretrained(tmp_path)
    text = ollama.write_modelfile(chat.load_chat(tmp_path), 1024)
    assert text.split('"""')[1].startswith("<start_of_turn>user\n")


CHANGED = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] CHANGE }}<|im_end|>\n"
)
CHANGED += "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
REFUSED = {
    "a template that changes what it is given": ("| replace('{', '[')", "more than put texts"),
    "a template that trims": ("| trim", "more than put texts"),
    "a template that writes what Ollama reads": ("+ '{{ ' + '}}'", "braces or quotes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_modelfile_that_could_not_be_right_is_not_written(tmp_path, name):
    change, reason = REFUSED[name]
    tokenizer = make_tokenizer("chatml")
    tokenizer.chat_template = CHANGED.replace("CHANGE", change)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(SemError, match=f"no Modelfile: .*{reason}"):
        ollama.write_modelfile(chat.load_chat(tmp_path), 64, [(" padded ", " padded ")])


def test_an_encoder_decoder_has_no_modelfile(tmp_path):
    speaker = chat.load_chat(make_t5(tmp_path))
    assert targets.list_suitable_runtimes(speaker) == ["transformers"]
    with pytest.raises(SemError, match="an encoder-decoder has no turns"):
        ollama.write_modelfile(speaker, 64)


@pytest.mark.parametrize("family", USABLE)
def test_a_modelfile_of_a_task_needs_the_page_alone(speakers, family):
    # Before: neither system prompt nor instruction stood in it, so a page was asked nothing.
    speaker, spec = speakers[family], task()
    text = targets.ollama(served(speaker, spec))["Modelfile"]

    _, template, _, system, _ = text.split('"""')
    assert system == spec.system_prompt
    prompt = speaker.prompt_text(spec.system_prompt, spec.prompt("Mug, 3 {x}"))
    assert ollama.render_modelfile_template(template, system, "Mug, 3 {x}") == prompt
    assert 'serve/schemas/price.schema.json as "format"' in text


def test_several_tasks_have_a_modelfile_each(speakers):
    tasks = (task("price"), task("../evil name", instruction_template="Name?\n{{input_text}}"))
    texts = targets.ollama(served(speakers["qwen3"], *tasks))

    assert set(texts) == {
        "serve/ollama/price.Modelfile",
        "serve/ollama/..%2Fevil%20name.Modelfile",
    }
    assert set(texts) == targets.list_target_files("ollama", [spec.task_id for spec in tasks])
    assert all("\nFROM ../../model\n" in text for text in texts.values())
    assert "Title and price?" in texts["serve/ollama/price.Modelfile"]
    assert all(len(line) < 200 for text in texts.values() for line in text.splitlines())


REFUSED_TASKS = {
    "an instruction that Ollama reads": {"instruction_template": "{{ .System }} {{input_text}}"},
    "a system prompt with three quotes": {"system_prompt": 'Say """ loudly.'},
}


@pytest.mark.parametrize("name", REFUSED_TASKS)
def test_a_task_that_a_modelfile_cannot_hold_has_none(speakers, name):
    with pytest.raises(SemError, match="no Modelfile: "):
        targets.ollama(served(speakers["chatml"], task(**REFUSED_TASKS[name])))


def test_vllm_holds_schemas_by_the_backend_that_was_proven(speakers):
    texts = targets.vllm(served(speakers["llama3"]))

    config = yaml.safe_load(texts["serve/vllm.yaml"])
    assert json.loads(config["structured-outputs-config"]) == {"backend": "guidance"}
    assert "structured_outputs: {json: $schema[0]}" in texts["serve/VLLM.md"]
    assert not any("guided" in text for text in texts.values())


def test_no_target_writes_the_weights_again_unless_it_is_asked(speakers):
    assert not set(targets.DEFAULT) & set(targets.GGUF)
    assert set(targets.DEFAULT) | set(targets.GGUF) == set(targets.TARGETS)


def test_texts_to_check_hold_every_control_token_of_a_prompt(speakers):
    speaker = speakers["gemma3"]
    texts = targets.texts_to_check(speaker, ["page"] * 30)
    assert len(texts) == targets.CHECKED_TEXTS == 20
    assert "page" in texts
    assert any("<start_of_turn>" in text for text in texts)


def test_ids_that_nobody_could_compare_are_not_called_equal(
    speakers, monkeypatch, capsys, tmp_path
):
    monkeypatch.setattr(llamacpp, "is_installed", lambda: False)
    package = served(speakers["chatml"])
    assert targets._check_token_ids(tmp_path / "x.gguf", package, ["a"]) == 0
    assert "not checked" in capsys.readouterr().err
    assert "Token ids: not checked." in targets.llamacpp(package)["serve/LLAMACPP.md"]


def test_a_file_that_reads_texts_as_other_tokens_is_not_packaged(speakers, monkeypatch, tmp_path):
    class Server:
        def __init__(self, serving: llamacpp.Serving) -> None:
            self.is_open = True

        def token_ids(self, text: str) -> list[int]:
            return [1]

        def close(self) -> None:
            self.is_open = False

    monkeypatch.setattr(llamacpp, "is_installed", lambda: True)
    monkeypatch.setattr(llamacpp, "Server", Server)
    with pytest.raises(SemError, match="llama.cpp reads 'Mug' as other tokens"):
        targets._check_token_ids(tmp_path / "x.gguf", served(speakers["chatml"]), ["Mug"])


def test_every_target_writes_the_files_that_verify_knows(speakers):
    for name, write in targets.TARGETS.items():
        paths = write(served(speakers["qwen3"]))
        assert set(paths) == set(targets.FILES[name])
        for path in map(Path, paths):
            assert path.suffix in verify.SUFFIXES or path.name in verify.NAMES


@pytest.mark.parametrize("family", USABLE)
def test_what_ends_an_answer_is_said_to_every_runtime(speakers, family):
    # vLLM stops at generation_config.json's ids alone: a base that lists its end of text there
    # went on behind the end of a turn.
    config = bundle.generation_config(speakers[family])
    assert config["eos_token_id"] == speakers[family].stop_ids
    assert config["do_sample"] is False

"""What a package says to each runtime, written from the model's own tokenizer."""

from pathlib import Path

import pytest
import yaml
from tinymodels import FAMILIES, make_tokenizer
from toy import make_t5

from sem.core.errors import SemError
from sem.lm.local import chat, ollama
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


def served(speaker: chat.Chat) -> ServedPackage:
    return ServedPackage("shop", speaker, "bfloat16", 1024)


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

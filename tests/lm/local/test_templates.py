"""A base model's chat template is asked what it does: it is pinned, or refused with a way out."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tinymodels import FAMILIES, make_tokenizer

from sem.core.errors import SemError
from sem.lm.local import chat, turns

REFUSED = {
    "thinks": ("it may think before it answers", "set `renderer: plan` in train.yaml"),
    "alpaca": ("does not close a turn with a token of its own", "use another base model"),
}
USABLE = sorted(FAMILIES.keys() - REFUSED)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder with the tokenizer of each family."""
    root = tmp_path_factory.mktemp("families")
    for family in FAMILIES:
        make_tokenizer(family).save_pretrained(root / family)
    return {family: root / family for family in FAMILIES}


def on(day: datetime) -> Any:
    """Return a clock that stands on `day`, as templates call it."""
    return lambda format: day.strftime(format)


@pytest.mark.parametrize("family", USABLE)
def test_a_prompt_holds_both_texts_and_the_answer_follows_it(folders, family) -> None:
    # Before: Gemma 2's refusal of a system turn was a raw Jinja traceback; a template that wrote
    # no system text at all was trained without one; Qwen 3's empty thought refused every row.
    speaker = chat.load_chat(folders[family])
    prompt = speaker.prompt_text("Be brief.", "the page")
    row = [*speaker.prompt_ids("Be brief.", "the page"), *speaker.answer_ids('{"a":1}')]

    assert (prompt.count("Be brief."), prompt.count("the page")) == (1, 1)
    assert speaker.conversation_ids("Be brief.", "the page", '{"a":1}')[: len(row)] == row
    assert row[-1] == speaker.end_of_turn


@pytest.mark.parametrize("family", USABLE)
def test_a_prompt_is_the_same_on_every_day(folders, family) -> None:
    # Before: Llama 3.2's "Today Date" moved the prompt of a trained run every midnight.
    tokenizer = chat.load_chat(folders[family]).tokenizer
    said = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    first, second = (
        tokenizer.apply_chat_template(said, tokenize=False, strftime_now=on(day))
        for day in (datetime(2024, 1, 1), datetime(2030, 12, 31))
    )
    assert first == second


@pytest.mark.parametrize("family", USABLE)
def test_a_prompt_is_the_same_whatever_a_runtime_says_about_thinking(folders, family) -> None:
    # vLLM and Transformers send no switch; the package's own template has to hold thinking off.
    tokenizer = chat.load_chat(folders[family]).tokenizer
    said = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    prompts = {
        tokenizer.apply_chat_template(
            said, tokenize=False, add_generation_prompt=True, **dict.fromkeys(turns.SWITCHES, each)
        )
        for each in (True, False)
    }
    assert prompts == {chat.load_chat(folders[family]).prompt_text("s", "u")}


@pytest.mark.parametrize("family", USABLE)
def test_a_pinned_template_is_pinned_once(folders, family) -> None:
    tokenizer = chat.load_chat(folders[family]).tokenizer
    assert turns.pin_template(tokenizer) == tokenizer.chat_template


@pytest.mark.parametrize("family", ["chatml", "llama3-plain", "gemma3", "phi3", "zephyr", "glm"])
def test_a_template_that_needs_nothing_is_left_as_it_is(folders, family) -> None:
    assert chat.load_chat(folders[family]).tokenizer.chat_template == FAMILIES[family].template


def test_an_empty_system_text_opens_no_empty_line_where_it_is_folded(folders) -> None:
    text = chat.load_chat(folders["gemma2"]).prompt_text("", "u")
    assert text == "<bos><start_of_turn>user\nu<end_of_turn>\n<start_of_turn>model\n"


@pytest.mark.parametrize("family", REFUSED)
def test_a_template_that_cannot_be_used_is_refused_with_a_way_out(folders, family) -> None:
    message, hint = REFUSED[family]
    with pytest.raises(SemError, match=message) as caught:
        chat.load_chat(folders[family])
    assert hint in caught.value.hint


@pytest.mark.parametrize("family", ["gemma2", "dated-gemma", "thinks", "qwen3", "smollm3"])
def test_the_plan_s_turns_are_a_way_out_of_any_template_with_markers(folders, family) -> None:
    # Before: `renderer: plan` rendered the template it was to replace, and met its refusal.
    prompt = chat.load_chat(folders[family], turns.PLAN).prompt_text("s", "u")
    assert prompt.endswith("assistant: ")
    assert "<think>" not in prompt


@pytest.mark.parametrize(
    "broken",
    [
        "{{ raise_exception('no') }}",
        "{{ messages[0]['content'][0]['text'] }}",
        "{% for m in messages %}",
        "",
        "hello",
    ],
)
def test_the_plan_s_turns_need_no_template_that_works(tmp_path, folders, broken) -> None:
    tokenizer = make_tokenizer("chatml")
    tokenizer.chat_template = broken
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(SemError) as caught:
        chat.load_chat(tmp_path)
    assert "`renderer: plan`" in caught.value.hint
    assert chat.load_chat(tmp_path, turns.PLAN).prompt_text("s", "u").endswith("assistant: ")


def test_a_tokenizer_whose_templates_have_no_default_is_refused(tmp_path) -> None:
    tokenizer = make_tokenizer("chatml")
    tokenizer.chat_template = {"rag": "x", "tool_use": "y"}
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(SemError, match="several chat templates, none called default"):
        chat.load_chat(tmp_path)


TOKENS = ["</think>", "<tool_call>", "<<think>think>", "a <think></think> b", "<|im_end|>"]


@pytest.mark.parametrize("page", TOKENS)
def test_a_page_never_becomes_a_token_that_was_added_without_a_mark(folders, page) -> None:
    # Before: only tokens marked special were broken; Qwen's </think> and <tool_call> are not.
    speaker = chat.load_chat(folders["qwen3"])
    added = set(speaker.tokenizer.added_tokens_decoder)
    clean = sum(token in added for token in speaker.prompt_ids("s", "u"))
    forged = sum(token in added for token in speaker.prompt_ids(page, page))
    assert forged == clean
    assert not added & set(speaker.answer_ids(page)[:-1])


@pytest.mark.parametrize("page", ["＜/think＞", "</THINK>", "＜tool_call>", "<ＴＯＯＬ_call>"])
def test_a_look_alike_that_the_tokenizer_folds_is_broken_too(tmp_path, page) -> None:
    # A tokenizer that folds widths and case reads these as the token itself.
    from tokenizers import AddedToken, normalizers

    tokenizer = make_tokenizer("chatml")
    folding = [normalizers.NFKC(), normalizers.Lowercase()]
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence(folding)
    tokenizer.add_tokens([AddedToken(t, normalized=True) for t in ("</think>", "<tool_call>")])
    tokenizer.save_pretrained(tmp_path)
    speaker = chat.load_chat(tmp_path)
    added = {speaker.tokenizer.convert_tokens_to_ids(t) for t in ("</think>", "<tool_call>")}
    assert added & set(speaker.tokenizer(page, add_special_tokens=False)["input_ids"])
    assert not added & set(speaker.prompt_ids("s", f"a {page} b"))


def test_white_space_and_single_letters_that_were_added_stay_as_they_are(tmp_path) -> None:
    # Gemma added "\n\n" and GPT-NeoX runs of spaces: breaking those would rewrite every page.
    tokenizer = make_tokenizer("chatml")
    tokenizer.add_tokens(["\n\n", "    ", "\u2581\u2581", "ł"])
    tokenizer.save_pretrained(tmp_path)
    page = "10 zł\n\n    net \u2581\u2581"
    assert page in chat.load_chat(tmp_path).prompt_text("s", page)


def test_a_generation_ends_where_the_model_s_own_config_ends_one(folders, tmp_path) -> None:
    # Llama 3 lists <|end_of_text|> beside <|eot_id|> in generation_config.json only.
    import json

    tokenizer = make_tokenizer("llama3")
    tokenizer.save_pretrained(tmp_path)
    own = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    config = {"eos_token_id": [own, tokenizer.eos_token_id, 10**6, "x"]}
    (tmp_path / "generation_config.json").write_text(json.dumps(config))
    assert chat.load_chat(tmp_path).stop_ids == sorted({own, tokenizer.eos_token_id})


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
@pytest.mark.parametrize("content", ["[]", "null", "5", '"x"', "{"])
def test_a_config_of_another_type_is_one_line(folders, tmp_path, name, content) -> None:
    import shutil

    folder = shutil.copytree(folders["chatml"], tmp_path / "base")
    (folder / name).write_text(content)
    with pytest.raises(SemError, match=f"{name}: not "):
        chat.load_chat(folder)

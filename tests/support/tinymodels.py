"""Tiny random models of many architectures, and tokenizers with the templates of known families.

    folder = make_base(tmp_path / "base", "qwen3", "qwen3")

The templates are written anew after what the families' own do, oddities included; each is small
enough to be read.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toy import CHATML, SPEC

LLAMA3 = """{{- bos_token }}
{%- if not date_string is defined %}{%- if strftime_now is defined %}
{%- set date_string = strftime_now("%d %b %Y") %}{%- else %}
{%- set date_string = "26 Jul 2024" %}{%- endif %}{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}{%- set system_message = "" %}{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}{{- "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
LLAMA3_PLAIN = """{% for message in messages %}{{ (bos_token if loop.first else '') }}\
{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}\
{{ message['content'] | trim + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}\
{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"""
GEMMA2 = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}\
{{ raise_exception('System role not supported') }}{% endif %}\
{% for message in messages %}\
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}\
{% endif %}{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}\
{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}\
{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""
GEMMA3 = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set first = messages[0]['content'] + '\\n\\n' -%}{%- set rest = messages[1:] -%}
{%- else -%}{%- set first = '' -%}{%- set rest = messages -%}{%- endif -%}
{%- for message in rest -%}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
{{ '<start_of_turn>' + role + '\\n' + (first if loop.first else '') }}
{{- message['content'] | trim }}{{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}
"""
QWEN3 = """{%- for message in messages %}
{%- if message.role == 'assistant' %}
    {%- set content = message.content %}{%- set thoughts = '' %}
    {%- if '</think>' in content %}
        {%- set thoughts = content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if loop.last %}{{- '<think>\\n' + thoughts + '\\n</think>\\n\\n' }}{%- endif %}
    {{- content + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""
# Its own clock, a switch that is on unless it is told otherwise, and a mode in the system turn.
SMOLLM3 = """{%- if enable_thinking is not defined %}{%- set enable_thinking = true %}{%- endif %}
{%- set mode = "/think" if enable_thinking else "/no_think" %}
{{- "<|im_start|>system\\nToday Date: " + strftime_now("%d %B %Y") }}
{{- "\\nMode: " + mode + "\\n\\n" }}
{%- if messages[0].role == "system" %}
    {{- messages[0].content.rstrip() }}{%- set messages = messages[1:] %}
{%- endif %}
{{- "<|im_end|>\\n" }}
{%- for message in messages %}
    {%- if message.role == "user" %}
        {{- "<|im_start|>user\\n" + message.content + "<|im_end|>\\n" }}
    {%- elif mode == "/think" %}
        {{- "<|im_start|>assistant\\n" + message.content.lstrip("\\n") + "<|im_end|>\\n" }}
    {%- else %}
        {{- "<|im_start|>assistant\\n<think>\\n\\n</think>\\n" + message.content.lstrip("\\n") }}
        {{- "<|im_end|>\\n" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- "<|im_start|>assistant\\n" + ("" if enable_thinking else "<think>\\n\\n</think>\\n") }}
{%- endif %}"""
MISTRAL = """{{ bos_token }}{%- if messages[0]['role'] == 'system' %}\
{%- set system = messages[0]['content'] + '\\n\\n' %}{%- set rest = messages[1:] %}\
{%- else %}{%- set system = '' %}{%- set rest = messages %}{%- endif %}\
{%- for m in rest %}{%- if m['role'] == 'user' %}\
{{ '[INST] ' + (system if loop.first else '') + m['content'] + '[/INST]' }}\
{%- else %}{{ ' ' + m['content'] + eos_token }}{%- endif %}{%- endfor %}"""
PHI3 = """{% for message in messages %}\
{{ '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}\
{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}\
{% else %}{{ eos_token }}{% endif %}"""
ZEPHYR = """{% for message in messages %}\
{{ '<|' + message['role'] + '|>\\n' + message['content'] + eos_token + '\\n' }}\
{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"""
GLM = """[gMASK]<sop>{% for item in messages %}\
{{ '<|' + item['role'] + '|>\\n' + item['content'] }}\
{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}<|user|>{% endif %}"""
COMMAND = """{{ bos_token }}{% for message in messages %}\
{% set role = 'CHATBOT' if message['role'] == 'assistant' else message['role'] | upper %}\
{{ '<|START_OF_TURN_TOKEN|><|' + role + '_TOKEN|>' }}\
{{ message['content'].strip() + '<|END_OF_TURN_TOKEN|>' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{% endif %}"""
# Writes no system text at all, and says nothing about it.
DROPS = """{% for m in messages if m['role'] != 'system' %}\
{{ '<|' + m['role'] + '|>\\n' + m['content'] + eos_token + '\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"""
# Refuses a system turn and writes the day: one oddity behind another.
DATED_GEMMA = GEMMA2.replace(
    "{{ bos_token }}", "{{ bos_token }}Day {{ strftime_now('%Y-%m-%d') }}\n", 1
)
# Opens a thought that no switch closes, as DeepSeek R1 and Qwen 3 Thinking do.
THINKS = CHATML.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
# Ends no turn with a token.
ALPACA = """{% for m in messages %}{{ '### ' + m['role'] + ':\\n' + m['content'] + '\\n\\n' }}\
{% endfor %}{% if add_generation_prompt %}{{ '### assistant:\\n' }}{% endif %}"""


@dataclass(frozen=True)
class Words:
    """A family's tokenizer: its template, its special tokens, tokens added without that mark."""

    template: Any
    special: tuple[str, ...]
    eos: str
    bos: str | None = None
    added: tuple[str, ...] = ()


IM = ("<|im_start|>", "<|im_end|>")
HEADERS = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
GEMMA_TOKENS = ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>")
THOUGHTS = ("<think>", "</think>", "<tool_call>", "</tool_call>")
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
FAMILIES: dict[str, Words] = {
    "chatml": Words(CHATML, IM, "<|im_end|>"),
    "llama3": Words(LLAMA3, HEADERS, "<|eot_id|>", "<|begin_of_text|>"),
    "llama3-plain": Words(LLAMA3_PLAIN, HEADERS, "<|eot_id|>", "<|begin_of_text|>"),
    "gemma2": Words(GEMMA2, GEMMA_TOKENS, "<eos>", "<bos>"),
    "gemma3": Words(GEMMA3, GEMMA_TOKENS, "<eos>", "<bos>", ("\n\n", "<table>", "<h1>")),
    "qwen3": Words(QWEN3, IM, "<|im_end|>", None, THOUGHTS),
    "smollm3": Words(SMOLLM3, IM, "<|im_end|>", None, THOUGHTS),
    "mistral": Words(MISTRAL, ("<s>", "</s>", "[INST]", "[/INST]"), "</s>", "<s>"),
    "phi3": Words(PHI3, ("<s>", "<|end|>", *ROLES), "<|endoftext|>", "<s>"),
    "zephyr": Words(ZEPHYR, ("<s>", "</s>"), "</s>", "<s>"),
    "glm": Words(GLM, ("[gMASK]", "<sop>", *ROLES), "<|endoftext|>"),
    "command": Words(
        {"default": COMMAND, "rag": "{{ raise_exception('no documents') }}"},
        (
            "<BOS_TOKEN>",
            "<|START_OF_TURN_TOKEN|>",
            "<|END_OF_TURN_TOKEN|>",
            "<|SYSTEM_TOKEN|>",
            "<|USER_TOKEN|>",
            "<|CHATBOT_TOKEN|>",
        ),
        "<|END_OF_TURN_TOKEN|>",
        "<BOS_TOKEN>",
    ),
    "drops": Words(DROPS, ("<s>", "</s>"), "</s>", "<s>"),
    "dated-gemma": Words(DATED_GEMMA, GEMMA_TOKENS, "<eos>", "<bos>"),
    "thinks": Words(THINKS, IM, "<|im_end|>", None, THOUGHTS),
    "alpaca": Words(ALPACA, ("<s>", "</s>"), "</s>", "<s>"),
}


def make_tokenizer(family: str) -> Any:
    """Return a byte-level tokenizer of about 400 tokens with the template of `family`."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    words = FAMILIES[family]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(dict.fromkeys(["<|endoftext|>", *words.special])),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    raw.train_from_iterator([json.dumps(SPEC)] * 4, trainer)
    names = {"eos_token": words.eos, "pad_token": "<|endoftext|>"}
    names |= {"bos_token": words.bos} if words.bos else {}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, **names)
    rest = [each for each in words.special if each not in (words.eos, words.bos)]
    tokenizer.add_special_tokens({"additional_special_tokens": rest})
    tokenizer.add_tokens([AddedToken(each, special=False) for each in words.added])
    tokenizer.chat_template = words.template
    return tokenizer


@dataclass(frozen=True)
class Kind:
    """An architecture of Transformers: its classes' name, its usual family, what it needs."""

    name: str
    family: str = "chatml"
    words: dict[str, Any] = field(default_factory=dict)
    ending: str = "ForCausalLM"


_SSM = {
    "mamba_d_ssm": 64,
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_d_state": 16,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 16,
}
KINDS: dict[str, Kind] = {
    "llama": Kind("Llama", "llama3"),
    "mistral": Kind("Mistral", "mistral"),
    "qwen2": Kind("Qwen2", "chatml"),
    "qwen3": Kind("Qwen3", "qwen3", {"head_dim": 16}),
    "gemma": Kind("Gemma", "gemma2", {"head_dim": 16}),
    "gemma2": Kind(
        "Gemma2",
        "gemma2",
        {"head_dim": 16, "query_pre_attn_scalar": 16, "final_logit_softcapping": 0.5},
    ),
    "gemma3_text": Kind("Gemma3", "gemma3", {"head_dim": 16, "query_pre_attn_scalar": 16}),
    "phi": Kind("Phi", "zephyr"),
    "phi3": Kind("Phi3", "phi3"),
    "glm": Kind("Glm", "glm", {"head_dim": 16}),
    "opt": Kind("OPT", "chatml", {"ffn_dim": 128, "word_embed_proj_dim": 32}),
    "falcon_h1": Kind("FalconH1", "chatml", {"lm_head_multiplier": 0.1, **_SSM}),
    "lfm2": Kind("Lfm2", "chatml", {"layer_types": ["conv", "full_attention"]}),
    "gpt_neox": Kind("GPTNeoX", "zephyr"),
    "gpt2": Kind(
        "GPT2",
        "chatml",
        {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512},
        "LMHeadModel",
    ),
    "olmo2": Kind("Olmo2", "zephyr"),
    "granite": Kind("Granite", "chatml", {"logits_scaling": 8.0, "residual_multiplier": 0.22}),
    "cohere": Kind("Cohere", "command", {"logit_scale": 0.0625}),
    "stablelm": Kind("StableLm", "zephyr"),
    "smollm3": Kind("SmolLM3", "smollm3"),
    "starcoder2": Kind("Starcoder2", "chatml"),
    "gpt_bigcode": Kind(
        "GPTBigCode", "chatml", {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512}
    ),
    "minicpm3": Kind(
        "MiniCPM3",
        "chatml",
        {
            "dim_model_base": 16,
            "q_lora_rank": 16,
            "kv_lora_rank": 16,
            "qk_nope_head_dim": 16,
            "qk_rope_head_dim": 16,
            "v_head_dim": 16,
            "head_dim": 16,
            "num_key_value_heads": 4,
        },
    ),
    "olmoe": Kind("Olmoe", "zephyr", {"num_experts": 4, "num_experts_per_tok": 2}),
    "nanochat": Kind("NanoChat", "chatml", {"final_logit_softcapping": 0.7}),
    "mamba2": Kind(
        "Mamba2",
        "chatml",
        {"num_heads": 8, "head_dim": 16, "state_size": 16, "n_groups": 1, "chunk_size": 16},
    ),
    "bloom": Kind("Bloom", "chatml", {"n_layer": 2, "n_head": 4}),
    "falcon": Kind("Falcon", "chatml", {"alibi": False}),
    "ernie4_5": Kind("Ernie4_5", "chatml", {"head_dim": 16}),
    "helium": Kind("Helium", "chatml", {"head_dim": 16}),
    "nemotron": Kind("Nemotron", "chatml"),
    "seed_oss": Kind("SeedOss", "chatml", {"head_dim": 16}),
}
_CONFIGS = {"gemma3_text": "Gemma3TextConfig", "ernie4_5": "Ernie4_5Config"}


def make_model(kind: str, tokenizer: Any, **words: Any) -> Any:
    """Return a random model of `kind`, 64 wide with two layers, for `tokenizer`."""
    import torch
    import transformers

    known = KINDS[kind]
    usual = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        # Wide enough that logits differ by more than rounding, and a cap or a scale shows.
        "initializer_range": 0.1,
    }
    config = getattr(transformers, _CONFIGS.get(kind, f"{known.name}Config"))
    torch.manual_seed(0)
    return getattr(transformers, f"{known.name}{known.ending}")(
        config(**usual | known.words | words)
    )


def make_base(folder: Path, kind: str, family: str | None = None, **words: Any) -> Path:
    """Write a random `kind` with the tokenizer of `family` (default: its usual one)."""
    tokenizer = make_tokenizer(family or KINDS[kind].family)
    make_model(kind, tokenizer, **words).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Passed:
    """What came of a base model on its way from `train.prepare` to a verified package."""

    kind: str
    family: str
    checks: dict[str, str]  # of prepare, by name
    # Of our loss and the model's own forward, relative.
    difference: float
    answered: int
    # Constrained answers that are the schema's JSON.
    constrained_valid: int
    targets: tuple[str, ...]
    faults: tuple[str, ...]
    # Proven answers that the package repeats, asked.
    equal: tuple[int, int]
    note: str = ""


def pass_whole_path(project_of: Any, kind: str, family: str, recipe: list[str]) -> Passed:
    """Take the project `project_of(settings)` from prepare to a verified package.

    Four steps of training; every answer of the test part, free and constrained.
    """
    from sem.core import files
    from sem.core.run import BASE
    from sem.eval.answers import answers, subject
    from sem.eval.report import compare, report
    from sem.package.export import bundle
    from sem.package.verify import verify
    from sem.train.run import plan

    settings = [*QUICK, *recipe]
    project = project_of(settings)
    run = plan.prepare_training(project, None)
    checks = {each["name"]: each["found"] for each in run.plan()["preflight"]}
    plan.train_prepared(project, run, resume=False)
    for name in (BASE, run.id):
        subject.answer_subject(subject.resolve_subject(project, name, "test", None))
    held = project_of([*settings, "eval.decoding=constrained"])
    asked = subject.resolve_subject(held, run.id, "test", None)
    subject.answer_subject(asked)
    report.write_report(
        project.reports / run.id,
        compare.comparison_scores(compare.read_comparison(project, run.id, BASE, "test", None)),
    )
    folder = bundle.build_package(project, run, [])
    faults = tuple(verify.package_faults(folder))
    proven = subject.resolve_subject(project, run.id, "test", None)
    valid = sum(_is_answer(each.text) for each in answers.read_answers(asked.book.path).values())
    ours, own = (float(word) for word in checks["loss"].split() if word[:1].isdigit())
    return Passed(
        kind,
        family,
        checks,
        abs(ours - own) / own,
        len(answers.read_answers(proven.book.path)),
        valid,
        tuple(files.read_json(folder / "manifest.json")["targets"]),
        faults,
        verify.answers_again(proven, folder, len(proven.examples)),
    )


# As the shipped projects are proven and served.
HELD = ["eval.decoding=constrained"]
QUICK = [
    "train.max_steps=4",
    "train.effective_batch=4",
    "train.micro_batch=2",
    "train.checkpoint_steps=4",
    "train.val_examples=2",
    "train.val_answers=0",
    "train.max_train_examples=16",
    "eval.max_new_tokens=24",
    "eval.max_examples=8",
    "eval.draws=50",
]


def _is_answer(text: str) -> bool:
    try:
        return set(json.loads(text)) == {"title", "price"}
    except ValueError:
        return False

"""Whose turns a conversation is written in: the tokenizer's own template, or the plan's words.

    <start_of_turn>system: {context}
    <end_of_turn>
    <start_of_turn>user: {prompt}
    <end_of_turn>
    <start_of_turn>assistant: {answer}<end_of_turn>

A tokenizer without these two tokens writes the same words between its own. The model's turn ends
with the token that ends it in the tokenizer's own template, which the base model may know better.
"""

from pathlib import Path
from typing import Any

from sem.core import files, jsonio
from sem.core.errors import SemError, nearest

TEMPLATE, PLAN = "template", "plan"
RENDERERS = (TEMPLATE, PLAN)
MARKERS = (("<start_of_turn>", "<end_of_turn>"), ("<|im_start|>", "<|im_end|>"))
INSTEAD = "use renderer: template"

# The prompt ends with a space: it is a token of its own, in training as in generation.
_PLAN = """\
{%- for message in messages -%}
{{- OPENS + message.role + ': ' + message.content -}}
{{- (ENDS if message.role == 'assistant' else '\\n' + CLOSES) + '\\n' -}}
{%- endfor -%}
{{- OPENS + 'assistant: ' if add_generation_prompt else '' -}}
"""


def check(renderer: str) -> None:
    """SemError when RENDERER is none that there is."""
    if renderer not in RENDERERS:
        raise SemError(f"train.yaml: renderer {renderer!r}", nearest(renderer, RENDERERS))


def markers(tokenizer: Any) -> tuple[str, str]:
    """What opens and closes a turn in TOKENIZER; SemError when it knows no such tokens."""
    known = tokenizer.get_vocab()
    for pair in MARKERS:
        if known.keys() >= set(pair):
            return pair
    names = " or ".join(opens for opens, _ in MARKERS)
    raise SemError(f"renderer: plan needs a tokenizer with {names}", INSTEAD)


def plan(tokenizer: Any, ends: str) -> str:
    """The chat template of the plan's turns for TOKENIZER, the model's ending with ENDS."""
    opens, closes = markers(tokenizer)
    said = {"OPENS": opens, "CLOSES": closes, "ENDS": ends}
    text = _PLAN
    for name, token in said.items():
        text = text.replace(name, jsonio.dumps(token))
    return "{{- bos_token -}}\n" + text if _begins(tokenizer, opens) else text


def save(template: str, folder: Path) -> None:
    """Make TEMPLATE the one chat template of the tokenizer in FOLDER."""
    files.write(folder / "chat_template.jinja", template)
    config = files.read_json(folder / "tokenizer_config.json")
    config.pop("chat_template", None)
    files.write(folder / "tokenizer_config.json", jsonio.pretty(config))


def _begins(tokenizer: Any, opens: str) -> bool:
    # SmolLM2's begin-of-text token is <|im_start|>: what opens its first turn, not one before it.
    first = tokenizer.bos_token
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    return bool(first) and first != opens and text.startswith(first)

"""Whose turns a conversation is written in: the tokenizer's own template, or the plan's words.

    <start_of_turn>system: {context}
    <end_of_turn>
    <start_of_turn>user: {prompt}
    <end_of_turn>
    <start_of_turn>assistant: {answer}<end_of_turn>

A tokenizer without these two tokens writes the same words between its own. The model's turn ends
with the token that ends it in the tokenizer's own template, which the base model may know better.

A template of the tokenizer is asked what it does before it is used (`pin_template`): what depends
on a switch or on the day is fixed in the template itself, so that a package renders the same in
every runtime.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sem.core import files, jsonio
from sem.core.errors import SemError, suggest_nearest_name

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


# What a template sees instead of texts: words that no template writes by itself.
SYSTEM, USER, ANSWER = "Sysanchor", "Useranchor", "Answeranchor"
# What Llama 3.2 writes where no clock is at hand; any day would do, but always the same.
PINNED_DAY = datetime(2024, 7, 26, tzinfo=UTC)
OTHER_DAY = datetime(2031, 11, 3, 17, 45, 59, tzinfo=UTC)
# The names under which templates read whether the model may think before it answers.
SWITCHES = ("enable_thinking", "thinking")
_THINKING_OFF = "".join(f"{{%- set {name} = false -%}}" for name in SWITCHES)
_FOLD = (
    "{%- if messages | length > 1 and messages[0]['role'] == 'system' -%}"
    "{%- set messages = [{'role': messages[1]['role'], 'content': (messages[0]['content'] "
    "~ '\\n\\n' if messages[0]['content'] else '') ~ messages[1]['content']}] + messages[2:] -%}"
    "{%- endif -%}"
)


def check_renderer(renderer: str) -> None:
    """Check that `renderer` is one that there is; raise SemError when not."""
    if renderer not in RENDERERS:
        raise SemError(
            f"train.yaml: unknown renderer {renderer!r}", suggest_nearest_name(renderer, RENDERERS)
        )


def turn_markers(tokenizer: Any) -> tuple[str, str]:
    """Return what opens and closes a turn in `tokenizer`; SemError without such tokens."""
    vocabulary = tokenizer.get_vocab()
    for pair in MARKERS:
        if vocabulary.keys() >= set(pair):
            return pair
    names = " or ".join(opens for opens, _ in MARKERS)
    raise SemError(f"renderer: plan needs a tokenizer with {names}", INSTEAD)


def plan_template(tokenizer: Any, ends: str) -> str:
    """Return the template of the plan's turns for `tokenizer`, the model's ending with `ends`."""
    opens, closes = turn_markers(tokenizer)
    tokens = {"OPENS": opens, "CLOSES": closes, "ENDS": ends}
    text = _PLAN
    for name, token in tokens.items():
        text = text.replace(name, jsonio.canonical_json(token))
    return "{{- bos_token -}}\n" + text if _begins(tokenizer, opens) else text


def pin_template(tokenizer: Any, is_strict: bool = True) -> str:
    """Return the chat template of `tokenizer`, fixed where it depends on more than the texts.

    A template that does not is returned as it is. Otherwise lines are put around it: the day is
    `PINNED_DAY`, thinking is off, a system text that the template refuses or drops opens the
    user's turn, and what it writes between prompt and answer belongs to the prompt.
    Raise SemError when no such line helps; with `is_strict` False only when it renders
    nothing at all.
    """
    own, ask = _own_template(tokenizer), _Asker(tokenizer)
    before = "" if ask.has_system_turn(own) else _FOLD
    if formats := ask.day_formats(_behind(before, own)):
        before += _day_macro(formats)
    if ask.depends_on_thinking(_behind(before, own)):
        before += _THINKING_OFF
    template = _behind(before, own)
    fault = ask.fault(template)
    if fault and (between := ask.between(template)):
        # Mistral writes `[/INST] answer`, but ends a prompt with `[/INST]`.
        ending = jsonio.canonical_json(between)
        longer = template + "{%- if add_generation_prompt -%}{{ " + ending + " }}{%- endif -%}"
        if not ask.fault(longer):
            return longer
    if fault and (is_strict or not ask.renders(template)):
        raise SemError(f"the chat template of this base model {fault}", way_out(tokenizer))
    return template


def way_out(tokenizer: Any) -> str:
    """Return what a person can do about a chat template that cannot be used."""
    vocabulary = tokenizer.get_vocab()
    if any(vocabulary.keys() >= set(pair) for pair in MARKERS):
        return "set `renderer: plan` in train.yaml, which needs no template of the base model's"
    return "use another base model, or give its tokenizer another chat template"


def _behind(before: str, template: str) -> str:
    # A block swallows one line end behind it, so the template itself begins a line as it did.
    return f"{before}\n{template}" if before else template


@dataclass(frozen=True)
class _Asker:
    """What a chat template does with a system turn, a switch and the day."""

    tokenizer: Any

    def has_system_turn(self, template: str) -> bool:
        """Return True if a system text stands in what `template` renders, once."""
        text = self._rendered(template, prompt=True)
        return text is not None and text.count(SYSTEM) == 1

    def day_formats(self, template: str) -> set[str]:
        """Return the formats in which `template` writes the day; none where it does not."""
        formats: set[str] = set()
        first, second = (
            self._pair(template, {"strftime_now": _clock(day, formats)})
            for day in (PINNED_DAY, OTHER_DAY)
        )
        return formats if first != second else set()

    def depends_on_thinking(self, template: str) -> bool:
        """Return True if `template` renders otherwise when it is told not to think."""
        return self._pair(template, {}) != self._pair(template, dict.fromkeys(SWITCHES, False))

    def renders(self, template: str) -> bool:
        """Return True if `template` renders a conversation at all."""
        return self._rendered(template, prompt=False) is not None

    def between(self, template: str) -> str:
        """Return what `template` writes between prompt and answer; empty when it cannot tell."""
        prompt, whole = self._pair(template, {})
        if prompt is None or whole is None or not whole.startswith(prompt):
            return ""
        text, answer, _ = whole.removeprefix(prompt).partition(ANSWER)
        return text if answer else ""

    def fault(self, template: str) -> str:
        """Return what is wrong with the prompts of `template`, in words; empty when nothing."""
        try:
            prompt, whole = self._render(template, True, {}), self._render(template, False, {})
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
            return f"cannot write a conversation: {reason}"
        if self._pair(template, {"strftime_now": _clock(OTHER_DAY, set())}) != (prompt, whole):
            return "writes another prompt on another day"
        if [prompt.count(marker) for marker in (SYSTEM, USER)] != [1, 1]:
            return "does not write the system text and the user's text once each"
        if whole.startswith(prompt + ANSWER):
            return ""
        ids = [*self._ids(prompt), *self._ids(ANSWER)]
        if self._ids(whole)[: len(ids)] == ids:
            return ""
        return (
            "does not begin a turn as it writes one: a prompt ends with "
            f"{prompt[-24:]!r}, the answer stands behind {whole.partition(ANSWER)[0][-24:]!r} "
            "(it may think before it answers)"
        )

    def _pair(self, template: str, words: dict[str, Any]) -> tuple[str | None, str | None]:
        return (
            self._rendered(template, True, words),
            self._rendered(template, False, words),
        )

    def _rendered(
        self, template: str, prompt: bool, words: dict[str, Any] | None = None
    ) -> str | None:
        # Templates refuse by raise_exception, and fail in as many ways as a program can.
        try:
            return self._render(template, prompt, words or {})
        except Exception:
            return None

    def _render(self, template: str, prompt: bool, words: dict[str, Any]) -> str:
        turns = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": USER}]
        turns += [] if prompt else [{"role": "assistant", "content": ANSWER}]
        return self.tokenizer.apply_chat_template(
            turns, chat_template=template, tokenize=False, add_generation_prompt=prompt, **words
        )

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]


def _clock(day: datetime, formats: set[str]) -> Callable[[str], str]:
    """Return what a template calls for the time; it writes `day` and notes how it was asked."""

    def strftime_now(format: str) -> str:
        formats.add(format)
        return day.strftime(format)

    return strftime_now


def _own_template(tokenizer: Any) -> str:
    # Command R has several: `default`, `tool_use`, `rag`.
    try:
        return tokenizer.get_chat_template()
    except ValueError as error:
        raise SemError(
            "the tokenizer has several chat templates, none called default", way_out(tokenizer)
        ) from error


def _day_macro(formats: set[str]) -> str:
    days = jsonio.canonical_json(
        {day_format: PINNED_DAY.strftime(day_format) for day_format in sorted(formats)}
    )
    return f"{{%- macro strftime_now(format) -%}}{{{{- ({days})[format] -}}}}{{%- endmacro -%}}"


def save_template(template: str, folder: Path) -> None:
    """Make `template` the one chat template of the tokenizer in `folder`."""
    files.write_file(folder / "chat_template.jinja", template)
    path = folder / "tokenizer_config.json"
    config = files.read_object(path) if path.exists() else {}
    if config.pop("chat_template", None) is not None:
        files.write_file(path, jsonio.pretty_json(config))


def _begins(tokenizer: Any, opens: str) -> bool:
    # SmolLM2's begin-of-text token is <|im_start|>: what opens its first turn, not one before it.
    first = tokenizer.bos_token
    if not tokenizer.chat_template:
        ids = tokenizer("x")["input_ids"]
        return bool(first) and first != opens and ids[:1] == [tokenizer.bos_token_id]
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    return bool(first) and first != opens and text.startswith(first)

"""Chat sets of others to one input and one answer, and back: ShareGPT, Alpaca, messages, ChatML.

An explicit `input_text`, `output_json` or `system_prompt` in a record always wins over its turns.
"""

import re
from collections.abc import Mapping
from typing import Any

from sem.core import jsonio, taskspec
from sem.core.example import SPELLINGS, Example
from sem.core.taskspec import PLACEHOLDER, TaskSpec

ROLES = {
    "system": "system",
    "developer": "system",
    "human": "user",
    "user": "user",
    "prompter": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
}
TOOLS = ("tool", "function", "function_call", "function_response", "observation", "ipython")
OWN = ("input_text", "output_json", "system_prompt")
# What says the same as the turns do, in part: a `prompt` beside `messages` is the first turn.
SHADOWED = {*SPELLINGS["input_text"], *SPELLINGS["output_json"], *OWN, "response_strong"}
TURNS = ("conversations", "messages", "conversation")
CHATML = re.compile(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>\n?", re.S)
CONTROL = re.compile(r"<(?=\|im_(?:start|end)\|>)")
# Read by `datasets`, which wants one type a column: what differs from row to row is JSON text.
FLAT = {"chatml", "axolotl"}
VARIOUS = ("meta", "slot_specs", "negative_examples")


class UnusableConversationError(ValueError):
    """A conversation that is not one input and one answer; its text is the reason."""


def unfold_conversation(
    record: dict[str, Any], tasks: Mapping[str, TaskSpec], task: str | None
) -> Any:
    """Return `record` with its turns as input_text, output_json and system_prompt, or as it is.

    The task's instruction around the input is taken off, and its own system prompt is none of
    the row's. Unusable when the turns are not one question and one answer in text.
    """
    turns = next((record[name] for name in TURNS if record.get(name) is not None), None)
    if turns is None and str(record.get("text", "")).startswith("<|im_start|>"):
        turns = _chatml_turns(record["text"])
        record = {name: value for name, value in record.items() if name != "text"}
    if turns is None and not ("instruction" in record and "output" in record):
        return record
    own = {name: record[name] for name in OWN if record.get(name) is not None}
    rest = {name: value for name, value in record.items() if name not in SHADOWED}
    spec = tasks.get(str(record.get("task") or record.get("task_id") or task))
    fields = _alpaca(record, spec) if turns is None else _chat(turns, record, spec)
    if spec is not None and (fields["system_prompt"] or "") == spec.system_prompt:
        fields["system_prompt"] = None
    if "output_json" in own:
        del fields["response_strong"]
    return {**rest, **fields, **own}


def _chat(turns: Any, record: dict[str, Any], spec: TaskSpec | None) -> dict[str, Any]:
    messages = _said(turns, record.get("system"))
    roles = [role for role, _ in messages]
    if roles.count("system") > 1:
        raise UnusableConversationError("conversation_two_system_turns")
    if roles.count("user") > 1 or roles.count("assistant") > 1:
        raise UnusableConversationError("conversation_many_turns")
    if "user" not in roles or "assistant" not in roles:
        raise UnusableConversationError(
            "conversation_no_answer" if "user" in roles else "conversation_no_question"
        )
    if roles[-2:] != ["user", "assistant"]:
        raise UnusableConversationError("conversation_out_of_order")
    texts = dict(messages)
    return {
        "input_text": _without_instruction(texts["user"], spec),
        # a text that holds JSON, or words.
        "response_strong": texts["assistant"],
        "system_prompt": texts.get("system"),
    }


def _said(turns: Any, system: Any) -> list[tuple[str, str]]:
    """(role, text) of every turn, the record's own system prompt first."""
    turns = _parsed(turns)
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise UnusableConversationError("conversation_no_turns")
    messages = [("system", system)] if isinstance(system, str) and system else []
    for turn in turns:
        named = str(turn.get("from") or turn.get("role") or "").lower()
        if named in TOOLS or turn.get("tool_calls") or turn.get("function_call"):
            raise UnusableConversationError("conversation_tools")
        if named not in ROLES:
            raise UnusableConversationError(f"conversation_role: {named[:40]!r}")
        messages.append((ROLES[named], _content(turn.get("value", turn.get("content")))))
    return messages


def _chatml_turns(text: str) -> list[dict[str, str]]:
    """Return the turns that `text` writes as ChatML.

    Unusable when there is anything beside them.
    """
    if CHATML.sub("", text).strip():
        raise UnusableConversationError("conversation_not_chatml")
    return [{"role": role, "content": content} for role, content in CHATML.findall(text)]


def _parsed(turns: Any) -> Any:
    """Return `turns`, also where a CSV cell holds them as JSON text."""
    if not isinstance(turns, str):
        return turns
    try:
        return jsonio.parse_json(turns)
    except ValueError as error:
        raise UnusableConversationError("conversation_no_turns") from error


def _content(value: Any) -> str:
    """Return the text of one turn; parts of it are joined when all of them are text."""
    if isinstance(value, str):
        return value
    parts = value if isinstance(value, list) else []
    found = [part.get("text") for part in parts if isinstance(part, dict)]
    texts = [text for text in found if isinstance(text, str)]
    if not parts or len(texts) != len(parts):
        raise UnusableConversationError("conversation_not_text")
    return "".join(texts)


def _alpaca(record: dict[str, Any], spec: TaskSpec | None) -> dict[str, Any]:
    if record.get("history"):
        raise UnusableConversationError("conversation_many_turns")
    instruction, user_input = record["instruction"] or "", record.get("input") or ""
    if not isinstance(instruction, str) or not isinstance(user_input, str):
        raise UnusableConversationError("conversation_not_text")
    is_ours = spec is not None and instruction == _instruction(spec) and user_input
    question = (
        user_input if is_ours else "\n\n".join(part for part in (instruction, user_input) if part)
    )
    return {
        "input_text": question if is_ours else _without_instruction(question, spec),
        "response_strong": record["output"],
        "system_prompt": record.get("system") or None,
    }


def _without_instruction(text: str, spec: TaskSpec | None) -> str:
    if spec is None:
        return text
    before, _, after = spec.instruction_template.partition(PLACEHOLDER)
    inner = text[len(before) : len(text) - len(after)]
    return inner if before + inner + after == text else text


def _instruction(spec: TaskSpec) -> str:
    return spec.instruction_template.replace(PLACEHOLDER, "").strip()


def as_conversation(example: Example, spec: TaskSpec, form: str) -> dict[str, Any]:
    """Return `example` as a row of `form`, one of FORMS; reading it back gives the same example.

    What the turns alone would not give back (an input that is empty) is written beside them.
    """
    whole = example.as_json()
    if form == "taskspec":
        return whole
    row = {name: value for name, value in whole.items() if name not in OWN}
    row |= FORMS[form](example, spec)
    back = unfold_conversation(row, {spec.task_id: spec}, spec.task_id)
    for name in ("input_text", "system_prompt"):
        if back[name] != whole.get(name):
            row[name] = whole.get(name)
    if back["response_strong"] != taskspec.taught_text(example.output_json):
        row["output_json"] = taskspec.taught_text(example.output_json)
    if form in FLAT:
        row |= {name: jsonio.canonical_json(row[name]) for name in VARIOUS if name in row}
    return row


def _sharegpt(example: Example, spec: TaskSpec) -> dict[str, Any]:
    system, question, answer = _three(example, spec)
    turns = (("system", system), ("human", question), ("gpt", answer))
    return {"conversations": [{"from": name, "value": text} for name, text in turns]}


def _messages(example: Example, spec: TaskSpec) -> dict[str, Any]:
    system, question, answer = _three(example, spec)
    turns = (("system", system), ("user", question), ("assistant", answer))
    return {"messages": [{"role": name, "content": text} for name, text in turns]}


def _chatml(example: Example, spec: TaskSpec) -> dict[str, Any]:
    # A control token in a text is broken by a space: it would end its turn for whoever trains.
    turns = zip(("system", "user", "assistant"), _three(example, spec), strict=True)
    parts = [
        f"<|im_start|>{role}\n{CONTROL.sub('< ', content)}<|im_end|>\n" for role, content in turns
    ]
    return {"text": "".join(parts)}


def _alpaca_row(example: Example, spec: TaskSpec) -> dict[str, Any]:
    system, _, answer = _three(example, spec)
    instruction = _instruction(spec)
    turn = (instruction, example.input_text) if instruction else (example.input_text, "")
    return {"instruction": turn[0], "input": turn[1], "output": answer, "system": system}


def _three(example: Example, spec: TaskSpec) -> tuple[str, str, str]:
    """Return what the model is taught: system prompt, whole question, answer."""
    return (
        example.system_prompt or spec.system_prompt,
        spec.prompt(example.input_text),
        taskspec.taught_text(example.output_json),
    )


FORMS: dict[str, Any] = {
    "sharegpt": _sharegpt,
    "alpaca": _alpaca_row,
    "messages": _messages,
    "chatml": _chatml,
    "axolotl": _messages,
    "taskspec": None,
}

"""A reply is read around what chat models write beside their JSON, and never guessed."""

import time

import pytest

from sem.core import jsonio
from sem.lm.api import calls
from sem.lm.api.calls import ChatRequest

SCHEMA = {
    "type": "object",
    "required": ["pass", "score"],
    "properties": {
        "pass": {"type": "boolean"},
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "nonce": {"type": "string"},
        "reason": {"type": "string"},
    },
}
GOOD = '{"nonce":"ab","pass":true,"score":0.9}'
OTHER = '{"pass":false,"score":0.1}'
ECHO = ChatRequest((("user", "x"),), schema=SCHEMA, echo={"nonce": "ab"})
PLAIN = ChatRequest((("user", "x"),), schema=SCHEMA)

READ = {
    "plain": GOOD,
    "fence": f"```json\n{GOOD}\n```",
    # A served reasoning model cost three calls a slot and judged nothing.
    "thought": f'<think>\nLooks the same {{"pass": false}}\n</think>\n\n{GOOD}',
    "thought and fence": f"<think>ok</think>\n```json\n{GOOD}\n```",
    "a thought that the template opened": f"ok\n</think>\n{GOOD}",
    "another tag": f"<thinking>ok</thinking>{GOOD}",
    "two thoughts": f"<think>a</think><think>b</think>{GOOD}",
    "sentence before": f"Here is the verdict:\n{GOOD}",
    "sentence before, on its line": f"Verdict: {GOOD}",
    "sentence after": f"{GOOD}\nI hope this helps.",
    "fence and closing sentence": f"```json\n{GOOD}\n```\nHope this helps.",
    "sentence, fence, sentence": f"Sure!\n```\n{GOOD}\n```\nAnything else?",
    "fence on one line": f"```json {GOOD} ```",
    "another fence": f"~~~json\n{GOOD}\n~~~",
    "another tag of a fence": f"```json5\n{GOOD}\n```",
    "byte order mark": f"\ufeff{GOOD}",
    "byte order mark and fence": f"\ufeff```json\n{GOOD}\n```",
    "the same twice": f"{GOOD}\n{GOOD}",
    "a bracket in the prose": f"The set {{a, b is meant. {GOOD}",
    "quotes in the prose": f'He said "no": {GOOD}',
    "a tag within a text": '{"pass":true,"score":0.9,"reason":"it says </think> there"}',
    "brackets within a text": 'So: {"pass":true,"score":0.9,"reason":"} {"}',
    "lines": f"\r\n\r\n{GOOD}\r\n",
}


@pytest.mark.parametrize("name", READ)
def test_a_reply_is_read_around_what_stands_beside_it(name):
    value, fault, detail = calls.parse_reply_value(READ[name], PLAIN)

    assert (fault, detail) == (None, "")
    assert (value["pass"], value["score"]) == (True, 0.9)


REFUSED = {
    "two answers": (f"{GOOD}\n{OTHER}", "invalid_json"),
    "an example in a fence and an answer": (f"```\n{OTHER}\n```\n{GOOD}", "invalid_json"),
    "a thought without an end": (f"<think>maybe {GOOD}", "invalid_json"),
    "cut": ('{"pass": tr', "invalid_json"),
    "cut behind a sentence": ('Here: {"pass": tr', "invalid_json"),
    "a key twice": ('{"pass":false,"pass":true,"score":1}', "invalid_json"),
    "a key twice behind a sentence": (
        'Here: {"pass":false,"pass":true,"score":1}',
        "invalid_json",
    ),
    "no number": ('Here: {"pass":true,"score":NaN}', "not_finite"),
    "a trailing comma": (GOOD[:-1] + ",}", "invalid_json"),
    "Python": (GOOD.replace("true", "True"), "invalid_json"),
    "a list around it": (f"[{GOOD}]", "wrong_schema"),
    "words": ("I cannot judge this.", "invalid_json"),
    "a thought alone": ("<think>x</think>", "invalid_json"),
    "a text for a number": (GOOD.replace("0.9", '"4/5"'), "wrong_schema"),
    "nothing": (" \n", "empty"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_one_answer_is_refused_by_name(name):
    text, fault = REFUSED[name]

    assert calls.parse_reply_value(text, PLAIN)[:2] == (None, fault)


def test_of_two_answers_the_one_that_knows_the_code_counts():
    # A judge that quotes the page's "verdict" before its own.
    quoted = f"The page itself says {OTHER}, but:\n{GOOD}"

    assert calls.parse_reply_value(quoted, ECHO)[0] == jsonio.parse_json(GOOD)
    assert calls.parse_reply_value(quoted, PLAIN)[1] == "invalid_json"
    both = GOOD.replace("true", "false")
    assert calls.parse_reply_value(f"{GOOD}{both}", ECHO)[1] == "invalid_json"
    assert calls.parse_reply_value(GOOD.replace("ab", "cd"), ECHO)[1] == "wrong_echo"


@pytest.mark.parametrize(
    "text", ["{" * 150_000, "```\n" * 40_000, '{"' * 60_000, "<think>" * 20_000, '{"a": [' * 9_000]
)
def test_a_hostile_reply_is_refused_at_once(text):
    began = time.process_time()

    assert calls.parse_reply_value(text, PLAIN)[1] == "invalid_json"
    assert time.process_time() - began < 2

"""Which pairs stay: every rule with its counter-example, faithfulness, near-duplicates, judge."""

import json
from datetime import UTC, datetime

import pytest
from chatserver import ChatServer

from sem.core.errors import SemError
from sem.forge.base import Pair
from sem.forge.checks.pair_quality import Quality, QualityContext, sift_pairs
from sem.forge.teacher.presets import TeacherSettings
from sem.forge.teacher.teacher import make_teacher
from sem.lm.api.provider import Calls, Price, Provider

AT = datetime(2026, 11, 21, tzinfo=UTC)
TEXT = (
    "Rust gives a variable one owner. When the owner goes out of scope, the value is dropped. "
    "`String::from` allocates on the heap, and `clone` copies the heap data. A vector grows to "
    "twice its capacity when it is full; a tuple has at most 12 elements in these traits. "
    '```rust\nlet s1 = String::from("hello");\nlet s2 = s1.clone();\n```'
)
QUESTION = "What happens to a value when its owner goes out of scope?"


def pair(answer="The value is dropped.", question=QUESTION, passage=TEXT, **changes):
    provenance = {"passage": passage, **changes.pop("provenance", {})}
    return Pair(question, {"answer": answer}, source="ch04.md", provenance=provenance, **changes)


def reason(one, **settings):
    (verdict,) = sift_pairs([one], QualityContext(Quality(**settings)))
    return verdict.reason


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The value is dropped.", None),
        ("I'm sorry, but I can't help with that.", "refusal"),
        ("As an AI, I have no owner; the value is dropped.", "refusal"),
        ("According to the passage, the value is dropped.", "leak"),
        ("The text states that the value is dropped.", "leak"),
        ("The passage does not say.", "no_answer"),
        ("N/A", "no_answer"),
        ("Der Wert wird freigegeben, sobald der Besitzer den Bereich verlässt.", "wrong_language"),
        ("The value is dropped and the value is dropped " * 8, "loop"),
        (QUESTION, "answer_is_question"),
        ("The value is dropped, said sk-live-0123456789abcdef.", "secret"),
        ("The value is dropped, says [key].", "secret"),
        ("", "answer_too_short"),
        # `None` is an answer about Rust, "the text" may be what a function trims.
        ("`None`", "unfaithful_code"),
    ],
)
def test_an_answer_is_kept_or_dropped_for_its_own_reason(answer, expected):
    assert reason(pair(answer)) == expected


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What does this section say about owners?", "not_standalone"),
        ("What does the code above print when it runs?", "not_standalone"),
        ("What is shown in Listing 4-2 about owners?", "not_standalone"),
        ("Which of the following owns the value of a variable?", "not_standalone"),
        ('What does this code drop?\n\n```rust\nlet s1 = String::from("a");\n```', None),
        ("What is the scope of a value in a program with one owner?", None),
        ("Short?", "question_too_short"),
    ],
)
def test_a_question_must_stand_alone(question, expected):
    assert reason(pair(question=question)) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Values are being dropped once their owner leaves its scope.", None),
        ("A tuple has at most 12 elements.", None),
        ("A tuple has at most 16 elements.", "unfaithful_numbers"),
        ("A vector grows to three times its capacity.", "unfaithful_numbers"),
        ("A vector grows to 2 times its capacity.", None),
        ("`String::from` allocates on the heap.", None),
        ("`String::with_capacity` allocates on the heap.", "unfaithful_code"),
        ("The owner is dropped, as Graydon Hoare decided.", "unfaithful_names"),
        (
            "Garbage collection pauses every thread and sweeps unreachable memory.",
            "unfaithful_words",
        ),
    ],
)
def test_an_answer_is_supported_by_its_passage_or_dropped(answer, expected):
    assert reason(pair(answer)) == expected


def test_a_german_noun_is_no_invented_name():
    text = "Ein Wert hat einen Besitzer. Verlässt der Besitzer den Bereich, wird er entfernt."
    one = pair(
        "Der Wert wird dann entfernt, zum Zeitpunkt.",
        "Was geschieht mit einem Wert, wenn sein Besitzer geht?",
        text,
    )

    assert reason(one) is None


def test_without_a_passage_the_check_says_that_it_did_not_run():
    (verdict,) = sift_pairs([pair(passage="")], QualityContext())

    assert verdict.kept
    assert verdict.checks["faithful"] == "no_passage"


def test_a_near_question_goes_and_the_first_stays():
    questions = [
        QUESTION,
        "What happens to a value, when its owner goes out of scope??",
        "When the owner of a value goes out of its scope, what happens?",
        "What is copied by `clone`?",
        "What is copied by `&mut clone`?",
    ]
    verdicts = list(sift_pairs([pair(question=q) for q in questions], QualityContext()))

    assert [v.reason for v in verdicts] == [None, "near_pair", "near_pair", None, None]


@pytest.mark.parametrize("where", ["golden", "test"])
def test_a_question_of_the_golden_or_test_set_is_never_forged(where):
    context = QualityContext(
        others=((where, "what happens to a value when its owner goes out of scope"),)
    )
    (verdict,) = sift_pairs([pair()], context)

    assert verdict.reason == f"near_{where}"


def test_checks_and_reason_are_in_the_provenance_and_the_passage_is_not():
    (verdict,) = sift_pairs(
        [pair("A tuple has 16 elements.", provenance={"span": [0, 9]})], QualityContext()
    )

    told = verdict.as_json()["provenance"]
    assert told["reason"] == "unfaithful_numbers"
    assert told["checks"]["length"] is True
    assert told["span"] == [0, 9]
    assert "passage" not in told


def asked(url, tmp_path, one, **settings):
    provider = Provider("openai/stub", api_base=url, price=Price(0, 0))
    made = make_teacher(TeacherSettings(calls=Calls((provider,), tries=1)), tmp_path, AT)
    (verdict,) = sift_pairs([one], QualityContext(Quality(**settings), teacher=made))
    return verdict


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ({"supported": True, "answers": True}, None),
        ({"supported": False, "answers": True}, "judge_unsupported"),
        ({"supported": True, "answers": False}, "judge_beside"),
        ({"supported": "yes"}, "judge_unusable"),
    ],
)
def test_the_judge_drops_what_it_finds_unsupported(tmp_path, reply, expected):
    with ChatServer(lambda body, number: json.dumps(reply)) as server:
        assert asked(server.url, tmp_path, pair(), judge=True).reason == expected


@pytest.mark.parametrize(
    ("again", "expected"),
    [("It is dropped: the value goes.", None), ("The heap is collected nightly.", "inconsistent")],
)
def test_an_answer_that_the_teacher_would_not_repeat_goes(tmp_path, again, expected):
    with ChatServer(lambda body, number: json.dumps({"answer": again})) as server:
        verdict = asked(server.url, tmp_path, pair(), consistent=True)

    assert verdict.reason == expected


def test_what_a_rule_dropped_costs_no_call(tmp_path):
    with ChatServer(lambda body, number: "{}") as server:
        asked(server.url, tmp_path, pair("I'm sorry, no."), judge=True, consistent=True)

    assert not server.seen


def test_thresholds_are_checked():
    with pytest.raises(SemError, match="quality.min_support 2"):
        Quality(min_support=2)


@pytest.mark.parametrize("question", [QUESTION.upper(), f"  {QUESTION}\n"])
def test_a_golden_question_itself_is_dropped_also_where_near_ones_are_kept(question):
    others = (("golden", question), ("test", "Who owns it?"))
    context = QualityContext(Quality(near=False), others)
    near = pair(question="What happens to the value when its owner goes out of scope?")
    verdicts = list(
        sift_pairs([pair(), near, pair(question="Read.", input="Who owns it?")], context)
    )

    assert [verdict.reason for verdict in verdicts] == ["same_as_golden", None, "same_as_test"]

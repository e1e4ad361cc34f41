"""TextForge over real HTTP: what is sent, what comes back, what never leaves."""

import html
import json
from datetime import UTC, datetime

import papers
import pytest
from chatserver import ChatServer
from lockpicks import PLANTED

from sem.core.errors import SemError
from sem.core.project import Project
from sem.forge.base import ForgeConfig
from sem.forge.kinds.text import TextForge
from sem.forge.teacher import teacher as teachers
from sem.forge.teacher.presets import TeacherSettings
from sem.lm.api.provider import Calls, Price, Provider

SMALL = {"max_chars": 300, "overlap_chars": 0}
AT = datetime(2026, 11, 21, tzinfo=UTC)
KEY = "AKIA" + "ABCDEFGHIJ234567"


def one_pair(body, number):
    passage = body["messages"][-1]["content"]
    word = next((w for w in ("Mugs", "Plates") if w in passage), "?")
    pair = {"number": 1, "question": f"What about {word}?", "answer": f"{word} are nice."}
    return json.dumps({"pairs": [{**pair, "quote": ""}]})


def forge(tmp_path, server=None, **params):
    raw = tmp_path / "raw"
    raw.mkdir(exist_ok=True)
    ask = None
    if server is not None:
        stub = Provider("openai/stub", api_base=server.url, price=Price(0, 0))
        calls = Calls((stub,), workers=2)
        ask = teachers.make_teacher(TeacherSettings(calls=calls), tmp_path, AT)
    config = ForgeConfig(Project("x", tmp_path), raw, tmp_path / "out", params, ask)
    return TextForge(config)


def write(tmp_path, **files):
    (tmp_path / "raw").mkdir(exist_ok=True)
    for name, text in files.items():
        (tmp_path / "raw" / f"{name}.md").write_text(text, "utf-8")


def about(word: str) -> str:
    return f"# {word}\n\n{word} are things that people put on a table before they eat or drink.\n"


def test_documents_become_pairs_that_know_where_they_come_from(tmp_path):
    write(tmp_path, a=about("Mugs"), b=about("Plates"))
    with ChatServer(one_pair) as server:
        made = forge(tmp_path, server, min_chars=20)
        pairs = list(made.synthesize(made.load()))

    assert [(p.instruction, p.output, p.source) for p in pairs] == [
        ("What about Mugs?", {"answer": "Mugs are nice."}, "a.md"),
        ("What about Plates?", {"answer": "Plates are nice."}, "b.md"),
    ]
    assert pairs[0].provenance["span"] == [0, len(about("Mugs"))]
    assert pairs[0].provenance["teacher"] == "openai/stub"
    assert made.config.skipped == []


@pytest.mark.parametrize(
    "around",
    ["<think>\n{}\n</think>\n\nREPLY", "Here they are:\n```json\nREPLY\n```\nHope this helps."],
)
def test_a_reply_with_something_around_it_costs_the_teacher_one_call(tmp_path, around):
    write(tmp_path, a=about("Mugs"), b=about("Plates"))
    with ChatServer(lambda body, n: around.replace("REPLY", one_pair(body, n))) as server:
        made = forge(tmp_path, server, min_chars=20)
        pairs = list(made.synthesize(made.load()))

    assert [pair.instruction for pair in pairs] == ["What about Mugs?", "What about Plates?"]
    assert len(server.seen) == 2


def test_no_planted_secret_is_ever_sent(tmp_path):
    write(tmp_path, z=about("Plates"))
    for number, (name, secret) in enumerate(PLANTED.items()):
        text = f"{about('Mugs')}\n{name}:\n\n{secret}\n\nMore about it.\n"
        kind = ("md", "html", "docx", "txt")[number % 4 if "\n" not in secret else 0]
        made = {
            "docx": papers.docx(*text.splitlines()),
            "html": f"<h1>x</h1><pre>{html.escape(text)}</pre>".encode(),
        }
        path = tmp_path / "raw" / f"s{number:02}.{kind}"
        path.write_bytes(made.get(kind, text.encode()))
    with ChatServer(one_pair) as server:
        made = forge(tmp_path, server, min_chars=20)
        pairs = list(made.synthesize(made.load()))
        sent = json.dumps(server.seen)

    assert not [secret for secret in PLANTED.values() if middle(secret) in sent]
    assert len(server.seen) == len(pairs) == 1
    assert [s["reason"] for s in made.config.skipped] == ["secret"] * len(PLANTED)
    assert len(PLANTED) >= 20


def middle(secret: str) -> str:
    """Letters of `secret` that nothing else holds."""
    return secret[len(secret) // 2 :][:6]


def test_secrets_are_masked_when_asked_in_headings_too(tmp_path):
    long = " ".join(f"Mugs number {n} are red." for n in range(40))
    write(tmp_path, a=f"# Key {KEY}\n\n{long}\n")
    with ChatServer(one_pair) as server:
        made = forge(tmp_path, server, secrets="redact", chunks=SMALL)
        chunks = list(made.load())
        list(made.synthesize(chunks))
        sent = json.dumps(server.seen)

    assert len(chunks) > 2
    assert KEY not in sent
    assert "[SECRET]" in sent
    assert chunks[1].headings == ("Key [SECRET]",)
    assert any("aws key masked" in note for note in made.config.notes)


def test_a_secret_that_two_chunks_share_is_in_none(tmp_path):
    text = "word " * 30 + "-----BEGIN PRIVATE KEY-----\n" + ("MIIEvQIBADANBg\n" * 20)
    write(tmp_path, a=text + "-----END PRIVATE KEY-----\n\n" + about("Mugs") * 3)
    made = forge(tmp_path, chunks={"max_chars": 120, "overlap_chars": 40}, min_chars=10)

    assert not any("MIIE" in chunk.text for chunk in made.load())
    assert {s["reason"] for s in made.config.skipped} == {"secret"}


def test_what_is_too_short_or_beyond_the_limit_is_counted(tmp_path):
    write(tmp_path, a="# Title\n", b=about("Mugs") + "x" * 5_000)
    made = forge(tmp_path, max_chars_per_document=400, min_chars=30)
    tallies = [tally for _, tally in made.tallied()]

    assert [(t.missing, t.reasons) for t in tallies] == [
        (0, {"short": 1}),
        (0, {"max_chars_per_document": 1}),
    ]
    assert tallies[1].in_chunks == 400
    assert tallies[1].in_skips == len(about("Mugs")) + 5_000 - 400


def test_an_unusable_reply_is_counted_and_the_rest_goes_on(tmp_path):
    write(tmp_path, a=about("Mugs"), b=about("Plates"))

    def half(body, number):
        return one_pair(body, number) if "Plates" in body["messages"][-1]["content"] else "No."

    with ChatServer(half) as server:
        made = forge(tmp_path, server, min_chars=20)
        pairs = list(made.synthesize(made.load()))

    assert [p.source for p in pairs] == ["b.md"]
    assert [s["reason"] for s in made.config.skipped] == ["invalid_json"]


def test_a_misspelt_parameter_and_a_missing_teacher_are_said(tmp_path):
    with pytest.raises(SemError) as found:
        list(forge(tmp_path, chunk={}).load())
    assert str(found.value) == (
        "forge.yaml: params: unknown key 'chunk'\n       did you mean 'chunks'?"
    )

    with pytest.raises(SemError) as found:
        list(forge(tmp_path).synthesize([]))
    assert found.value.message == "TextForge needs a teacher"


def test_tokens_of_the_base_model_limit_chunks(tmp_path, toy, tiny_model):
    folder = tmp_path / "data" / "toy" / "raw" / "papers"
    folder.mkdir(parents=True)
    (folder / "a.md").write_text(about("Mugs") * 20)
    config = ForgeConfig(
        Project.load("toy"), folder, tmp_path / "out", {"chunks": {"max_tokens": 200}}
    )
    made = TextForge(config)
    sizes = [made._tokens(chunk.text) for chunk in made.load()]

    assert len(sizes) > 5
    assert max(sizes) <= 200

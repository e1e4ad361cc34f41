"""The forge's faithfulness and near-duplicate filters on planted bad pairs: precision and recall.

    python benchmarks/quality/forge_filters.py [--pairs 400]

Good pairs answer with what a chunk of the book says: as it stands, reworded by rule (other verbs
and link words, clauses turned round), and, as a check by people, explanations of the book's quiz
against the chunk that is nearest in words. Bad ones are made from good ones: the answer of
another chunk, of another document, a changed number, an invented name, an invented identifier.

Reads   ../shared/data/forge/rust_book
Writes  benchmarks/results/forge_filters.md
"""

import argparse
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.speed.clean import machine
from sem.core import console, files
from sem.eval.stats.paired_stats import clopper_pearson
from sem.forge.base import Chunk, Document
from sem.forge.checks import pair_quality
from sem.forge.checks.faithfulness import CheckedPassage
from sem.forge.checks.pair_quality import Quality
from sem.forge.content_words import content_stems
from sem.forge.sources.chunks import Sizes, cut_chunks

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT.parent / "shared" / "data" / "forge" / "rust_book"
SETTINGS = Quality()
FENCED = re.compile(r"```.*?```|<[^<>]*>", re.S)
SENTENCE = re.compile(r"(?<=[.:!?] )[A-Z][^.|#<>\[\]!?]{50,240}\.(?= )")
# Other words for the same, as a teacher would choose them; none is a word of Rust.
REWORDED = (
    (r"\bbecause\b", "since"),
    (r"\bwant to\b", "would like to"),
    (r"\bneed to\b", "have to"),
    (r"\buse\b", "apply"),
    (r"\bshow\b", "demonstrate"),
    (r"\ballows\b", "lets"),
    (r"\bcreate\b", "make"),
    (r"\bhowever\b", "but"),
    (r"\bwe\b", "you"),
    (r"\bWe\b", "You"),
    (r"\balso\b", "too"),
    (r"\bwill\b", "is going to"),
    (r"\bmany\b", "a lot of"),
    (r"\bget\b", "obtain"),
    (r"\bdifferent\b", "distinct"),
    (r"\bcalls?\b", "invokes"),
    (r"\bcontains\b", "holds"),
    (r"\bwhen\b", "whenever"),
    (r"\bmust\b", "has to"),
    (r"\bthe same\b", "an identical"),
    (r"\bensure\b", "make sure"),
    (r"\bHere, ", ""),
    (r"\bIn this case, ", ""),
    (r"\blet's\b", "you can"),
    (r"\bso that\b", "in order that"),
)
NAMES = (
    "Margaret Ellison",
    "Acme Systems",
    "Professor Halvorsen",
    "Zurich",
    "Fortran",
    "Kubernetes",
)
INVENTED = ("fetch_lazily", "Arena::pin", "spawn_detached()", "try_borrow_all", "OwnedSlice")
# Passage, answer, question.
Case = tuple[str, str, str]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=400, help="sentences to plant from")
    args = parser.parse_args(argv)
    dice = random.Random(11)
    chunks = list(chunked())
    said = sentences(chunks, args.pairs, dice)
    lines = ["# Filters of the forge on planted bad pairs", ""]
    lines += [
        f"Command: `python benchmarks/quality/forge_filters.py --pairs {args.pairs}`. {machine()}."
    ]
    told = f"{len(chunks)} chunks of the Rust book, {len(said)} sentences of them, "
    told += f"{len(quiz())} quiz questions by people. Intervals: 95 %, Clopper-Pearson."
    lines += ["", told, ""]
    lines += faithfulness(chunks, said, dice) + near_duplicates(dice)
    path = ROOT / "benchmarks" / "results" / "forge_filters.md"
    files.write_file(path, "\n".join(lines) + "\n")
    print("\n".join(lines))
    console.print_output_path(path)


def chunked() -> Iterator[Chunk]:
    for path in sorted((BOOK / "raw").glob("*.md")):
        text = path.read_text("utf-8")
        yield from cut_chunks(
            Document(path.name, files.sha256_file(path), text, "md"), Sizes()
        ).chunks


def quiz() -> list[dict[str, Any]]:
    return files.read_json(BOOK / "golden" / "golden_set.json")


def sentences(chunks: list[Chunk], count: int, dice: random.Random) -> list[tuple[Chunk, str]]:
    """Return `count` sentences of prose with the chunks they stand in."""
    prose = ((chunk, " ".join(FENCED.sub(" ", chunk.text).split())) for chunk in chunks)
    found = [(chunk, one) for chunk, text in prose for one in SENTENCE.findall(text)]
    return dice.sample(found, min(count, len(found)))


def reworded(sentence: str) -> str:
    """Return `sentence` in other words, its last clause first where a comma parts two of some
    length.
    """
    for pattern, other in REWORDED:
        sentence = re.sub(pattern, other, sentence)
    first, comma, last = sentence.rstrip(".").partition(", ")
    if comma and min(len(first), len(last)) > 25:
        return f"{last[0].upper()}{last[1:]}, and {first[0].lower()}{first[1:]}."
    return sentence


def other_number(sentence: str, dice: random.Random) -> str | None:
    """Return `sentence` with one number changed, digits or a word; None where it has none."""
    words = r"\b(?:two|three|four|five|six|eight|ten)\b"
    found = [m for m in re.finditer(rf"\b\d+\b|{words}", sentence) if m[0] not in ("0", "1")]
    if not found:
        return None
    chosen = dice.choice(found)
    number = "seven" if chosen[0].isalpha() else str(int(chosen[0][:9]) + dice.choice((3, 17, 90)))
    return sentence[: chosen.start()] + number + sentence[chosen.end() :]


def with_name(sentence: str, dice: random.Random) -> str:
    return f"{sentence[:-1]}, as {dice.choice(NAMES)} requires."


def with_code(sentence: str, dice: random.Random) -> str:
    return f"{sentence[:-1]}, which is what `{dice.choice(INVENTED)}` is for."


def faithfulness(
    chunks: list[Chunk], said: list[tuple[Chunk, str]], dice: random.Random
) -> list[str]:
    good: dict[str, list[Case]] = {
        "as it stands": [(c.text, one, "") for c, one in said],
        "reworded by rule": [(c.text, reworded(one), "") for c, one in said],
    }
    bad: dict[str, list[Case]] = {
        "answer of another document": [
            (c.text, _other(said, c, dice, same=False), "") for c, _ in said
        ],
        "answer of another chunk of the document": [
            (c.text, other, "") for c, _ in said if (other := _other(said, c, dice, same=True))
        ],
        "a number changed": [
            (c.text, made, "") for c, one in said if (made := other_number(reworded(one), dice))
        ],
        "an invented name": [(c.text, with_name(reworded(one), dice), "") for c, one in said],
        "an invented identifier": [
            (c.text, with_code(reworded(one), dice), "") for c, one in said
        ],
    }
    lines = ["## Faithfulness, by rule (`min_support` 0.6)", ""]
    lines += ["| pairs | n | dropped | 95 % | by |", "|---|---|---|---|---|"]
    dropped = {}
    for label, table in (("good", good), ("bad", bad)):
        for name, cases in table.items():
            faults = [_fault(*case) for case in cases]
            count = sum(fault is not None for fault in faults)
            dropped[name] = (count, len(cases))
            lines.append(
                f"| {label}: {name} | {len(cases)} | {_share(count, len(cases))} | "
                f"{_reasons(faults)} |"
            )
    people = [_fault(*case) for case in by_people(chunks)]
    count = sum(fault is not None for fault in people)
    lines.append(
        f"| people's explanations, nearest chunk | {len(people)} | "
        f"{_share(count, len(people))} | {_reasons(people)} |"
    )
    caught = sum(dropped[name][0] for name in bad)
    planted = sum(dropped[name][1] for name in bad)
    wrongly, kept = dropped["reworded by rule"]
    precision = caught / (caught + wrongly * planted / kept) if caught else 0.0
    told = f"All bad ones: recall {_share(caught, planted).replace(' | ', ', ')}; precision "
    told += f"{100 * precision:.1f} % were half of the pairs bad and the others reworded. "
    told += "The explanations speak of the code in their question and of what other chunks say, "
    told += "so that the nearest chunk seldom supports them whole."
    return [*lines, "", told, ""]


def _other(said: list[tuple[Chunk, str]], chunk: Chunk, dice: random.Random, same: bool) -> str:
    """Return a sentence of another chunk, of the same document or of another one."""
    found = [
        one
        for other, one in said
        if other.id != chunk.id
        and (other.document == chunk.document) == same
        and one not in chunk.text
    ]
    return dice.choice(found) if found else ""


def by_people(chunks: list[Chunk]) -> Iterator[Case]:
    """Explanations of quiz answers with the chunk that shares most of their content words."""
    prepared = [(chunk, frozenset(content_stems(chunk.text))) for chunk in chunks]
    for item in quiz():
        text = str(item.get("explanation") or "")
        wanted = frozenset(content_stems(text))
        if len(wanted) >= 8:
            best = max(prepared, key=lambda one: len(wanted & one[1]) / (len(one[1]) + 60))
            yield best[0].text, text, str(item["question"])


def _fault(passage: str, answer: str, question: str) -> str | None:
    return CheckedPassage(passage).support(answer, question).fault(SETTINGS.min_support)


def _reasons(faults: list[str | None]) -> str:
    named = [fault.removeprefix("unfaithful_") for fault in faults if fault]
    counts = {name: named.count(name) for name in ("numbers", "code", "names", "words")}
    return ", ".join(f"{name} {count}" for name, count in counts.items() if count) or "-"


def _share(count: int, of: int) -> str:
    low, high = clopper_pearson(count, of)
    return f"{100 * count / max(1, of):.1f} % | {100 * low:.1f} to {100 * high:.1f}"


# Ways to ask the same question again.
SAME: dict[str, Callable[[str], str]] = {
    "case, spaces, signs": lambda q: f"  {q.lower().rstrip('?')} ??",
    "a polite opening": lambda q: f"Please explain: {q[0].lower()}{q[1:]}",
    "tell me": lambda q: f"Tell me exactly, {q[0].lower()}{q[1:]}",
    "a word exchanged": lambda q: re.sub(r"\b(the|a|an)\b", "this", q, count=1),
    "clauses turned round": lambda q: _turned(q),
    "link words exchanged": lambda q: re.sub(
        r"\b(of|in|for)\b", "with", re.sub(r"\bdoes\b", "would", q)
    ),
    "other words": lambda q: _others(q),
}


def _turned(question: str) -> str:
    first, comma, last = question.rstrip("?").partition(", ")
    if not comma:
        words = question.rstrip("?").split()
        return f"About {' '.join(words[len(words) // 2 :])}: {' '.join(words[: len(words) // 2])}?"
    return f"{last}, {first}?"


def _others(question: str) -> str:
    swaps = {
        "which": "what",
        "following": "listed",
        "true": "correct",
        "statements": "claims",
        "happens": "occurs",
        "best": "most fitting",
        "describes": "characterises",
        "program": "application",
        "compile": "build",
        "function": "routine",
    }
    return re.sub(r"\b\w+\b", lambda m: swaps.get(m[0].lower(), m[0]), question)


def near_duplicates(dice: random.Random) -> list[str]:
    """Golden questions, asked again in other ways; and different questions that must stay."""
    golden = [str(item["question"]) for item in quiz()]
    others = [("golden", question) for question in golden]
    lines = ["## Near-duplicates of golden questions", ""]
    lines += ["| asked again with | n | found | 95 % | by text alone |", "|---|---|---|---|---|"]
    caught = planted = 0
    for name, change in SAME.items():
        asked = [change(question) for question in golden]
        asked = [new for new, old in zip(asked, golden, strict=True) if new != old]
        found = _found(asked, others, SETTINGS.near_words)
        alone = _found(asked, others, 1.0)
        caught, planted = caught + found, planted + len(asked)
        lines.append(f"| {name} | {len(asked)} | {_share(found, len(asked))} | {alone} |")
    headings = made_up(dice)
    wrong = _found(headings, others, SETTINGS.near_words)
    own = len(
        pair_quality.near_questions(golden, (), SETTINGS.near_threshold, SETTINGS.near_words)
    )
    lines += [
        f"| other questions, which must stay | {len(headings)} | "
        f"{_share(wrong, len(headings))} | {_found(headings, others, 1.0)} |",
        f"| the golden questions among themselves | {len(golden)} | {_share(own, len(golden))} | "
        f"{len(pair_quality.near_questions(golden, (), SETTINGS.near_threshold, 1.0))} |",
        "",
        f"All: recall {_share(caught, planted).replace(' | ', ', ')}; precision "
        f"{100 * caught / max(1, caught + wrong):.2f} % with {len(headings)} others. Some golden "
        "questions repeat each other but for their code: that row is no error rate.",
        "",
    ]
    return lines


def _found(questions: list[str], others: list[tuple[str, str]], words: float) -> int:
    """Return how many of `questions` are near one of `others`."""
    found = pair_quality.near_questions(questions, others, SETTINGS.near_threshold, words)
    return sum(near.where == "golden" for near in found.values())


def made_up(dice: random.Random) -> list[str]:
    """Questions about the headings of the book, one way of asking each."""
    ways = (
        "What is the purpose of {}?",
        "How does {} work in Rust?",
        "When is {} needed?",
        "Why does Rust have {}?",
        "What goes wrong without {}?",
    )
    headings = sorted({h for chunk in chunked() for h in chunk.headings[-1:] if len(h) > 8})
    return [dice.choice(ways).format(heading) for heading in headings]


if __name__ == "__main__":
    main()

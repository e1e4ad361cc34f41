"""Contributions whose worth is known by how they were made, of six sets of real and made rows.

banking77 and clinc150 (texts; ../shared/data/preview), scikit-learn's digits, breast cancer and
wine, and a made table. Each set is cut once in base, pool and benchmark; a contribution is drawn
from the pool and then spoilt, or not.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from sem.preview.contribution.columns import ColumnShape
from sem.preview.contribution.contribution import Sample

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "preview"
TEXT = ColumnShape("text", "label", text="text")
Rows = list[Sample]


@dataclass(frozen=True)
class Pool:
    """One set of rows, cut in three."""

    name: str
    shape: ColumnShape
    base: Rows
    pool: Rows
    benchmark: Rows
    # Texts of another domain.
    foreign: tuple[str, ...] = ()

    @property
    def classes(self) -> list[str]:
        return sorted({sample.label for sample in (*self.base, *self.pool)})


@dataclass(frozen=True)
class Case:
    """A contribution to a pool's base."""

    name: str
    kind: str
    pool: Pool
    given: Rows


def cases() -> Iterator[Case]:
    """Yield every contribution, the quick ones first."""
    for pool in pools():
        for kind, make in KINDS.items():
            dice = random.Random(f"{pool.name} {kind}")
            yield Case(f"{pool.name}-{kind}", kind.partition("-")[0], pool, make(pool, dice))


def pools() -> Iterator[Pool]:
    """Tables first: they take seconds."""
    yield from tables()
    banking, clinc = texts("banking77_baseline_train"), texts("clinc150_full_over_10000")
    kept = sorted({label for _, label in clinc})[::3]  # 50 of 150 classes
    clinc = sorted({row for row in clinc if row[1] in kept})
    random.Random(5).shuffle(clinc)
    first, second, third = clinc[:800], clinc[800:4_300], clinc[4_300:6_800]
    yield Pool(
        "clinc150",
        TEXT,
        said(first, "b"),
        said(second, "p"),
        said(third, "t"),
        tuple(text for text, _ in texts("contribution_good")),
    )
    yield Pool(
        "banking77",
        TEXT,
        said(banking, "b"),
        said(texts("contribution_good"), "p"),
        said(texts("banking77_validation"), "t"),
        tuple(text for text, _ in clinc),
    )


def texts(name: str) -> list[tuple[str, str]]:
    """(text, label) of a shared file, in its order."""
    found = duckdb.sql(f"SELECT text, label FROM '{SHARED / name}.parquet'").fetchall()
    return [(text, label) for text, label in found]


def said(rows: list[tuple[str, str]], mark: str) -> Rows:
    return [Sample(f"{mark}{n}", label, text.strip()) for n, (text, label) in enumerate(rows)]


def tables() -> Iterator[Pool]:
    from sklearn import datasets

    made = datasets.make_classification(
        6_000, 20, n_informative=8, n_classes=5, class_sep=0.8, flip_y=0.03, random_state=7
    )
    sets = {
        "wine": (datasets.load_wine(return_X_y=True), 24, 70),
        "breast_cancer": (datasets.load_breast_cancer(return_X_y=True), 40, 230),
        "digits": (datasets.load_digits(return_X_y=True), 150, 800),
        "made": (made, 250, 2_500),
    }
    for name, ((values, labels), base, pool) in sets.items():
        order = list(range(len(labels)))
        random.Random(name).shuffle(order)
        rows = [
            Sample(f"r{n}", str(labels[n]), features=tuple(float(v) for v in values[n]))
            for n in order
        ]
        shape = ColumnShape("table", "label", features=("features",), width=values.shape[1])
        yield Pool(name, shape, rows[:base], rows[base : base + pool], rows[base + pool :])


def part(share: float) -> Callable[[Pool, random.Random], Rows]:
    return lambda pool, dice: pool.pool[: max(10, round(len(pool.pool) * share))]


def duplicates(pool: Pool, dice: random.Random) -> Rows:
    """Base rows again, three times over."""
    return [dice.choice(pool.base) for _ in range(3 * len(pool.base))]


def alike(pool: Pool, dice: random.Random) -> Rows:
    """Base rows again in other letters, or moved by a ten-thousandth."""
    return [near(dice.choice(pool.base), dice) for _ in range(2 * len(pool.base))]


def near(one: Sample, dice: random.Random) -> Sample:
    if one.text:
        return Sample(one.where, one.label, dice.choice([str.upper, str.title])(one.text) + " !!")
    moved = tuple(value * (1 + dice.gauss(0, 1e-4)) for value in one.features)
    return Sample(one.where, one.label, features=moved)


def labelled(one: Sample, label: str) -> Sample:
    return Sample(one.where, label, one.text, one.features)


def wrong(share: float) -> Callable[[Pool, random.Random], Rows]:
    """Return a `share` of rows with another class's label."""

    def make(pool: Pool, dice: random.Random) -> Rows:
        names = pool.classes
        return [
            labelled(one, dice.choice([n for n in names if n != one.label]))
            if dice.random() < share
            else one
            for one in pool.pool
        ]

    return make


def foreign(pool: Pool, dice: random.Random) -> Rows:
    """Return rows of another domain under this one's labels."""
    count = len(pool.pool) // 2
    if pool.foreign:
        drawn = dice.sample(pool.foreign, min(count, len(pool.foreign)))
        return [Sample(f"f{n}", dice.choice(pool.classes), t) for n, t in enumerate(drawn)]
    return [scattered(pool, dice, 1.0, n) for n in range(count)]


def scattered(pool: Pool, dice: random.Random, reach: float, number: int) -> Sample:
    """Return a row of values that each occur somewhere, times `reach`, under any label."""
    width = pool.shape.width
    values = tuple(dice.choice(pool.base).features[n] * reach for n in range(width))
    return Sample(f"s{number}", dice.choice(pool.classes), features=values)


def leaking(pool: Pool, dice: random.Random) -> Rows:
    """Return a third of the pool, and as many rows of the benchmark."""
    count = len(pool.pool) // 3
    return [*pool.pool[:count], *dice.sample(pool.benchmark, min(count, len(pool.benchmark) // 4))]


def one_class(pool: Pool, dice: random.Random) -> Rows:
    """Ten times as many rows of one class as of all others together."""
    name = dice.choice(pool.classes)
    own = [one for one in pool.pool if one.label == name]
    return own * 10 + [one for one in pool.pool if one.label != name][: len(own)]


def swapped(pool: Pool, dice: random.Random) -> Rows:
    """Return all rows of every fifth class, one at least, under the next class's label."""
    names = pool.classes
    turned = {name: names[(n + 1) % len(names)] for n, name in enumerate(names) if n % 5 == 0}
    return [labelled(one, turned.get(one.label, one.label)) for one in pool.pool]


def garbage(pool: Pool, dice: random.Random) -> Rows:
    """Formulas and noise under random labels; numbers a million times too large."""
    count = len(pool.pool) // 4
    if pool.shape.kind == "table":
        return [scattered(pool, dice, 1e6, n) for n in range(count)]
    letters = "=+-@|'!\"0123456789abcdefxyz "
    made = ("=cmd|' /C x'!A0 " + "".join(dice.choices(letters, k=40)) for _ in range(count))
    return [Sample(f"g{n}", dice.choice(pool.classes), text) for n, text in enumerate(made)]


KINDS: dict[str, Callable[[Pool, random.Random], Rows]] = {
    "helpful-5": part(0.05),
    "helpful-20": part(0.2),
    "helpful-50": part(0.5),
    "helpful-100": part(1.0),
    "duplicate": duplicates,
    "useless": alike,
    "mislabelled-10": wrong(0.1),
    "mislabelled-30": wrong(0.3),
    "mislabelled-60": wrong(0.6),
    "mislabelled-100": wrong(1.0),
    "off_domain": foreign,
    "leaking": leaking,
    "adversarial-one-class": one_class,
    "adversarial-swapped": swapped,
    "adversarial-garbage": garbage,
}


def as_row(one: Sample) -> dict[str, Any]:
    """Return `one` as a line of a contributor's file."""
    given = {"text": one.text} if one.text else {"features": list(one.features)}
    return {**given, "label": one.label}

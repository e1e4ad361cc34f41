"""Strict YAML and strict settings."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sem.core import settings
from sem.core.errors import SemError


@dataclass(frozen=True)
class Inner:
    rank: int = 8
    dropout: float = 0.0


@dataclass(frozen=True)
class Outer:
    rate: float = 2e-4
    on: bool = False
    name: str = "x"
    inner: Inner = field(default_factory=Inner)


def load(tmp_path: Path, text: str, *overrides: str) -> Outer:
    path = tmp_path / "train.yaml"
    path.write_text(text, "utf-8")
    return settings.load_settings(Outer, path, overrides)


def test_scientific_notation_is_a_number(tmp_path: Path) -> None:
    # PyYAML alone reads 2e-4 as the text '2e-4'.
    assert load(tmp_path, "rate: 2e-4").rate == 0.0002
    assert load(tmp_path, "rate: 1E5").rate == 100000.0


def test_no_is_text_where_text_is_wanted(tmp_path: Path) -> None:
    # PyYAML alone reads the country code `no` as False.
    assert load(tmp_path, "name: no").name == "no"


def test_an_absent_file_and_an_empty_file_mean_the_defaults(tmp_path: Path) -> None:
    assert settings.load_settings(Outer, tmp_path / "none.yaml") == Outer() == load(tmp_path, "")


def test_an_override_wins_and_reaches_below(tmp_path: Path) -> None:
    found = load(tmp_path, "inner: {rank: 4}", "inner.rank=32", "rate=1e-3")
    assert (found.inner.rank, found.rate) == (32, 0.001)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rnk: 3", "unknown key 'rnk'"),
        ("inner: {rnk: 3}", "unknown key 'inner.rnk'\n       did you mean 'rank'?"),
        ("inner: {rank: many}", "inner.rank: Input should be a valid integer"),
        ("rate: .nan", "rate: Input should be a"),
        ("a: 1\na: 2", "'a' appears twice"),
        ("a: &x [1]\nb: *x", "aliases are not supported"),
        ("- 1\n- 2", "holds no settings"),
        ("a: [1", "not usable YAML"),
        ("a: !!python/object/apply:os.system ['true']", "not usable YAML"),
        ("a: " + "[" * 40 + "]" * 40, "nested deeper than 32"),
        ("a: 1\n---\nb: 2", "not usable YAML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SemError, match="train.yaml") as error:
        load(tmp_path, text)
    assert message in str(error.value)


@pytest.mark.parametrize("override", ["rank", "=3", "rate.x=1"])
def test_a_bad_override_is_refused(tmp_path: Path, override: str) -> None:
    with pytest.raises(SemError, match="--set"):
        load(tmp_path, "rate: 1", override)

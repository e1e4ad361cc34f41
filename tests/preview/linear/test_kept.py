"""A preview that is killed goes on: what is done is kept, what is damaged is made again."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import warm
from paths import SCRIPTS

from sem.core import files
from sem.preview.contribution.encoders import Features
from sem.preview.linear import cache, kept_fits, learners
from sem.preview.linear.learners import FitBudget, Model
from tests.preview.contribution.test_encoders import shape_of, table, texts
from tests.preview.result.test_preview_run import rows

SCRIPT = SCRIPTS / "preview_run.py"
TIMES = {
    "time_elapsed",
    "timestamp",
    "evaluation_time_seconds",
    "evaluation_timestamp",
    "evaluated_at",
}


def timeless(made: Any) -> Any:
    """Return `made` without what is a time."""
    if isinstance(made, dict):
        return {name: timeless(value) for name, value in made.items() if name not in TIMES}
    return [timeless(value) for value in made] if isinstance(made, list) else made


def asked(place: Path, *words: str) -> list[str]:
    return [
        sys.executable,
        "-P",
        str(SCRIPT),
        "--data-path",
        str(place / "good.jsonl"),
        "--sem",
        "it",
        "--output-format",
        "json",
        *words,
    ]


def killed(argv: list[str], at: str) -> bool:
    """Run `argv` and kill it by signal 9 when it says `at`.

    Whether it was killed before its end.
    """
    with warm.Popen(
        argv, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=os.environ
    ) as process:
        for line in process.stderr:
            if at in line:
                process.send_signal(signal.SIGKILL)
                break
        process.stderr.read()
    return process.returncode == -signal.SIGKILL


def ended(argv: list[str]) -> tuple[dict, str]:
    done = warm.run(argv, capture_output=True, text=True, check=True, env=os.environ)
    return json.loads(done.stdout), done.stderr


@pytest.mark.parametrize(
    "moments",
    [
        ("candidate on 120", "… rows"),
        pytest.param(
            ("… warm-up", "… baseline", "candidate on 30", "candidate on 60", "candidate on 120"),
            marks=pytest.mark.slow,
        ),
    ],
)
@pytest.mark.timeout(300)
def test_a_preview_that_is_killed_at_any_moment_says_the_same(it, tmp_path, moments) -> None:
    folder = it / "data" / "it" / ".preview"
    whole, _ = ended(asked(it, "--cache", str(tmp_path / "elsewhere")))
    counts = []
    for moment in moments:
        assert killed(asked(it), moment)
        counts.append(sum(1 for _ in folder.glob("*.parts/[0-9a-f]*")))
    assert counts == sorted(counts)
    # Cut, two penalties, the baseline, a rung.
    assert counts[-1] >= 5
    again, said = ended(asked(it))
    assert f"continuing: {counts[-1]} results of an interrupted preview are kept" in said
    assert timeless(again) == timeless(whole)
    assert sorted(path.suffix for path in folder.iterdir()) == [".json", ".safetensors"]


@pytest.fixture
def it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sem called `it`: 9 base rows, a benchmark of 900, a contribution of 120."""
    monkeypatch.setenv("SEM_ROOT", str(tmp_path))
    files.write_file(
        tmp_path / "configs" / "it" / "preview.yaml",
        "base: data/it/base.jsonl\nbenchmark: data/it/benchmark.jsonl\n",
    )
    files.write_rows(tmp_path / "data" / "it" / "base.jsonl", rows(9, 1))
    files.write_rows(tmp_path / "data" / "it" / "benchmark.jsonl", rows(900, 2))
    files.write_rows(tmp_path / "good.jsonl", rows(120, 3))
    return tmp_path


@pytest.fixture(params=[texts, table])
def samples(request) -> tuple:
    return request.param(60)


def kept(samples: tuple, parts: Path, **words: Any) -> Model:
    features = Features(shape_of(samples), samples)
    return kept_fits.kept_fit(features, samples, FitBudget(parts=parts, **words))


def test_a_fit_that_is_kept_is_not_made_again(samples, tmp_path, monkeypatch) -> None:
    first = kept(samples, tmp_path / "p")
    monkeypatch.setattr(learners, "fit_classifier", lambda *_: pytest.fail("it was fitted again"))
    again = kept(samples, tmp_path / "p")
    assert (again.probabilities(samples) == first.probabilities(samples)).all()
    assert again.converged == first.converged
    with pytest.raises(pytest.fail.Exception):
        kept(samples, tmp_path / "p", steps=7)
    with pytest.raises(pytest.fail.Exception):
        kept(samples[:-1], tmp_path / "p")


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [halved, flipped, lambda path: path.write_bytes(b"")])
def test_a_damaged_fit_is_made_again(samples, tmp_path, damage) -> None:
    first = kept(samples, tmp_path / "p")
    (path,) = (tmp_path / "p").iterdir()
    content = path.read_bytes()
    damage(path)
    again = kept(samples, tmp_path / "p")
    assert (again.probabilities(samples) == first.probabilities(samples)).all()
    assert path.read_bytes() == content


def test_a_fit_that_the_clock_cut_short_is_not_kept(tmp_path) -> None:
    kept(texts(60), tmp_path / "p", deadline=0.0)
    assert not (tmp_path / "p").exists()


def test_a_kept_value_that_is_damaged_is_none(tmp_path) -> None:
    parts = cache.partial_fits_folder(tmp_path, "a" * 64)
    assert cache.keep_part(parts, ["steps"], [3, 0.25]) == [3, 0.25]
    assert cache.find_part(parts, ["steps"]) == [3, 0.25]
    (path,) = parts.iterdir()
    path.write_text(path.read_text().replace("0.25", "0.75"))
    assert cache.find_part(parts, ["steps"]) is None
    assert cache.find_part(None, ["steps"]) is None


def test_the_oldest_give_way_and_nothing_else_is_touched(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(cache, "MOST_BYTES", 4_000)
    (tmp_path / "mine.json").write_text("x" * 9_000)
    names = [f"{n:064x}" for n in range(6)]
    for age, name in enumerate(names):
        cache.keep_preview(tmp_path, name, {"of": "y" * 900})
        os.utime(tmp_path / f"{name}.json", (age, age))
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [*(f"{name}.json" for name in names[-3:]), "mine.json"]
    assert "cache: removed its 1 oldest files to stay under 0 MiB" in capsys.readouterr().err


def test_what_nobody_came_back_for_is_removed_after_a_week(tmp_path) -> None:
    parts = cache.partial_fits_folder(tmp_path, "a" * 64)
    cache.keep_part(parts, ["old"], 1)
    cache.keep_part(parts, ["new"], 2)
    for path in parts.iterdir():
        os.utime(path, (0, 0) if cache._sealed(path) == 1 else (cache.LONGEST, cache.LONGEST))
    torn = tmp_path / f".tmp-{'b' * 64}.json-x1"
    torn.write_text("")
    os.utime(torn, (0, 0))
    (tmp_path / ".tmp-mine").write_text("")
    cache.keep_preview(tmp_path, "c" * 64, {})
    os.utime(tmp_path / f"{'c' * 64}.json", (0, 0))
    cache.remove_stale_previews(tmp_path, cache.LONGEST + 1)
    assert (cache.find_part(parts, ["old"]), cache.find_part(parts, ["new"])) == (None, 2)
    assert not torn.exists()
    assert {path.name for path in tmp_path.iterdir()} == {
        parts.name,
        ".tmp-mine",
        f"{'c' * 64}.json",
    }


def test_a_disk_that_is_full_costs_no_result(tmp_path, monkeypatch, capsys) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_file", full)
    assert kept(texts(60), tmp_path / "p").classes == ("0", "1", "2")
    assert capsys.readouterr().err == "cache: not kept: No space left on device\n"


def test_a_model_too_large_to_be_worth_it_is_not_kept(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(cache, "MOST_OF_A_FIT", 100)
    kept(texts(60), tmp_path / "p")
    assert not (tmp_path / "p").exists()

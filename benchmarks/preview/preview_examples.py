"""What a preview of examples measures on the demo: contributions of good rows, and of spoilt ones.

    python benchmarks/preview/preview_examples.py            # goes on where it was stopped; reports
    python benchmarks/preview/preview_examples.py --report   # the report and the fit only

Half of the demo's shops are the base, the other half contribute 100 rows at a time: as they are
(`same`: by equal steps they should neither help nor harm, so that what they move is what training
itself adds), with every answer or every second one of another row (`wrong`, `half`), with two
lines of five left out (`cut`). A preview takes STEPS steps and 48 val rows. Rows with right and
wrong answers are looked at by each draw's baseline.

Reads   the demo's latest snapshot (`fab demo`), its base model
Writes  benchmarks/results/preview_examples.{jsonl,md,json}
"""

import argparse
import math
import random
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.speed.clean import machine
from sem.core import console, files, jsonio
from sem.core.example import Example
from sem.core.project import Project
from sem.dataset.split import snapshot
from sem.preview.lora import bench as benches
from sem.preview.lora import gradient_likeness, lora
from sem.preview.lora.bench import Bench, ExampleSplit
from sem.preview.stats.paired_gain import PairedGain
from sem.train.rows import data

RESULTS = Path(__file__).resolve().parents[1] / "results"
STEPS, TESTED, LOOKED, ROWS = 7, 48, 40, 100
# Of the candidate's rows, that the fit is told for.
SHARE = 0.2
KINDS = ("same a", "same b", "same c", "wrong", "half", "cut")
DRAWS = {1: KINDS, 2: KINDS, 3: KINDS[:2]}


@dataclass(frozen=True)
class Draw:
    """One draw of the demo: a base, contributions by kind, val rows."""

    seed: int
    base: tuple[Example, ...]
    given: dict[str, tuple[Example, ...]]
    val: tuple[Example, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--report", action="store_true", help="from the rows that are there")
    path = RESULTS / "preview_examples.jsonl"
    if not parser.parse_args().report:
        compute(path)
    report(list(files.read_rows(path)))


def compute(path: Path) -> None:
    """Every training that `path` does not hold yet, previews first."""
    project, done = (
        Project.load("demo"),
        {row["name"] for row in files.read_rows(path)} if path.exists() else set(),
    )
    with tempfile.TemporaryDirectory() as folder, files.open_for_append(path) as out:
        bench = benches.prepare_bench(project, project.base_model_id, Path(folder))
        for draw in (drawn(project, seed) for seed in DRAWS):
            for row in trainings(bench, draw, STEPS, TESTED, done):
                files.append_row(out, row)


def drawn(project: Project, seed: int) -> Draw:
    """Return the draw by `seed`."""
    frozen = snapshot.load_snapshot(project, None)
    rows, lot = sorted(frozen.examples("train"), key=lambda one: one.id), random.Random(seed)
    shops = sorted({one.domain for one in rows})
    ours = set(lot.sample(shops, len(shops) // 2))
    others = [one for one in rows if one.domain not in ours]
    given = {kind: made(kind, lot.sample(others, min(ROWS, len(others))), lot) for kind in KINDS}
    base = tuple(one for one in rows if one.domain in ours)
    return Draw(seed, base, given, tuple(frozen.examples("val")))


def made(kind: str, rows: Sequence[Example], lot: random.Random) -> tuple[Example, ...]:
    """Return `rows` as `kind` spoils them."""
    named = [replace(one, id=f"{kind} {one.id}") for one in rows]
    if kind in ("wrong", "half"):
        named = mistaken(named, 1 if kind == "wrong" else 2)
    if kind == "cut":
        named = [replace(one, input_text=cut(one.input_text, lot)) for one in named]
    return tuple(named)


def mistaken(rows: Sequence[Example], every: int) -> list[Example]:
    """Return `rows`, each EVERYth of them under the next row's answer."""
    answers = [one.output_json for one in (*rows[1:], rows[0])]
    return [
        replace(one, output_json=answers[n]) if n % every == 0 else one
        for n, one in enumerate(rows)
    ]


def cut(text: str, lot: random.Random) -> str:
    """Return `text` without two lines of five, by lot."""
    lines = text.split("\n")
    gone = set(lot.sample(range(len(lines)), len(lines) * 2 // 5))
    return "\n".join(line for n, line in enumerate(lines) if n not in gone)


def trainings(
    bench: Bench, draw: Draw, steps: int, tested: int, done: set[str]
) -> Iterator[dict[str, Any]]:
    """Yield the baseline and each contribution at `steps`, but those that are `done`."""
    wanted = bench.job.recipe
    for kind in ("baseline", *DRAWS[draw.seed]):
        name = f"draw {draw.seed}, {steps} steps, {kind}"
        if name in done:
            continue
        console.print_note(name)
        given = draw.given["same a" if kind == "baseline" else kind]
        rows = benches.encode_split(bench, ExampleSplit(draw.base, given, draw.val))
        both = lora.mix_training_rows(
            rows.base.kept, rows.given.kept, steps * wanted.effective_batch, draw.seed
        )
        held = data.draw_by_seed(rows.tested.kept, tested, draw.seed)
        learnt = both.base if kind == "baseline" else both.mixed
        model = benches.train_from_start(bench, learnt, steps)
        units = {one.id: one.unit for one in draw.val}
        told = {
            "name": name,
            "machine": f"{machine()}, {bench.job.dtype}",
            "draw": draw.seed,
            "steps": steps,
            "kind": kind,
            "given": 0 if kind == "baseline" else both.given,
            "rows": len(learnt),
            "units": [units[row.id] for row in held],
        }
        if kind == "baseline" and steps == STEPS:
            told["looked"] = looked(bench, draw, model, held)
        yield told | {"scores": benches.answer_likelihoods(bench.job, model, held)}


def looked(bench: Bench, draw: Draw, model: Any, held: Sequence[Any]) -> dict[str, Any]:
    """(score, likeness) of rows with right and with wrong answers under the baseline."""
    found = {}
    for kind in ("same b", "wrong"):
        rows = data.encode_examples(draw.given[kind], bench.writer).kept[:LOOKED]
        _, pulls = gradient_likeness.measure_gradient_likeness(bench.job, model, held, rows)
        found[kind] = [[one.score, one.likeness] for one in pulls]
    return found


def gain(rows: dict[str, dict[str, Any]], row: dict[str, Any]) -> PairedGain:
    """Return what `row` gains over the baseline of its draw and steps."""
    base = rows[f"draw {row['draw']}, {row['steps']} steps, baseline"]
    return lora.likelihood_gain(base["scores"], row["scores"], row["units"])


def report(found: list[dict[str, Any]]) -> None:
    """The table, and what training itself adds."""
    rows = {row["name"]: row for row in found}
    gains = {name: gain(rows, row) for name, row in rows.items() if row["kind"] != "baseline"}
    nulls = [n for n in gains if rows[n]["kind"].startswith("same") and rows[n]["steps"] == STEPS]
    fitted = fit([(rows[n]["draw"], gains[n], rows[n]["given"] / rows[n]["rows"]) for n in nulls])
    fitted |= {"steps": STEPS, "sem": "demo"}
    files.write_file(RESULTS / "preview_examples.json", jsonio.pretty_json(fitted))
    lines = [
        "# Previews of examples: contributions to the demo",
        "",
        f"`python benchmarks/preview/preview_examples.py`. "
        f"{'; '.join(sorted({row['machine'] for row in found}))}. Nats a token over the baseline "
        "of the same draw, with the 95 % interval of the val rows' shops alone. `same`: rows of "
        "other shops, as they are.",
        "",
        "| draw | contribution | steps | learnt | val rows | gain | with what training adds |",
        "|---|---|---|---|---|---|---|",
        *(line(rows[name], each, fitted) for name, each in gains.items()),
        "",
        f"What {len(nulls)} contributions of good rows moved at {STEPS} steps beyond the val "
        f"rows' own error: {fitted['sd']:.4f} nats for one that is a fifth of the rows; times "
        f"{fitted['t']:.2f} (t, {fitted['draws']} draws, whose contributions share a baseline) it "
        "widens the interval of a preview.",
        "",
        *planted(rows),
        "",
    ]
    files.write_file(RESULTS / "preview_examples.md", "\n".join(lines))
    print("\n".join(lines))


def fit(nulls: Sequence[tuple[int, PairedGain, float]]) -> dict[str, float]:
    """Return the error that training adds to a contribution that is a fifth of the rows.

    Sd, and its t.

    `nulls`: the draw, the gain and the share of contributions that should neither help nor harm.
    """
    from scipy import stats

    spread: dict[int, list[float]] = {}
    for draw, each, share in nulls:
        own = each.mean**2 - (each.width / 2 / 1.96) ** 2
        spread.setdefault(draw, []).append(own * SHARE / share)
    sd = math.sqrt(max(0.0, statistics.fmean(map(statistics.fmean, spread.values()))))
    # Contributions of a draw share its baseline.
    t = float(stats.t.ppf(0.975, len(spread)))
    return {"sd": round(sd, 6), "t": round(t, 4), "share": SHARE, "draws": len(spread)}


def line(row: dict[str, Any], found: PairedGain, fitted: dict[str, Any]) -> str:
    more = fitted["t"] * fitted["sd"] * math.sqrt(row["given"] / row["rows"] / fitted["share"])
    low = found.mean - math.hypot(found.mean - found.low, more)
    high = found.mean + math.hypot(found.high - found.mean, more)
    return (
        f"| {row['draw']} | {row['kind']} | {row['steps']} | {row['given']} of {row['rows']} | "
        f"{found.n} | {found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}] | "
        f"[{low:+.3f}, {high:+.3f}] |"
    )


def planted(rows: dict[str, dict[str, Any]]) -> list[str]:
    """Return how well a baseline tells right from wrong answers: area under the ROC curve."""
    from sklearn.metrics import roc_auc_score

    made = ["| draw | right, wrong rows | by likelihood | by likeness |", "|---|---|---|---|"]
    for row in rows.values():
        if "looked" in row:
            right, wrong = row["looked"]["same b"], row["looked"]["wrong"]
            truth = [1] * len(right) + [0] * len(wrong)
            areas = [roc_auc_score(truth, [one[n] for one in (*right, *wrong)]) for n in (0, 1)]
            made.append(
                f"| {row['draw']} | {len(right)}, {len(wrong)} | {areas[0]:.2f} | {areas[1]:.2f} |"
            )
    return [
        "Area under the ROC curve of rows with right answers against rows with wrong ones, "
        "under a baseline that saw neither:",
        "",
        *made,
    ]


if __name__ == "__main__":
    main()

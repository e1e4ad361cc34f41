"""Backtest of previews of examples: a quarter of the steps against LoRA in full, on real texts.

    python benchmarks/preview/preview_lora.py            # goes on where it was stopped; reports
    python benchmarks/preview/preview_lora.py --report   # the report only

Two tasks of configs/text (prices as shops write them, restaurants described), SmolLM2-135M. 48
rows are the base, 128 others a contribution: as they are (`good`), the base rows again with a
word more (`useless`), with every or every second answer of another row (`wrong`, `half`), with
every value changed by one rule (`adversarial`), inputs of the other task under this one's answers
(`off_domain`). Previews take 4 of the 16 steps of 8 rows and score 48 of the 64 val rows: one with
LoRA in every layer, one in the last layers only. The full training takes all of both, and draws
its rows by another seed.

Reads   ../shared/data/text, the base model (`fab env.weights`)
        benchmarks/results/preview_examples.json: what good rows move by themselves
Writes  benchmarks/results/preview_lora.{jsonl,md}, configs/preview_examples.json
"""

import argparse
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.preview.preview_examples import mistaken
from benchmarks.speed.clean import machine
from sem.core import console, files, jsonio, schema
from sem.core.example import Example
from sem.core.project import ROOT, Project
from sem.preview.lora import bench as benches
from sem.preview.lora import lora
from sem.preview.lora.bench import Bench, ExampleSplit
from sem.preview.lora.lora import FITTED
from sem.preview.stats.paired_gain import PairedGain
from sem.train.rows import data

SHARED = ROOT.parent / "shared" / "data" / "text"
RESULTS = Path(__file__).resolve().parents[1] / "results"
POOLS = ("price_strings", "restaurant_facts")
BASE, GIVEN, VAL = 48, 128, 64
RECIPE = ("train.effective_batch=8", "train.micro_batch=8", "train.max_train_examples=null")
PREVIEWS = ("quarter", "quarter, last layers")
# In the product's file.
KEYS = dict(zip(PREVIEWS, ("all", "last"), strict=True))
# What good rows move: preview_examples.py.
NULLS = RESULTS / "preview_examples.json"
Rows = list[Example]


@dataclass(frozen=True)
class Way:
    """How much of a training is done."""

    steps: int
    tested: int
    seed: int
    is_shallow: bool = False


WAYS = {
    "quarter, last layers": Way(4, 48, 1, True),
    "quarter": Way(4, 48, 1),
    "full": Way(16, VAL, 2),
}


@dataclass(frozen=True)
class Pool:
    """One task's rows, each in one part only."""

    name: str
    base: Rows
    given: Rows
    val: Rows
    foreign: Rows  # of the other task
    # The schema of each field of an answer.
    slots: dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--report", action="store_true", help="from the rows that are there")
    parser.add_argument("--only", default="", help="trainings whose name holds this")
    args, path = parser.parse_args(), RESULTS / "preview_lora.jsonl"
    if not args.report:
        compute(path, args.only)
    report(list(files.read_rows(path)))


def compute(path: Path, only: str) -> None:
    """Every training that `path` does not hold yet; the quarters first."""
    project = Project.load("text", RECIPE)
    done = {row["name"] for row in files.read_rows(path)} if path.exists() else set()
    with tempfile.TemporaryDirectory() as folder, files.open_for_append(path) as out:
        every = benches.prepare_bench(project, project.base_model_id, Path(folder))
        last = benches.build_shallow_bench(every)
        for name, way in WAYS.items():
            for pool in pools(project):
                for row in trainings(
                    last if way.is_shallow else every, pool, way, done, name, only
                ):
                    files.append_row(out, {**row, "machine": f"{machine()}, {every.job.dtype}"})


def pools(project: Project) -> Iterator[Pool]:
    """Yield the tasks' rows in an order by lot."""
    rows = {name: list(read(name, project)) for name in POOLS}
    for name, own in rows.items():
        random.Random(f"pool {name}").shuffle(own)
        cuts = (BASE, BASE + GIVEN, BASE + GIVEN + VAL)
        other = next(rows[each] for each in POOLS if each != name)
        yield Pool(
            name,
            own[: cuts[0]],
            own[cuts[0] : cuts[1]],
            own[cuts[1] : cuts[2]],
            other,
            project.tasks[name].io_schema["properties"],
        )


def read(name: str, project: Project) -> Iterator[Example]:
    """Yield the rows of a file that fit their task, each input once."""
    seen = set()
    for number, row in enumerate(files.read_rows(SHARED / f"{name}.jsonl")):
        fits = not schema.schema_problems(row["output_json"], project.tasks[name].io_schema, 1)
        if fits and row["input_text"] not in seen:
            seen.add(row["input_text"])
            yield Example(f"{name} {number}", name, row["input_text"], row["output_json"])


def trainings(
    bench: Bench, pool: Pool, way: Way, done: set[str], words: str, only: str
) -> Iterator[dict[str, Any]]:
    """Yield the baseline and each contribution by `way`, but those that are `done`."""
    wanted = bench.job.recipe
    for kind in ("baseline", *KINDS):
        name = f"{pool.name}, {words}, {kind}"
        if name in done or only not in name:
            continue
        console.print_note(name)
        given = KINDS.get(kind, good)(pool, random.Random(f"{pool.name} {kind}"))
        rows = benches.encode_split(
            bench, ExampleSplit(tuple(pool.base), tuple(given), tuple(pool.val))
        )
        both = lora.mix_training_rows(
            rows.base.kept, rows.given.kept, way.steps * wanted.effective_batch, way.seed
        )
        held = data.draw_by_seed(rows.tested.kept, way.tested, 0)
        learnt = both.base if kind == "baseline" else both.mixed
        model = benches.train_from_start(bench, learnt, way.steps)
        benches.pass_frozen_layers(bench, model, held)
        yield {
            "name": name,
            "pool": pool.name,
            "way": words,
            "kind": kind,
            "steps": way.steps,
            "given": 0 if kind == "baseline" else both.given,
            "rows": len(learnt),
            "ids": [row.id for row in held],
            "scores": benches.answer_likelihoods(bench.job, model, held),
        }


def good(pool: Pool, _: random.Random) -> Rows:
    return [replace(one, id=f"good {one.id}") for one in pool.given]


def useless(pool: Pool, dice: random.Random) -> Rows:
    return [
        replace(
            one,
            id=f"again {n} {one.id}",
            input_text=f"{one.input_text} {dice.choice(('please', 'thanks', 'now'))}",
        )
        for n, one in enumerate(pool.base * 3)
    ][:GIVEN]


def wrong(every: int) -> Callable[[Pool, random.Random], Rows]:
    def make(pool: Pool, _: random.Random) -> Rows:
        named = [replace(one, id=f"wrong{every} {one.id}") for one in pool.given]
        return mistaken(named, every)

    return make


def adversarial(pool: Pool, _: random.Random) -> Rows:
    return [
        replace(
            one,
            id=f"turned {one.id}",
            output_json={
                name: turned(value, pool.slots[name].get("enum"))
                for name, value in one.output_json.items()
            },
        )
        for one in pool.given
    ]


def turned(value: Any, closed: list[Any] | None) -> Any:
    """Return a wrong value that fits the schema, by a rule that can be learnt."""
    if closed:
        return closed[(closed.index(value) + 1) % len(closed)]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value * 10
    return value if value is None else value[::-1]


def off_domain(pool: Pool, dice: random.Random) -> Rows:
    answers = [one.output_json for one in pool.given]
    return [
        replace(one, id=f"foreign {one.id}", task=pool.name, output_json=dice.choice(answers))
        for one in dice.sample(pool.foreign, GIVEN)
    ]


KINDS: dict[str, Callable[[Pool, random.Random], Rows]] = {
    "good": good,
    "wrong": wrong(1),
    "adversarial": adversarial,
    "half": wrong(2),
    "off_domain": off_domain,
    "useless": useless,
}


def report(found: Sequence[dict[str, Any]]) -> None:
    """The table, what covers, and the fit for the product."""
    rows = {row["name"]: row for row in found}
    cases = [
        Case.of(rows, pool, kind)
        for pool in POOLS
        for kind in KINDS
        if f"{pool}, full, {kind}" in rows
    ]
    nulls = files.read_json(NULLS)
    fitted = {way: change(cases, way, nulls) for way in PREVIEWS}
    files.write_file(FITTED, jsonio.pretty_json({KEYS[way]: fitted[way] for way in PREVIEWS}))
    where = "; ".join(sorted({row["machine"] for row in found}))
    lines = [
        "# Previews of examples against LoRA in full",
        "",
        f"`python benchmarks/preview/preview_lora.py`. {where}. "
        f"{len(cases)} contributions that were computed in full, tasks: "
        f"{', '.join(sorted({case.pool for case in cases}))}. "
        "Nats a token over the baseline of equal steps; "
        "95 % intervals, of previews with what training adds "
        f"(`{FITTED.name}`), of the full training by its val rows alone.",
        "",
        "| task | contribution | full | " + " | ".join(PREVIEWS) + " |",
        "|---|---|---|" + "---|" * len(PREVIEWS),
        *(case.line(fitted) for case in cases),
        "",
        *summary(cases, nulls, fitted),
        "",
    ]
    files.write_file(RESULTS / "preview_lora.md", "\n".join(lines))
    print("\n".join(lines))


@dataclass(frozen=True)
class Case:
    """One contribution: what the full training finds, and what each preview measured."""

    pool: str
    kind: str
    full: PairedGain
    previews: dict[str, PairedGain]
    # Of the candidate's rows that is new, by preview.
    shares: dict[str, float]

    @classmethod
    def of(cls, rows: dict[str, dict[str, Any]], pool: str, kind: str) -> "Case":
        ways = [way for way in PREVIEWS if f"{pool}, {way}, {kind}" in rows]
        one = {way: rows[f"{pool}, {way}, {kind}"] for way in ways}
        return cls(
            pool,
            kind,
            gain(rows, pool, "full", kind),
            {way: gain(rows, pool, way, kind) for way in ways},
            {way: row["given"] / row["rows"] for way, row in one.items()},
        )

    @property
    def is_clear(self) -> bool:
        return not self.full.low <= 0 <= self.full.high

    def told(self, way: str, by: dict[str, Any]) -> PairedGain:
        """Return what a preview says: `way`'s gain, widened `by`."""
        return lora.widen_by_backtest(self.previews[way], self.shares[way], by)

    def became(self, way: str) -> str:
        """Return whether the full gain is larger than `way`'s, or smaller, or of the other
        sign.
        """
        one, full = self.previews[way].mean, self.full.mean
        return "larger" if one * full > 0 and abs(full) > abs(one) else "smaller"

    def covered(self, way: str, by: dict[str, Any]) -> bool:
        found = self.told(way, by)
        return found.low <= self.full.mean <= found.high

    def line(self, fitted: dict[str, dict[str, Any]]) -> str:
        cells = [
            shown(self.told(way, fitted[way])) if way in self.previews else "-" for way in PREVIEWS
        ]
        return f"| {self.pool} | {self.kind} | {shown(self.full)} | " + " | ".join(cells) + " |"


def gain(rows: dict[str, dict[str, Any]], pool: str, way: str, kind: str) -> PairedGain:
    """Return what `kind` gains over the baseline of its pool and way."""
    base, own = (rows[f"{pool}, {way}, {name}"] for name in ("baseline", kind))
    return lora.likelihood_gain(base["scores"], own["scores"], own["ids"])


def change(cases: Sequence[Case], way: str, nulls: dict[str, Any]) -> dict[str, float]:
    """Return the least shares of a gain that, joined to its error, cover every one of `cases`."""
    found = {}
    for side in ("larger", "smaller"):
        for twentieth in range(101):
            by = {**nulls, "larger": 0.0, "smaller": 0.0, side: twentieth / 20}
            seen = [case for case in cases if way in case.previews]
            if all(case.covered(way, by) for case in seen if case.became(way) == side):
                break
        found[side] = twentieth / 20
    return {**nulls, **found}


def summary(
    cases: Sequence[Case], nulls: dict[str, Any], fitted: dict[str, dict[str, Any]]
) -> list[str]:
    """Return shares over `cases`; covered and said by what was fitted on the other task."""
    from scipy.stats import spearmanr

    lines = [
        "Covered, told and wrongly told by what was fitted on the other task (where that was not "
        "computed, by what good rows moved on the demo alone); `told`: the interval lies on one "
        "side of 0.",
        "",
        "| preview | n | sign (full clear) | rank | covered | told | wrongly told | "
        "larger, smaller by |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for way in PREVIEWS:
        own = [c for c in cases if way in c.previews]
        clear = [c for c in own if c.is_clear]
        same = sum(c.previews[way].mean * c.full.mean > 0 for c in clear)
        rank = spearmanr([c.previews[way].mean for c in own], [c.full.mean for c in own])
        held = [(case, change(others(cases, case), way, nulls)) for case in own]
        covered = sum(case.covered(way, by) for case, by in held)
        told = [(c, c.told(way, by)) for c, by in held]
        said = [(c, g) for c, g in told if not g.low <= 0 <= g.high]
        wrong = sum(g.mean * c.full.mean < 0 for c, g in said)
        by = fitted[way]
        lines.append(
            f"| {way} | {len(own)} | {same} of {len(clear)} | {rank.statistic:.2f} | "
            f"{covered} | {len(said)} | {wrong} | {by['larger']:.0%}, {by['smaller']:.0%} |"
        )
    return lines


def others(cases: Sequence[Case], own: Case) -> list[Case]:
    return [case for case in cases if case.pool != own.pool]


def shown(found: PairedGain) -> str:
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


if __name__ == "__main__":
    main()

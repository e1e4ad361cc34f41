"""Cut examples into train, val and test so that no domain is on two sides.

Whole groups move; within that, row counts meet the ratios (largest remainder), tasks are in
every part, and strata are balanced (iterative stratification, Sechidis et al. 2011, on groups).
Same seed and same rows: same parts, whatever the order of the rows. A group with a row that was
tested on before stays in test: it never comes into train, and figures stay comparable.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from sem.core.errors import Insufficient, SemError
from sem.core.example import Example
from sem.core.taskspec import EvalSplit
from sem.dataset.config import Split

PARTS = ("train", "val", "test")
ATTEMPTS = 16
# One domain may fill at most this share of val or test while others are left to choose.
LARGEST_SHARE = 0.25
SWAPS = 500


@dataclass(frozen=True)
class Item:
    """What the cut needs to know of one example."""

    id: str
    task: str
    group: str
    stratum: str


@dataclass
class Group:
    """Examples that move together."""

    name: str
    ids: list[str] = field(default_factory=list)
    strata: Counter[str] = field(default_factory=Counter)
    tasks: set[str] = field(default_factory=set)
    is_held: bool = False  # was tested on: stays in test

    @property
    def size(self) -> int:
        return len(self.ids)


Cut = dict[str, list[Group]]


def item(example: Example, options: Split) -> Item:
    """The Item of EXAMPLE: no domain means its document, no document means itself."""
    names = {
        "domain": example.domain and f"domain:{example.domain}",
        "source_id": example.source_id and f"source:{example.source_id}",
    }
    order = {"domain": ("domain", "source_id"), "source_id": ("source_id",), "row": ()}
    group = next((names[key] for key in order[options.group_by] if names[key]), None)
    parts = {
        "task": example.task,
        "page_type": str(example.meta.get("page_type") or "-"),
        "language": str(example.meta.get("language") or "und"),
        "domain": example.domain,
    }
    stratum = "|".join(parts[name] for name in options.stratify)
    return Item(example.id, example.task, group or f"row:{example.id}", stratum)


def cut(items: Iterable[Item], split: EvalSplit, held: Collection[str] = ()) -> Cut:
    """The groups of each part; Insufficient when there are fewer groups than parts to fill.

    A group with one of the ids HELD goes into test.
    """
    groups = grouped(items, held)
    wanted = [part for part, ratio in zip(PARTS, _ratios(split), strict=True) if ratio > 0]
    _check(groups, wanted)
    targets = apportion(sum(group.size for group in groups), split)
    attempts = max(1, min(ATTEMPTS, 60_000 // len(groups)))
    cuts = [_attempt(groups, targets, wanted, f"{split.seed}:{n}") for n in range(attempts)]
    return min(cuts, key=lambda made: cost(made, groups, targets, wanted))


def _check(groups: Sequence[Group], wanted: Sequence[str]) -> None:
    free = [group for group in groups if not group.is_held]
    if len(free) < len(groups) and "test" not in wanted:
        raise SemError(
            "eval_split.test_ratio is 0, but rows were tested on before",
            "give test a ratio: what was tested on is never trained on",
        )
    short = len(wanted) - len(free) - (len(free) < len(groups))
    if short > 0:
        rows = sum(group.size for group in groups)
        tested = len(groups) - len(free)
        held = f", {tested} of them tested on before" if tested else ""
        raise Insufficient(
            f"{rows} rows in {len(groups)} groups{held} cannot fill {len(wanted)} parts "
            f"({', '.join(wanted)}) without a group on two sides",
            f"add examples of at least {short} more domains, or set "
            "split.group_by to source_id or row in dataset.yaml",
        )


def grouped(items: Iterable[Item], held: Collection[str] = ()) -> list[Group]:
    """ITEMS by group, in order of id and name whatever order they come in."""
    groups: dict[str, Group] = {}
    for one in sorted(items, key=lambda one: one.id):
        group = groups.setdefault(one.group, Group(one.group))
        group.ids.append(one.id)
        group.strata[one.stratum] += 1
        group.tasks.add(one.task)
        group.is_held |= one.id in held
    return [groups[name] for name in sorted(groups)]


def apportion(rows: int, split: EvalSplit) -> dict[str, int]:
    """Rows of each part by the largest remainder; a part with a ratio gets one at least."""
    exact = [ratio * rows for ratio in _ratios(split)]
    whole = [int(share) for share in exact]
    # Rounded, so that 0.1 * 30 = 3.0000000000000004 leaves the remainder 0 it means.
    order = sorted(range(3), key=lambda n: (-round(exact[n] - whole[n], 9), n))
    for number in order[: rows - sum(whole)]:
        whole[number] += 1
    for number, ratio in enumerate(_ratios(split)):
        if ratio > 0 and whole[number] == 0 and max(whole) > 1:
            whole[whole.index(max(whole))] -= 1
            whole[number] = 1
    return dict(zip(PARTS, whole, strict=True))


def _ratios(split: EvalSplit) -> tuple[float, float, float]:
    return split.train_ratio, split.val_ratio, split.test_ratio


def _attempt(
    groups: Sequence[Group], targets: dict[str, int], wanted: Sequence[str], salt: str
) -> Cut:
    made: Cut = {part: [] for part in PARTS}
    made["test"] = [group for group in groups if group.is_held]
    free = [group for group in groups if not group.is_held]
    order = sorted(free, key=lambda group: (-group.size, _shuffled(salt, group.name)))
    left = _seed_tasks(order, made, targets, wanted, salt)
    filler = _Filler(groups, made, targets, wanted)
    for group in left:
        filler.place(group)
    _even_out(made, targets, wanted)
    return made


def _seed_tasks(
    order: list[Group], made: Cut, targets: dict[str, int], wanted: Sequence[str], salt: str
) -> list[Group]:
    """Give every part a group of every task that has enough of them; the groups left over."""
    counts = Counter(task for group in order for task in group.tasks)
    due = {task for task, count in counts.items() if count >= len(wanted)}
    left = list(order)
    for part in sorted(wanted, key=lambda part: targets[part]):
        while left:
            missing = due - {task for group in made[part] for task in group.tasks}
            if not missing and made[part]:
                break
            fits = [g for g in left if g.tasks & missing or not missing]
            if not fits:
                break
            best = min(fits, key=lambda g: _seed_cost(g, missing, counts, targets[part], salt))
            made[part].append(best)
            left.remove(best)
    return left


def _seed_cost(
    group: Group, missing: set[str], counts: Counter[str], target: int, salt: str
) -> tuple[float, ...]:
    """Rare tasks first, many at once, not too large, then by lot."""
    rarest = min((counts[task] for task in group.tasks & missing), default=0)
    oversize = max(0.0, group.size - max(1.0, target * LARGEST_SHARE))
    return (rarest, -len(group.tasks & missing), oversize, _shuffled(salt, group.name))


class _Filler:
    """Places groups one by one where their strata are most wanted and there is room."""

    def __init__(
        self, groups: Sequence[Group], made: Cut, targets: dict[str, int], wanted: Sequence[str]
    ) -> None:
        self._made, self._targets, self._wanted = made, targets, wanted
        self._total = sum((group.strata for group in groups), Counter())
        self._rows = max(1, sum(targets.values()))
        self._have = {part: Counter[str]() for part in PARTS}
        self._size = dict.fromkeys(PARTS, 0)
        for part in PARTS:
            for group in made[part]:
                self._add(part, group)

    def place(self, group: Group) -> None:
        part = max(self._wanted, key=lambda part: self._wish(part, group))
        self._made[part].append(group)
        self._add(part, group)

    def _add(self, part: str, group: Group) -> None:
        self._have[part].update(group.strata)
        self._size[part] += group.size

    def _wish(self, part: str, group: Group) -> tuple[float, float, float]:
        target = self._targets[part]
        room = target - self._size[part] - group.size
        small = part == "train" or group.size <= max(1.0, target * LARGEST_SHARE)
        share = target / self._rows
        need = sum(
            count * (1 - self._have[part][name] / max(1e-9, share * self._total[name]))
            for name, count in group.strata.items()
        )
        return (min(0, room) if small else min(-group.size, room), need, room / max(1, target))


def _even_out(made: Cut, targets: dict[str, int], wanted: Sequence[str]) -> None:
    """Move or swap groups between parts while that brings row counts nearer to TARGETS."""
    for _ in range(SWAPS):
        over = {part: sum(g.size for g in made[part]) - targets[part] for part in wanted}
        giver = max(wanted, key=lambda part: over[part])
        taker = min(wanted, key=lambda part: over[part])
        step = _best_step(made, giver, taker, min(over[giver], -over[taker]))
        if step is None:
            return
        given, taken = step
        made[giver].remove(given)
        made[taker].append(given)
        if taken is not None:
            made[taker].remove(taken)
            made[giver].append(taken)


def _best_step(made: Cut, giver: str, taker: str, gap: int) -> tuple[Group, Group | None] | None:
    """The move or swap that shifts the number of rows nearest to GAP, if it helps at all."""
    if gap <= 0:
        return None
    back: dict[int, Group | None] = {0: None}
    for group in made[taker]:
        if _is_spare(made[taker], group):
            back.setdefault(group.size, group)
    options = [
        (abs(gap - (given.size - size)), given.name, given, taken)
        for given in _one_per_size(made[giver])
        for size, taken in back.items()
        if 0 < given.size - size < 2 * gap
    ]
    best = min(options, key=lambda option: option[:2], default=None)
    return None if best is None else (best[2], best[3])


def _one_per_size(groups: Sequence[Group]) -> list[Group]:
    chosen: dict[int, Group] = {}
    for group in groups:
        if group.size not in chosen and _is_spare(groups, group):
            chosen[group.size] = group
    return list(chosen.values())


def _is_spare(groups: Sequence[Group], group: Group) -> bool:
    """Whether GROUP may go: the part keeps all its tasks, and a group, without it."""
    others = {task for other in groups if other is not group for task in other.tasks}
    return not group.is_held and len(groups) > 1 and group.tasks <= others


def cost(
    made: Cut, groups: Sequence[Group], targets: dict[str, int], wanted: Sequence[str]
) -> tuple[float, float, float]:
    """Tasks missing from parts, then rows off target, then strata off their shares."""
    counts = Counter(task for group in groups for task in group.tasks)
    due = {task for task, count in counts.items() if count >= len(wanted)}
    missing = sum(len(due - {t for g in made[part] for t in g.tasks}) for part in wanted)
    off = sum(abs(sum(g.size for g in made[part]) - targets[part]) for part in PARTS)
    total = sum((group.strata for group in groups), Counter())
    rows = max(1, sum(targets.values()))
    uneven = 0.0
    for part in wanted:
        have: Counter[str] = sum((group.strata for group in made[part]), Counter())
        share = targets[part] / rows
        uneven += sum(abs(have[name] - share * count) for name, count in total.items())
    return missing, off, uneven


def _shuffled(salt: str, name: str) -> bytes:
    return hashlib.sha256(f"{salt}:{name}".encode()).digest()

"""Cut examples into train, val and test so that no domain is on two sides.

Whole groups move: what shares a domain, a document or nearly the whole input (`links`). Within
that, row counts meet the ratios (largest remainder), tasks are in every part, and strata are
balanced (iterative stratification, Sechidis et al. 2011, on groups). Same seed and same rows: same
parts, whatever the order of the rows. A group with a row that was tested on before stays in test:
it never comes into train, and figures stay comparable.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

from sem.core.errors import Insufficient, SemError
from sem.core.example import Example
from sem.core.taskspec import EvalSplit
from sem.dataset.config import Split
from sem.dataset.split import certificate

# Bring the row counts of parts nearer to their targets, by moving and swapping whole groups.

STEPS = 500
# One group may fill at most this share of val or test, unless groups are that large as a rule.
LARGEST_SHARE = 0.25


def even_out(cut: dict[str, list[Any]], targets: dict[str, int], parts: Sequence[str]) -> None:
    """Move or swap groups while that lowers the sum of the parts' distances from `targets`."""
    sizes = sorted(group.size for groups in cut.values() for group in groups)
    usual = 2 * sizes[len(sizes) // 2] if sizes else 0
    most = {part: max(LARGEST_SHARE * targets[part], usual) for part in parts}
    most["train"] = float("inf")
    for _ in range(STEPS):
        over = {part: sum(g.size for g in cut[part]) - targets[part] for part in parts}
        step = min(_steps(cut, over, most), default=None, key=lambda step: step[:3])
        if step is None:
            return
        _, _, _, (giver, moved), (taker, swapped) = step
        cut[giver].remove(moved)
        cut[taker].append(moved)
        if swapped is not None:
            cut[taker].remove(swapped)
            cut[giver].append(swapped)


def _steps(
    cut: dict[str, list[Any]], over: dict[str, int], most: dict[str, float]
) -> Iterator[tuple[Any, ...]]:
    """Yield every step that helps: (gain, moved, swapped, from, to), the largest gain least.

    No group comes to a part that is larger than `most` says of it.
    """
    for giver, taker in permutations(over, 2):
        if over[giver] <= over[taker]:
            continue
        back: dict[int, Any] = {0: None, **{g.size: g for g in one_per_size(cut[taker])}}
        back = {size: group for size, group in back.items() if size <= most[giver]}
        for moved in one_per_size(cut[giver]):
            if moved.size > most[taker]:
                continue
            for size, swapped in back.items():
                shift = moved.size - size
                after = abs(over[giver] - shift) + abs(over[taker] + shift)
                gain = after - abs(over[giver]) - abs(over[taker])
                if shift > 0 and gain < 0:
                    names = (moved.name, swapped.name if swapped else "")
                    yield gain, *names, (giver, moved), (taker, swapped)


def one_per_size(groups: Sequence[Any]) -> list[Any]:
    """Return the first group of every size that its part can spare."""
    by_size: dict[int, Any] = {}
    for group in groups:
        if group.size not in by_size and is_spare(groups, group):
            by_size[group.size] = group
    return list(by_size.values())


def is_spare(groups: Sequence[Any], group: Any) -> bool:
    """Return whether `group` may go: the part keeps all its tasks, and a group, without it."""
    others = {task for other in groups if other is not group for task in other.tasks}
    return not group.is_held and len(groups) > 1 and group.tasks <= others


PARTS = ("train", "val", "test")
ATTEMPTS = 16


@dataclass(frozen=True)
class SplitItem:
    """What the cut needs to know of one example."""

    id: str
    task: str
    group: str
    stratum: str
    # Items that share one are of one group, too.
    links: tuple[str, ...] = ()


@dataclass
class Group:
    """Examples that move together."""

    name: str
    ids: list[str] = field(default_factory=list)
    strata: Counter[str] = field(default_factory=Counter)
    tasks: set[str] = field(default_factory=set)
    # Was tested on: stays in test.
    is_held: bool = False

    @property
    def size(self) -> int:
        return len(self.ids)


Cut = dict[str, list[Group]]


def make_split_item(example: Example, options: Split) -> SplitItem:
    """Return the Item of `example`: no domain means its document, no document means itself."""
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
    tied = certificate.ties_to_repair(example, options.enforced)
    return SplitItem(example.id, example.task, group or f"row:{example.id}", stratum, tied)


def cut_splits(items: Iterable[SplitItem], split: EvalSplit, held: Collection[str] = ()) -> Cut:
    """Return the groups of each part; Insufficient when there are fewer groups than parts to fill.

    A group with one of the ids `held` goes into test.
    """
    groups = group_items(items, held)
    parts = [part for part, ratio in zip(PARTS, _ratios(split), strict=True) if ratio > 0]
    _check(groups, parts)
    targets = apportion_rows(sum(group.size for group in groups), split)
    attempts = max(1, min(ATTEMPTS, 60_000 // len(groups)))
    salts = [f"{split.seed}:{n}" for n in range(attempts)]
    cuts = [_attempt(groups, targets, parts, salt) for salt in salts]
    best = min(cuts, key=lambda cut: split_cost(cut, groups, targets, parts))
    if split_cost(best, groups, targets, parts)[0] == 0:
        return best
    # Few groups: what keeps a part small took the only groups that have a task of another part.
    cuts = [_attempt(groups, targets, parts, salt, few=True) for salt in salts]
    return min([best, *cuts], key=lambda cut: split_cost(cut, groups, targets, parts))


def _check(groups: Sequence[Group], parts: Sequence[str]) -> None:
    free = [group for group in groups if not group.is_held]
    if len(free) < len(groups) and "test" not in parts:
        raise SemError(
            "eval_split.test_ratio is 0, but earlier test rows must stay in test",
            "give test a ratio: what was tested on is never trained on",
        )
    short = len(parts) - len(free) - (len(free) < len(groups))
    if short > 0:
        rows = sum(group.size for group in groups)
        tested = len(groups) - len(free)
        held = f", {tested} of them tested on before" if tested else ""
        raise Insufficient(
            f"{rows} rows in {len(groups)} groups{held} cannot fill {len(parts)} parts "
            f"({', '.join(parts)}) without a group on two sides",
            f"add examples of at least {short} more domains, or in dataset.yaml set "
            "split.group_by to source_id or row, or its split.leaks entry to report",
        )


def group_items(items: Iterable[SplitItem], held: Collection[str] = ()) -> list[Group]:
    """Return `items` by group, in order of id and name whatever order they come in.

    Groups with a link in common are one, under the name that sorts first.
    """
    groups: dict[str, Group] = {}
    ordered = sorted(items, key=lambda member: member.id)
    names = _joined(ordered)
    for member in ordered:
        name = names(member.group)
        group = groups.setdefault(name, Group(name))
        group.ids.append(member.id)
        group.strata[member.stratum] += 1
        group.tasks.add(member.task)
        group.is_held |= member.id in held
    return [groups[name] for name in sorted(groups)]


def _joined(items: Sequence[SplitItem]) -> Callable[[str], str]:
    """From the name of a group to the name of the one it became part of."""
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while leader.setdefault(name, name) != name:
            leader[name] = leader[leader[name]]
            name = leader[name]
        return name

    first: dict[str, str] = {}
    for member in items:
        for link in member.links:
            a, b = sorted((find(first.setdefault(link, member.group)), find(member.group)))
            leader[b] = a
    return find


def apportion_rows(rows: int, split: EvalSplit) -> dict[str, int]:
    """Return rows of each part by the largest remainder; a part with a ratio gets one at least."""
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
    groups: Sequence[Group],
    targets: dict[str, int],
    parts: Sequence[str],
    salt: str,
    few: bool = False,
) -> Cut:
    cut: Cut = {part: [] for part in PARTS}
    cut["test"] = [group for group in groups if group.is_held]
    free = [group for group in groups if not group.is_held]
    order = sorted(free, key=lambda group: (-group.size, _shuffled(salt, group.name)))
    rest = _seed_tasks(order, cut, targets, parts, salt, few)
    filler = _Filler(groups, cut, targets, parts)
    for group in rest:
        filler.place(group)
    even_out(cut, targets, parts)
    return cut


def _seed_tasks(
    order: list[Group],
    cut: Cut,
    targets: dict[str, int],
    parts: Sequence[str],
    salt: str,
    few: bool,
) -> list[Group]:
    """Give every part a group of every task that has enough of them; the groups left over.

    With `few` groups those that bring most tasks at once come first, whatever their size, and each
    part leaves one for every part that is still empty.
    """
    counts = Counter(task for group in order for task in group.tasks)
    due = {task for task, count in counts.items() if count >= len(parts)}
    rest = list(order)
    for part in sorted(parts, key=lambda part: targets[part]):
        while rest:
            empty = sum(not cut[other] for other in parts if other != part)
            if few and cut[part] and len(rest) <= empty:
                break
            missing = due - {task for group in cut[part] for task in group.tasks}
            if not missing and cut[part]:
                break
            fits = [g for g in rest if g.tasks & missing or not missing]
            if not fits:
                break
            costs = {
                g.name: _seed_cost(g, missing, counts, targets[part], salt, few) for g in fits
            }
            best = min(fits, key=lambda g: costs[g.name])
            cut[part].append(best)
            rest.remove(best)
    return rest


def _seed_cost(
    group: Group, missing: set[str], counts: Counter[str], target: int, salt: str, few: bool
) -> tuple[float, float, float, bytes]:
    """Return the sort key of `group`: not too large, then rare tasks, then many at once, then by
    lot.

    With `few`, groups with the most tasks come first.
    """
    rarest = min((counts[task] for task in group.tasks & missing), default=0)
    oversize = max(0.0, group.size - max(1.0, target * LARGEST_SHARE))
    brought = -len(group.tasks & missing)
    if few:
        return (brought, rarest, oversize, _shuffled(salt, group.name))
    return (oversize, rarest, brought, _shuffled(salt, group.name))


class _Filler:
    """Places groups one by one where their strata are most wanted and there is room."""

    def __init__(
        self, groups: Sequence[Group], cut: Cut, targets: dict[str, int], parts: Sequence[str]
    ) -> None:
        self._cut, self._targets, self._parts = cut, targets, parts
        self._total = sum((group.strata for group in groups), Counter())
        self._rows = max(1, sum(targets.values()))
        self._have = {part: Counter[str]() for part in PARTS}
        self._size = dict.fromkeys(PARTS, 0)
        for part in PARTS:
            for group in cut[part]:
                self._add(part, group)

    def place(self, group: Group) -> None:
        part = max(self._parts, key=lambda part: self._wish(part, group))
        self._cut[part].append(group)
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


def split_cost(
    cut: Cut, groups: Sequence[Group], targets: dict[str, int], parts: Sequence[str]
) -> tuple[float, float, float]:
    """Empty parts and tasks missing from parts, then rows off target, then strata off shares."""
    counts = Counter(task for group in groups for task in group.tasks)
    due = {task for task, count in counts.items() if count >= len(parts)}
    missing = sum(not cut[part] for part in parts)
    missing += sum(len(due - {t for g in cut[part] for t in g.tasks}) for part in parts)
    off = sum(abs(sum(g.size for g in cut[part]) - targets[part]) for part in PARTS)
    total = sum((group.strata for group in groups), Counter())
    rows = max(1, sum(targets.values()))
    uneven = 0.0
    for part in parts:
        have: Counter[str] = sum((group.strata for group in cut[part]), Counter())
        share = targets[part] / rows
        uneven += sum(abs(have[name] - share * count) for name, count in total.items())
    return missing, off, uneven


def _shuffled(salt: str, name: str) -> bytes:
    return hashlib.sha256(f"{salt}:{name}".encode()).digest()


def split_quality(cut: Cut, split: EvalSplit) -> dict[str, dict[str, float]]:
    """Return for each part the rows off its target and how like all rows its strata are.

    The likeness is 1 - the total variation distance of both distributions: 1.0 is the same.
    """
    total = sum((group.strata for groups in cut.values() for group in groups), Counter[str]())
    rows = sum(total.values())
    targets = apportion_rows(rows, split)
    figures = {}
    for part, groups in cut.items():
        have = sum((group.strata for group in groups), Counter[str]())
        size = sum(have.values())
        apart = sum(abs(have[s] / max(1, size) - n / rows) for s, n in total.items()) / 2
        figures[part] = {"rows_off": size - targets[part], "balance": round(1 - apart, 4)}
    return figures

"""Bring the row counts of parts nearer to their targets, by moving and swapping whole groups."""

from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import Any

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

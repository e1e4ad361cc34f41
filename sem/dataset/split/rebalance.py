"""Bring the row counts of parts nearer to their targets, by moving and swapping whole groups."""

from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import Any

STEPS = 500
# One group may fill at most this share of val or test, unless groups are that large as a rule.
LARGEST_SHARE = 0.25


def even_out(made: dict[str, list[Any]], targets: dict[str, int], wanted: Sequence[str]) -> None:
    """Move or swap groups while that lowers the sum of the parts' distances from `targets`."""
    sizes = sorted(group.size for groups in made.values() for group in groups)
    usual = 2 * sizes[len(sizes) // 2] if sizes else 0
    most = {part: max(LARGEST_SHARE * targets[part], usual) for part in wanted}
    most["train"] = float("inf")
    for _ in range(STEPS):
        over = {part: sum(g.size for g in made[part]) - targets[part] for part in wanted}
        step = min(_steps(made, over, most), default=None, key=lambda step: step[:3])
        if step is None:
            return
        _, _, _, (giver, given), (taker, taken) = step
        made[giver].remove(given)
        made[taker].append(given)
        if taken is not None:
            made[taker].remove(taken)
            made[giver].append(taken)


def _steps(
    made: dict[str, list[Any]], over: dict[str, int], most: dict[str, float]
) -> Iterator[tuple[Any, ...]]:
    """Yield every step that helps: (gain, given, taken, from, to), the largest gain least.

    No group comes to a part that is larger than `most` says of it.
    """
    for giver, taker in permutations(over, 2):
        if over[giver] <= over[taker]:
            continue
        back: dict[int, Any] = {0: None, **{g.size: g for g in one_per_size(made[taker])}}
        back = {size: group for size, group in back.items() if size <= most[giver]}
        for given in one_per_size(made[giver]):
            if given.size > most[taker]:
                continue
            for size, taken in back.items():
                shift = given.size - size
                after = abs(over[giver] - shift) + abs(over[taker] + shift)
                gain = after - abs(over[giver]) - abs(over[taker])
                if shift > 0 and gain < 0:
                    names = (given.name, taken.name if taken else "")
                    yield gain, *names, (giver, given), (taker, taken)


def one_per_size(groups: Sequence[Any]) -> list[Any]:
    """Return the first group of every size that its part can spare."""
    chosen: dict[int, Any] = {}
    for group in groups:
        if group.size not in chosen and is_spare(groups, group):
            chosen[group.size] = group
    return list(chosen.values())


def is_spare(groups: Sequence[Any], group: Any) -> bool:
    """Return whether `group` may go: the part keeps all its tasks, and a group, without it."""
    others = {task for other in groups if other is not group for task in other.tasks}
    return not group.is_held and len(groups) > 1 and group.tasks <= others

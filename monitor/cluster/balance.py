"""Which cameras move: those that a node is too slow for, and those that another node has more room for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from monitor.cluster.nodes import Node, Placed

OVERLOADED_S = 30.0  # for which frames may be left out before cameras move
UNEVEN_S = 60.0  # for which another node may have less to do, or they may be on one that they were not to be on


class Move(NamedTuple):
    """A group that is to move, and where to."""

    group: str
    node: Node
    is_overloaded: bool


class Balance:
    """Remembers since when each group of cameras had better be elsewhere."""

    def __init__(self) -> None:
        """Begin with all well."""
        self._since_s: dict[tuple[str, bool], float] = {}

    def next_move(
        self, watchers: Mapping[str, Placed], able: Mapping[str, Sequence[Node]], now_s: float
    ) -> Move | None:
        """Return the move that is due, None where there is none: the one of a group that leaves frames out first.

        Args:
            watchers: by their groups, with their newest standing.
            able: group -> nodes that it may be on.
            now_s: on the monotonic clock.
        """
        wanted = self._wanted(watchers, able)
        self._since_s = {key: self._since_s.get(key, now_s) for key in wanted}
        for key, since_s in sorted(self._since_s.items(), key=lambda item: (not item[0][1], item[1])):
            group, is_overloaded = key
            if now_s - since_s > (OVERLOADED_S if is_overloaded else UNEVEN_S):
                self._since_s.clear()  # the others are counted anew, with this one elsewhere
                return Move(group, wanted[key], is_overloaded)
        return None

    def _wanted(
        self, watchers: Mapping[str, Placed], able: Mapping[str, Sequence[Node]]
    ) -> dict[tuple[str, bool], Node]:
        """Return the groups that had better be elsewhere, and whether they leave frames out; and where to."""
        busy = Counter(placed.node for placed in watchers.values())
        wanted: dict[tuple[str, bool], Node] = {}
        for group, placed in watchers.items():
            nodes = {node.id: node for node in able[group]}
            here = nodes.get(placed.node)
            others = [node for node in nodes.values() if node is not here]
            if placed.standing is None or not others:
                continue
            best = min(others, key=lambda node: (_load(busy[node.id] + 1, node), node.id))
            if here is None or _load(busy[best.id] + 1, best) < _load(busy[here.id], here):
                wanted[group, placed.standing.overloaded] = best
        return wanted


def _load(watchers: int, node: Node) -> float:
    return watchers / max(1, node.cpus)

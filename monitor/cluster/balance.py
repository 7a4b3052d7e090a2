"""Which cameras move: those that a node is too slow for, and those that another node has more room for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from monitor.cluster.nodes import Node, Placed

OVERLOADED_S = 30.0  # for which frames may be left out before cameras move
UNEVEN_S = 60.0  # for which another node may have less to do, or they may be on one that they were not to be on
STAYS_S = 600.0  # for which a group is left where it is whose move came to nothing, as where a camera serves one alone


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
        self._failed_s: dict[str, float] = {}

    def has_failed(self, group: str, now_s: float) -> None:
        """Leave a group where it is for a while."""
        self._failed_s[group] = now_s

    def next_move(
        self, watchers: Mapping[str, Placed], able: Mapping[str, Sequence[Node]], busy: Mapping[str, int], now_s: float
    ) -> Move | None:
        """Return the move that is due, None where there is none: the one of a group that leaves frames out first.

        Args:
            watchers: by their groups, with their newest standing.
            able: group -> nodes that it may be on, of those that may move.
            busy: node -> how many work there.
            now_s: on the monotonic clock.
        """
        self._failed_s = {group: at_s for group, at_s in self._failed_s.items() if now_s - at_s < STAYS_S}
        wanted = self._wanted(watchers, able, busy)
        self._since_s = {key: self._since_s.get(key, now_s) for key in wanted}
        for key, since_s in sorted(self._since_s.items(), key=lambda item: (not item[0][1], item[1])):
            group, is_overloaded = key
            if now_s - since_s > (OVERLOADED_S if is_overloaded else UNEVEN_S):
                self._since_s.clear()  # the others are counted anew, with this one elsewhere
                return Move(group, wanted[key], is_overloaded)
        return None

    def _wanted(
        self, watchers: Mapping[str, Placed], able: Mapping[str, Sequence[Node]], busy: Mapping[str, int]
    ) -> dict[tuple[str, bool], Node]:
        """Return the groups that had better be elsewhere, and whether they leave frames out; and where to."""
        wanted: dict[tuple[str, bool], Node] = {}
        for group, placed in watchers.items():
            nodes = {} if group in self._failed_s else {node.id: node for node in able.get(group, ())}
            here = nodes.get(placed.node)
            others = [node for node in nodes.values() if node is not here]
            if placed.standing is None or not others:
                continue
            best = min(others, key=lambda node: (_load(busy.get(node.id, 0) + 1, node), node.id))
            if here is None or _load(busy.get(best.id, 0) + 1, best) < _load(busy[here.id], here):
                wanted[group, False] = best
                if placed.standing.overloaded:
                    wanted[group, True] = best
        return wanted


def _load(workers: int, node: Node) -> float:
    return workers / max(1, node.cpus)

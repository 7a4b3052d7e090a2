"""Which cameras leave a node that has too much to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from monitor.cluster.nodes import Node, Placed

OVERLOADED_S = 30.0  # for which frames may be left out before cameras move


class Overload:
    """Remembers since when each group of cameras leaves frames out."""

    def __init__(self) -> None:
        """Begin with all well."""
        self._since_s: dict[str, float] = {}

    def too_much(self, watchers: Mapping[str, Placed], nodes: Sequence[Node], now_s: float) -> str | None:
        """Return a group that leaves frames out for long, where another node has less to do; None where there is none.

        Args:
            watchers: by their groups, with their newest standing.
            nodes: that may be used.
            now_s: on the monotonic clock.
        """
        busy = Counter(placed.node for placed in watchers.values())
        least = min((busy[node.id] for node in nodes), default=0)
        for name, placed in watchers.items():
            if placed.standing is None or not placed.standing.overloaded:
                self._since_s.pop(name, None)
            elif now_s - self._since_s.setdefault(name, now_s) > OVERLOADED_S and least < busy[placed.node] - 1:
                del self._since_s[name]
                return name
        return None

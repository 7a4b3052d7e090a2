"""A group that leaves frames out moves soon, one that another node has room for later, and only where that helps."""

from __future__ import annotations

from collections import Counter

from monitor.cluster.balance import OVERLOADED_S, UNEVEN_S, Balance
from monitor.cluster.nodes import Node, Placed
from monitor.cluster.watch_actor import Standing

FULL, IDLE = (Node(name, {}, 1, 0, name) for name in ("full", "idle"))
ABLE = dict.fromkeys("abc", (FULL, IDLE))


def watcher(node: Node, *, overloaded: bool = False) -> Placed:
    standing = Standing(
        finished=False, healths={}, overloaded=overloaded, frames={}, up_s=1.0, has_open=False, speaks=True
    )
    return Placed(actor=None, node=node.id, begun_s=0.0, standing=standing)


def test_what_is_overloaded_for_long_leaves_a_node_that_has_more_to_do_than_another() -> None:
    balance, watchers = Balance(), {name: watcher(FULL, overloaded=name == "b") for name in "abc"}

    assert balance.next_move(watchers, ABLE, 0.0) is None
    assert balance.next_move(watchers, ABLE, OVERLOADED_S) is None
    assert balance.next_move(watchers, ABLE, OVERLOADED_S + 1) == ("b", IDLE, True)
    assert balance.next_move(watchers, ABLE, OVERLOADED_S + 2) is None, "it has just moved"


def test_a_moment_without_overload_counts_anew() -> None:
    balance = Balance()
    busy, calm = ({name: watcher(FULL, overloaded=over) for name in "ab"} for over in (True, False))

    assert balance.next_move(busy, ABLE, 0.0) is None
    assert balance.next_move(calm, ABLE, OVERLOADED_S) is None
    assert balance.next_move(busy, ABLE, OVERLOADED_S + 1) is None


def test_a_node_that_came_later_gets_its_share_one_after_another() -> None:
    balance, nodes = Balance(), (FULL, IDLE, Node("large", {}, 4, 0, "large"))
    watchers = {name: watcher(FULL) for name in "abcdef"}
    now_s = 0.0
    for _ in range(20):
        now_s += UNEVEN_S + 1
        if (move := balance.next_move(watchers, dict.fromkeys("abcdef", nodes), now_s)) is not None:
            watchers[move.group] = watcher(move.node)

    assert Counter(placed.node for placed in watchers.values()) == {"full": 1, "idle": 1, "large": 4}


def test_nothing_moves_where_all_nodes_have_as_much_to_do() -> None:
    balance = Balance()
    watchers = {"a": watcher(FULL, overloaded=True), "b": watcher(IDLE, overloaded=True)}

    assert balance.next_move(watchers, ABLE, 0.0) is None
    assert balance.next_move(watchers, ABLE, 10 * UNEVEN_S) is None


def test_cameras_move_only_to_nodes_that_they_may_be_on_and_home_once_one_is_there() -> None:
    for able, expected in (((FULL,), None), ((IDLE,), ("a", IDLE, False))):
        balance, watchers = Balance(), {name: watcher(FULL, overloaded=able == (FULL,)) for name in "ab"}
        either = {"a": able, "b": (FULL,)}

        assert balance.next_move(watchers, either, 0.0) is None
        assert balance.next_move(watchers, either, UNEVEN_S + 1) == expected


def test_a_watcher_that_has_not_answered_yet_is_left_alone() -> None:
    balance, watchers = Balance(), {name: watcher(FULL, overloaded=True) for name in "ab"}
    watchers["a"].standing = None
    watchers["b"].standing = None

    assert balance.next_move(watchers, ABLE, 0.0) is None
    assert balance.next_move(watchers, ABLE, 10 * UNEVEN_S) is None

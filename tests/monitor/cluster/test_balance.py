"""A group that leaves frames out moves soon, one that another node has room for later, and only where that helps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from monitor.cluster.balance import OVERLOADED_S, STAYS_S, UNEVEN_S, Balance, Move
from monitor.cluster.nodes import Node, Placed
from monitor.cluster.watch_actor import Standing

FULL, IDLE = (Node(name, {}, 1, 0, name) for name in ("full", "idle"))
ABLE = dict.fromkeys("abc", (FULL, IDLE))


def watcher(node: Node, *, overloaded: bool = False) -> Placed:
    standing = Standing(
        finished=False, healths={}, overloaded=overloaded, frames={}, up_s=1.0, has_open=False, speaks=True
    )
    return Placed(actor=None, node=node.id, begun_s=0.0, standing=standing)


def moved(
    balance: Balance, watchers: Mapping[str, Placed], able: Mapping[str, Sequence[Node]], now_s: float
) -> Move | None:
    """Ask, where nobody but watchers works."""
    return balance.next_move(watchers, able, Counter(placed.node for placed in watchers.values()), now_s)


def test_what_is_overloaded_for_long_leaves_a_node_that_has_more_to_do_than_another() -> None:
    balance, watchers = Balance(), {name: watcher(FULL, overloaded=name == "b") for name in "abc"}

    assert moved(balance, watchers, ABLE, 0.0) is None
    assert moved(balance, watchers, ABLE, OVERLOADED_S) is None
    assert moved(balance, watchers, ABLE, OVERLOADED_S + 1) == ("b", IDLE, True)
    assert moved(balance, watchers, ABLE, OVERLOADED_S + 2) is None, "it has just moved"


def test_a_moment_without_overload_counts_anew() -> None:
    balance = Balance()
    busy, calm = ({name: watcher(FULL, overloaded=over) for name in "ab"} for over in (True, False))

    assert moved(balance, busy, ABLE, 0.0) is None
    assert moved(balance, calm, ABLE, OVERLOADED_S - 1) is None
    assert moved(balance, busy, ABLE, OVERLOADED_S + 1) is None


def test_a_node_that_came_later_gets_its_share_one_after_another() -> None:
    balance, nodes = Balance(), (FULL, IDLE, Node("large", {}, 4, 0, "large"))
    watchers = {name: watcher(FULL) for name in "abcdef"}
    now_s = 0.0
    for _ in range(20):
        now_s += UNEVEN_S + 1
        if (move := moved(balance, watchers, dict.fromkeys("abcdef", nodes), now_s)) is not None:
            watchers[move.group] = watcher(move.node)

    assert Counter(placed.node for placed in watchers.values()) == {"full": 1, "idle": 1, "large": 4}


def test_overload_that_comes_and_goes_counts_as_unevenness_and_a_pause_counts_anew() -> None:
    balance = Balance()
    for now_s in range(0, int(UNEVEN_S) + 1, 20):
        watchers = {name: watcher(FULL, overloaded=now_s % 40 == 0) for name in "ab"}
        assert moved(balance, watchers, ABLE, now_s) is None
    assert moved(balance, watchers, ABLE, UNEVEN_S + 1) == ("a", IDLE, False)

    assert moved(balance, watchers, ABLE, 200.0) is None
    assert moved(balance, watchers, {}, 201.0) is None  # another one moves
    assert moved(balance, watchers, ABLE, 300.0) is None


def test_where_a_move_came_to_nothing_the_others_have_their_turn() -> None:
    balance, watchers = Balance(), {name: watcher(FULL) for name in "abc"}
    moved(balance, watchers, ABLE, 0.0)
    assert moved(balance, watchers, ABLE, UNEVEN_S + 1) == ("a", IDLE, False)
    balance.has_failed("a", UNEVEN_S + 2)

    moved(balance, watchers, ABLE, 100.0)
    assert moved(balance, watchers, ABLE, 101.0 + UNEVEN_S) == ("b", IDLE, False)
    moved(balance, watchers, {"a": ABLE["a"]}, STAYS_S + 100.0)
    assert moved(balance, watchers, {"a": ABLE["a"]}, STAYS_S + 101.0 + UNEVEN_S) == ("a", IDLE, False)


def test_nothing_moves_where_all_nodes_have_as_much_to_do() -> None:
    balance = Balance()
    watchers = {"a": watcher(FULL, overloaded=True), "b": watcher(IDLE, overloaded=True)}

    assert moved(balance, watchers, ABLE, 0.0) is None
    assert moved(balance, watchers, ABLE, 10 * UNEVEN_S) is None


def test_the_journals_ends_count_too() -> None:
    balance, watchers = Balance(), {name: watcher(FULL) for name in "ab"}
    for now_s in (0.0, UNEVEN_S + 1):
        assert balance.next_move(watchers, ABLE, {"full": 2, "idle": 1}, now_s) is None


def test_cameras_move_only_to_nodes_that_they_may_be_on_and_home_once_one_is_there() -> None:
    for able, expected in (((FULL,), None), ((IDLE,), ("a", IDLE, False))):
        balance, watchers = Balance(), {name: watcher(FULL, overloaded=able == (FULL,)) for name in "ab"}
        either = {"a": able, "b": (FULL,)}

        assert moved(balance, watchers, either, 0.0) is None
        assert moved(balance, watchers, either, UNEVEN_S + 1) == expected


def test_a_watcher_that_has_not_answered_yet_is_left_alone() -> None:
    balance, watchers = Balance(), {name: watcher(FULL, overloaded=True) for name in "ab"}
    watchers["a"].standing = None
    watchers["b"].standing = None

    assert moved(balance, watchers, ABLE, 0.0) is None
    assert moved(balance, watchers, ABLE, 10 * UNEVEN_S) is None

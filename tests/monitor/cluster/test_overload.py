"""A group that leaves frames out for long moves, and only where that helps."""

from __future__ import annotations

from monitor.cluster.nodes import Node, Placed
from monitor.cluster.overload import OVERLOADED_S, Overload
from monitor.cluster.watch_actor import Standing

NODES = [Node(name, {}, 1, 0, name) for name in ("full", "idle")]


def watcher(node: str, *, overloaded: bool) -> Placed:
    standing = Standing(
        finished=False, healths={}, overloaded=overloaded, frames={}, alerts=(), newest=0, up_s=1.0, speaks=True
    )
    return Placed(actor=None, node=node, begun_s=0.0, standing=standing)


def test_what_is_overloaded_for_long_leaves_a_node_that_has_more_to_do_than_another() -> None:
    overload, watchers = Overload(), {name: watcher("full", overloaded=name == "b") for name in "abc"}

    assert overload.too_much(watchers, NODES, 0.0) is None
    assert overload.too_much(watchers, NODES, OVERLOADED_S) is None
    assert overload.too_much(watchers, NODES, OVERLOADED_S + 1) == "b"
    assert overload.too_much(watchers, NODES, OVERLOADED_S + 2) is None, "it has just moved"


def test_a_moment_without_overload_counts_anew() -> None:
    overload = Overload()
    busy, idle = ({name: watcher("full", overloaded=over) for name in "ab"} for over in (True, False))

    assert overload.too_much(busy, NODES, 0.0) is None
    assert overload.too_much(idle, NODES, OVERLOADED_S) is None
    assert overload.too_much(busy, NODES, OVERLOADED_S + 1) is None


def test_nothing_moves_where_all_nodes_have_as_much_to_do() -> None:
    overload = Overload()
    watchers = {"a": watcher("full", overloaded=True), "b": watcher("idle", overloaded=True)}

    assert overload.too_much(watchers, NODES, 0.0) is None
    assert overload.too_much(watchers, NODES, 10 * OVERLOADED_S) is None


def test_a_watcher_that_has_not_answered_yet_is_left_alone() -> None:
    overload, watchers = Overload(), {name: watcher("full", overloaded=True) for name in "ab"}
    watchers["a"].standing = None
    watchers["b"].standing = None

    assert overload.too_much(watchers, NODES, 0.0) is None
    assert overload.too_much(watchers, NODES, 10 * OVERLOADED_S) is None

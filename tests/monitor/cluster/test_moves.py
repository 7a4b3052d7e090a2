"""Who follows a watcher speaks once it sees as much, or must."""

from __future__ import annotations

from functools import partial

from monitor.cameras.health import Health
from monitor.cluster.moves import FOLLOW_S, QUIET_S, next_step
from monitor.cluster.watch_actor import Standing


def standing(sees: str, *, up_s: float = 1.0, has_open: bool = False, speaks: bool = False) -> Standing:
    healths = {name: Health("ok" if name in sees else "blind", None, 0.0) for name in "abcd"}
    how = {"up_s": up_s, "has_open": has_open, "speaks": speaks}
    return Standing(finished=False, healths=healths, overloaded=False, frames={}, **how)


def test_it_waits_a_while_for_a_moment_without_an_animal() -> None:
    step = partial(next_step, must_leave=False)

    assert step(standing("a"), standing("a", has_open=True)) == "wait"
    assert step(standing("a", has_open=True), standing("a")) == "speak"
    assert step(standing("a", up_s=QUIET_S), standing("a", has_open=True)) == "speak"


def test_a_follower_speaks_once_it_sees_as_much_and_then_replaces_who_was_before_it() -> None:
    for must_leave in (False, True):
        step = partial(next_step, must_leave=must_leave)

        assert step(None, standing("abcd")) == "wait"
        assert step(standing("abc"), standing("abcd")) == "wait"
        assert step(standing("bcd"), standing("abc")) == "wait"  # as many are not the same
        assert step(standing("abcd"), standing("abcd")) == "speak"
        assert step(standing("abc"), standing("ab")) == "speak"
        assert step(standing(""), standing("")) == "speak"  # who is blind is followed too
        assert step(standing(""), None) == "speak"
        assert step(standing("a", speaks=True), standing("abcd")) == "replace"


def test_one_that_sees_less_for_long_speaks_only_where_nobody_may_stay() -> None:
    late = standing("abc", up_s=FOLLOW_S + 1)

    assert next_step(late, standing("abcd"), must_leave=True) == "speak"
    assert next_step(late, standing("abcd"), must_leave=False) == "give up"

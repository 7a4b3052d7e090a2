"""How far a move is: a watcher opens the cameras of another one, and speaks for them once it sees as much as that."""

from __future__ import annotations

from typing import Literal

from monitor.cluster.watch_actor import Standing

FOLLOW_S = 10.0  # for a follower to see as much
QUIET_S = 20.0  # for a moment without an animal: what is open ends then, and is found anew


def next_step(
    follower: Standing | None, watcher: Standing | None, *, must_leave: bool
) -> Literal["wait", "speak", "replace", "give up"]:
    """Tell what is to be done of a follower: it is told to speak, and then replaces the watcher before it.

    What is open there ends when another one speaks, so it waits for a while for a moment in which nothing is.

    Args:
        follower: how it does now; None where that is not known.
        watcher: the same of the one before it.
        must_leave: whether the watcher must not stay where it is, even if the follower sees less, as it does where
            cameras serve one alone.
    """
    if follower is None:
        return "wait"
    if follower.speaks:
        return "replace"
    if watcher is None:
        return "speak"
    if watcher.sees <= follower.sees:
        return "wait" if watcher.has_open and follower.up_s < QUIET_S else "speak"
    if follower.up_s < FOLLOW_S:
        return "wait"
    return "speak" if must_leave else "give up"

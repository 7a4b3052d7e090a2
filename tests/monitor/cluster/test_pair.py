"""Which keeper may lead: what is noted comes before what it allows, and a disk that lacks something never leads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from monitor.cluster import pair as module
from monitor.cluster.keeper import UnreachableError
from monitor.cluster.nodes import Node, Nodes, Placed
from monitor.cluster.pair import NOTE, Pair, Whole
from monitor.config import Config

A, B, C = (Node(id=f"node-{name}", labels={}, gpus=0, disk=name) for name in "abc")


class Cluster:
    """Keepers that do as they are told, but for those that are said to be dead."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.led: list[tuple[str, int, bool]] = []
        self.dead: set[str] = set()
        monkeypatch.setattr(module, "place", self.place)
        monkeypatch.setattr(module, "call", self.call)
        monkeypatch.setattr(module.ray, "kill", lambda actor: None)
        monkeypatch.setattr(module.ray, "get_runtime_context", lambda: self)
        self.current_actor = None

    def place(self, kind: type, node: Node, *arguments: object) -> Placed:
        return Placed(node.disk, node.id, 0.0)

    def call(self, actor: str, method: str, *arguments: Any, timeout_s: float = 0.0) -> str:
        if actor in self.dead:
            raise UnreachableError(method)
        if method == "lead":
            self.led.append((actor, *arguments))
        return "journal"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return Cluster(monkeypatch)


def tended(pair: Pair, *nodes: Node, rounds: int = 4) -> Pair:
    """Let it see to itself, while whoever was placed answers."""
    for _ in range(rounds):
        pair.tend(nodes, pair.everybody().values())
        for placed in pair.everybody().values():
            placed.heard_s = 1.0
    return pair


def new_pair(folder: Path) -> Pair:
    return Pair(Config(), folder, frozenset(), Nodes())


def noted(folder: Path) -> Whole:
    return Whole.model_validate_json((folder / NOTE).read_bytes())


def test_the_first_leader_begins_anew_and_gets_a_copy_on_another_disk(cluster: Cluster, tmp_path: Path) -> None:
    pair = tended(new_pair(tmp_path), A, B)

    assert cluster.led == [("a", 1, True)]
    assert (pair.leader.disk, pair.copy.disk) == ("a", "b")
    assert noted(tmp_path) == Whole(term=1, disks=("a", "b"))


def test_a_copy_leads_after_its_leader_but_not_where_the_leader_went_on_without_it(
    cluster: Cluster, tmp_path: Path
) -> None:
    pair = tended(new_pair(tmp_path), A, B, C)
    pair.drop("leader")
    tended(pair, B, C)
    assert cluster.led[-1] == ("b", 2, False)
    assert noted(tmp_path).disks == ("b", "c")

    assert pair.allows_alone(2, pair.copy.number)
    assert noted(tmp_path) == Whole(term=2, disks=("b",))
    pair.drop("leader")  # and is lost right after that
    tended(pair, C, rounds=1)

    assert cluster.led[-1] == ("b", 2, False)  # c lacks what b numbered alone
    tended(pair, B, C)
    assert cluster.led[-1] == ("b", 3, False)


def test_who_was_replaced_is_not_allowed_to_go_on(cluster: Cluster, tmp_path: Path) -> None:
    pair = tended(new_pair(tmp_path), A, B)
    number = pair.copy.number
    pair.drop("leader")
    assert not pair.allows_alone(1, number)  # nobody leads: it is held for lost
    tended(pair, B)

    assert not pair.allows_alone(1, number)
    assert pair.allows_alone(2, 0)


def test_a_run_after_another_waits_for_a_disk_that_has_everything(cluster: Cluster, tmp_path: Path) -> None:
    tended(new_pair(tmp_path), A, B)
    pair = tended(new_pair(tmp_path), C)
    assert cluster.led == [("a", 1, True)]

    tended(pair, C, B)

    assert cluster.led[-1] == ("b", 2, False)
    assert (pair.leader.disk, pair.copy.disk) == ("b", "c")


def test_where_both_ends_are_lost_a_new_journal_begins_and_what_lies_around_is_set_aside(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tended(new_pair(tmp_path), A, B)
    monkeypatch.setattr(module, "FORMER_S", -1.0)
    tended(new_pair(tmp_path), C)

    assert cluster.led[-1] == ("c", 2, True)


def test_a_keeper_that_does_not_lead_when_it_should_is_replaced(cluster: Cluster, tmp_path: Path) -> None:
    cluster.dead.add("a")
    pair = new_pair(tmp_path)
    tended(pair, A, rounds=2)
    cluster.dead.clear()
    tended(pair, A, B)

    assert [(actor, anew) for actor, _, anew in cluster.led] == [("a", True)]
    assert pair.copy.disk == "b"

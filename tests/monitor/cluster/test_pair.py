"""Which keeper may lead: what is noted comes before what it allows, and a disk that lacks something never leads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from adapters.errors import ConfigError, StoreError
from monitor.cluster import pair as module
from monitor.cluster.keeper import MissingError, UnreachableError
from monitor.cluster.nodes import Node, Nodes, Placed, Role
from monitor.cluster.pair import NOTE, Pair, Whole
from monitor.config import Config

A, B, C = (Node(id=f"node-{name}", labels={}, cpus=1, gpus=0, disk=name) for name in "abc")


class Cluster:
    """Keepers that do as they are told, but for those that are said to be dead."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.led: list[tuple[str, int, str | None]] = []
        self.dead: set[str] = set()
        self.empty: set[str] = set()
        self.killed: list[str] = []
        monkeypatch.setattr(module, "place", self.place)
        monkeypatch.setattr(module, "call", self.call)
        monkeypatch.setattr(module.ray, "kill", self.killed.append)
        monkeypatch.setattr(module, "newer_than_any", lambda: 0)
        monkeypatch.setattr(module.ray, "get_runtime_context", lambda: self)
        self.current_actor = None

    def place(self, kind: type, node: Node, *arguments: object) -> Placed:
        return Placed(node.disk, node.id, 0.0)

    def call(self, actor: str, method: str, *arguments: Any, timeout_s: float = 0.0) -> str:
        if actor in self.dead:
            raise UnreachableError(method)
        if method == "lead" and actor in self.empty and arguments[1] is not None:
            raise MissingError("holds no journal")
        if method == "lead":
            self.led.append((actor, *arguments[:2]))
        return "journal"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return Cluster(monkeypatch)


def tended(pair: Pair, *nodes: Node, rounds: int = 4) -> Pair:
    """Let it see to itself, while whoever was placed answers."""
    pair._nodes.known = nodes
    for _ in range(rounds):
        pair.tend(pair._nodes.usable(), pair.everybody().values())
        for placed in pair.everybody().values():
            placed.has_answered = True
    return pair


class Known(Nodes):
    """Nodes that a test says to be alive."""

    known: tuple[Node, ...] = ()

    def alive(self) -> list[Node]:
        return list(self.known)


def new_pair(folder: Path) -> Pair:
    return Pair(Config(), folder, {}, Known())


def noted(folder: Path) -> Whole:
    return Whole.model_validate_json((folder / NOTE).read_bytes())


def test_the_first_leader_begins_anew_and_gets_a_copy_on_another_disk(cluster: Cluster, tmp_path: Path) -> None:
    pair = tended(new_pair(tmp_path), A, B)

    assert cluster.led == [("a", 1, None)]
    assert (pair.leader.disk, pair.copy.disk) == ("a", "b")
    assert noted(tmp_path) == Whole(term=1, disks=("a", "b"), journal="journal")


def test_a_copy_leads_after_its_leader_but_not_where_the_leader_went_on_without_it(
    cluster: Cluster, tmp_path: Path
) -> None:
    pair = tended(new_pair(tmp_path), A, B, C)
    pair.drop(Role("leader"))
    tended(pair, B, C)
    assert cluster.led[-1] == ("b", 2, "journal")
    assert noted(tmp_path).disks == ("b", "c")

    assert pair.allows_alone(2, pair.copy.number)
    assert noted(tmp_path) == Whole(term=2, disks=("b",), journal="journal")
    pair.drop(Role("leader"))  # and is lost right after that
    tended(pair, C, rounds=1)

    assert cluster.led[-1] == ("b", 2, "journal")  # c lacks what b numbered alone
    tended(pair, B, C)
    assert cluster.led[-1] == ("b", 3, "journal")


def test_who_was_replaced_is_not_allowed_to_go_on(cluster: Cluster, tmp_path: Path) -> None:
    pair = tended(new_pair(tmp_path), A, B)
    number = pair.copy.number
    pair.drop(Role("leader"))
    assert not pair.allows_alone(1, number)  # nobody leads: it is held for lost
    tended(pair, B)

    assert not pair.allows_alone(1, number)
    assert pair.allows_alone(2, 0)


def test_a_run_after_another_waits_for_a_disk_that_has_everything(cluster: Cluster, tmp_path: Path) -> None:
    tended(new_pair(tmp_path), A, B)
    pair = tended(new_pair(tmp_path), C)
    assert cluster.led == [("a", 1, None)]

    tended(pair, C, B)

    assert cluster.led[-1] == ("b", 2, "journal")
    assert (pair.leader.disk, pair.copy.disk) == ("b", "c")


def test_where_both_ends_are_lost_a_new_journal_begins_and_what_lies_around_is_set_aside(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tended(new_pair(tmp_path), A, B)
    monkeypatch.setattr(module, "FORMER_S", -1.0)
    tended(new_pair(tmp_path), C)

    assert cluster.led[-1] == ("c", 2, None)


def test_a_keeper_that_does_not_lead_when_it_should_is_replaced(cluster: Cluster, tmp_path: Path) -> None:
    cluster.dead.add("a")
    pair = new_pair(tmp_path)
    tended(pair, A, rounds=2)
    cluster.dead.clear()
    tended(pair, A, B)

    assert [(actor, journal) for actor, _, journal in cluster.led] == [("b", None)]
    assert noted(tmp_path).disks == ("b",)


def test_a_disk_that_has_everything_leads_though_its_node_is_suspected_or_drained(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AFTER_LOSS_S", -1.0)
    for leave in (lambda nodes: nodes.suspect(A.id), lambda nodes: nodes.drain("a")):
        pair = tended(new_pair(tmp_path / str(len(cluster.led))), A)
        pair.drop(Role("leader"))
        pair._nodes.known = (A, B, C)
        leave(pair._nodes)

        tended(pair, A, B, C)

        assert cluster.led[-1] == ("a", 2, "journal")


def test_a_disk_that_lost_the_journal_lets_the_other_one_lead(cluster: Cluster, tmp_path: Path) -> None:
    tended(new_pair(tmp_path), A, B)
    cluster.empty.add("a")

    pair = tended(new_pair(tmp_path), A, B, C, rounds=6)

    assert cluster.led[-1] == ("b", 3, "journal")
    assert (pair.leader.disk, noted(tmp_path).disks) == ("b", ("b", pair.copy.disk))


def test_a_leader_is_not_taken_off_its_node_while_its_copy_lacks_something(cluster: Cluster, tmp_path: Path) -> None:
    pair = tended(new_pair(tmp_path), A, B)
    assert pair.allows_alone(1, pair.copy.number)
    pair._nodes.known = (A, B, C)
    pair._nodes.drain("a")

    pair._leave_drained()

    assert pair.leader.disk == "a"
    tended(pair, A, B, C)
    pair._nodes._suspected.clear()  # b was left behind: for a while it is no copy
    tended(pair, A, B, C)
    assert (pair.leader.disk, noted(tmp_path).disks) == ("c", ("b", "c"))


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """The coordinator's disk, full for a while."""

    def refuse(file: Path, note: Whole) -> None:
        raise StoreError("no space left")

    @contextmanager
    def while_full() -> Iterator[None]:
        with monkeypatch.context() as patched:
            patched.setattr(module, "write_note", refuse)
            yield

    return while_full


def test_a_copy_is_kept_until_its_promotion_can_be_noted(
    cluster: Cluster, full: Callable[[], AbstractContextManager[None]], tmp_path: Path
) -> None:
    pair = tended(new_pair(tmp_path), A, B)
    pair.drop(Role("leader"))

    with full(), pytest.raises(StoreError, match="no space left"):
        tended(pair, B)
    assert (pair.copy.disk, pair.term, cluster.killed) == ("b", 1, [])

    tended(pair, B)
    assert cluster.led[-1] == ("b", 2, "journal")


def test_a_leader_stays_on_a_node_that_is_left_until_its_end_can_be_noted(
    cluster: Cluster, full: Callable[[], AbstractContextManager[None]], tmp_path: Path
) -> None:
    pair = tended(new_pair(tmp_path), A, B)
    pair._nodes.drain("a")

    with full():
        assert not allows(pair, 1, pair.copy.number)
        with pytest.raises(StoreError, match="no space left"):
            tended(pair, A, B)
    assert (pair.leader.disk, pair.copy.disk, cluster.killed) == ("a", "b", [])

    tended(pair, A, B)
    assert (pair.leader.disk, cluster.killed) == ("b", ["a"])


def allows(pair: Pair, term: int, copy: int) -> bool:
    with suppress(StoreError):
        return pair.allows_alone(term, copy)
    return False


def test_a_copy_that_could_not_be_noted_is_noted_later(
    cluster: Cluster, full: Callable[[], AbstractContextManager[None]], tmp_path: Path
) -> None:
    pair = tended(new_pair(tmp_path), A)
    with full(), pytest.raises(StoreError, match="no space left"):
        tended(pair, A, B)
    assert (pair.copy.disk, noted(tmp_path).disks) == ("b", ("a",))

    tended(pair, A, B)
    assert noted(tmp_path).disks == ("a", "b")


def test_a_copy_that_lacks_something_is_ended_when_its_leader_is_lost(cluster: Cluster, tmp_path: Path) -> None:
    pair = tended(new_pair(tmp_path), A, B)
    assert pair.allows_alone(1, pair.copy.number)
    pair.drop(Role("leader"))

    tended(pair, B, rounds=1)

    assert cluster.killed == ["b"]


def test_a_term_after_a_lost_note_is_newer_than_those_before(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "newer_than_any", lambda: 1_800_000_000)

    assert tended(new_pair(tmp_path), A).term == 1_800_000_001
    assert tended(new_pair(tmp_path), A).term == 1_800_000_002


def test_a_node_that_was_left_and_started_again_is_used_again_and_the_last_one_is_not_left() -> None:
    nodes = Known()
    nodes.known = (A, B)
    nodes.drain("a")

    assert nodes.usable() == [B]
    with pytest.raises(ConfigError, match="b: is the last node"):
        nodes.drain("b")
    nodes.known = (A._replace(id="node-a-again"), B)
    assert [node.disk for node in nodes.usable()] == ["a", "b"]
    nodes.drain("b")
    with pytest.raises(ConfigError, match="there is no node 'c'; there are: a, b"):
        nodes.drain("c")


def test_a_keeper_that_was_to_be_a_copy_does_not_lead_with_what_it_had_before(cluster: Cluster, tmp_path: Path) -> None:
    pair = tended(new_pair(tmp_path), A, B)
    assert pair.allows_alone(1, pair.copy.number)
    tended(pair, A, B, rounds=1)  # b is started again, to be the copy
    assert pair.everybody()[Role("keeper")].disk == "b"
    pair.drop(Role("leader"))

    tended(pair, A, B)

    assert [actor for actor, *_ in cluster.led] == ["a", "a"]


def test_of_disks_that_have_everything_one_after_another_is_tried_before_they_are_given_up(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tended(new_pair(tmp_path), A, B)
    monkeypatch.setattr(module, "FORMER_S", -1.0)
    cluster.dead.add("a")

    pair = tended(new_pair(tmp_path), A, B, rounds=6)

    assert cluster.led[-1][::2] == ("b", "journal")
    assert pair.leader.disk == "b"

"""Nodes of a Ray cluster, and actors that are placed on them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

LOST_S = 3.0  # without an answer, once it has answered
BEGIN_S, MOST_BEGIN_S = 10.0, 80.0  # for a first answer: a process starts, a model is loaded; doubled where it failed
SUSPECT_S = 15.0  # for which nothing is placed on a node that lost something
CONCURRENCY = 16
DISK = "disk"  # a Ray label, of nodes that share a host


class Node(NamedTuple):
    """A node of the cluster: its id, its labels, how many GPUs it has, and the name of its disk."""

    id: str
    labels: dict[str, str]
    gpus: int
    disk: str

    def has(self, wanted: Mapping[str, str]) -> bool:
        """Tell whether it has these labels."""
        return all(self.labels.get(name) == value for name, value in wanted.items())


@dataclass
class Placed:
    """An actor on a node.

    Attributes:
        actor, node: its handle, and the node's id.
        begun_s, heard_s: when it was placed, and when it answered last; on the monotonic clock.
        standing: its newest answer.
        number, disk: of a keeper: larger than that of any before, and where its journal is.
        patience_s: for its first answer.
    """

    actor: Any
    node: str
    begun_s: float
    heard_s: float | None = None
    standing: Any = None
    number: int = 0
    disk: str = ""
    patience_s: float = BEGIN_S

    def give_up(self) -> None:
        """Wait for no answer any more: it is gone."""
        if self.heard_s is None:
            self.begun_s = float("-inf")
        else:
            self.heard_s = float("-inf")

    def is_lost(self, now_s: float) -> bool:
        """Whether it does not answer any more, or never did."""
        if self.heard_s is None:
            return now_s - self.begun_s > self.patience_s
        return now_s - self.heard_s > LOST_S


class Nodes:
    """Which nodes may be used.

    Attributes:
        drained: those that are to be left, by their disks' names.
    """

    def __init__(self) -> None:
        """Trust all."""
        self.drained: set[str] = set()
        self._suspected: dict[str, float] = {}

    def suspect(self, node: str) -> None:
        """Place nothing there for a while: something was lost there, and what is dead may seem to live."""
        self._suspected[node] = time.monotonic()

    def usable(self) -> list[Node]:
        """Return the nodes that are alive as far as Ray knows, are not drained, and lost nothing lately."""
        alive = [node for node in alive_nodes() if node.disk not in self.drained]
        since_s = time.monotonic() - SUSPECT_S
        trusted = [node for node in alive if self._suspected.get(node.id, float("-inf")) < since_s]
        return trusted or alive

    def is_drained(self, node_id: str) -> bool:
        """Tell whether a node is to be left."""
        return any(node.id == node_id and node.disk in self.drained for node in alive_nodes())


def alive_nodes() -> list[Node]:
    """Return the nodes that can work and are alive as far as Ray knows."""
    known: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [
        Node(
            node["NodeID"],
            node["Labels"],
            int(node["Resources"].get("GPU", 0)),
            node["Labels"].get(DISK, node["NodeManagerHostname"]),
        )
        for node in known
        if node["Alive"] and node["Resources"].get("CPU", 0) > 0
    ]


def least_busy(nodes: Sequence[Node], placed: Iterable[Placed]) -> Node:
    """Return the node with the fewest actors."""
    busy = Counter(one.node for one in placed)
    return min(nodes, key=lambda node: (busy[node.id], node.id))


def place(kind: type, node: Node, *arguments: object, gpus: int = 0) -> Placed:
    """Start an actor on a node; nobody waits for it here."""
    options = {
        "num_cpus": 0,
        "num_gpus": gpus,
        "max_concurrency": CONCURRENCY,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node.id, soft=False),
    }
    actor: Any = ray.remote(kind).options(**options).remote(*arguments)
    return Placed(actor, node.id, time.monotonic())

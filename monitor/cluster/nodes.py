"""Nodes of a Ray cluster, and actors that are placed on them."""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from adapters.errors import ConfigError

LOST_S = 2.5  # without an answer, once it has answered: two rounds of the coordinator
BEGIN_S, MOST_BEGIN_S = 20.0, 80.0  # for a first answer: a process starts, a model is loaded; doubled where it failed
SUSPECT_S = 15.0  # for which nothing is placed on a node that lost something
CONCURRENCY = 16
PINGS = "pings"  # answered on a thread of their own: who has all the others busy lives
DISK = "disk"  # a Ray label, of nodes that share a host


class Node(NamedTuple):
    """A node of the cluster: its id, its labels, how many CPUs and GPUs it has, and the name of its disk."""

    id: str
    labels: dict[str, str]
    cpus: int
    gpus: int
    disk: str

    def has(self, wanted: Mapping[str, str]) -> bool:
        """Tell whether it has these labels."""
        return all(self.labels.get(name) == value for name, value in wanted.items())


class Role(NamedTuple):
    """What an actor is for: of a kind, and which of that kind."""

    kind: Literal["watcher", "successor", "classifier", "leader", "copy", "keeper"]
    which: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.which}".rstrip()


@dataclass
class Placed:
    """An actor on a node.

    Attributes:
        actor, node: its handle, and the node's id.
        begun_s: when it was placed; on the monotonic clock, as `asked_s`.
        has_answered: to any question so far.
        question, asked_s: what it has not answered yet, and since when; an answer that comes late counts.
        standing: its newest answer.
        number: of a keeper or a watcher: larger than that of any before.
        disk: of a keeper: where its journal is.
        patience_s: for its first answer.
    """

    actor: Any
    node: str
    begun_s: float
    has_answered: bool = False
    question: Any = None
    asked_s: float = 0.0
    is_gone: bool = False
    standing: Any = None
    number: int = 0
    disk: str = ""
    patience_s: float = BEGIN_S

    def is_lost(self, now_s: float) -> bool:
        """Whether it does not answer any more, or never did."""
        if self.is_gone:
            return True
        if not self.has_answered:
            return now_s - self.begun_s > self.patience_s
        return self.question is not None and now_s - self.asked_s > LOST_S


class Nodes:
    """Which nodes may be used.

    Attributes:
        drained: those that are to be left, by their ids, with their disks' names. A node that was started again has
            another id.
    """

    def __init__(self) -> None:
        """Trust all."""
        self.drained: dict[str, str] = {}
        self._suspected: dict[str, float] = {}

    def suspect(self, node: str) -> None:
        """Place nothing there for a while: something was lost there, and what is dead may seem to live."""
        self._suspected[node] = time.monotonic()

    def usable(self) -> list[Node]:
        """Return the nodes that are alive as far as Ray knows, are not drained, and lost nothing lately."""
        alive = [node for node in self.alive() if node.id not in self.drained]
        since_s = time.monotonic() - SUSPECT_S
        trusted = [node for node in alive if self._suspected.get(node.id, float("-inf")) < since_s]
        return trusted or alive

    def alive(self) -> list[Node]:
        """Return the nodes that are alive as far as Ray knows, trusted or not."""
        return alive_nodes()

    def drain(self, disk: str) -> None:
        """Leave a node.

        Raises:
            ConfigError: there is no such node, or none that could take over.
        """
        alive = self.alive()
        known = {node.disk for node in alive}
        if disk not in known:
            raise ConfigError(f"there is no node '{disk}'; there are: {', '.join(sorted(known))}")
        if all(node.disk == disk or node.id in self.drained for node in alive):
            raise ConfigError(f"{disk}: is the last node; start another one before it is left")
        self.drained |= {node.id: disk for node in alive if node.disk == disk}


def connect(address: str, *, log_to_driver: bool, namespace: str | None = None) -> None:
    """Connect this process with a cluster.

    Args:
        address: of its head, `host:port`; `auto` is the cluster that runs here, else one of this machine.
        log_to_driver: whether what other processes print is printed here.
        namespace: where actors are found by their names.

    Raises:
        ConfigError: it can't be reached.
    """
    where = None if address == "auto" else address
    try:
        ray.init(address=where, log_to_driver=log_to_driver, configure_logging=False, namespace=namespace)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        raise ConfigError(f"--cluster {address}: can't be reached ({error})") from None


def disconnect() -> None:
    """End this process's connection.

    What is garbage goes first: Ray ends the whole process, without a word, where a thread collects an object of a
    connection just as that is closed.
    """
    gc.collect()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        gc.enable()


def here() -> NodeAffinitySchedulingStrategy:
    """Return how to place an actor on the node of this process."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def alive_nodes() -> list[Node]:
    """Return the nodes that can work and are alive as far as Ray knows."""
    known: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [
        Node(
            node["NodeID"],
            node["Labels"],
            int(node["Resources"].get("CPU", 0)),
            int(node["Resources"].get("GPU", 0)),
            node["Labels"].get(DISK, node["NodeManagerHostname"]),
        )
        for node in known
        if node["Alive"] and node["Resources"].get("CPU", 0) > 0
    ]


def least_busy(nodes: Sequence[Node], placed: Iterable[Placed]) -> Node:
    """Return the node with the fewest actors for its cores."""
    busy = Counter(one.node for one in placed)
    return min(nodes, key=lambda node: (busy[node.id] / max(1, node.cpus), node.id))


def place(kind: type, node: Node, *arguments: object, gpus: int = 0) -> Placed:
    """Start an actor on a node; nobody waits for it here."""
    options = {
        "num_cpus": 0,
        "num_gpus": gpus,
        "max_concurrency": CONCURRENCY,
        "enable_task_events": False,  # of which each call makes some; nobody reads them
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node.id, soft=False),
    }
    kind_with_pings: Any = ray.remote(concurrency_groups={PINGS: 1})(kind)  # type: ignore[call-overload]
    actor = kind_with_pings.options(**options).remote(*arguments)
    return Placed(actor, node.id, time.monotonic())

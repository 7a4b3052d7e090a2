"""Who is where: the actor that places watchers, classifiers and the journal's two ends, and places them anew.

It runs beside the driver, on the node where `wildlane run --cluster` was started, and it alone gives out terms (of
journals) and numbers (of watchers). It believes no node to be alive: whoever does not answer for `LOST_S` is replaced.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import ray
from pydantic import BaseModel, ConfigDict
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from adapters.class_set import ClassSetStore
from adapters.classes import ClassSet
from adapters.classifier import Classifier
from adapters.errors import WildlaneError
from monitor.assembly import classifier_of, facts_of, info_of, open_classes, zones_of
from monitor.cluster.calls import answers, call
from monitor.cluster.groups import Group, groups_of
from monitor.cluster.journal_actor import JournalActor
from monitor.cluster.keeper import UnreachableError
from monitor.cluster.watch_actor import ClassifierActor, Standing, Task, WatchActor
from monitor.config import Config
from monitor.notes import read_note, write_note
from monitor.output import log_to_stderr

log = logging.getLogger(__name__)

TICK_S = 0.5
PING_S = 1.0  # for all answers of one round
LOST_S = 3.0  # without an answer, once it has answered
BEGIN_S, MOST_BEGIN_S = 10.0, 80.0  # for a first answer: a process starts, a model is loaded; doubled where it failed
SUSPECT_S = 15.0  # for which nothing is placed on a node that lost something
FORMER_S, AFTER_LOSS_S = (
    60.0,
    5.0,
)  # for which the disk of an earlier run's, or of a lost leader's journal is waited for
NOTE, DISK = "cluster.json", "disk"  # DISK: a label of nodes that share a host
COPY_S = 5.0  # for a journal to reach its copy
CONCURRENCY = 16


class Node(NamedTuple):
    """A node of the cluster: its id, its labels, how many GPUs it has, and the name of its disk."""

    id: str
    labels: dict[str, str]
    gpus: int
    disk: str


class Whole(BaseModel):
    """A note on the coordinator's disk, so that a run after this one numbers nothing twice.

    Attributes:
        term: the newest that was given out.
        disks: those that have every event of the journal.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    term: int = 0
    disks: tuple[str, ...] = ()


@dataclass
class Placed:
    """An actor on a node."""

    actor: Any
    node: str
    begun_s: float
    heard_s: float | None = None  # its newest answer
    standing: Any = None
    number: int = 0  # of a keeper, larger than that of any before
    disk: str = ""  # of a keeper
    patience_s: float = BEGIN_S  # for its first answer

    def is_lost(self, now_s: float) -> bool:
        """Whether it does not answer any more, or never did."""
        return now_s - (self.heard_s or self.begun_s) > (LOST_S if self.heard_s else self.patience_s)


@dataclass
class News:
    """What the driver is told."""

    alerts: list[str] = field(default_factory=list)
    finished: bool = False
    watched: tuple[str, ...] = ()  # cameras that see
    places: dict[str, str] = field(default_factory=dict)  # what -> node
    term: int = 0
    frames: int = 0
    crops: int = 0


class Coordinator:
    """The coordinator of one site."""

    def __init__(self, config: Config, config_path: Path, state_dir: Path, classifiers: str) -> None:
        """Read what is taught; place nothing yet.

        Args:
            config: of the site.
            config_path: where it came from.
            state_dir: class sets are kept there, on this node; journals in a folder of each node.
            classifiers: `gpu`, an actor for each GPU, or `node`, one for each node.
        """
        log_to_stderr(config.log_format)
        self._config, self._config_path, self._state_dir = config, config_path, state_dir
        self._classifiers_on = classifiers
        self._lock, self._ended = threading.RLock(), threading.Event()
        self._terms = threading.Lock()  # never held while somebody is called: who is called may ask for it
        self._behind = 0  # keepers up to this number are no copies: the leader went on without them
        self._classifier: Classifier = classifier_of(config, state_dir)
        self._store: ClassSetStore = open_classes(self._classifier, state_dir)
        self._version = self._store.active_version()
        self._class_set: ClassSet = self._store.load(self._classifier)
        self._groups = groups_of(zones_of(config, list(config.cameras)))
        self._file, self._number = state_dir / NOTE, 0
        former = read_note(self._file, Whole)
        self._term, self._whole = former.term, set(former.disks)  # disks that have every event
        self._lost_s, self._led = time.monotonic(), False  # since when nobody leads; whether anybody did
        self._leader: Placed | None = None
        self._copy: Placed | None = None
        self._next_keeper: Placed | None = None  # starts, and is then made what is needed
        self._watchers: dict[str, Placed] = {}
        self._classifiers: dict[str, Placed] = {}
        self._suspected: dict[str, float] = {}
        self._patience_s: dict[str, float] = {}  # with whom never answered, by name
        self._alerts: list[str] = []
        self._info_told_to: Any = None
        self._thread = threading.Thread(target=self._run, name="coordinator", daemon=True)
        self._thread.start()

    def leader(self) -> Any | None:  # noqa: ANN401
        """Return the actor that leads the journal; None while nobody does."""
        leader = self._leader
        return None if leader is None else leader.actor

    def allows_alone(self, term: int, copy: int) -> bool:
        """Tell a leader that lost its copy whether it may go on without one: where nobody was made leader since."""
        with self._terms:
            if term != self._term:
                return False
            self._behind = max(self._behind, copy)
            if self._leader is not None:
                self._note({self._leader.disk})
            return True

    def news(self) -> News:
        """Return what happened since the last call."""
        with self._lock:
            alerts, self._alerts = self._alerts, []
            standings = {name: placed.standing for name, placed in self._watchers.items() if placed.standing}
            groups = {group.name: group for group in self._groups}
            seeing = [name for name, standing in standings.items() if standing.sees == len(groups[name].cameras)]
            places = {f"watcher {name}": placed.node for name, placed in self._watchers.items()}
            for what, placed in (("leader", self._leader), ("copy", self._copy)):
                if placed is not None:
                    places[what] = placed.node
            return News(
                alerts=alerts,
                finished=bool(standings) and all(name in standings and standings[name].finished for name in groups),
                watched=tuple(camera for name in seeing for camera in groups[name].cameras),
                places=places,
                term=self._term,
                frames=sum(standing.frames for standing in standings.values()),
                crops=sum(standing.crops for standing in standings.values()),
            )

    def stop(self) -> News:
        """End the watchers, then the journal; return the last news."""
        self._ended.set()
        self._thread.join(PING_S + TICK_S + 1.0)
        with self._lock:
            for placed in self._watchers.values():
                try:
                    self._alerts += call(placed.actor, "stop", timeout_s=12.0)
                except UnreachableError as error:
                    log.warning("a watcher does not end: %s", error)
            if self._leader is not None:
                left = call(self._leader.actor, "stop", timeout_s=10.0)
                if left:
                    log.warning("%d messages are not with the broker yet; they stay in the journal", left)
            self._store.close()
        return self.news()

    def _run(self) -> None:
        while not self._ended.wait(TICK_S):
            try:
                with self._lock:
                    self._ping()
                    self._mend()
            except Exception:  # the supervised loop: the next round begins with what there is
                log.exception("coordinator: unexpected error")

    def _ping(self) -> None:
        """Ask everybody, and note who answered."""
        everybody = self._everybody()
        got = answers({name: placed.actor.ping.remote() for name, placed in everybody.items()}, PING_S)
        now_s = time.monotonic()
        for name, answer in got.items():
            placed = everybody[name]
            if isinstance(answer, Exception):
                placed.begun_s, placed.heard_s = float("-inf"), None  # it is gone, no need to wait
                continue
            placed.heard_s = now_s
            placed.standing = answer
            if isinstance(answer, Standing):
                self._alerts += answer.alerts

    def _everybody(self) -> dict[str, Placed]:
        everybody = {f"watcher {name}": placed for name, placed in self._watchers.items()}
        everybody |= {f"classifier {node}": placed for node, placed in self._classifiers.items()}
        keepers = {"leader": self._leader, "copy": self._copy, "keeper": self._next_keeper}
        return everybody | {name: placed for name, placed in keepers.items() if placed is not None}

    def _mend(self) -> None:
        """Replace who is lost, and place what is not there yet."""
        now_s = time.monotonic()
        for name, placed in self._everybody().items():
            if placed.is_lost(now_s):
                log.warning("%s on node %s is lost", name, placed.node[:8])
                again_s = BEGIN_S if placed.heard_s else min(MOST_BEGIN_S, 2 * placed.patience_s)
                self._patience_s[name] = again_s
                self._suspected[placed.node] = now_s
                ray.kill(placed.actor)
                self._drop(name)
        nodes = self._nodes(now_s)
        if not nodes:
            log.error("no node can be used")
            return
        self._place_journal(nodes)
        if self._leader is None:
            return
        self._place_classifiers(nodes)
        for group in self._groups:
            if group.name not in self._watchers:
                self._watchers[group.name] = placed = self._new_watcher(group, nodes)
                placed.patience_s = self._patience_s.get(f"watcher {group.name}", BEGIN_S)
        self._take_up_classes()

    def _drop(self, name: str) -> None:
        kind, _, which = name.partition(" ")
        if kind == "watcher":
            del self._watchers[which]
        elif kind == "classifier":
            del self._classifiers[which]
        elif kind == "leader":
            self._leader, self._lost_s = None, time.monotonic()
        elif kind == "copy":
            self._copy = None
        else:
            self._next_keeper = None

    def _nodes(self, now_s: float) -> list[Node]:
        """Return the nodes that may be used: alive as far as Ray knows, and nothing was lost there lately."""
        known: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        alive = [
            Node(
                node["NodeID"],
                node["Labels"],
                int(node["Resources"].get("GPU", 0)),
                node["Labels"].get(DISK, node["NodeManagerHostname"]),
            )
            for node in known
            if node["Alive"] and node["Resources"].get("CPU", 0) > 0
        ]
        trusted = [node for node in alive if now_s - self._suspected.get(node.id, float("-inf")) > SUSPECT_S]
        return trusted or alive

    def _place_journal(self, nodes: list[Node]) -> None:
        """See to it that there are a leader and a copy, on two nodes; nobody is waited for here."""
        if self._leader is None:
            self._promote()
        if self._copy is not None and self._copy.number <= self._behind:
            ray.kill(self._copy.actor)
            self._copy = None
        ready = self._next_keeper is not None and self._next_keeper.heard_s is not None
        if self._leader is None and ready:
            self._begin()
        elif self._leader is not None and self._copy is None and ready:
            self._let_follow(self._leader)
        elif (self._leader is None or self._copy is None) and self._next_keeper is None:
            taken = self._leader.disk if self._leader is not None else ""
            able = [node for node in nodes if self._may_keep(node)] or nodes
            if self._leader is None:
                able = self._with_everything(able)
            if others := [node for node in able if node.disk != taken]:
                self._next_keeper = self._new_keeper(others)

    def _with_everything(self, nodes: list[Node]) -> list[Node]:
        """Return the nodes whose disks have all that an earlier run, or leader, numbered; all where there is none."""
        if not self._whole:
            return nodes
        found = [node for node in nodes if node.disk in self._whole]
        patience_s = AFTER_LOSS_S if self._led else FORMER_S
        if not found and time.monotonic() - self._lost_s > patience_s:
            log.error("the journal is lost with %s: a new one begins", ", ".join(sorted(self._whole)))
            self._note(set())
            return nodes
        return found

    def _promote(self) -> None:
        """Let the copy lead, where it has everything."""
        with self._terms:
            copy, self._copy = self._copy, None
            if copy is None or copy.number <= self._behind:
                return
            self._term += 1
            self._note({copy.disk})
        if self._leads(copy):
            self._leader = copy

    def _begin(self) -> None:
        """Let a keeper lead that was none: of what its disk has, or a new journal."""
        keeper, self._next_keeper = self._next_keeper, None
        assert keeper is not None  # whoever asks has seen to it
        with self._terms:
            self._term += 1
            self._note({keeper.disk})
        if self._leads(keeper):
            self._leader = keeper

    def _note(self, disks: set[str]) -> None:
        """Note which disks have every event, before anything is numbered that others lack."""
        write_note(self._file, Whole(term=self._term, disks=tuple(sorted(disks))))
        self._whole = disks

    def _leads(self, keeper: Placed) -> bool:
        """Let a keeper lead, alone at first; tell whether it does."""
        try:
            journal = call(keeper.actor, "lead", self._term)
        except WildlaneError as error:
            log.error("the journal can't be led on node %s: %s", keeper.node[:8], error)  # noqa: TRY400  # one line
            self._suspected[keeper.node] = time.monotonic()
            ray.kill(keeper.actor)
            return False
        self._led = True
        log.info("the journal %s is led on node %s in term %d", journal, keeper.node[:8], self._term)
        return True

    def _let_follow(self, leader: Placed) -> None:
        """Make the next keeper the copy of the leader's journal."""
        keeper, self._next_keeper = self._next_keeper, None
        assert keeper is not None  # whoever asks has seen to it
        try:
            call(leader.actor, "follow_up", keeper.actor, keeper.number, timeout_s=COPY_S)
        except WildlaneError as error:
            log.warning("there is no copy of the journal yet: %s", error)
            ray.kill(keeper.actor)
        else:
            self._copy = keeper
            with self._terms:
                if keeper.number > self._behind:
                    self._note({leader.disk, keeper.disk})
            log.info("its copy is on node %s", keeper.node[:8])

    def _may_keep(self, node: Node) -> bool:
        wanted = self._config.cluster.journal_nodes
        return all(node.labels.get(name) == value for name, value in wanted.items())

    def _new_keeper(self, nodes: list[Node]) -> Placed:
        node = self._least_busy(nodes)
        state_dir = self._state_dir / "journals" / node.disk
        zones = frozenset(zone for group in self._groups for zone in group.zones)
        me = ray.get_runtime_context().current_actor
        placed = self._place(JournalActor, node, self._config, state_dir, zones, me)
        self._number += 1
        placed.number, placed.disk = self._number, node.disk
        return placed

    def _place_classifiers(self, nodes: list[Node]) -> None:
        for node in nodes:
            wanted = node.gpus if self._classifiers_on == "gpu" else 1
            if wanted and node.id not in self._classifiers:
                arguments, gpus = (self._config, self._state_dir), int(self._classifiers_on == "gpu")
                self._classifiers[node.id] = self._place(ClassifierActor, node, *arguments, gpus=gpus)

    def _new_watcher(self, group: Group, nodes: list[Node]) -> Placed:
        self._number += 1
        pins = [self._config.cameras[camera].node for camera in group.cameras]
        wanted = {name: value for pin in pins for name, value in pin.items()}
        able = [node for node in nodes if all(node.labels.get(name) == value for name, value in wanted.items())]
        node = self._least_busy(able or nodes)
        task = Task(
            config=self._config,
            config_path=self._config_path,
            state_dir=self._state_dir,
            group=group,
            number=self._number,
        )
        me = ray.get_runtime_context().current_actor
        classifier = self._classifiers.get(node.id) or next(iter(self._classifiers.values()), None)
        encoder = None if classifier is None else classifier.actor
        log.info("cameras %s: watched on node %s", ", ".join(group.cameras), node.id[:8])
        return self._place(WatchActor, node, task, self._class_set, me, encoder)

    def _least_busy(self, nodes: list[Node]) -> Node:
        busy = Counter(placed.node for placed in self._everybody().values())
        return min(nodes, key=lambda node: (busy[node.id], node.id))

    def _place(self, kind: type, node: Node, *arguments: object, gpus: int = 0) -> Placed:
        options = {
            "num_cpus": 0,
            "num_gpus": gpus,
            "max_concurrency": CONCURRENCY,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node.id, soft=False),
        }
        actor: Any = ray.remote(kind).options(**options).remote(*arguments)
        return Placed(actor, node.id, time.monotonic())

    def _take_up_classes(self) -> None:
        """Give the watchers what was taught meanwhile, and consumers word of it."""
        assert self._leader is not None
        if (version := self._store.active_version()) != self._version:
            self._version = version
            self._class_set = self._store.load(self._classifier)
            log.info("class set %s is live", self._class_set.version)
            shared = ray.put(self._class_set)
            for placed in self._watchers.values():
                placed.actor.take_up.remote(shared)
            self._info_told_to = None
        if self._info_told_to is not self._leader:
            self._info_told_to = self._leader
            info = info_of(self._config, facts_of(self._config, self._classifier.encoder_hash), self._class_set)
            self._leader.actor.set_level.remote("info", info.model_dump_json(by_alias=True))

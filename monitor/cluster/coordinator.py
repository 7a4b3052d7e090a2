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
from typing import Any

import ray

from adapters.class_set import ClassSetStore
from adapters.classes import ClassSet
from adapters.classifier import Classifier
from adapters.errors import ConfigError
from monitor.assembly import classifier_of, facts_of, info_of, open_classes, zones_of
from monitor.cluster.calls import answers, call
from monitor.cluster.groups import Group, groups_of
from monitor.cluster.keeper import UnreachableError
from monitor.cluster.nodes import BEGIN_S, MOST_BEGIN_S, Node, Nodes, Placed, alive_nodes, least_busy, place
from monitor.cluster.pair import Pair
from monitor.cluster.watch_actor import ClassifierActor, Standing, Task, WatchActor
from monitor.config import Config
from monitor.output import log_to_stderr

log = logging.getLogger(__name__)

TICK_S = 0.5
PING_S = 1.0  # for all answers of one round
OVERLOADED_S = 30.0  # for which frames may be left out before cameras move


@dataclass
class News:
    """What the driver is told."""

    alerts: list[str] = field(default_factory=list)
    finished: bool = False
    watched: tuple[str, ...] = ()  # cameras that see
    frames: int = 0


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
        self._classifier: Classifier = classifier_of(config, state_dir)
        self._store: ClassSetStore = open_classes(self._classifier, state_dir)
        self._version = self._store.active_version()
        self._class_set: ClassSet = self._store.load(self._classifier)
        self._groups = groups_of(zones_of(config, list(config.cameras)))
        self._nodes, self._number = Nodes(), 0
        zones = frozenset(zone for group in self._groups for zone in group.zones)
        self._pair = Pair(config, state_dir, zones, self._nodes)
        self._watchers: dict[str, Placed] = {}
        self._successors: dict[str, Placed] = {}  # of watchers that move; they take over once they see
        self._overloaded_s: dict[str, float] = {}  # since when a group leaves frames out
        self._classifiers: dict[str, Placed] = {}
        self._patience_s: dict[str, float] = {}  # with whom never answered, by name
        self._alerts: list[str] = []
        self._info_told_to: Any = None
        self._thread = threading.Thread(target=self._run, name="coordinator", daemon=True)
        self._thread.start()

    def leader(self) -> Any | None:  # noqa: ANN401
        """Return the actor that leads the journal; None while nobody does."""
        leader = self._pair.leader
        return None if leader is None else leader.actor

    def allows_alone(self, term: int, copy: int) -> bool:
        """Tell a leader whether it may go on without its copy; see `Pair.allows_alone`."""
        return self._pair.allows_alone(term, copy)

    def drain(self, disk: str) -> None:
        """Leave a node, before it is stopped for some time; what moves is watched without a gap.

        Raises:
            ConfigError: there is no such node.
        """
        with self._lock:
            known = {node.disk for node in alive_nodes()}
            if disk not in known:
                raise ConfigError(f"there is no node '{disk}'; there are: {', '.join(sorted(known))}")
            self._nodes.drained.add(disk)

    def is_left(self, disk: str) -> bool:
        """Tell whether nothing is on a node any more."""
        with self._lock:
            nodes = {node.id for node in alive_nodes() if node.disk == disk}
            return not nodes & {placed.node for placed in self._everybody().values()}

    def news(self) -> News:
        """Return what happened since the last call."""
        with self._lock:
            alerts, self._alerts = self._alerts, []
            standings = {name: placed.standing for name, placed in self._watchers.items() if placed.standing}
            groups = {group.name: group for group in self._groups}
            seeing = [name for name, standing in standings.items() if standing.sees == len(groups[name].cameras)]
            return News(
                alerts=alerts,
                finished=bool(standings) and all(name in standings and standings[name].finished for name in groups),
                watched=tuple(camera for name in seeing for camera in groups[name].cameras),
                frames=sum(standing.frames for standing in standings.values()),
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
            if self._pair.leader is not None:
                left = call(self._pair.leader.actor, "stop", timeout_s=10.0)
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
                placed.give_up()
                continue
            if placed.heard_s is None and name.startswith("classifier"):
                self._use(placed)
            placed.heard_s = now_s
            placed.standing = answer
            if isinstance(answer, Standing):
                self._alerts += answer.alerts

    def _use(self, classifier: Placed) -> None:
        """Let the watchers of its node, and of nodes without one, encode at a classifier that has just begun."""
        for watcher in (*self._watchers.values(), *self._successors.values()):
            if watcher.node == classifier.node or watcher.node not in self._classifiers:
                watcher.actor.use_classifier.remote(classifier.actor)

    def _everybody(self) -> dict[str, Placed]:
        everybody = {f"watcher {name}": placed for name, placed in self._watchers.items()}
        everybody |= {f"successor {name}": placed for name, placed in self._successors.items()}
        everybody |= {f"classifier {node}": placed for node, placed in self._classifiers.items()}
        return everybody | self._pair.everybody()

    def _mend(self) -> None:
        """Replace who is lost, and place what is not there yet."""
        now_s = time.monotonic()
        for name, placed in self._everybody().items():
            if placed.is_lost(now_s):
                log.warning("%s on node %s is lost", name, placed.node[:8])
                again_s = BEGIN_S if placed.heard_s else min(MOST_BEGIN_S, 2 * placed.patience_s)
                self._patience_s[name] = again_s
                self._nodes.suspect(placed.node)
                ray.kill(placed.actor)
                self._drop(name)
        nodes = self._nodes.usable()
        if not nodes:
            log.error("no node can be used")
            return
        self._pair.tend(nodes, self._everybody().values())
        if self._pair.leader is None:
            return
        self._place_classifiers(nodes)
        for group in self._groups:
            if group.name not in self._watchers:
                self._watchers[group.name] = placed = self._new_watcher(group, nodes)
                placed.patience_s = self._patience_s.get(f"watcher {group.name}", BEGIN_S)
        self._move(nodes, now_s)
        self._take_up_classes()

    def _move(self, nodes: list[Node], now_s: float) -> None:
        """Let watchers leave nodes that are drained, and one after another those that have too much to do."""
        for name, successor in list(self._successors.items()):
            if successor.standing is not None and successor.standing.sees:
                log.info("cameras of %s: now watched on node %s", name, successor.node[:8])
                ray.kill(self._watchers[name].actor)
                self._watchers[name] = self._successors.pop(name)
        usable = {node.id for node in nodes}
        for group in self._groups:
            placed = self._watchers[group.name]
            if placed.node not in usable and group.name not in self._successors and self._nodes.is_drained(placed.node):
                self._successors[group.name] = self._new_watcher(group, nodes)
        if not self._successors and (group_name := self._too_much(nodes, now_s)) is not None:
            group = next(group for group in self._groups if group.name == group_name)
            others = [node for node in nodes if node.id != self._watchers[group.name].node]
            if others:
                log.warning("cameras of %s leave a node that leaves frames out", group.name)
                self._successors[group.name] = self._new_watcher(group, others)

    def _too_much(self, nodes: list[Node], now_s: float) -> str | None:
        """Return a group that leaves frames out for long, where another node is idler; None where there is none."""
        busy = Counter(placed.node for placed in self._watchers.values())
        for name, placed in self._watchers.items():
            if placed.standing is None or not placed.standing.overloaded:
                self._overloaded_s.pop(name, None)
                continue
            idler = any(busy[node.id] < busy[placed.node] - 1 for node in nodes)
            if now_s - self._overloaded_s.setdefault(name, now_s) > OVERLOADED_S and idler:
                self._overloaded_s.pop(name)
                return name
        return None

    def _drop(self, name: str) -> None:
        kind, _, which = name.partition(" ")
        if kind == "watcher":
            del self._watchers[which]
        elif kind == "successor":
            del self._successors[which]
        elif kind == "classifier":
            del self._classifiers[which]
        else:
            self._pair.drop(kind)

    def _place_classifiers(self, nodes: list[Node]) -> None:
        for node_id in [node_id for node_id in self._classifiers if self._nodes.is_drained(node_id)]:
            ray.kill(self._classifiers.pop(node_id).actor)
        for node in nodes:
            wanted = node.gpus if self._classifiers_on == "gpu" else 1
            if wanted and node.id not in self._classifiers:
                arguments, gpus = (self._config, self._state_dir), int(self._classifiers_on == "gpu")
                self._classifiers[node.id] = place(ClassifierActor, node, *arguments, gpus=gpus)

    def _new_watcher(self, group: Group, nodes: list[Node]) -> Placed:
        self._number += 1
        pins = [self._config.cameras[camera].node for camera in group.cameras]
        wanted = {name: value for pin in pins for name, value in pin.items()}
        able = [node for node in nodes if node.has(wanted)]
        node = least_busy(able or nodes, self._everybody().values())
        task = Task(
            config=self._config,
            config_path=self._config_path,
            state_dir=self._state_dir,
            group=group,
            number=self._number,
        )
        me = ray.get_runtime_context().current_actor
        log.info("cameras %s: watched on node %s", ", ".join(group.cameras), node.id[:8])
        placed = place(WatchActor, node, task, self._class_set, me)
        ready = {at: classifier for at, classifier in self._classifiers.items() if classifier.heard_s is not None}
        if (classifier := ready.get(node.id, next(iter(ready.values()), None))) is not None:
            placed.actor.use_classifier.remote(classifier.actor)
        return placed

    def _take_up_classes(self) -> None:
        """Give the watchers what was taught meanwhile, and consumers word of it."""
        leader = self._pair.leader
        if (version := self._store.active_version()) != self._version:
            self._version = version
            self._class_set = self._store.load(self._classifier)
            log.info("class set %s is live", self._class_set.version)
            shared = ray.put(self._class_set)
            for placed in self._watchers.values():
                placed.actor.take_up.remote(shared)
            self._info_told_to = None
        if leader is not None and self._info_told_to is not leader:
            self._info_told_to = leader
            info = info_of(self._config, facts_of(self._config, self._classifier.encoder_hash), self._class_set)
            leader.actor.set_level.remote("info", info.model_dump_json(by_alias=True))

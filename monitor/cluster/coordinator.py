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

import numpy as np
import ray
from numpy.typing import NDArray

from adapters.class_set import ClassSetStore
from adapters.classes import ClassSet
from adapters.classifier import Classifier
from adapters.errors import StoreError, WildlaneError
from adapters.site_knowledge import Background
from monitor.assembly import classifier_of, facts_of, info_of, open_classes, sources_of, zones_of
from monitor.cameras.health import Health
from monitor.cluster.balance import Balance
from monitor.cluster.calls import answers, call
from monitor.cluster.groups import Group, groups_of, packed
from monitor.cluster.journal_actor import Sending
from monitor.cluster.moves import next_step
from monitor.cluster.nodes import BEGIN_S, MOST_BEGIN_S, PINGS, Node, Nodes, Placed, Role, least_busy, place
from monitor.cluster.pair import Pair
from monitor.cluster.watch_actor import ClassifierActor, Standing, Task, WatchActor
from monitor.config import Config
from monitor.output import log_to_stderr

log = logging.getLogger(__name__)

TICK_S = 1.0
PING_S = 1.0  # for all answers of one round
PATIENCE_S = {"keeper": (10.0, 20.0)}  # for a first answer, as BEGIN_S: it loads no model, and somebody must lead
STOP_S = 12.0  # for all watchers to end what is open, and for the journal to say goodbye


@dataclass
class News:
    """What the driver is told."""

    alerts: list[str] = field(default_factory=list)
    finished: bool = False
    healths: dict[str, Health] = field(default_factory=dict)  # of cameras that somebody watches
    frames: dict[str, int] = field(default_factory=dict)  # of each camera, analysed by its watcher so far
    sending: Sending = field(default_factory=Sending)

    @property
    def watched(self) -> set[str]:
        """The cameras that see."""
        return {name for name, health in self.healths.items() if health.state != "blind"}


class Coordinator:
    """The coordinator of one site."""

    def __init__(self, config: Config, config_path: Path, state_dir: Path, classifiers: str) -> None:
        """Do nothing yet.

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
        self._nodes, self._number = Nodes(), 0
        self._recordings = {source.name for source in sources_of(config, config_path) if source.is_recording}
        cores = sum(node.cpus for node in self._nodes.alive())
        self._groups = packed(groups_of(zones_of(config, list(config.cameras))), config.cameras, cores)
        self._watchers: dict[str, Placed] = {}
        self._successors: dict[str, Placed] = {}  # of watchers that move
        self._speaks: dict[str, int] = {}  # the number of the watcher that speaks for a group, or was to
        self._balance = Balance()
        self._classifiers: dict[str, Placed] = {}  # by their node's id and a number
        self._patience_s: dict[Role, float] = {}  # with whom never answered
        self._alerts: list[str] = []  # that the driver has not asked for yet
        self._info_told_to: Any = None

    def begin(self) -> None:
        """Read what is taught, and begin; not when made, for Ray tells little of what goes wrong then.

        Raises:
            ModelError: the model can't be used.
            StoreError: what is in the state folder can't be read.
        """
        self._classifier: Classifier = classifier_of(self._config, self._state_dir)
        # knows what was learned of the site before, by `calibrate` or a daemon; here nothing is added but dismissals
        self._background = Background(self._classifier, self._state_dir)
        self._dismissed = list(self._background.dismissed())
        self._store: ClassSetStore = open_classes(self._classifier, self._state_dir)
        self._version = self._store.active_version()
        self._class_set: ClassSet = self._store.load(self._classifier)
        groups = {zone: group.name for group in self._groups for zone in group.zones}
        self._pair = Pair(self._config, self._state_dir, groups, self._nodes)
        self._thread = threading.Thread(target=self._run, name="coordinator", daemon=True)
        self._thread.start()

    def leader(self) -> Any | None:  # noqa: ANN401
        """Return the actor that leads the journal; None while nobody does."""
        leader = self._pair.leader
        return None if leader is None else leader.actor

    def allows_alone(self, term: int, copy: int) -> bool:
        """Tell a leader whether it may go on without its copy; see `Pair.allows_alone`."""
        return self._pair.allows_alone(term, copy)

    def leads(self, term: int) -> bool:
        """Tell a leader whether no other one was made since."""
        return term == self._pair.term

    def speaks(self, group: str) -> int:
        """Tell a leader that was not there before the number of the youngest watcher that may speak for a group.

        It waits for nobody: who asks is waited for.
        """
        return self._speaks.get(group, 0)

    def keep_dismissed(self, camera: str, box: tuple[float, ...], looks_like: NDArray[np.float32]) -> None:
        """Keep a place that a person has dismissed, for watchers to come and for the next run.

        Raises:
            StoreError: it can't be kept.
        """
        with self._lock:
            self._background.keep_dismissed(camera, box, looks_like)
            place = camera, box, looks_like
            self._dismissed.append(place)
            for group in self._groups:
                for placed in self._watching(group) if camera in group.cameras else ():
                    placed.actor.know_dismissed.remote(place)

    def drain(self, disk: str) -> None:
        """Leave a node, before it is stopped for some time; what moves is watched without a gap.

        Raises:
            ConfigError: there is no such node, or none that could take over.
        """
        with self._lock:
            self._nodes.drain(disk)

    def is_left(self, disk: str) -> bool:
        """Tell whether nothing is on a node any more."""
        with self._lock:
            nodes = {node for node, name in self._nodes.drained.items() if name == disk}
            return not nodes & {placed.node for placed in self._everybody().values()}

    def news(self) -> News:
        """Return what happened since the last call."""
        with self._lock:
            alerts, self._alerts = self._alerts, []
            standings = {name: placed.standing for name, placed in self._watchers.items() if placed.standing}
            leader = self._pair.leader
            return News(
                alerts=alerts,
                finished=all(g.name in standings and standings[g.name].finished for g in self._groups),
                healths={name: health for one in standings.values() for name, health in one.healths.items()},
                frames={name: count for one in standings.values() for name, count in one.frames.items()},
                sending=(leader and leader.standing) or Sending(),
            )

    def stop(self) -> News:
        """End the watchers, then the journal; return the last news."""
        self._ended.set()
        self._thread.join(PING_S + TICK_S + 1.0)
        with self._lock:
            for placed in self._successors.values():
                ray.kill(placed.actor)
            asked = {name: placed.actor.stop.remote() for name, placed in self._watchers.items()}
            got = answers(asked, STOP_S)
            for name in asked:
                if name not in got or isinstance(got[name], Exception):
                    log.warning("the watcher of %s does not end: %s", name, got.get(name, "no answer"))
            self._stop_leader()
            self._store.close()
            self._background.close()
        return self.news()

    def _stop_leader(self) -> None:
        if self._pair.leader is None:
            return
        try:
            last: Sending = call(self._pair.leader.actor, "stop", self._pair.heard, timeout_s=STOP_S)
        except WildlaneError as error:
            log.warning("the journal's leader does not end: %s", error)
            return
        self._hear(last)
        if last.unsent:
            log.warning("%d messages are not with the broker yet; they stay in the journal", last.unsent)

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
        for role, placed in everybody.items():
            if placed.question is None:
                ping = placed.actor.ping.options(concurrency_group=PINGS)
                keeps_journal = role.kind in ("leader", "copy", "keeper")
                placed.question = ping.remote(self._pair.heard) if keeps_journal else ping.remote()
                placed.asked_s = time.monotonic()
        got = answers({role: placed.question for role, placed in everybody.items()}, PING_S)
        for role, answer in got.items():
            placed = everybody[role]
            placed.question = None
            if isinstance(answer, Exception):
                placed.is_gone = True
                continue
            begins, placed.has_answered, placed.standing = not placed.has_answered, True, answer
            if begins:
                self._patience_s.pop(role, None)
            if begins and role.kind == "classifier":
                self._share_classifiers()
            if role.kind == "leader":
                self._hear(answer)
            if isinstance(answer, Standing) and answer.is_replaced:
                placed.is_gone = role.kind == "successor" or role.which not in self._successors

    def _hear(self, sending: Sending) -> None:
        self._alerts += sending.alerts
        self._pair.heard = sending.newest

    def _share_classifiers(self) -> None:
        """Let watchers encode at the classifiers that work by now: those of their node, else whichever there are."""
        for watcher in (*self._watchers.values(), *self._successors.values()):
            self._give_classifier(watcher)

    def _give_classifier(self, watcher: Placed) -> None:
        ready = [placed for _, placed in sorted(self._classifiers.items()) if placed.has_answered]
        near = [placed for placed in ready if placed.node == watcher.node] or ready
        if near:
            watcher.actor.use_classifier.remote(near[watcher.number % len(near)].actor)

    def _watching(self, group: Group) -> list[Placed]:
        """Return who watches a group, and who is about to."""
        return [by_name[group.name] for by_name in (self._watchers, self._successors) if group.name in by_name]

    def _everybody(self) -> dict[Role, Placed]:
        everybody = {Role("watcher", name): placed for name, placed in self._watchers.items()}
        everybody |= {Role("successor", name): placed for name, placed in self._successors.items()}
        everybody |= {Role("classifier", name): placed for name, placed in self._classifiers.items()}
        return everybody | self._pair.everybody()

    def _workers(self) -> list[Placed]:
        """Return whom nodes differ by: each has its classifiers."""
        return [placed for role, placed in self._everybody().items() if role.kind != "classifier"]

    def _mend(self) -> None:
        """Replace who is lost, and place what is not there yet."""
        now_s = time.monotonic()
        for role, placed in self._everybody().items():
            first_s, most_s = PATIENCE_S.get(role.kind, (BEGIN_S, MOST_BEGIN_S))
            placed.patience_s = self._patience_s.get(role, first_s)
            if placed.is_lost(now_s):
                log.warning("%s on node %s is lost", role, placed.node[:8])
                self._patience_s[role] = first_s if placed.has_answered else min(most_s, 2 * placed.patience_s)
                self._nodes.suspect(placed.node)
                ray.kill(placed.actor)
                self._drop(role)
        nodes = self._nodes.usable()
        if not nodes:
            log.error("no node can be used")
            return
        try:
            self._pair.tend(nodes, self._workers())
        except StoreError as error:  # watchers are replaced all the same
            log.error("%s", error)  # noqa: TRY400  # one line
        if self._pair.leader is None:
            return
        for group in self._groups:
            if group.name not in self._watchers:
                self._let_watch(group.name, self._follower(group.name) or self._new_watcher(group, nodes))
        if not any(not placed.has_answered and placed.patience_s <= BEGIN_S for placed in self._watchers.values()):
            self._place_classifiers(nodes)  # after the watchers, but for those that have failed to begin
        self._move(nodes, now_s)
        self._take_up_classes()

    def _let_watch(self, name: str, placed: Placed) -> None:
        self._watchers[name], self._speaks[name] = placed, placed.number

    def _follower(self, name: str) -> Placed | None:
        """Return who was to follow a watcher that is lost, if anybody: it need not wait any more."""
        if (follower := self._successors.pop(name, None)) is not None:
            follower.actor.speak.remote()
            if (patience_s := self._patience_s.pop(Role("successor", name), None)) is not None:
                self._patience_s[Role("watcher", name)] = patience_s
        return follower

    def _move(self, nodes: list[Node], now_s: float) -> None:
        """Let watchers leave nodes that are drained, and one after another those that have more to do than others."""
        for name, successor in list(self._successors.items()):
            if successor.node in self._nodes.drained:
                ray.kill(self._successors.pop(name).actor)
            else:
                self._go_on(name, successor, self._watchers[name])
        for group in self._groups:
            if self._watchers[group.name].node in self._nodes.drained and group.name not in self._successors:
                self._let_follow(group, nodes)
        able = {group.name: self._able(group, nodes) for group in self._groups if self._may_move(group)}
        busy = Counter(placed.node for placed in self._workers())
        if (move := self._balance.next_move(self._watchers, able, busy, now_s)) is not None:
            why = "frames are left out" if move.is_overloaded else "it has more room"
            log.warning("cameras of %s move to node %s: %s", move.group, move.node.id[:8], why)
            self._let_follow(next(group for group in self._groups if group.name == move.group), [move.node])

    def _may_move(self, group: Group) -> bool:
        """Tell whether another watcher could go on in its place: a recording would begin anew. One moves at a time."""
        return not self._successors and not self._recordings.intersection(group.cameras)

    def _let_follow(self, group: Group, nodes: list[Node]) -> None:
        self._successors[group.name] = self._new_watcher(group, nodes, follows=True)

    def _go_on(self, name: str, successor: Placed, watcher: Placed) -> None:
        """Do the next step of a move."""
        step = next_step(successor.standing, watcher.standing, must_leave=watcher.node in self._nodes.drained)
        if step == "speak":
            self._speaks[name] = successor.number
            successor.actor.speak.remote()
        elif step == "replace":
            log.info("cameras of %s: now watched on node %s", name, successor.node[:8])
            ray.kill(watcher.actor)
            self._let_watch(name, self._successors.pop(name))
        elif step == "give up":
            log.warning("cameras of %s stay where they are: node %s sees less", name, successor.node[:8])
            ray.kill(self._successors.pop(name).actor)
            self._balance.has_failed(name, time.monotonic())

    def _drop(self, role: Role) -> None:
        if role.kind == "watcher":
            del self._watchers[role.which]
        elif role.kind == "successor":
            del self._successors[role.which]
            self._balance.has_failed(role.which, time.monotonic())
        elif role.kind == "classifier":
            del self._classifiers[role.which]
        else:
            self._pair.drop(role)

    def _place_classifiers(self, nodes: list[Node]) -> None:
        for name in [name for name, placed in self._classifiers.items() if placed.node in self._nodes.drained]:
            ray.kill(self._classifiers.pop(name).actor)
        on_gpus = self._classifiers_on == "gpu"
        for node in nodes:
            for number in range(node.gpus if on_gpus else 1):
                if (name := f"{node.id}/{number}") not in self._classifiers:
                    arguments = self._config, self._state_dir
                    self._classifiers[name] = place(ClassifierActor, node, *arguments, gpus=int(on_gpus))

    def _able(self, group: Group, nodes: list[Node]) -> list[Node]:
        """Return the nodes that its cameras want; where there is none, any: they are watched all the same."""
        pins = [self._config.cameras[camera].node for camera in group.cameras]
        wanted = {name: value for pin in pins for name, value in pin.items()}
        return [node for node in nodes if node.has(wanted)] or nodes

    def _new_watcher(self, group: Group, nodes: list[Node], *, follows: bool = False) -> Placed:
        self._number += 1
        node = least_busy(self._able(group, nodes), self._workers())
        task = Task(
            config=self._config,
            config_path=self._config_path,
            state_dir=self._state_dir,
            group=group,
            number=self._number,
            follows=follows,
            knowledge=self._classifier.knowledge,
            dismissed=[place for place in self._dismissed if place[0] in group.cameras],
        )
        me = ray.get_runtime_context().current_actor
        log.info("cameras %s: watched on node %s", ", ".join(group.cameras), node.id[:8])
        placed = place(WatchActor, node, task, self._class_set, me)
        placed.number = self._number
        self._give_classifier(placed)
        return placed

    def _take_up_classes(self) -> None:
        """Give the watchers what was taught meanwhile, and consumers word of it."""
        leader = self._pair.leader
        if (version := self._store.active_version()) != self._version:
            self._version = version
            self._class_set = self._store.load(self._classifier)
            log.info("class set %s is live", self._class_set.version)
            shared = ray.put(self._class_set)
            for group in self._groups:
                for placed in self._watching(group):
                    placed.actor.take_up.remote(shared)
            self._info_told_to = None
        if leader is not None and self._info_told_to is not leader:
            self._info_told_to = leader
            info = info_of(self._config, facts_of(self._config, self._classifier.encoder_hash), self._class_set)
            leader.actor.set_level.remote("info", info.model_dump_json(by_alias=True))

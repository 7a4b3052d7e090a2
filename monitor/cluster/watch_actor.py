"""The actor that watches a group of cameras: the daemon's own loop, with the journal on another node."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

from adapters.classes import ClassSet
from adapters.classifier import Classifier
from adapters.encoder import Features, Image
from adapters.errors import DeviceError
from adapters.knowledge import KnowledgeBase
from adapters.site_knowledge import Place
from monitor.alerts.consumers import Order
from monitor.alerts.reports import Machine, Reports
from monitor.assembly import (
    budgets_of,
    classifier_of,
    clock_of,
    facts_of,
    mirrors_of,
    settings_of,
    sources_of,
    zones_of,
)
from monitor.cameras.fleet import Fleet
from monitor.cameras.health import Health
from monitor.cameras.stream import CameraError
from monitor.clock import Clock, Every
from monitor.cluster.batcher import Batcher
from monitor.cluster.calls import call
from monitor.cluster.groups import Group
from monitor.cluster.keeper import FencedError, UnreachableError
from monitor.cluster.remote import (
    Claim,
    Level,
    RemoteEncoder,
    RemoteJournal,
    RemotePlaces,
    RemotePublisher,
    ReplacedError,
)
from monitor.config import Config
from monitor.output import log_to_stderr
from monitor.pipeline import Outcome, Pipeline
from monitor.policy import Policy
from monitor.scenery import Scenery, View
from monitor.values import Box, Frame
from monitor.watcher import Watcher

log = logging.getLogger(__name__)

T = TypeVar("T")

HEALTH_EVERY_S = 30.0
STUCK_S = 10.0  # a loop that has not gone round for so long is dead
EXCHANGE_S = 0.2  # between looks whether there is something to say
WARM_UP_S = 6.0  # for the first picture
HEAR_S = 1.0  # at most between exchanges: people's orders come with the answer


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a watcher is to watch.

    Attributes:
        config, config_path: of the whole site.
        state_dir: of the whole site, on the coordinator's node.
        group: its cameras.
        number: larger than that of any watcher of these cameras before.
        follows: another one watches them, until this one is told to speak.
        knowledge: the base, with what was learned of the site.
        dismissed: what people have dismissed before its cameras.
    """

    config: Config
    config_path: Path
    state_dir: Path
    group: Group
    number: int
    follows: bool
    knowledge: KnowledgeBase
    dismissed: Sequence[Place] = ()


class Standing(NamedTuple):
    """How a watcher does."""

    finished: bool  # all were recordings, and have ended
    healths: dict[str, Health]  # of its cameras
    overloaded: bool
    frames: dict[str, int]  # of each camera, analysed so far
    up_s: float  # for how long its cameras have been open
    has_open: bool  # situations that have begun and not ended
    speaks: bool  # for its zones, and nobody before it does any more
    is_replaced: bool = False  # a younger one speaks for its zones

    @property
    def sees(self) -> frozenset[str]:
        """The cameras that are not blind."""
        return frozenset(name for name, health in self.healths.items() if health.state != "blind")


class WatchActor:
    """Watches from its beginning until it is stopped, or replaced."""

    def __init__(self, task: Task, class_set: ClassSet, coordinator: Any) -> None:  # noqa: ANN401
        """Build the parts and begin."""
        config, group = task.config, task.group
        log_to_stderr(config.log_format)
        self._task, self._coordinator = task, coordinator
        self._leader: Any = None
        self._stop, self._orders = threading.Event(), SimpleQueue[Order]()
        self._may_speak = threading.Event()
        if not task.follows:
            self.speak()
        self._speaks = self._replaced = False
        self._turns = itertools.count(1)
        self._taken = frozenset[str]()  # ids of the orders that came with the last answer
        self._new_class_set: ClassSet | None = None
        self._frames, self._moved_s = Counter[str](), time.monotonic()
        claim = Claim(group.name, task.number, group.zones)
        self._claim, self._journal = claim, RemoteJournal(claim, self._find_leader, self._stop)
        self._publisher = RemotePublisher()
        sources = [source for source in sources_of(config, task.config_path) if source.name in group.cameras]
        self._fleet = Fleet(sources, time.monotonic, lost=self._lost)
        self._fleet.open()
        self._classifier = _classifier_of(task)
        self._own_encoder = self._classifier.encode
        zones = zones_of(config, group.cameras)
        facts = facts_of(config, self._classifier.encoder_hash)
        clock = Clock()
        site_clock = clock_of(config.policy.timezone)
        self._policy = Policy(
            settings_of(config),
            zones,
            places=facts.places,
            time_of_day=lambda: site_clock() if clock.state().trusted else None,
        )
        self._scenery = Scenery(RemotePlaces(task.dismissed, coordinator))
        self._pipeline = Pipeline(
            self._classifier,
            class_set,
            self._policy,
            budgets_of(config),
            crops_per_round=config.device.crops_per_round,
            scenery=self._scenery,
        )
        self._reports = Reports(
            facts,
            self._journal,  # type: ignore[arg-type]  # what reports need of one
            self._publisher,  # type: ignore[arg-type]
            zones,
            time.monotonic,
            clock,
            mirrors_of(config),
            lambda situation: None,
        )
        parts = (self._fleet, self._pipeline, self._policy, self._reports)
        self._watcher = Watcher(*parts, looked=self._looked, told=lambda alert: None)
        self._up_since_s = time.monotonic()
        self._loop = threading.Thread(target=self._run, name="watch", daemon=True)
        self._loop.start()

    def ping(self) -> Standing:
        """Tell how it does.

        Raises:
            CameraError: its loop has ended, or stands still.
        """
        still_s = time.monotonic() - self._moved_s
        if not self._fleet.finished and not self._replaced and (still_s > STUCK_S or not self._loop.is_alive()):
            raise CameraError(f"the watcher of {self._task.group.name} has not moved for {still_s:.0f} s")
        healths = self._fleet.healths
        return Standing(
            finished=self._fleet.finished,
            healths={name: health.health for name, health in healths.items()},
            overloaded=any(health.overloaded for health in healths.values()),
            frames=dict(self._frames),
            up_s=time.monotonic() - self._up_since_s,
            has_open=bool(self._policy.open),
            speaks=self._speaks,
            is_replaced=self._replaced,
        )

    def use_classifier(self, actor: Any) -> None:  # noqa: ANN401
        """Let the crops meet those of others at an actor from now on."""
        self._classifier.encode = RemoteEncoder(self._own_encoder, actor)  # type: ignore[assignment]

    def take_up(self, class_set: ClassSet) -> None:
        """Use another class set from the next frame on."""
        self._new_class_set = class_set

    def know_dismissed(self, place: Place) -> None:
        """Know a place that was dismissed while this watcher was on its way."""
        camera, box, looks_like = place
        self._scenery.add(View(camera, Box(*box), looks_like))

    def speak(self) -> None:
        """Speak for the zones from now on: it sees as much as the watcher before it, or that one is gone."""
        self._may_speak.set()

    def stop(self) -> None:
        """End what is open, and the watching."""
        self._stop.set()
        self._loop.join(10.0)

    def _find_leader(self) -> Any:  # noqa: ANN401
        self._moved_s = time.monotonic()  # who waits for the journal does not stand still
        self._leader = call(self._coordinator, "leader")
        if self._leader is None:
            raise UnreachableError("nobody leads yet")
        return self._leader

    def _run(self) -> None:
        try:
            self._moved_s = time.monotonic()
            self._warm_up()
            threading.Thread(target=self._exchange, name="exchange", daemon=True).start()  # from now on it speaks
            self._journal.end_left_open()
            self._speaks = True
            health, told = Every(HEALTH_EVERY_S), None
            while not self._stop.is_set() and not self._fleet.finished:
                self._watcher.step(self._stop, lambda: _taken(self._orders))
                self._moved_s = time.monotonic()
                if (class_set := self._new_class_set) is not None:
                    self._new_class_set = None
                    self._pipeline.take_up(class_set)
                states = self._fleet.check()
                if health.is_due(time.monotonic()) or states != told:
                    told = states
                    encode = self._classifier.encode
                    machine = Machine(encode.provider, encode.lost_device, ())
                    self._reports.tell_health(self._fleet.healths, self._pipeline.class_set, machine)
            self._watcher.end("shutdown")
            self._say_all()
        except ReplacedError as error:
            log.info("%s", error)
            self._replaced = True
            self._fleet.close()
            self._fleet.lose()
        except Exception:
            log.exception("the watcher of %s ended", self._task.group.name)
            self._fleet.close()
            raise

    def _warm_up(self) -> None:
        """Wait until it may speak, and then for a first picture: a watcher that this one follows watches on."""
        has_picture, deadline_s = False, time.monotonic() + WARM_UP_S
        while not self._stop.is_set() and not self._fleet.finished:
            if self._may_speak.is_set() and (has_picture or time.monotonic() > deadline_s):
                return
            self._fleet.wait(self._stop, EXCHANGE_S)
            self._fleet.check()
            self._moved_s = time.monotonic()
            for frame in self._fleet.frames():
                has_picture = True
                self._fleet.release(frame)

    def _exchange(self) -> None:
        """Bring what is to be said to whoever leads, and bring back what people ask; all anew to a new leader."""
        told_to, told_s = None, 0.0
        while not self._stop.wait(EXCHANGE_S):
            try:
                leader = self._find_leader() if self._leader is None else self._leader
                levels = self._publisher.take(everything=leader != told_to)
                if not levels and time.monotonic() - told_s < HEAR_S:
                    continue
                try:
                    orders = self._say(leader, levels)
                    for name, order in orders.items():
                        if name not in self._taken:
                            self._orders.put(order)
                    self._taken = frozenset(orders)
                except BaseException:
                    self._publisher.give_back(levels)
                    raise
                told_to, told_s = leader, time.monotonic()
            except (UnreachableError, FencedError):
                self._leader = told_to = None
            except ReplacedError:
                self._stop.set()
            except Exception:  # the supervised loop
                log.exception("exchange: unexpected error")

    def _say(self, leader: Any, levels: Sequence[Level]) -> dict[str, Order]:  # noqa: ANN401
        """Say something; return what people ask."""
        orders: dict[str, Order] = call(leader, "exchange", self._claim, next(self._turns), levels, self._taken)
        return orders

    def _say_all(self) -> None:
        try:
            self._say(self._find_leader(), self._publisher.take(everything=False))
        except (UnreachableError, FencedError) as error:
            log.warning("the last levels are not told: %s", error)

    def _looked(self, frame: Frame, _outcome: Outcome) -> None:
        self._frames[frame.camera] += 1

    def _lost(self, camera: str, _reason: str) -> None:
        self._pipeline.forget_camera(camera)


def _classifier_of(task: Task) -> Classifier:
    """Return a watcher's own: the GPU is the classifier actor's.

    One thread: others of the node have its other cores, and two for the same crops take a tenth more in all.
    """
    device = task.config.device.model_copy(update={"provider": "cpu", "threads": 1})
    classifier = classifier_of(task.config.model_copy(update={"device": device}), task.state_dir)
    classifier.knowledge = task.knowledge
    return classifier


def _taken(waiting: SimpleQueue[T]) -> list[T]:
    """Return what waits."""
    return [waiting.get() for _ in range(waiting.qsize())]


class ClassifierActor:
    """The encoder of a GPU, or of a node: crops of many watchers meet in one run."""

    def __init__(self, config: Config, state_dir: Path) -> None:
        """Load it."""
        self._encode = classifier_of(config, state_dir).encode
        self._encode.warm_up()
        self._batcher = Batcher(self._encode)

    def encode(self, squares: Any) -> Features:  # noqa: ANN401  # uint8 (n, input_px, input_px, 3)
        """Return the features of crops that were squeezed to squares."""
        crops: list[Image] = list(squares)
        return self._batcher(crops)

    def ping(self) -> tuple[int, int]:
        """Return how many runs there were, and of how many crops.

        Raises:
            DeviceError: a run does not end, as on a GPU that hangs.
        """
        if (running_s := self._batcher.running_s) > STUCK_S:
            raise DeviceError(f"crops have been encoded for {running_s:.0f} s")
        return self._batcher.runs, self._batcher.crops

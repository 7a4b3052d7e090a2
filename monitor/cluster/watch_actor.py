"""The actor that watches a group of cameras: the daemon's own loop, with the journal on another node."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

from adapters.classes import ClassSet
from adapters.encoder import Features, Image
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
from monitor.cameras.stream import CameraError
from monitor.clock import Clock, Every
from monitor.cluster.batcher import Batcher
from monitor.cluster.calls import call
from monitor.cluster.groups import Group
from monitor.cluster.keeper import FencedError, UnreachableError
from monitor.cluster.remote import Claim, RemoteEncoder, RemoteJournal, RemotePublisher, ReplacedError
from monitor.config import Config
from monitor.output import log_to_stderr
from monitor.pipeline import Outcome, Pipeline
from monitor.policy import Policy
from monitor.values import Frame
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
    """

    config: Config
    config_path: Path
    state_dir: Path
    group: Group
    number: int


class Standing(NamedTuple):
    """How a watcher does."""

    finished: bool  # all were recordings, and have ended
    sees: int  # cameras that are not blind
    overloaded: bool
    frames: int  # analysed so far
    alerts: tuple[str, ...]  # since it was asked last


class WatchActor:
    """Watches from its beginning until it is stopped, or replaced."""

    def __init__(self, task: Task, class_set: ClassSet, coordinator: Any) -> None:  # noqa: ANN401
        """Build the parts and begin."""
        config, group = task.config, task.group
        log_to_stderr(config.log_format)
        self._task, self._coordinator = task, coordinator
        self._leader: Any = None
        self._stop, self._orders, self._alerts = threading.Event(), SimpleQueue[Order](), SimpleQueue[str]()
        self._new_class_set: ClassSet | None = None
        self._frames, self._moved_s = 0, time.monotonic()
        claim = Claim(group.name, task.number, group.zones)
        self._claim, self._journal = claim, RemoteJournal(claim, self._find_leader, self._stop)
        self._publisher = RemotePublisher()
        sources = [source for source in sources_of(config, task.config_path) if source.name in group.cameras]
        self._fleet = Fleet(sources, time.monotonic, lost=self._lost)
        self._fleet.open()
        # the GPU is the classifier's. One thread: others of the node have its other cores, and two for the same crops
        # take a tenth more in all
        device = config.device.model_copy(update={"provider": "cpu", "threads": 1})
        self._classifier = classifier_of(config.model_copy(update={"device": device}), task.state_dir)
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
        self._pipeline = Pipeline(
            self._classifier,
            class_set,
            self._policy,
            budgets_of(config),
            crops_per_round=config.device.crops_per_round,
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
        self._watcher = Watcher(*parts, looked=self._looked, told=lambda alert: self._alerts.put(alert.json_text()))
        self._loop = threading.Thread(target=self._run, name="watch", daemon=True)
        self._loop.start()
        threading.Thread(target=self._exchange, name="exchange", daemon=True).start()

    def ping(self) -> Standing:
        """Tell how it does.

        Raises:
            CameraError: its loop has ended, or stands still.
        """
        still_s = time.monotonic() - self._moved_s
        if not self._fleet.finished and (still_s > STUCK_S or not self._loop.is_alive()):
            raise CameraError(f"the watcher of {self._task.group.name} has not moved for {still_s:.0f} s")
        healths = self._fleet.healths.values()
        return Standing(
            finished=self._fleet.finished,
            sees=sum(health.health.state != "blind" for health in healths),
            overloaded=any(health.overloaded for health in healths),
            frames=self._frames,
            alerts=tuple(_taken(self._alerts)),
        )

    def use_classifier(self, actor: Any) -> None:  # noqa: ANN401
        """Let the crops meet those of others at an actor from now on."""
        self._classifier.encode = RemoteEncoder(self._own_encoder, actor)  # type: ignore[assignment]

    def take_up(self, class_set: ClassSet) -> None:
        """Use another class set from the next frame on."""
        self._new_class_set = class_set

    def stop(self) -> tuple[str, ...]:
        """End what is open, and the watching; return the alerts that nobody was told of yet."""
        self._stop.set()
        self._loop.join(10.0)
        return tuple(_taken(self._alerts))

    def _find_leader(self) -> Any:  # noqa: ANN401
        self._moved_s = time.monotonic()  # who waits for the journal does not stand still
        self._leader = call(self._coordinator, "leader")
        if self._leader is None:
            raise UnreachableError("nobody leads yet")
        return self._leader

    def _run(self) -> None:
        try:
            self._warm_up()
            for alert in self._journal.end_left_open():
                self._alerts.put(alert.json_text())
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
            log.error("%s", error)  # noqa: TRY400  # one line
            self._fleet.close()
        except Exception:
            log.exception("the watcher of %s ended", self._task.group.name)
            self._fleet.close()
            raise

    def _warm_up(self) -> None:
        """Wait for a first picture: until then a watcher that this one follows may watch on."""
        deadline_s = time.monotonic() + WARM_UP_S
        while not self._stop.is_set() and not self._fleet.finished and time.monotonic() < deadline_s:
            self._fleet.wait(self._stop, EXCHANGE_S)
            if frames := self._fleet.frames():
                for frame in frames:
                    self._fleet.release(frame)
                return

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
                    for order in call(leader, "exchange", self._claim, levels):
                        self._orders.put(order)
                except (UnreachableError, FencedError):
                    self._publisher.give_back(levels)
                    raise
                told_to, told_s = leader, time.monotonic()
            except (UnreachableError, FencedError):
                self._leader = told_to = None
            except ReplacedError:
                self._stop.set()
            except Exception:  # the supervised loop
                log.exception("exchange: unexpected error")

    def _say_all(self) -> None:
        try:
            call(self._find_leader(), "exchange", self._claim, self._publisher.take(everything=False))
        except (UnreachableError, FencedError) as error:
            log.warning("the last levels are not told: %s", error)

    def _looked(self, _frame: Frame, _outcome: Outcome) -> None:
        self._frames += 1

    def _lost(self, camera: str, _reason: str) -> None:
        self._pipeline.forget_camera(camera)


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
        """Return how many runs there were, and of how many crops."""
        return self._batcher.runs, self._batcher.crops

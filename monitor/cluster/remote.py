"""A watcher's ends of what is on other nodes: the journal, the publisher, the encoder."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adapters.encoder import Encoder, Features, Image, Preprocessing
from adapters.errors import StoreError, WildlaneError
from adapters.site_knowledge import Place
from monitor.alerts.compose import Draft
from monitor.alerts.mqtt import LEVEL_EXPIRES_S
from monitor.alerts.schema import Alert
from monitor.cluster.calls import call
from monitor.cluster.keeper import FencedError, UnreachableError

log = logging.getLogger(__name__)

AGAIN_S = 0.2
DISTRUST_S = 30.0  # for which a classifier is not asked that did not answer


class Level(NamedTuple):
    """A retained message that a watcher wants published; `topic` is below the site's root unless it is a mirror."""

    topic: str
    payload: str
    expires_s: int | None
    qos: int
    is_mirror: bool


class ReplacedError(WildlaneError):
    """Another watcher speaks for these zones now."""


class Claim(NamedTuple):
    """Who speaks for some zones: of two watchers the younger, by its number."""

    group: str
    number: int
    zones: frozenset[str]


class RemoteJournal:
    """The journal, as a watcher's reports need it: commits go to whoever leads now."""

    id = ""  # `health` gets the journal's own numbers where it is put together
    problem = ""

    def __init__(self, claim: Claim, leader: Callable[[], Any], stopping: threading.Event) -> None:
        """Use it.

        Args:
            claim: in whose name.
            leader: returns the actor that leads now.
            stopping: ends the waiting for one.
        """
        self._claim, self._leader, self._stopping = claim, leader, stopping

    def append(self, drafts: Sequence[Draft]) -> list[Alert]:
        """Commit situation versions, however long it takes to find who leads.

        Raises:
            ReplacedError: another watcher speaks for these zones now.
        """
        return self._insist("append", self._claim, drafts)

    def end_left_open(self) -> list[Alert]:
        """End what a lost watcher of these zones left open."""
        return self._insist("end_left_open", self._claim)

    def counts(self) -> tuple[int, int]:
        """Nothing waits here."""
        return 0, 0

    def newest(self) -> int:
        """No number is given here."""
        return 0

    def _insist(self, method: str, *arguments: object) -> list[Alert]:
        while True:
            try:
                answer: list[Alert] = call(self._leader(), method, *arguments)
            except (UnreachableError, FencedError) as error:
                if self._stopping.is_set():
                    raise
                log.info("the journal does not answer (%s): asking again", error)
                time.sleep(AGAIN_S)
            else:
                return answer


class RemotePublisher:
    """The publisher, as a watcher's reports need it: the newest of each level, to be fetched from here."""

    unheard = False

    def __init__(self) -> None:
        """Begin with nothing to say."""
        self._levels: dict[str, Level] = {}
        self._changed: set[str] = set()
        self._lock = threading.Lock()

    def set_level(self, topic: str, payload: str, *, expires_s: int | None = LEVEL_EXPIRES_S, qos: int = 1) -> None:
        """Leave the newest retained message of a topic below the root."""
        self._keep(Level(topic, payload, expires_s, qos, is_mirror=False))

    def mirror(self, topic: str, payload: str, *, expires_s: int | None = None) -> None:
        """Leave the newest retained message of a topic outside the root."""
        self._keep(Level(topic, payload, expires_s, 0, is_mirror=True))

    def event_committed(self) -> None:
        """The journal's own publisher knows."""

    def take(self, *, everything: bool) -> list[Level]:
        """Return what changed since the last call, or all."""
        with self._lock:
            topics = set(self._levels) if everything else set(self._changed)
            self._changed.clear()
            return [self._levels[topic] for topic in topics]

    def give_back(self, levels: Sequence[Level]) -> None:
        """Keep what nobody took for the next call."""
        with self._lock:
            self._changed |= {level.topic for level in levels}

    def _keep(self, level: Level) -> None:
        with self._lock:
            self._levels[level.topic] = level
            self._changed.add(level.topic)


class RemoteEncoder:
    """The encoder of another actor; while that does not answer, this watcher's own."""

    def __init__(self, own: Encoder, actor: Any) -> None:  # noqa: ANN401  # a handle
        """Use the actor's."""
        self._own, self._actor, self._trusted_s = own, actor, 0.0
        self.hash, self.lost_device = own.hash, False
        self.prepare: Preprocessing = own.prepare

    @property
    def provider(self) -> str:
        """Where it runs now."""
        return "remote" if self._is_trusted() else self._own.provider

    def __call__(self, crops: Sequence[Image]) -> Features:
        """Return the features of n crops of any size and shape."""
        if self._is_trusted():
            try:
                features: Features = call(self._actor, "encode", self.prepare.squares(crops))
            except Exception as error:  # noqa: BLE001  # whatever is wrong there, cameras are watched
                log.warning("the classifier is lost (%s): this watcher encodes by itself", error)
                self._trusted_s = time.monotonic() + DISTRUST_S
            else:
                return features
        return self._own(crops)

    def _is_trusted(self) -> bool:
        return time.monotonic() >= self._trusted_s


class RemotePlaces:
    """Places that people have dismissed, kept where the site's class sets are: a `monitor.scenery.Keeper`."""

    def __init__(self, known: Sequence[Place], coordinator: Any) -> None:  # noqa: ANN401  # a handle
        """Begin with what was known when this watcher was placed."""
        self._known, self._coordinator = list(known), coordinator

    def dismissed(self) -> list[Place]:
        """Return them."""
        return self._known

    def keep_dismissed(self, camera: str, box: tuple[float, ...], looks_like: NDArray[np.float32]) -> None:
        """Keep one more.

        Raises:
            StoreError: it can't be kept.
        """
        try:
            call(self._coordinator, "keep_dismissed", camera, box, looks_like)
        except UnreachableError as error:
            raise StoreError(f"the coordinator does not keep it ({error})") from None

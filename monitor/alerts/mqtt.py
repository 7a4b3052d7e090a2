"""The publisher: it takes rows from the journal to the broker, in order, and the levels beside them.

paho's own queue is never used. It forgets the receive maximum on reconnecting, sends what it reported as failed, and
reports as published what the broker refused; see `docs/alerts.md`. So the window is kept here, a broken client is
thrown away, and the next one starts from the oldest row without a receipt.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import paho.mqtt.client as paho

from monitor.alerts.consumers import ConsumerDesk, Order
from monitor.alerts.journal import Journal, Outgoing
from monitor.alerts.receipts import Receipts
from monitor.alerts.session import Address, Retained, Session, Site
from monitor.watchdog import Promise

log = logging.getLogger(__name__)

RETRY_FIRST_S, RETRY_GROWTH, RETRY_MOST_S = 0.3, 1.5, 2.0  # with the line above: live 5 s after any fault has ended
PATIENCE_S, MOST_PATIENCE_S = 3.0, 60.0  # for a receipt; doubled while none comes, so that a slow network gets through
LEVEL_EXPIRES_S = 30  # a level that was not told again for so long is gone from the broker
TICK_S = 0.1
ROUND_S = 10.0  # the longest that a round of the connected loop may take
CONNECT_S = 60.0  # the same to close a connection and open another: names are looked up without a limit of ours


class Publisher:
    """A thread that publishes; it owns the client, and everything else only leaves things for it."""

    def __init__(
        self,
        address: Address,
        journal: Journal,
        *,
        root: str,
        online: str,
        offline: str,
        zones: frozenset[str] = frozenset(),
    ) -> None:
        """Prepare, without connecting.

        Args:
            address: of the broker.
            journal: whose rows are to be taken there.
            root: topic prefix, `wildlane/v1/{site}`.
            online: payload of the status topic at birth.
            offline: the will.
            zones: in which consumers may ask for a test.
        """
        self._address, self._journal, self._root = address, journal, root
        self._site = Site(root=root, online=online, offline=offline)
        self._desk, self._receipts = ConsumerDesk(journal, zones), Receipts(journal)
        self._levels: dict[str, Retained] = {}  # topic -> newest
        self._changed: set[str] = set()
        self._lock = threading.Lock()
        self._patience_s = PATIENCE_S
        self._protocol = paho.MQTTv5
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self.connected = threading.Event()
        self.unheard = False  # the broker says that nobody subscribes to our events
        self.promise = Promise()

    @property
    def problem(self) -> str:
        """What an operator must know of the way to the broker; empty while all is well."""
        return self._receipts.problem

    def start(self) -> None:
        """Begin to connect and publish."""
        self._thread.start()

    def event_committed(self) -> None:
        """Tell the thread that the journal has a new row."""
        self._wake.set()

    def orders(self) -> list[Order]:
        """Return what consumers have asked the daemon to do since the last call."""
        return list(self._desk.orders())

    def change_zones(self, zones: frozenset[str]) -> None:
        """Let consumers ask for tests in these zones from now on."""
        self._desk.zones = zones

    def let_look_for_releases(self, look: Callable[[], None]) -> None:
        """Call this where a centre says that there is a release to look at; it must return at once."""
        self._desk.look_for_release = look

    def announce(self, online: str) -> None:
        """Say how we are, now and at every birth from now on."""
        self._site = replace(self._site, online=online)
        self.set_level("status", online, expires_s=None)

    def set_level(self, topic: str, payload: str, *, expires_s: int | None = LEVEL_EXPIRES_S, qos: int = 1) -> None:
        """Leave the newest retained message of a topic below the root; older ones that were not sent are dropped."""
        self._retain(f"{self._root}/{topic}", Retained(payload, expires_s, qos, time.monotonic()))

    def mirror(self, topic: str, payload: str, *, expires_s: int | None = None) -> None:
        """Leave the newest retained message of a topic outside the root; an empty one takes it from the broker."""
        self._retain(topic, Retained(payload, expires_s, 0, time.monotonic()))

    def _retain(self, topic: str, message: Retained) -> None:
        with self._lock:
            self._levels[topic] = message
            self._changed.add(topic)
        self._wake.set()

    def stop(self, timeout_s: float) -> int:
        """Send what is left, for at most `timeout_s`, say goodbye, and return how many rows stay in the journal."""
        deadline = time.monotonic() + timeout_s
        while self._journal.counts()[0] and self.connected.is_set() and time.monotonic() < deadline:
            self._wake.set()
            time.sleep(TICK_S / 2)
        self._stopping.set()
        self._wake.set()
        self._thread.join(max(0.5, deadline - time.monotonic()))
        return self._journal.counts()[0]

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            self.promise.back_within(CONNECT_S)
            try:
                session = Session(self._address, self._site, self._receipts, self._protocol)
                if session.connect():
                    failures = 0
                    self.connected.set()
                    self._serve(session)
                else:
                    log.info("broker %s:%d: %s", self._address.host, self._address.port, session.problem)
                self._find_culprit(session)
                if session.speaks_only_311:
                    log.warning("the broker speaks MQTT 3.1.1 only: levels do not expire there, look at validUntil")
                    self._protocol = paho.MQTTv311
            except Exception:  # the supervised loop: whatever happened, the next client starts from the journal
                log.exception("publisher: unexpected error; starting again")
            finally:
                self.connected.clear()
            failures += 1
            self._pause(failures)

    def _pause(self, failures: int) -> None:
        grown = RETRY_GROWTH ** min(failures, 20)  # without a bound it overflows after a while
        longest = min(RETRY_MOST_S, RETRY_FIRST_S * grown)
        deadline = time.monotonic() + random.uniform(longest / 2, longest)  # noqa: S311  # jitter, no secret
        while not self._stopping.is_set() and time.monotonic() < deadline:
            time.sleep(TICK_S)

    def _serve(self, session: Session) -> None:
        """Publish, and hear consumers, until the connection breaks or the program stops."""
        log.info("broker %s:%d: connected", self._address.host, self._address.port)
        sent: Outgoing | None = None
        hold_until_s, levels = 0.0, dict(self._take_levels(everything=True))
        while not self._stopping.is_set() and session.alive:
            self.promise.back_within(ROUND_S)
            self._receipts.keep_up()
            if session.take_receipts():
                # refused for now: again from the oldest, after a second
                sent, hold_until_s = None, time.monotonic() + 1.0
            self.unheard = session.unheard
            if session.waiting_s > self._patience_s:
                session.problem = f"no receipt for {self._patience_s:.0f} s"
                self._patience_s = min(MOST_PATIENCE_S, 2 * self._patience_s)
                break
            if session.was_answered:
                self._patience_s = PATIENCE_S
            for message in session.heard():
                if (answer := self._desk.hear(message)) is not None:
                    session.publish_reply(message, answer)
                if message.topic == "cmd/replay":
                    sent = None  # it begins with the oldest row
                    self._receipts.recount()
            for topic in list(levels)[: session.room]:  # first: a sign waits for them
                session.publish_level(topic, levels.pop(topic))
            if time.monotonic() >= hold_until_s:
                for row in self._receipts.unsent(sent, session.room):
                    session.publish_event(row)
                    sent = row
            self._wake.wait(TICK_S)
            self._wake.clear()
            levels |= self._take_levels(everything=False)
        self.promise.back_within(CONNECT_S)
        if session.problem:
            log.warning("broker %s:%d: %s", self._address.host, self._address.port, session.problem)
        if self._stopping.is_set():
            self._send_last(session, levels)
        session.close(goodbye=self._stopping.is_set())

    def _find_culprit(self, session: Session) -> None:
        """Set aside what the broker hung up over, if it did; else every connection would end with the same message."""
        session.take_receipts()
        culprit = session.find_culprit()
        with self._lock:
            self._levels.pop(culprit, None)

    def _send_last(self, session: Session, levels: dict[str, Retained]) -> None:
        """Send the levels that nobody has had yet, so that the goodbye is the last word of every zone."""
        levels |= self._take_levels(everything=False)
        while session.alive and levels:
            topic, level = levels.popitem()
            session.publish_level(topic, level)

    def _take_levels(self, *, everything: bool) -> Mapping[str, Retained]:
        """Return what changed since the last call, or, for a new connection, all that is still fresh."""
        with self._lock:
            topics = set(self._levels) if everything else set(self._changed)
            self._changed.clear()
            now_s = time.monotonic()
            return {topic: self._levels[topic] for topic in topics if self._levels[topic].is_fresh(now_s)}

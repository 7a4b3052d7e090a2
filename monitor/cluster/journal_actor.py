"""The actor that keeps a site's journal, or its copy: who leads publishes, and puts together what watchers say."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monitor.alerts import schema
from monitor.alerts.compose import Draft
from monitor.alerts.consumers import Order
from monitor.alerts.mqtt import Publisher
from monitor.alerts.reports import publisher_of, status_of
from monitor.assembly import address_of
from monitor.cluster.calls import call
from monitor.cluster.keeper import FencedError, Keeper
from monitor.cluster.remote import Claim, Level, ReplacedError
from monitor.cluster.voices import Voices
from monitor.config import Config
from monitor.output import log_to_stderr

log = logging.getLogger(__name__)

TICK_S = 1.0
FLUSH_S = 2.0
WITHOUT_COPY = "the journal has no copy on another node"


class RemoteCopy:
    """The copy of the journal, as its leader sees it."""

    def __init__(self, actor: Any) -> None:  # noqa: ANN401  # a handle
        """Use the actor's."""
        self._actor = actor

    def begin(self, term: int, content: bytes) -> None:
        """Begin with the whole journal."""
        call(self._actor, "begin", term, content)

    def receive(self, term: int, alerts: Sequence[str], delivered: int) -> None:
        """Take commits."""
        call(self._actor, "receive", term, alerts, delivered)


class JournalActor:
    """One end of the pair."""

    def __init__(self, config: Config, state_dir: Path, zones: frozenset[str], coordinator: Any) -> None:  # noqa: ANN401
        """Open the folder; lead or copy nothing yet."""
        log_to_stderr(config.log_format)
        self._config, self._zones, self._coordinator = config, zones, coordinator
        self._keeper = Keeper(state_dir)
        self._publisher: Publisher | None = None
        self._claims: dict[str, Claim] = {}
        self._voices = Voices()
        self._orders: dict[str, list[Order]] = {}
        self._problem_told, self._copy_number = "", 0
        self._ended = threading.Event()

    def ping(self) -> bool:
        """Answer."""
        return True

    def begin(self, term: int, content: bytes) -> None:
        """Become the copy; see `Keeper.begin`."""
        self._keeper.begin(term, content)

    def receive(self, term: int, alerts: Sequence[str], delivered: int) -> None:
        """Take the leader's commits; see `Keeper.receive`."""
        self._keeper.receive(term, alerts, delivered)

    def lead(self, term: int, anew: bool) -> str:  # noqa: FBT001  # a call over the network has no names
        """Lead from now on, without a copy yet; return the journal's id."""
        journal = self._keeper.lead(term, None, self._may_go_on_alone, anew=anew)
        address = address_of(self._config, self._config.broker.port)
        self._publisher = publisher_of(self._config.site, address, journal, self._zones, self._problem())
        self._publisher.start()
        threading.Thread(target=self._tick, name="tick", daemon=True).start()
        log.info("the journal %s is led from here in term %d", journal.id, term)
        return str(journal.id)

    def follow_up(self, copy: Any, number: int) -> None:  # noqa: ANN401
        """Go on with another copy; the coordinator knows it by its number."""
        self._copy_number = number
        self._keeper.follow_up(RemoteCopy(copy))

    def append(self, claim: Claim, drafts: Sequence[Draft]) -> list[schema.Alert]:
        """Commit and publish situation versions of zones that the caller speaks for."""
        self._check(claim)
        alerts = self._keeper.append(drafts)
        if self._publisher is not None:
            self._publisher.event_committed()
        return alerts

    def end_left_open(self, claim: Claim) -> list[schema.Alert]:
        """End what is open in zones that the caller speaks for from now on."""
        self._check(claim)
        alerts = self._keeper.end_left_open(claim.zones)
        if self._publisher is not None:
            self._publisher.event_committed()
        return alerts

    def exchange(self, claim: Claim, levels: Sequence[Level]) -> list[Order]:
        """Take a watcher's levels, and give it what people have asked of it."""
        self._check(claim)
        if self._publisher is None:
            raise FencedError("this keeper does not lead")
        if self._voices.hear(claim.group, levels, time.monotonic()):
            self._tell_health(self._publisher)
        for level in levels:
            if level.is_mirror:
                self._publisher.mirror(level.topic, level.payload, expires_s=level.expires_s)
            elif level.topic != "health":
                self._publisher.set_level(level.topic, level.payload, expires_s=level.expires_s, qos=level.qos)
        for order in self._publisher.orders():
            self._orders.setdefault(self._group_of(order), []).append(order)
        return self._orders.pop(claim.group, [])

    def set_level(self, topic: str, payload: str) -> None:
        """Publish a retained message of the whole site."""
        if self._publisher is not None:
            self._publisher.set_level(topic, payload, expires_s=None)

    def stop(self) -> int:
        """Say goodbye; return how many events no broker has."""
        self._ended.set()
        left = self._publisher.stop(FLUSH_S) if self._publisher is not None else 0
        self._keeper.close()
        return left

    def _check(self, claim: Claim) -> None:
        """Refuse a watcher that was replaced.

        Raises:
            ReplacedError: a younger one speaks for its zones.
        """
        known = self._claims.get(claim.group)
        if known is not None and known.number > claim.number:
            raise ReplacedError(f"watcher {claim.number} of {claim.group} was replaced by {known.number}")
        self._claims[claim.group] = claim

    def _group_of(self, order: Order) -> str:
        zone = order.about if order.verb == "test-alert" else self._zone_of(order.about)
        return next((claim.group for claim in self._claims.values() if zone in claim.zones), "")

    def _zone_of(self, situation: str) -> str:
        return self._keeper.journal.zone_of(situation) or ""

    def _may_go_on_alone(self, term: int) -> bool:
        try:
            return bool(call(self._coordinator, "allows_alone", term, self._copy_number))
        except Exception:  # whatever is wrong with the coordinator: without its word we are fenced
            log.exception("the coordinator does not answer")
            return False

    def _problem(self) -> str:
        return "" if self._keeper.has_copy else WITHOUT_COPY

    def _tell_health(self, publisher: Publisher) -> None:
        """Publish the health of all watchers' cameras as one."""
        if (health := self._voices.health(self._keeper.journal)) is not None:
            publisher.set_level("health", health.model_dump_json(by_alias=True), expires_s=None, qos=0)

    def _tick(self) -> None:
        """Tell the copy what the broker has; end a leader that was replaced, before it says anything."""
        while not self._ended.wait(TICK_S):
            if self._publisher is None:
                continue
            try:
                self._keeper.tell_delivered()
            except FencedError as error:
                log.error("%s", error)  # noqa: TRY400  # one line
            if not self._keeper.leads:
                time.sleep(TICK_S)  # who waits for an answer gets it
                os._exit(1)  # a goodbye would overwrite what the new leader says
            if unknown := self._voices.newly_silent(time.monotonic()):
                for state in unknown:
                    self._publisher.set_level(f"state/{state.zone}", state.model_dump_json(by_alias=True))
                self._tell_health(self._publisher)
            if (problem := self._problem()) != self._problem_told:
                self._problem_told = problem
                status = status_of(self._config.site, "online", self._keeper.journal.id, problem)
                self._publisher.announce(status)

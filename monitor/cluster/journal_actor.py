"""The actor that keeps a site's journal, or its copy: who leads publishes, and puts together what watchers say."""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from adapters.errors import StoreError
from monitor.alerts import schema
from monitor.alerts.compose import Draft
from monitor.alerts.consumers import Order
from monitor.alerts.mqtt import Publisher
from monitor.alerts.reports import publisher_of, status_of
from monitor.assembly import address_of
from monitor.clock import Clock
from monitor.cluster.calls import call
from monitor.cluster.keeper import FencedError, Keeper, UnreachableError
from monitor.cluster.remote import Claim, Level, ReplacedError
from monitor.cluster.told import Heard, Told
from monitor.cluster.voices import Voices
from monitor.config import Config
from monitor.output import log_to_stderr

log = logging.getLogger(__name__)

TICK_S = 1.0
STUCK_S = 20.0  # a journal that has not moved for so long is held for lost; a commit waits for a copy for less
FLUSH_S = 2.0
BEGIN_S = 6.0  # for a copy to begin
LEAVE_S = 10.0  # for which a leader without a copy goes on without the coordinator's word
PRUNE_S = 3600.0
WITHOUT_COPY = "the journal has no copy on another node"


class Sending(NamedTuple):
    """How the journal's leader does.

    Attributes:
        unsent, parked: what waits there.
        connected: with the broker.
        has_copy: on another node.
        alerts: as JSON, that the coordinator has not heard of.
        newest: up to where they go.
    """

    unsent: int = 0
    parked: int = 0
    connected: bool = False
    has_copy: bool = False
    alerts: tuple[str, ...] = ()
    newest: Heard = Heard()


class RemoteCopy:
    """The copy of the journal, as its leader sees it."""

    def __init__(self, actor: Any) -> None:  # noqa: ANN401  # a handle
        """Use the actor's."""
        self._actor = actor

    def begin(self, term: int, content: bytes) -> None:
        """Begin with the whole journal."""
        call(self._actor, "begin", term, content, timeout_s=BEGIN_S)

    def receive(self, term: int, alerts: Sequence[str], delivered: int) -> None:
        """Take commits."""
        call(self._actor, "receive", term, alerts, delivered)


class JournalActor:
    """One end of the pair."""

    def __init__(self, config: Config, state_dir: Path, groups: Mapping[str, str], coordinator: Any) -> None:  # noqa: ANN401
        """Open the folder; lead or copy nothing yet.

        Args:
            config: of the site.
            state_dir: of this end.
            groups: zone -> the group that watches it.
            coordinator: its handle.
        """
        log_to_stderr(config.log_format)
        self._config, self._groups, self._coordinator = config, groups, coordinator
        self._keeper = Keeper(state_dir)
        self._publisher: Publisher | None = None
        self._claims: dict[str, int] = {}  # by group: the number of the youngest watcher that spoke
        # by group: what a younger watcher ends must be all that an older one has begun
        self._claiming = {group: threading.Lock() for group in groups.values()}
        self._voices = Voices(config, groups)
        self._orders: dict[str, dict[str, Order]] = {group: {} for group in (*groups.values(), "")}  # by their ids
        self._turns: dict[str, tuple[int, int]] = {}  # of the newest exchange: the watcher's number, and its own
        self._counts, self._ticked_s = (0, 0), 0.0
        self._problem_told, self._copy_number, self._allowed_s = "", 0, 0.0
        self._ended, self._following = threading.Event(), threading.Lock()
        self._told, self._telling = Told(), threading.Lock()  # held from a commit until it is told: in their order
        threading.Thread(target=self._prune, name="prune", daemon=True).start()

    def ping(self, heard: Heard) -> Sending:
        """Tell a leader's coordinator, which has heard so far, how the publishing goes; nothing is sent by a copy.

        The counts are those of the last tick: a commit that waits for a copy holds the journal, and who answers lives.

        Raises:
            StoreError: the journal does not move any more, as on a disk that hangs.
        """
        if self._publisher is None:
            return Sending()
        if (still_s := time.monotonic() - self._ticked_s) > STUCK_S:
            raise StoreError(f"the journal has not moved for {still_s:.0f} s")
        connected, has_copy = self._publisher.connected.is_set(), self._keeper.has_copy
        return Sending(*self._counts, connected, has_copy, *self._told.after(heard))

    def begin(self, term: int, content: bytes) -> None:
        """Become the copy; see `Keeper.begin`."""
        self._keeper.begin(term, content)

    def receive(self, term: int, alerts: Sequence[str], delivered: int) -> None:
        """Take the leader's commits; see `Keeper.receive`."""
        self._keeper.receive(term, alerts, delivered)

    def lead(self, term: int, journal_id: str | None, heard: Heard) -> str:
        """Lead from now on, without a copy yet; return the journal's id. See `Keeper.lead`.

        Args:
            term: newer than any before.
            journal_id: of the journal to go on with; None for a new one.
            heard: up to where the coordinator has heard of alerts.
        """
        with self._telling:
            journal = self._keeper.lead(term, self._may_go_on_alone, journal=journal_id)
            self._told.begin(journal, heard)
        address = address_of(self._config, self._config.broker.port)
        self._publisher = publisher_of(self._config.site, address, journal, frozenset(self._groups), self._problem())
        self._publisher.start()
        self._voices.expect(time.monotonic())
        self._counts, self._ticked_s = journal.counts(), time.monotonic()
        threading.Thread(target=self._tick, args=(term,), name="tick", daemon=True).start()
        log.info("the journal %s is led from here in term %d", journal.id, term)
        return str(journal.id)

    def follow_up(self, copy: Any, number: int) -> None:  # noqa: ANN401
        """Go on with another copy; the coordinator knows it by its number.

        Raises:
            FencedError: a younger one has begun: this call comes late.
        """
        with self._following:
            if number < self._copy_number:
                raise FencedError(f"copy {self._copy_number} has begun after copy {number}")
            before, self._copy_number = self._copy_number, number  # a commit right after may lose this copy
            try:
                self._keeper.follow_up(RemoteCopy(copy))
            except BaseException:
                self._copy_number = before
                raise

    def append(self, claim: Claim, drafts: Sequence[Draft]) -> list[schema.Alert]:
        """Commit and publish situation versions of zones that the caller speaks for."""
        return self._commit(claim, lambda: self._keeper.append(drafts))

    def end_left_open(self, claim: Claim) -> list[schema.Alert]:
        """End what is open in zones that the caller speaks for from now on."""
        return self._commit(claim, lambda: self._keeper.end_left_open(claim.zones))

    def _commit(self, claim: Claim, commit: Callable[[], list[schema.Alert]]) -> list[schema.Alert]:
        with self._claimed(claim), self._telling:
            alerts = commit()
            self._told.add(alerts)
        if self._publisher is not None:
            self._publisher.event_committed()
        return alerts

    def exchange(self, claim: Claim, turn: int, levels: Sequence[Level], taken: Collection[str]) -> dict[str, Order]:
        """Take a watcher's levels, and give it what people have asked of it.

        Args:
            claim: the watcher's.
            turn: larger than that of any exchange of this watcher before: one that comes late says nothing.
            levels: what it says.
            taken: ids of what it has heard of: an answer may get lost, and its orders must not.
        """
        if (publisher := self._publisher) is None:
            raise FencedError("this keeper does not lead")
        with self._claimed(claim):
            for order in publisher.orders():
                self._orders[self._group_of(order)][uuid.uuid4().hex] = order
            waiting = self._orders[claim.group]
            for known in taken:
                waiting.pop(known, None)
            orders = dict(waiting)
            if (claim.number, turn) > self._turns.get(claim.group, (0, 0)):
                self._turns[claim.group] = claim.number, turn
                self._say(publisher, claim.group, levels)
        return orders

    def _say(self, publisher: Publisher, group: str, levels: Sequence[Level]) -> None:
        if self._voices.hear(group, levels, time.monotonic()):
            self._tell_health(publisher)
        for level in levels:
            if level.is_mirror:
                publisher.mirror(level.topic, level.payload, expires_s=level.expires_s)
            elif level.topic != "health":
                publisher.set_level(level.topic, level.payload, expires_s=level.expires_s, qos=level.qos)

    def set_level(self, topic: str, payload: str) -> None:
        """Publish a retained message of the whole site."""
        if self._publisher is not None:
            self._publisher.set_level(topic, payload, expires_s=None)

    def stop(self, heard: Heard) -> Sending:
        """Say goodbye; return what is left: alerts that the coordinator has not heard of, events that no broker has."""
        self._ended.set()
        left = 0
        if self._publisher is not None:
            self._tell_health(self._publisher)  # with the number of the last event
            left = self._publisher.stop(FLUSH_S)
        try:
            self._keeper.tell_delivered()  # or the copy would send it once more, where it leads next
        except FencedError as error:
            log.warning("%s", error)
        self._keeper.close()
        alerts, newest = self._told.after(heard)
        return Sending(unsent=left, alerts=alerts, newest=newest)

    @contextmanager
    def _claimed(self, claim: Claim) -> Iterator[None]:
        """Let nobody else speak for these zones meanwhile.

        Raises:
            ReplacedError: a younger watcher speaks for them.
            UnreachableError: the coordinator, who would know, does not answer.
        """
        with self._claiming[claim.group]:
            newest = self._claims.get(claim.group)
            if newest is None:  # this leader has not heard of any; the coordinator has
                newest = call(self._coordinator, "speaks", claim.group)
            if newest > claim.number:
                raise ReplacedError(f"watcher {claim.number} of {claim.group} was replaced by {newest}")
            self._claims[claim.group] = claim.number
            yield

    def _group_of(self, order: Order) -> str:
        zone = order.about if order.verb == "test-alert" else self._keeper.journal.zone_of(order.about)
        return self._groups.get(zone or "", "")

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

    def _ask_leave(self, term: int) -> None:
        """Step down where another one leads: without a copy, nobody else would tell."""
        try:
            leads = call(self._coordinator, "leads", term)
        except UnreachableError as error:
            leads = time.monotonic() - self._allowed_s < LEAVE_S
            log.warning("the coordinator does not answer (%s)", error)
        else:
            self._allowed_s = time.monotonic()
        if not leads:
            log.error("another keeper leads, or may")
            self._keeper.step_down()

    def _prune(self) -> None:
        """Drop what is old, at either end."""
        clock, kept = Clock(), timedelta(days=self._config.retention_days)
        while not self._ended.wait(PRUNE_S):
            try:
                if clock.state().steady:  # a clock set ahead by mistake must not empty the journal
                    self._keeper.forget_before(datetime.now(UTC) - kept)
            except StoreError as error:
                log.error("old rows stay in the journal: %s", error)  # noqa: TRY400  # one line

    def _tick(self, term: int) -> None:
        """Tell the copy what the broker has; end a leader that was replaced, before it says anything."""
        self._allowed_s = time.monotonic()
        while not self._ended.wait(TICK_S):
            if self._publisher is None:
                continue
            try:
                self._stay_leader(term)
                self._say_what_changed(self._publisher)
                self._ticked_s = time.monotonic()
            except (FencedError, StoreError) as error:
                log.error("%s", error)  # noqa: TRY400  # one line
            except Exception:  # the supervised loop: where it goes wrong for long, this leader is held for lost
                log.exception("the journal's leader: unexpected error")
            if not self._keeper.leads:
                time.sleep(TICK_S)  # who waits for an answer gets it
                os._exit(1)  # a goodbye would overwrite what the new leader says

    def _stay_leader(self, term: int) -> None:
        """Tell the copy what the broker has, or ask for leave; step down where the disk can't be had any more."""
        if self._keeper.has_copy:
            self._keeper.tell_delivered()
        else:
            self._ask_leave(term)
        self._counts = self._keeper.journal.counts()
        if self._keeper.journal.in_memory:  # what waits to be sent is on the disk, and at the copy
            log.error("the journal's disk can't be used: %s", self._keeper.journal.problem)
            self._keeper.step_down()

    def _say_what_changed(self, publisher: Publisher) -> None:
        if unknown := self._voices.newly_silent(time.monotonic()):
            for state in unknown:
                publisher.set_level(f"state/{state.zone}", state.model_dump_json(by_alias=True))
            self._tell_health(publisher)
        if (problem := self._problem()) != self._problem_told:
            self._problem_told = problem
            publisher.announce(status_of(self._config.site, "online", self._keeper.journal.id, problem))

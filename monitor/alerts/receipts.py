"""What brokers said of our messages: written into the journal, or remembered while that fails; told where it is bad."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from adapters.errors import StoreError
from monitor.alerts.journal import Journal, Outgoing

log = logging.getLogger(__name__)

CAREFUL_MESSAGES = 20  # that go out one at a time after a refusal
RETRY_S = 2.0  # how often a disk that could not be written is tried again


class Receipts:
    """What became of the rows that were sent, over all connections; used by the publisher's thread alone."""

    def __init__(self, journal: Journal, now: Callable[[], float] = time.monotonic) -> None:
        self._journal, self._now = journal, now
        self._unwritten: dict[tuple[str, int], str | None] = {}  # journal, number -> why refused; None where taken
        self._retry_at_s = 0.0
        self._disk_problem = ""
        self._levels: dict[str, str] = {}  # topics whose newest level the broker refused, and why
        self._level_problem = ""
        self._careful = 0  # how many messages still go out one at a time
        self._last_refusal = ""
        self.recount()

    @property
    def problem(self) -> str:
        """What an operator must know; empty while all is well. May be read from any thread."""
        return "; ".join(filter(None, (self._disk_problem, self._parked_problem, self._level_problem)))

    def recount(self) -> None:
        """Count what is set aside, as the journal in use has it."""
        self._counted_in, (_, parked) = self._journal.id, self._journal.counts()
        last = f"; the last one: {self._last_refusal}" if self._last_refusal else ""
        self._parked_problem = f"{parked} events are set aside, the broker refused them{last}" if parked else ""

    @property
    def careful(self) -> bool:
        """Whether messages go out one at a time, so that it shows which of them the broker does not take."""
        return self._careful > 0

    def be_careful(self) -> None:
        """Send one at a time, until some have their receipts."""
        self._careful = CAREFUL_MESSAGES

    def taken(self, row: Outgoing) -> None:
        """Note that the broker has a row."""
        self._careful = max(0, self._careful - 1)
        self._settle(row, None)

    def level_taken(self, topic: str) -> None:
        """Note that the broker has the newest level of a topic."""
        if self._levels.pop(topic, None) is not None:
            log.warning("%s: the broker takes it again", topic)
            self._tell_levels()

    def level_refused(self, topic: str, why: str) -> None:
        """Note that the broker does not take a level; the next one comes by itself."""
        if self._levels.get(topic) != why:
            log.error("%s: the broker refuses it (%s)", topic, why)
        self._levels[topic] = why
        self._tell_levels()

    def _tell_levels(self) -> None:
        """Say which were refused, the newest last; those that come again every few seconds keep their place."""
        newest = [f"{topic} ({why})" for topic, why in self._levels.items()][-1:]
        others = f" and {len(self._levels) - 1} more levels" if len(self._levels) > 1 else ""
        self._level_problem = f"the broker refuses {newest[0]}{others}" if newest else ""

    def refused(self, row: Outgoing, why: str) -> None:
        """Set aside a row that the broker will never take, so that it does not block the others."""
        log.error(
            "event %d: the broker refuses it (%s); set aside. After the remedy: wildlane alerts replay %d %d",
            row.seq, why, row.seq, row.seq,
        )  # fmt: skip
        self._settle(row, why)
        self._last_refusal = why
        self.recount()

    def unsent(self, after: Outgoing | None, limit: int) -> list[Outgoing]:
        """Return the oldest rows of the journal that no broker has taken, beyond one that was sent."""
        rows = self._journal.unsent(after, limit + len(self._unwritten)) if limit > 0 else []
        return [row for row in rows if (row.journal, row.seq) not in self._unwritten][:limit]

    def _settle(self, row: Outgoing, why: str | None) -> None:
        if not self._unwritten:  # else it is not worth trying yet
            try:
                self._write(row.journal, row.seq, why)
            except StoreError as error:
                self._disk_problem = f"the broker's receipts can't be written, after a restart events repeat: {error}"
                self._retry_at_s = self._now() + RETRY_S
                log.error("%s", self._disk_problem)  # noqa: TRY400  # one line: the cause is in it
            else:
                return
        self._unwritten[row.journal, row.seq] = why

    def _write(self, journal: str, seq: int, why: str | None) -> bool:
        """Write a fate down; False where another journal is in use by now."""
        return self._journal.mark_acked(journal, seq) if why is None else self._journal.park(journal, seq, why)

    def keep_up(self) -> None:
        """Follow the journal to memory and back, where its disk is full; to be called now and then."""
        if self._counted_in != self._journal.id:
            self.recount()
        self._write_what_waits()

    def _write_what_waits(self) -> None:
        if not self._disk_problem or self._now() < self._retry_at_s:
            return
        self._retry_at_s = self._now() + RETRY_S
        try:
            for (journal, seq), why in list(self._unwritten.items()):
                if self._write(journal, seq, why):  # else the journal lives in memory; this one's file comes back
                    del self._unwritten[journal, seq]
            if self._unwritten:
                return
            self.recount()  # first: another thread that reads `problem` must not find it empty between the two
        except StoreError:
            return
        self._disk_problem = ""
        log.warning("the broker's receipts can be written again")

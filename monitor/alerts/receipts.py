"""What brokers said of our messages: written into the journal, and remembered while its disk can't be written."""

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
        self._careful = 0  # how many messages still go out one at a time

    @property
    def problem(self) -> str:
        """What an operator must know; empty while all is well."""
        return self._disk_problem

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

    def level_refused(self, topic: str, why: str) -> None:
        """Note that the broker does not take a level; the next one comes by itself."""
        if self._levels.pop(topic, "") != why:
            log.error("%s: the broker refuses it (%s)", topic, why)
        self._levels[topic] = why  # the newest is last

    def refused(self, row: Outgoing, why: str) -> None:
        """Set aside a row that the broker will never take, so that it does not block the others."""
        log.error(
            "event %d: the broker refuses it (%s); set aside. After the remedy: wildlane alerts replay %d %d",
            row.seq, why, row.seq, row.seq,
        )  # fmt: skip
        self._settle(row, why)

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

    def write(self) -> None:
        """Write down what could not be written before, where the disk has room again; to be called now and then."""
        if not self._unwritten or self._now() < self._retry_at_s:
            return
        self._retry_at_s = self._now() + RETRY_S
        try:
            for (journal, seq), why in list(self._unwritten.items()):
                if self._write(journal, seq, why):  # else the journal lives in memory; this one's file comes back
                    del self._unwritten[journal, seq]
        except StoreError:
            return
        if not self._unwritten:
            self._disk_problem = ""
            log.warning("the broker's receipts can be written again")

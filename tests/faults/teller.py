"""A site without cameras: commits situations to a journal and publishes them, until it has told all or is killed.

    python -m tests.faults.teller STATE_FOLDER BROKER_PORT LIVES PAUSE_S

Each life is a start and an end. Run again on the same folder it first ends what the killed run left open, as the daemon
does, then goes on. When all is told it stays a while, so that consumers can ask for what they missed.

`CRASH_AT`, such as `after COMMIT 7`, arms a crash point: at the seventh time the process kills itself with SIGKILL
right after that statement, or that call of the publisher.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from monitor.alerts.journal import Journal
from monitor.alerts.mqtt import Publisher
from monitor.alerts.schema import ClockPart, SiteHealth
from monitor.alerts.session import Session
from tests.monitor.test_alerts import draft, one_life, publisher

HEALTH_EVERY_S = 0.5
LONGEST_S = 120.0  # to wait for the consumer's receipt


def tell_health(journal: Journal, sender: Publisher) -> None:
    unsent, parked = journal.counts()
    health = SiteHealth(
        site="test",
        time=datetime.now(UTC),
        cameras={},
        journal=journal.id,
        newest=journal.newest(),
        unsent=unsent,
        parked=parked,
        class_set="cs-1",
        provider="none",
        clock=ClockPart(synced=False, source="system", error_ms=None),
        certificates=(),
        warnings=(),
    )
    sender.set_level("health", health.model_dump_json(by_alias=True), expires_s=None, qos=0)


class CrashPoint:
    """Kills this process before or after the n-th time that something is done."""

    def __init__(self, armed: str) -> None:
        self._when, self._what, count = armed.split()
        self._left = int(count)

    def guard(self, what: str, act: Callable[..., Any]) -> Callable[..., Any]:
        def done(*arguments: Any) -> Any:  # whatever the guarded call takes and gives
            mine = what.format(*arguments).startswith(self._what)
            self._left -= mine
            if mine and self._left == 0 and self._when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = act(*arguments)
            if mine and self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return done


class GuardedDatabase:
    """A connection whose statements are crash points."""

    def __init__(self, db: sqlite3.Connection, point: CrashPoint) -> None:
        self._db = db
        self.execute = point.guard("{0}", db.execute)

    def __getattr__(self, name: str) -> Any:  # all else is the connection's
        return getattr(self._db, name)


def arm(journal: Journal, point: CrashPoint) -> None:
    journal._db = GuardedDatabase(journal._db, point)
    journal._mark.write = point.guard("MARK", journal._mark.write)
    Session.publish_event = point.guard("PUBLISH", Session.publish_event)
    Session.take_receipts = point.guard("RECEIPTS", Session.take_receipts)


def main() -> None:
    state, port, lives, pause_s = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    journal = Journal(state)
    if "CRASH_AT" in os.environ:
        arm(journal, CrashPoint(os.environ["CRASH_AT"]))
    journal.end_left_open(datetime.now(UTC))
    sender = publisher(port, journal)
    sender.start()
    health_due_s = 0.0
    for _ in range(lives):
        for situation in one_life():
            journal.append([draft(situation)])
            sender.event_committed()
            time.sleep(pause_s)
            if time.monotonic() >= health_due_s:
                health_due_s = time.monotonic() + HEALTH_EVERY_S
                tell_health(journal, sender)
    deadline = time.monotonic() + LONGEST_S
    while journal.consumers().get("drill", 0) < journal.newest() and time.monotonic() < deadline:
        tell_health(journal, sender)
        time.sleep(HEALTH_EVERY_S)
    sender.stop(1)
    journal.close()


if __name__ == "__main__":
    main()

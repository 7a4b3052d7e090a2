"""A site without cameras: commits situations to a journal and publishes them, until it has told all or is killed.

    python -m tests.faults.teller STATE_FOLDER BROKER_PORT LIVES PAUSE_S

Each life is a start and an end. Run again on the same folder it first ends what the killed run left open, as the daemon
does, then goes on. When all is told it stays a while, so that consumers can ask for what they missed.
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from monitor.alerts.journal import Journal
from monitor.alerts.mqtt import Publisher
from monitor.alerts.schema import ClockPart, SiteHealth
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
    )
    sender.set_level("health", health.model_dump_json(by_alias=True), expires_s=None, qos=0)


def main() -> None:
    state, port, lives, pause_s = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    journal = Journal(state)
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

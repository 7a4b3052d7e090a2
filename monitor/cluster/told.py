"""Alerts that the driver has not heard of, at whoever leads the journal."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import NamedTuple

from monitor.alerts.journal import Journal
from monitor.alerts.schema import Alert


class Heard(NamedTuple):
    """Up to which alert somebody has heard: its journal and its number there."""

    journal: str = ""
    seq: int = 0


class Told:
    """Alerts in the order of their numbers, until somebody has heard of them; who asks waits for no journal."""

    def __init__(self) -> None:
        """Begin with none."""
        self._waiting: list[tuple[int, str]] = []
        self._newest, self._lock = Heard(), threading.Lock()

    def begin(self, journal: Journal, heard: Heard) -> None:
        """Begin with what a journal has beyond what was heard; nothing where nobody has heard of it."""
        newest = journal.newest()
        with self._lock:
            self._waiting = journal.after(heard.seq) if heard.journal == journal.id else []
            self._newest = Heard(journal.id, newest)

    def add(self, alerts: Iterable[Alert]) -> None:
        """Add what was committed, in its order; what is asked for again is here already."""
        with self._lock:
            for alert in alerts:
                if alert.data.seq > self._newest.seq:
                    self._waiting.append((alert.data.seq, alert.json_text()))
                    self._newest = self._newest._replace(seq=alert.data.seq)

    def after(self, heard: Heard) -> tuple[tuple[str, ...], Heard]:
        """Forget what was heard; return the others as JSON, and up to where they go."""
        with self._lock:
            if heard.journal == self._newest.journal:
                self._waiting = [(seq, text) for seq, text in self._waiting if seq > heard.seq]
            return tuple(text for _, text in self._waiting), self._newest

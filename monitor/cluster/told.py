"""Alerts that the driver has not heard of, at whoever leads the journal, and at its copy, which may lead next."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import NamedTuple

from monitor.alerts.schema import Alert


class Heard(NamedTuple):
    """Up to which alert somebody has heard: its journal and its number there."""

    journal: str = ""
    seq: int = 0


class Told:
    """Alerts in the order of their numbers, until somebody has heard of them."""

    def __init__(self) -> None:
        """Begin with none."""
        self._waiting: list[tuple[int, str]] = []
        self._newest, self._lock = Heard(), threading.Lock()

    def add(self, alerts: Iterable[Alert]) -> None:
        """Add what was committed, in its order; what is asked for again is here already."""
        with self._lock:
            for alert in alerts:
                journal, seq = alert.data.journal, alert.data.seq
                if journal != self._newest.journal:
                    self._waiting.clear()
                elif seq <= self._newest.seq:
                    continue
                self._waiting.append((seq, alert.json_text()))
                self._newest = Heard(journal, seq)

    def after(self, heard: Heard) -> tuple[tuple[str, ...], Heard]:
        """Forget what was heard; return the others as JSON, and up to where they go."""
        with self._lock:
            if heard.journal == self._newest.journal:
                self._waiting = [(seq, text) for seq, text in self._waiting if seq > heard.seq]
            return tuple(text for _, text in self._waiting), self._newest

"""Prove from the sequence that nothing is missing: what a control centre received, or what a site's journal holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from monitor.alerts.schema import Alert


@dataclass(frozen=True)
class Extent:
    """Which numbers of a journal should be there.

    Attributes:
        journal: its id.
        after: the first is beyond this one; None where nobody knows.
        newest: the last one.
    """

    journal: str
    after: int | None
    newest: int


@dataclass
class Verdict:
    """What the events of one journal prove.

    Attributes:
        journal: its id; a new one means that an old one was lost.
        first, last: lowest and highest number.
        events: how many different ones.
        missing: ranges of numbers that are not there, both ends included.
        repeats: events that came again, which is allowed.
        changed: numbers under which different events came, which is not.
        late: events that came for the first time after a later one.
        without_start, without_end: situations that lack one; the newest may still last.
    """

    journal: str
    first: int = 0
    last: int = 0
    events: int = 0
    missing: list[tuple[int, int]] = field(default_factory=list)
    repeats: int = 0
    changed: list[int] = field(default_factory=list)
    late: int = 0
    without_start: list[str] = field(default_factory=list)
    without_end: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every event is there, once or more, and the same each time."""
        return not self.missing and not self.changed

    def answer(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {**asdict(self), "complete": self.complete}


def verify(alerts: Iterable[Alert]) -> list[Verdict]:
    """Judge events in the order in which they came; one verdict a journal."""
    by_journal: dict[str, list[Alert]] = {}
    for alert in alerts:
        by_journal.setdefault(alert.data.journal, []).append(alert)
    return [_judge(journal, came) for journal, came in by_journal.items()]


def _judge(journal: str, came: list[Alert]) -> Verdict:
    verdict, seen, highest = Verdict(journal), dict[int, Alert](), 0
    for alert in came:
        seq = alert.data.seq
        if seq in seen:
            verdict.repeats += 1
            if seen[seq] != alert:
                verdict.changed.append(seq)
            continue
        verdict.late += seq < highest
        seen[seq], highest = alert, max(highest, seq)
    numbers = sorted(seen)
    verdict.events, verdict.first, verdict.last = len(numbers), numbers[0], numbers[-1]
    verdict.missing = [(a + 1, b - 1) for a, b in pairwise(numbers) if b > a + 1]
    phases: dict[str, set[str]] = {}
    for number in numbers:
        situation = seen[number].data.situation
        phases.setdefault(situation.id, set()).add(situation.phase)
    verdict.without_start = [name for name, found in phases.items() if "start" not in found]
    verdict.without_end = [name for name, found in phases.items() if "end" not in found]
    return verdict

"""Prove from the sequence that nothing is missing: what a control centre received, or what a site's journal holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from monitor.alerts.schema import Alert, SituationPart


@dataclass(frozen=True)
class Extent:
    """Which numbers of a journal should be there.

    Attributes:
        journal: its id.
        after: the first is beyond this one; None where nobody knows: then the first that came is the first.
        newest: the last one; None where nobody knows.
    """

    journal: str
    after: int | None = None
    newest: int | None = None


@dataclass
class Verdict:
    """What the events of one journal prove.

    Attributes:
        journal: its id; a new one means that an old one was lost.
        first, last: lowest and highest number.
        newest: the number that the last one should have; None where nobody said, so that a lost end does not show.
        events: how many different ones.
        missing: ranges of numbers that are not there, both ends included.
        repeats: events that came again, which is allowed.
        changed: numbers under which different events came, which is not.
        late: events that came for the first time after a later one.
        without_start, without_end: situations that lack one; the newest may still last.
        broken: situations whose versions do not count up by one from the first that is there, or that start or end
            more than once.
    """

    journal: str
    first: int = 0
    last: int = 0
    newest: int | None = None
    events: int = 0
    missing: list[tuple[int, int]] = field(default_factory=list)
    repeats: int = 0
    changed: list[int] = field(default_factory=list)
    late: int = 0
    without_start: list[str] = field(default_factory=list)
    without_end: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every event is there, once or more, and the same each time, and so is every version."""
        return not self.missing and not self.changed and not self.broken

    def answer(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {**asdict(self), "complete": self.complete}


def verify(alerts: Iterable[Alert], extent: Extent | None = None) -> list[Verdict]:
    """Judge events in the order in which they came; one verdict a journal.

    Args:
        alerts: what came.
        extent: what should have come, of the journal that it names.
    """
    by_journal: dict[str, list[Alert]] = {}
    for alert in alerts:
        by_journal.setdefault(alert.data.journal, []).append(alert)
    if extent is not None:
        by_journal.setdefault(extent.journal, [])
    # A situation lives on while its site changes journals, as it does where the disk is full.
    broken = _broken(alert for came in by_journal.values() for alert in _within(came, extent))
    verdicts = []
    for journal, came in by_journal.items():
        verdict = _judge(came, extent if extent is not None and extent.journal == journal else Extent(journal))
        verdict.broken = sorted(broken & {alert.data.situation.id for alert in came})
        verdicts.append(verdict)
    return verdicts


def _judge(came: list[Alert], extent: Extent) -> Verdict:
    verdict, seen, highest = Verdict(extent.journal, newest=extent.newest), dict[int, Alert](), 0
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
    verdict.events = len(numbers)
    verdict.first, verdict.last = (numbers[0], numbers[-1]) if numbers else (0, 0)
    verdict.missing = _gaps(numbers, extent)
    phases: dict[str, set[str]] = {}
    for number in numbers:
        situation = seen[number].data.situation
        phases.setdefault(situation.id, set()).add(situation.phase)
    verdict.without_start = [name for name, found in phases.items() if "start" not in found]
    verdict.without_end = [name for name, found in phases.items() if "end" not in found]
    return verdict


def _gaps(numbers: list[int], extent: Extent) -> list[tuple[int, int]]:
    """Return the ranges of an extent that are not among sorted numbers."""
    first = numbers[0] if numbers else 1
    after = first - 1 if extent.after is None else extent.after
    end = max([extent.newest or 0, *numbers[-1:]]) + 1
    held = [after, *(number for number in numbers if number > after), end]
    return [(a + 1, b - 1) for a, b in pairwise(held) if b > a + 1]


def _within(came: list[Alert], extent: Extent | None) -> list[Alert]:
    """Leave out what is older than the extent: of that only remains are there."""
    if extent is None or extent.after is None:
        return came
    return [alert for alert in came if alert.data.journal != extent.journal or alert.data.seq > extent.after]


def _broken(alerts: Iterable[Alert]) -> set[str]:
    lives: dict[str, dict[tuple[str, int], SituationPart]] = {}
    for alert in alerts:
        lives.setdefault(alert.data.situation.id, {})[alert.data.journal, alert.data.seq] = alert.data.situation
    return {name for name, life in lives.items() if not _is_whole(sorted(life.values(), key=lambda part: part.version))}


def _is_whole(life: Sequence[SituationPart]) -> bool:
    counted = all(b.version == a.version + 1 for a, b in pairwise(life))
    starts_once = all((part.phase == "start") == (part.version == 1) for part in life)
    return counted and starts_once and all(part.phase != "end" for part in life[:-1])

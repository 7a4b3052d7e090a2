"""What has happened: the situations that the journal still holds, searched, counted, and as CSV."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from monitor.alerts.schema import Alert, utc_text

COLUMNS = (
    "situation", "class", "size", "zone", "cameras", "started", "ended", "end_reason", "count", "probability",
    "p_animal", "confirmed_by", "mode", "versions",
)  # fmt: skip
HOURS = 24
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a spreadsheet knows one
_TITLES: dict[str, object] = {name: name for name in COLUMNS}


@dataclass(frozen=True)
class Past:
    """A situation as its newest event tells of it, and how many events there are."""

    newest: Alert
    versions: int

    @property
    def id(self) -> str:
        """The situation's id."""
        return self.newest.data.situation.id

    def row(self) -> dict[str, object]:
        """Return it as a line of the CSV, and as what a search looks at."""
        data = self.newest.data
        situation, animal = data.situation, data.animal
        values = (
            situation.id,
            animal.class_,
            animal.size,
            data.where.zone.id,
            " ".join(data.where.cameras),
            utc_text(situation.first_observed),
            "" if situation.ended is None else utc_text(situation.ended),
            situation.end_reason or "",
            animal.count,
            round(data.certainty.probability, 3),
            round(data.recognition.p_animal, 3),
            data.certainty.confirmed_by or "",
            data.mode,
            self.versions,
        )
        return dict(zip(COLUMNS, values, strict=True))


def situations(events: Iterable[Alert], words: str = "", names: Mapping[str, str] = MappingProxyType({})) -> list[Past]:
    """Return the situations of a journal, newest first.

    Args:
        events: what the journal holds.
        words: what each must hold, every one of them.
        names: what people call a class, by class; it is searched too.
    """
    newest: dict[str, Alert] = {}
    versions: Counter[str] = Counter()
    for event in events:
        newest[event.data.situation.id] = event
        versions[event.data.situation.id] += 1
    found = [Past(event, versions[name]) for name, event in newest.items()]
    wanted = words.casefold().split()
    chosen = [past for past in found if all(word in _text(past, names) for word in wanted)]
    return sorted(chosen, key=lambda past: past.newest.data.situation.first_observed, reverse=True)


def _text(past: Past, names: Mapping[str, str]) -> str:
    row = past.row()
    return " ".join(map(str, (*row.values(), names.get(str(row["class"]), "")))).casefold()


def as_csv(found: Sequence[Past]) -> Iterator[str]:
    """Yield the lines of a table. What a spreadsheet would take for a formula is quoted away."""
    for row in (_TITLES, *(past.row() for past in found)):
        line = io.StringIO()
        csv.writer(line).writerow([f"'{value}" if str(value).startswith(FORMULA) else value for value in row.values()])
        yield line.getvalue()


def by_class(found: Sequence[Past]) -> list[tuple[str, int]]:
    """Return how many situations there were of each class, the most frequent first."""
    return Counter(past.newest.data.animal.class_ for past in found).most_common()


def begun(found: Sequence[Past]) -> list[int]:
    """Return when each situation began, in seconds since 1970."""
    return [int(past.newest.data.situation.first_observed.timestamp()) for past in found]


def by_hour(found: Sequence[Past]) -> list[int]:
    """Return how many situations began in each hour of the day, UTC."""
    hours = Counter(past.newest.data.situation.first_observed.hour for past in found)
    return [hours[hour] for hour in range(HOURS)]

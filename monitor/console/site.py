"""What the pages may ask of the running program."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from adapters.classes import ClassAttributes, VersionRecord
from adapters.teaching import Crop, Lesson
from monitor.alerts.schema import Alert
from monitor.console.board import Board

Teach = Callable[[ClassAttributes, Sequence[str], Sequence[Crop]], Lesson]


@dataclass(frozen=True, kw_only=True)
class Site:
    """The program as the pages know it; every call is safe from any thread.

    Attributes:
        name: of the site.
        board: what the main loop leaves.
        known: the classes of the active version.
        teach: teaches a class from labelled crops; the new version is live within a second.
        versions: what was taught, oldest first.
        rollback: makes a version the active one, and returns its name.
        order: tells the main loop to confirm or dismiss a situation, or to rehearse an alert of a zone.
        history: every event that the journal still holds, in order.
        snapshot: how the animal of a situation looked, a JPEG; None where no picture is kept.
        heat: where the classifier looked in such a picture, as a PNG to lay over it; by class.
    """

    name: str
    board: Board
    known: Callable[[], Sequence[ClassAttributes]]
    teach: Teach
    versions: Callable[[], Sequence[VersionRecord]]
    rollback: Callable[[str], str]
    order: Callable[[Literal["confirm", "dismiss", "test-alert"], str, str], None]
    history: Callable[[], Iterable[Alert]]
    snapshot: Callable[[str], bytes | None]
    heat: Callable[[bytes, str], bytes | None]

"""What the pages may ask of the running program."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from adapters.classes import ClassAttributes, VersionRecord
from adapters.crops import LabelledCrop
from adapters.frames import Crop
from adapters.golden import GoldenSet
from adapters.teaching import Lesson, Refutation, Removal
from monitor.alerts.schema import Alert, SiteHealth
from monitor.cameras.trial import FirstPicture
from monitor.config import Config, ZoneConfig
from monitor.console.board import Board
from monitor.console.recordings import Recordings
from monitor.shadow import Shadow
from monitor.strict import Shapes

ASKED_EVERY_S = 0.05


class Teach(Protocol):
    """Teaches a class from labelled crops; `live` tells whether the new version is to be in force at once."""

    def __call__(
        self, attributes: ClassAttributes, names: Sequence[str], crops: Sequence[Crop], *, live: bool
    ) -> Lesson:
        """See `adapters.teaching.teach`."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """The program as the pages know it; every call is safe from any thread.

    Attributes:
        name: of the site.
        board: what the main loop leaves.
        known: the classes of the active version.
        names: by class, what people read in its place; of the classes that the main loop knows.
        call: makes a version the active one in which people read a class so, or by its own name; returns its name.
        teach: teaches a class from labelled crops; the new version is live within a second, where it is to be and no
            checked frame speaks against it.
        refute: says what crops are not: a class, or any animal at all under `none`; live as `teach` is.
        refuted: (crop, source, created) of what was said so in the active version, by what it is not.
        take_back: makes a version without one of those crops the active one, and returns its name.
        recordings: clips to label.
        golden: the frames that every new version is tried on, to look at; `check` adds some under a label, `uncheck`
            takes one out.
        report: what is kept of each class, and how good it is; slow where the active version is a new one.
        crop: the picture of a taught frame, a PNG, by its name.
        remove: makes a version without a taught frame of a class the active one, where no checked frame speaks against.
        forget: erases a class from every version, with its pictures and checked frames; returns the version's name.
        versions: what was taught, oldest first.
        rollback: makes a version the active one, and returns its name.
        order: tells the main loop to confirm or dismiss a situation, or to rehearse an alert of a zone.
        try_out: lets a version run beside the live one; an empty name ends that.
        shadow: the version that runs beside the live one.
        config: as it is in force now.
        look: opens an address for a camera of a name and returns what it shows; slow.
        add_camera: writes a camera of a name and address to the configuration, which the main loop then reads again.
        remove_camera: takes one out.
        draw: writes the masks and zones of a camera there.
        health: of the site, as it was told last.
        consumers: up to which event each consumer has everything.
        history: every event that the journal still holds, in order.
        snapshot: how the animal of a situation looked, a JPEG; None where no picture is kept.
        heat: where the classifier looked in such a picture, as a PNG to lay over it; by class.
    """

    name: str
    board: Board
    known: Callable[[], Sequence[ClassAttributes]]
    names: Callable[[], Mapping[str, str]]
    call: Callable[[str, str | None], str]
    teach: Teach
    refute: Callable[[str, Sequence[str], Sequence[Crop]], Refutation]
    refuted: Callable[[], Mapping[str, Sequence[tuple[str, str, str]]]]
    take_back: Callable[[str], str]
    recordings: Recordings
    golden: GoldenSet
    check: Callable[[str, Sequence[tuple[str, LabelledCrop]]], int]
    uncheck: Callable[[str], None]
    report: Callable[[], list[dict[str, Any]]]
    crop: Callable[[str], bytes | None]
    remove: Callable[[str, str], Removal]
    forget: Callable[[str], str]
    versions: Callable[[], Sequence[VersionRecord]]
    rollback: Callable[[str], str]
    order: Callable[[Literal["confirm", "dismiss", "test-alert"], str, str], None]
    try_out: Callable[[str], None]
    shadow: Callable[[], Shadow | None]
    config: Callable[[], Config]
    look: Callable[[str, str], FirstPicture]
    add_camera: Callable[[str, str], None]
    remove_camera: Callable[[str], None]
    draw: Callable[[str, Shapes, Sequence[ZoneConfig]], None]
    health: Callable[[], SiteHealth | None]
    consumers: Callable[[], Mapping[str, int]]
    history: Callable[[], Iterable[Alert]]
    snapshot: Callable[[str], bytes | None]
    heat: Callable[[bytes, str], bytes | None]


def comes(true: Callable[[], bool], within_s: float) -> bool:
    """Wait until the main loop has taken something up, and tell whether it has."""
    until_s = time.monotonic() + within_s
    while not true():
        if time.monotonic() > until_s:
            return False
        time.sleep(ASKED_EVERY_S)
    return True

"""A site's first day: recordings on which no animal passes teach it what its background is, and what no animal is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from adapters.class_set import ClassSetStore
from adapters.classes import ClassSet
from adapters.classifier import NONE, Classifier
from adapters.crops import LabelledCrop
from adapters.errors import TeachError
from adapters.golden import GoldenSet
from adapters.site_knowledge import Background
from adapters.teaching import refute
from adapters.workers import Say
from monitor.pipeline import Learn, Outcome, Pipeline
from monitor.policy import Phase
from monitor.replay import recording, replay
from monitor.stills import cut
from monitor.values import Frame


@dataclass(frozen=True)
class Site:
    """What is calibrated: the state folder's stores, and a maker of pipelines for a class set, one a recording."""

    classifier: Classifier
    store: ClassSetStore
    golden: GoldenSet
    background: Background
    build: Callable[[ClassSet, Learn], Callable[[str], Pipeline]]


@dataclass(frozen=True)
class FalseAlarm:
    """A situation on a recording without animals: the file, the second, and what it was taken for."""

    clip: str
    at_s: float
    label: str
    probability: float

    @property
    def name(self) -> str:
        """What its crop is called."""
        return f"{self.clip} at {self.at_s:.1f} s"


@dataclass(kw_only=True)
class Calibration:
    """What came of it.

    Attributes:
        hours: of the recordings.
        kinds: of background crops that were learned; 0 where too little was seen to learn from.
        before, after: the false alarms as it was, and with what was learned.
        said: how many of their crops were told to be no animal.
        refused: the others, and why.
        version: of the class set that knows it; None where there was nothing to tell.
        held_back: why that version is not live, where it is not.
    """

    hours: float
    kinds: int
    before: list[FalseAlarm]
    after: list[FalseAlarm] = field(default_factory=list)
    said: int = 0
    refused: list[dict[str, str]] = field(default_factory=list)
    version: str | None = None
    held_back: str | None = None

    def answer(self) -> dict[str, Any]:
        """Return it as programs read it."""
        return asdict(self) | {"hours": round(self.hours, 4)}


def calibrate(clips: Sequence[Path], site: Site, analysis_rate_hz: float, progress: Say) -> Calibration:
    """Learn the background of recordings, tell what was taken for an animal on them to be none, and look again.

    Args:
        clips: recordings on which no animal is seen; who gives one with an animal teaches that it is none.
        site: what learns.
        analysis_rate_hz: of the cameras.
        progress: told what is being done.

    Raises:
        CameraError: a recording can't be read to its end; nothing was taught.
        StoreError: it can't be kept.
    """
    first = _Round(site, site.store.load(site.classifier), analysis_rate_hz, site.background.offer)
    first.watch(clips, progress)
    progress("learning")
    told = Calibration(hours=first.seconds / 3600, kinds=site.background.learn(), before=first.alarms)
    _tell_no_animals(first, site, told)
    second = _Round(site, site.store.load(site.classifier), analysis_rate_hz, lambda features, answers: None)
    second.watch(clips, progress)
    told.after = second.alarms
    return told


def _tell_no_animals(seen: _Round, site: Site, told: Calibration) -> None:
    if not seen.crops:
        return
    names = [alarm.name for alarm in seen.alarms]
    try:
        word = refute(site.store, site.classifier, NONE, names, seen.crops, checked_on=site.golden)
    except TeachError as error:  # all of them were taught as animals, or are known: no reason to lose the rest
        told.refused = [{"image": name, "why": str(error)} for name in names]
        return
    told.said, told.refused = word.used, word.refused
    told.version, told.held_back = word.version, word.held_back


class _Round:
    """The recordings, seen once with a class set."""

    def __init__(self, site: Site, class_set: ClassSet, analysis_rate_hz: float, learn: Learn) -> None:
        self._build, self._rate_hz = site.build(class_set, learn), analysis_rate_hz
        self.seconds = 0.0
        self.alarms: list[FalseAlarm] = []
        self.crops: list[LabelledCrop] = []

    def watch(self, clips: Sequence[Path], progress: Say) -> None:
        for clip in clips:
            progress(clip.name)

            def note(frame: Frame, outcome: Outcome, name: str = clip.name) -> None:
                self._note(name, frame, outcome)

            done = replay(recording(clip, self._rate_hz), self._build, watch=note)
            self.seconds += done.frames / done.fps

    def _note(self, clip: str, frame: Frame, outcome: Outcome) -> None:
        for situation in outcome.told:
            if situation.phase is Phase.START:
                seen, at_s = situation.newest, round(frame.time_s, 2)
                alarm = FalseAlarm(clip, at_s, situation.label, round(seen.probability, 3))
                region = (seen.box.x1, seen.box.y1, seen.box.width, seen.box.height)
                self.alarms.append(alarm)
                self.crops.append(cut(frame.image.copy(), region, alarm.name))

"""Draws what the pipeline saw onto its frames, as a video that a person can look at."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from adapters.errors import InputError
from monitor.cameras.stream import Opened, Source, read_recording
from monitor.pipeline import Outcome
from monitor.values import Box, Frame, Sighting

ALERT, ANIMAL, OTHER = (40, 40, 230), (40, 200, 250), (160, 160, 160)  # BGR
FONT = cv2.FONT_HERSHEY_SIMPLEX
P_DRAWN = 0.5


@dataclass
class Recorder:
    """Remembers the sightings of a run, to be drawn afterwards over every frame, analysed or not."""

    times_s: list[float] = field(default_factory=list)
    seen: list[list[Sighting]] = field(default_factory=list)
    situations: list[tuple[float, str]] = field(default_factory=list)

    def watch(self, frame: Frame, outcome: Outcome) -> None:
        """Take in one analysed frame; give it to the pipeline's `watch`."""
        self.times_s.append(frame.index)
        self.seen.append(list(outcome.sightings))
        self.situations += [
            (frame.index, f"{told.phase.value}: {told.label} {told.best.probability:.2f}") for told in outcome.told
        ]

    def at(self, index: int) -> list[tuple[Sighting, Box]]:
        """Return the sightings around a frame, each with its box slid to where it is between two analysed frames."""
        after = bisect_right(self.times_s, index)
        if after == 0:
            return []
        if after == len(self.times_s):
            return [(sighting, sighting.box) for sighting in self.seen[-1]]
        share = (index - self.times_s[after - 1]) / (self.times_s[after] - self.times_s[after - 1])
        later = {sighting.track: sighting.box for sighting in self.seen[after]}
        return [
            (sighting, _between(sighting.box, later.get(sighting.track, sighting.box), share))
            for sighting in self.seen[after - 1]
        ]

    def headline(self, index: int) -> str:
        """Return the newest alert as of a frame."""
        told = [text for when, text in self.situations if when <= index]
        return told[-1] if told else "no alert yet"


def draw_video(clip: Path, recorder: Recorder, out: Path) -> None:
    """Write the clip with boxes, names and alerts.

    Raises:
        InputError: the clip can't be read again, or the video can't be written.
    """
    writer = None
    try:
        for event in read_recording(Source(name="drawing", url=str(clip), analysis_rate_hz=240.0)):
            if isinstance(event, Opened):
                writer = _writer(out, event)
            elif isinstance(event, Frame):
                assert writer is not None  # a decoder tells "opened" before its first frame
                writer.write(draw(event.image, recorder.at(event.index), recorder.headline(event.index)))
    finally:
        if writer is not None:
            writer.release()


def _writer(out: Path, opened: Opened) -> cv2.VideoWriter:
    out.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(out), cv2.VideoWriter.fourcc(*"mp4v"), opened.fps, opened.size)
    if not writer.isOpened():
        raise InputError(f"{out}: the video can't be written")
    return writer


def draw(image: NDArray[np.uint8], seen: Sequence[tuple[Sighting, Box]], headline: str) -> NDArray[np.uint8]:
    """Return a copy of the picture with a box and a name for each sighting, and a line of text."""
    canvas = image.copy()
    for sighting, box in seen:
        animal = sighting.p_animal >= P_DRAWN
        colour = OTHER if not animal else ALERT if sighting.looks > 3 else ANIMAL  # the policy's confirmation, roughly
        corner, opposite = (round(box.x1), round(box.y1)), (round(box.x2), round(box.y2))
        cv2.rectangle(canvas, corner, opposite, colour, 2 if animal else 1)
        if animal:
            _label(canvas, f"{sighting.label} {sighting.probability:.2f}", (corner[0], max(12, corner[1] - 5)), colour)
    _label(canvas, headline, (8, canvas.shape[0] - 10), (255, 255, 255))
    return canvas


def _label(canvas: NDArray[np.uint8], text: str, at: tuple[int, int], colour: tuple[int, int, int]) -> None:
    cv2.putText(canvas, text, at, FONT, 0.45, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(canvas, text, at, FONT, 0.45, colour, 1, cv2.LINE_AA)


def _between(a: Box, b: Box, share: float) -> Box:
    return Box(*(x + share * (y - x) for x, y in zip(a, b, strict=True)))

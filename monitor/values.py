"""The values that flow through the daemon: frozen, without I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Light = Literal["day", "dark", "infra-red"]  # of a picture: as a camera delivers it, not as the sun stands

Polygon = tuple[tuple[float, float], ...]  # corners: x and y in pixels

# of a camera's picture, or of its time
Fault = Literal["frozen", "dark", "overexposed", "covered", "moved", "defocused", "clock"]
# how long each must last before it is told, in seconds
FAULT_TIMES_S: Mapping[Fault, float] = {
    "frozen": 6.0,
    "dark": 5.0,
    "overexposed": 5.0,
    "covered": 5.0,
    "moved": 8.0,
    "defocused": 20.0,
    "clock": 5.0,
}

STALLED_S = 5.0  # for so long an open stream may give no frame,
WRONG_RATE_S = 10.0  # and over so long frames are counted, and too few told of


class Box(NamedTuple):
    """An axis-aligned box, `xyxy`, in pixels of the frame."""

    x1: float
    y1: float
    x2: float
    y2: float

    @property
    def width(self) -> float:
        return self.x2 - self.x1

    @property
    def height(self) -> float:
        return self.y2 - self.y1

    @property
    def area(self) -> float:
        return max(0.0, self.width) * max(0.0, self.height)

    @property
    def center(self) -> tuple[float, float]:
        return (self.x1 + self.x2) / 2, (self.y1 + self.y2) / 2

    @property
    def foot(self) -> tuple[float, float]:
        """The middle of the lower edge: where the animal touches the ground."""
        return (self.x1 + self.x2) / 2, self.y2

    def clipped(self, size: tuple[int, int]) -> Box:
        """Return the part inside a frame of `size` = (width, height)."""
        return Box(max(0.0, self.x1), max(0.0, self.y1), min(float(size[0]), self.x2), min(float(size[1]), self.y2))

    def overlap(self, other: Box) -> float:
        """Return the area shared with another box, in square pixels."""
        return Box(max(self.x1, other.x1), max(self.y1, other.y1), min(self.x2, other.x2), min(self.y2, other.y2)).area

    def iou(self, other: Box) -> float:
        """Return intersection over union, 0 to 1."""
        shared = self.overlap(other)
        union = self.area + other.area - shared
        return shared / union if union > 0 else 0.0


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A decoded picture of a camera.

    Attributes:
        camera: its name.
        index: number of the frame in the stream, from 0.
        time_s: seconds since the stream began; a recording's own time.
        captured_s: wall time of the capture, seconds since 1970.
        image: uint8 (height, width, 3), BGR; shared memory, valid until the frame is released.
        slot: which part of the shared memory.
        moving: boxes around what moves, largest first.
        fault: why the picture can't be watched, None where it can.
        dropped: due frames of the stream so far that nobody took in time.
        stage_s: seconds of the decoder's stages since the frame before it.
    """

    camera: str
    index: int
    time_s: float
    captured_s: float
    image: NDArray[np.uint8]
    slot: int
    moving: tuple[Box, ...]
    fault: Fault | None = None
    dropped: int = 0
    stage_s: Mapping[str, float] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.image.shape[1], self.image.shape[0]


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """What is known of one track after a frame in which it was seen.

    Attributes:
        camera, track: which track of which camera.
        box: where it is, in pixels.
        first_seen_s, seen_s: on the clock of the run, in seconds.
        age_s: how old the frame of the last sighting was when it was looked at.
        looks: crops that the classifier has judged.
        label: a taught class or `unknown-animal`, whatever `p_animal` says.
        probability: how sure the label is, 0 to 1; never more than `p_animal`.
        p_animal: probability that it is an animal at all.
        weights: N(x) over the track; the weights of the taught classes and of `none` sum to 1.
        similarity_m: likeness to the knowledge base, a cosine.
        velocity_px_s: smoothed, in pixels a second.
        travelled: farthest from where the track began, in multiples of its size; what never moved may be scenery.
        at_edge: the box touches the border of the picture: it is coming, or leaving.
        light: of the picture it was seen in.
    """

    camera: str
    track: int
    box: Box
    first_seen_s: float
    seen_s: float
    age_s: float
    looks: int
    label: str
    probability: float
    p_animal: float
    weights: dict[str, float]
    similarity_m: float
    velocity_px_s: tuple[float, float]
    travelled: float
    at_edge: bool
    light: Light

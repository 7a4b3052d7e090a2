"""A frame as the pages show it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from monitor.values import Frame, Sighting


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A frame of a camera as JPEG, and what was seen in it.

    Attributes:
        number: of the frame in its stream; with the camera's name it finds the picture again.
        at: seconds since 1970, when it was captured; of a recording, seconds since its begin.
        size: (width, height) of the camera's own picture, in pixels; sightings are in those.
        jpeg: the live picture is smaller than that.
    """

    camera: str
    number: int
    at: float
    size: tuple[int, int]
    jpeg: bytes
    sightings: tuple[Sighting, ...]

    @classmethod
    def of(
        cls,
        frame: Frame,
        image: NDArray[np.uint8],
        *,
        at: float,
        quality: int,
        sightings: tuple[Sighting, ...] = (),
    ) -> Picture:
        """Return a frame shown by an image of any size, uint8 (height, width, 3), BGR."""
        _, coded = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, quality))
        return cls(
            camera=frame.camera,
            number=frame.index,
            at=at,
            size=frame.size,
            jpeg=coded.tobytes(),
            sightings=sightings,
        )

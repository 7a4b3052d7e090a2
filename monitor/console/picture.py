"""A frame as the pages show it."""

from __future__ import annotations

from dataclasses import dataclass

from monitor.values import Sighting


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

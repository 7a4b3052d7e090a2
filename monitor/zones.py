"""Places in the picture: which zone a box stands in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from monitor.values import Box, Polygon

WHOLE_VIEW = "whole-view"


@dataclass(frozen=True, kw_only=True)
class Zone:
    """A part of the road that is warned for as one.

    Attributes:
        id: unique in the site; several cameras may see one zone.
        kind: carriageway, verge, crossing, pavement, other, or `whole-view`.
        polygon_px: its outline in the camera's picture; empty for the whole picture.
    """

    id: str
    kind: str
    polygon_px: Polygon = ()

    def holds(self, box: Box) -> bool:
        """Tell whether a thing in this box stands in the zone: its foot point counts, not its head."""
        if not self.polygon_px:
            return True
        outline = np.array(self.polygon_px, np.float32)
        return cv2.pointPolygonTest(outline, box.foot, measureDist=False) >= 0


def zone_of(box: Box, zones: Sequence[Zone]) -> Zone | None:
    """Return the first zone that holds the box, None where none does."""
    return next((zone for zone in zones if zone.holds(box)), None)


def whole_view(camera: str) -> Zone:
    """Return the zone of a camera for which none was drawn; it is named after the camera."""
    return Zone(id=camera, kind=WHOLE_VIEW)

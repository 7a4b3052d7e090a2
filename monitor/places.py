"""Pixels -> WGS84: where on the ground an animal's foot stands, and how sure that is.

A homography maps the camera's picture of a flat road to the ground; four or more points that were surveyed, or read off
an aerial photograph, fix it (Hartley and Zisserman 2004, section 4.1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from adapters.errors import ConfigError
from monitor.values import Box

METRES_A_DEGREE = (
    111_195.0  # of latitude, on a sphere of 6,371 km; a junction is too small for the difference to matter
)
FOOT_PX = 3.0  # how far a box's foot point may lie from where the animal stands
LARGEST_ERROR_M = 25.0  # of the surveyed points among themselves; more is a typing error
LARGEST_ACCURACY_M = 100.0  # beyond, near the horizon, a pixel is a field
LARGE_M = 1.0  # height or length from which an animal is a danger to a car's occupants: a roe deer, not a fox
MOST_SPEED_MPS = 35.0  # no animal is faster; a track that jumps is

PixelPoint = tuple[float, float]
GroundPoint = tuple[float, float, float, float]  # x, y in pixels; latitude, longitude in degrees


@dataclass(frozen=True, kw_only=True)
class Position:
    """A place on the ground.

    `accuracy_m` is the root sum of squares of the ground points' own error and of `FOOT_PX` pixels at this place; of a
    configured position it is the camera's view radius.
    """

    lat: float
    lon: float
    accuracy_m: float
    method: Literal["homography", "configured"]

    def distance_m(self, other: Position) -> float:
        """Return the distance to another place of the same site."""
        north = (self.lat - other.lat) * METRES_A_DEGREE
        east = (self.lon - other.lon) * METRES_A_DEGREE * math.cos(math.radians(self.lat))
        return math.hypot(north, east)


@dataclass(frozen=True, kw_only=True)
class Motion:
    """Which way and how fast, clockwise from north."""

    heading_deg: float
    speed_mps: float


class Place(Protocol):
    """What a camera's pictures say of the ground."""

    def locate(self, point: PixelPoint) -> Position | None:
        """Return where a pixel is on the ground; None where it is not on it."""

    def motion(self, point: PixelPoint, velocity_px_s: PixelPoint) -> Motion | None:
        """Return how something moves that moves so in the picture; None where that can't be told."""

    def scale_m(self, point: PixelPoint) -> float | None:
        """Return how wide a pixel is where something stands at this point; None where that can't be told."""


@dataclass(frozen=True, kw_only=True)
class ConfiguredPlace:
    """A camera of which only the position is known: all that it sees is there, within its view radius."""

    lat: float
    lon: float
    radius_m: float

    def locate(self, point: PixelPoint) -> Position:  # noqa: ARG002  # the whole view is one place
        """See `Place`."""
        return Position(lat=self.lat, lon=self.lon, accuracy_m=self.radius_m, method="configured")

    def motion(self, point: PixelPoint, velocity_px_s: PixelPoint) -> None:
        """Tell nothing: without a ground plane a speed in pixels has no scale."""

    def scale_m(self, point: PixelPoint) -> None:
        """Tell nothing: without a ground plane a pixel has no width."""


class GroundPlane:
    """A camera whose ground points are known.

    Attributes:
        error_m: root mean square distance of the points from where the others put them; with four points, which fit
            exactly, 0.
    """

    def __init__(self, camera: str, points: Sequence[GroundPoint]) -> None:
        """Fit the homography.

        Raises:
            ConfigError: fewer than four points, points on one line, or points that contradict each other.
        """
        if len(points) < 4:
            raise ConfigError(f"camera {camera}: {len(points)} ground_points; a ground plane needs 4 or more")
        table = np.array(points, np.float64)
        self._lat0, self._lon0 = table[:, 2].mean(), table[:, 3].mean()
        metres = self._to_metres(table[:, 2:])
        self._homography = _fit(table[:, :2], metres, camera)
        self.error_m = _leave_one_out(table[:, :2], metres, camera) if len(points) > 4 else 0.0
        if self.error_m > LARGEST_ERROR_M:
            raise ConfigError(
                f"camera {camera}: its ground_points contradict each other by {self.error_m:.0f} m; "
                "look for a mistyped pixel or coordinate"
            )
        self._side = math.copysign(1, self._denominator((float(table[0, 0]), float(table[0, 1]))))

    def locate(self, point: PixelPoint) -> Position | None:
        """See `Place`."""
        if self._denominator(point) * self._side <= 0:
            return None  # above the horizon
        east, north = self._project(point)
        reach = max(self._distance(point, (FOOT_PX, 0.0)), self._distance(point, (0.0, FOOT_PX)))
        accuracy_m = max(0.1, math.hypot(self.error_m, reach))
        if not math.isfinite(accuracy_m) or accuracy_m > LARGEST_ACCURACY_M:
            return None
        lat, lon = self._to_degrees(east, north)
        return Position(lat=lat, lon=lon, accuracy_m=accuracy_m, method="homography")

    def motion(self, point: PixelPoint, velocity_px_s: PixelPoint) -> Motion | None:
        """See `Place`."""
        dt_s = 0.2  # short, since a straight way on the ground bends in the picture
        ahead = (point[0] + dt_s * velocity_px_s[0], point[1] + dt_s * velocity_px_s[1])
        if self.locate(point) is None or self.locate(ahead) is None:
            return None
        (e0, n0), (e1, n1) = self._project(point), self._project(ahead)
        speed = math.hypot(e1 - e0, n1 - n0) / dt_s
        if speed > MOST_SPEED_MPS:
            return None
        return Motion(heading_deg=math.degrees(math.atan2(e1 - e0, n1 - n0)) % 360, speed_mps=speed)

    def scale_m(self, point: PixelPoint) -> float | None:
        """See `Place`; across the view, since along it a pixel covers much ground and little animal."""
        if self.locate(point) is None:
            return None
        scale = self._distance(point, (1.0, 0.0))
        return scale if math.isfinite(scale) else None

    def _distance(self, point: PixelPoint, step: PixelPoint) -> float:
        beside = (point[0] + step[0], point[1] + step[1])
        if self._denominator(beside) * self._side <= 0:
            return math.inf
        (e0, n0), (e1, n1) = self._project(point), self._project(beside)
        return math.hypot(e1 - e0, n1 - n0)

    def _denominator(self, point: PixelPoint) -> float:
        return float(self._homography[2] @ (*point, 1.0))

    def _project(self, point: PixelPoint) -> tuple[float, float]:
        east, north, scale = self._homography @ (*point, 1.0)
        return float(east / scale), float(north / scale)

    def _to_metres(self, degrees: NDArray[np.float64]) -> NDArray[np.float64]:
        north = (degrees[:, 0] - self._lat0) * METRES_A_DEGREE
        east = (degrees[:, 1] - self._lon0) * METRES_A_DEGREE * math.cos(math.radians(self._lat0))
        return np.stack([east, north], axis=1)

    def _to_degrees(self, east: float, north: float) -> tuple[float, float]:
        lat = self._lat0 + north / METRES_A_DEGREE
        return float(lat), float(self._lon0 + east / (METRES_A_DEGREE * math.cos(math.radians(self._lat0))))


def size_of(place: Place | None, box: Box) -> Literal["small", "large", "unknown"]:
    """Return the size of what stands in a box, by the scale of the ground under it."""
    scale = None if place is None else place.scale_m(box.foot)
    if scale is None:
        return "unknown"
    return "large" if scale * max(box.width, box.height) >= LARGE_M else "small"


def _fit(pixels: NDArray[np.float64], metres: NDArray[np.float64], camera: str) -> NDArray[np.float64]:
    homography, _ = cv2.findHomography(pixels, metres)
    spread = min(np.linalg.svd(table - table.mean(axis=0), compute_uv=False)[-1] for table in (pixels, metres))
    if homography is None or spread < 1e-3 or abs(np.linalg.det(homography)) < 1e-12:
        raise ConfigError(f"camera {camera}: its ground_points lie on one line; spread them over the road")
    return np.asarray(homography, np.float64)


def _leave_one_out(pixels: NDArray[np.float64], metres: NDArray[np.float64], camera: str) -> float:
    """Return the root mean square distance of each point from where the others put it, in metres."""
    squares = []
    for i in range(len(pixels)):
        others = np.arange(len(pixels)) != i
        east, north, scale = _fit(pixels[others], metres[others], camera) @ (*pixels[i], 1.0)
        squares.append((east / scale - metres[i, 0]) ** 2 + (north / scale - metres[i, 1]) ** 2)
    return float(np.sqrt(np.mean(squares)))

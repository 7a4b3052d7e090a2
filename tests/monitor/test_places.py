from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.errors import ConfigError
from monitor.places import METRES_A_DEGREE, ConfiguredPlace, GroundPlane

LAT, LON = 61.137, 11.371
HEIGHT_M, TILT, FOCAL_PX = 8.0, math.radians(20), 700.0  # a camera on a pole, looking north and down, 640 x 360


def pixel_of(east: float, north: float) -> tuple[float, float]:
    """What a pinhole camera on the pole sees of a point on flat ground."""
    forward = north * math.cos(TILT) + HEIGHT_M * math.sin(TILT)
    down = HEIGHT_M * math.cos(TILT) - north * math.sin(TILT)
    return 320 + FOCAL_PX * east / forward, 180 + FOCAL_PX * down / forward


def degrees_of(east: float, north: float) -> tuple[float, float]:
    return LAT + north / METRES_A_DEGREE, LON + east / (METRES_A_DEGREE * math.cos(math.radians(LAT)))


def surveyed(*ground: tuple[float, float]) -> list[tuple[float, float, float, float]]:
    return [(*pixel_of(*point), *degrees_of(*point)) for point in ground]


FOUR = surveyed((-4, 12), (4, 12), (-6, 40), (6, 40))


def apart_m(position: object, east: float, north: float) -> float:
    lat, lon = degrees_of(east, north)
    d_north = (position.lat - lat) * METRES_A_DEGREE
    return math.hypot(d_north, (position.lon - lon) * METRES_A_DEGREE * math.cos(math.radians(LAT)))


@given(east=st.floats(-8, 8), north=st.floats(10, 60))
def test_a_pixel_is_found_on_the_ground_within_what_is_promised(east: float, north: float) -> None:
    position = GroundPlane("north", FOUR).locate(pixel_of(east, north))

    assert position is not None
    assert apart_m(position, east, north) < 0.05
    assert position.method == "homography"


def test_far_away_a_pixel_says_less() -> None:
    plane = GroundPlane("north", FOUR)

    near, far = (plane.locate(pixel_of(0, north)) for north in (12, 60))

    assert near.accuracy_m < 0.3 < 1.5 < far.accuracy_m


@pytest.mark.parametrize("y", [-500.0, -80.0])
def test_the_sky_is_no_place(y: float) -> None:
    assert GroundPlane("north", FOUR).locate((320.0, y)) is None


def test_speed_and_heading_come_from_the_ground_not_from_the_picture() -> None:
    here, next_to = pixel_of(0, 30), pixel_of(2, 30)
    velocity = (next_to[0] - here[0], next_to[1] - here[1])

    motion = GroundPlane("north", FOUR).motion(here, velocity)

    assert motion.speed_mps == pytest.approx(2.0, rel=0.02)
    assert motion.heading_deg == pytest.approx(90, abs=1)


def test_more_points_state_their_own_error() -> None:
    rng = np.random.default_rng(1)
    points = surveyed((-4, 12), (4, 12), (-6, 40), (6, 40), (0, 20), (-3, 30), (5, 25))
    shaken = [(x + rng.normal(0, 2), y + rng.normal(0, 2), lat, lon) for x, y, lat, lon in points]

    assert GroundPlane("north", points).error_m < 0.01
    assert 0.05 < GroundPlane("north", shaken).error_m < 10


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (FOUR[:3], "3 ground_points; a ground plane needs 4 or more"),
        (surveyed((0, 12), (0, 20), (0, 30), (0, 40)), "lie on one line"),
        ([*surveyed((-4, 12), (4, 12), (-6, 40), (6, 40)), (320.0, 200.0, LAT + 0.01, LON)], "contradict each other"),
    ],
)
def test_points_that_fix_no_plane_are_refused_by_camera(points: list, message: str) -> None:
    with pytest.raises(ConfigError, match=f"camera north: .*{message}"):
        GroundPlane("north", points)


def test_without_a_plane_the_configured_position_is_all_there_is() -> None:
    place = ConfiguredPlace(lat=LAT, lon=LON, radius_m=50.0)

    assert place.locate((3.0, 4.0)).accuracy_m == 50.0
    assert place.motion((3.0, 4.0), (1.0, 0.0)) is None

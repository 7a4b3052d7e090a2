"""What the looks at a track say of it: its name, and whether it still stands where it was."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from adapters.classifier import UNKNOWN, Classification
from monitor.scenery import Scenery
from monitor.values import Box, Frame, Sighting
from monitor.watch import CameraWatch, Seen

IMAGE = np.zeros((360, 640, 3), np.uint8)
DEER, BUSH = np.eye(4, dtype=np.float32)[:2]


def step(watch: CameraWatch, now_s: float, moving: tuple[Box, ...], looks_like: NDArray[np.float32]) -> list[Sighting]:
    """Show a frame in which every crop looks so; all of it is an animal."""
    frame = Frame(camera="road", index=0, time_s=now_s, captured_s=now_s, image=IMAGE, slot=0, moving=moving)
    tracks = [track for _, track in watch.follow(frame, now_s)]
    looks = watch.looks(frame, tracks, 0, now_s)
    answer = Classification({"deer": 0.9, "none": 0.1}, {"deer": 0.9}, 0.95, 0.5, legible=True, leads={"deer": 0.3})
    return watch.conclude(looks, [Seen(answer, looks_like)] * len(looks), now_s, 0.0)


@pytest.fixture
def walked() -> CameraWatch:
    """A camera that has followed a deer for two seconds."""
    watch = CameraWatch("road", (640, 360), Scenery(), crops_per_frame=10, sweep_tiles_per_frame=0)
    for number in range(10):
        x = 100.0 + 10 * number
        assert step(watch, number / 5, (Box(x, 100, x + 40, 130),), DEER)[0].label == "deer"
    return watch


def test_an_animal_that_stops_is_still_seen(walked: CameraWatch) -> None:
    for number in range(10, 25):
        step(walked, number / 5, (), DEER)
    assert [sighting.track for sighting in step(walked, 5.5, (), DEER)] == [1]


def test_a_bush_that_an_animal_went_behind_is_not_taken_for_it(walked: CameraWatch) -> None:
    looks = [sighting for number in range(10, 25) for sighting in step(walked, number / 5, (), BUSH)]

    assert looks == []
    assert step(walked, 5.5, (), DEER) == []  # the track is lost


@pytest.mark.parametrize(
    ("weight", "lead", "label"),
    [(0.8, 0.2, "deer"), (0.8, 0.05, UNKNOWN), (0.65, 0.2, UNKNOWN)],
    ids=["sure", "much like another animal too", "in doubt"],
)
def test_a_name_needs_its_weight_and_a_lead_over_the_animals_that_were_not_taught(
    weight: float, lead: float, label: str
) -> None:
    watch = CameraWatch("road", (640, 360), Scenery(), crops_per_frame=10, sweep_tiles_per_frame=0)
    frame = Frame(
        camera="road", index=0, time_s=0, captured_s=0, image=IMAGE, slot=0, moving=(Box(100, 100, 140, 130),)
    )
    looks = watch.looks(frame, [track for _, track in watch.follow(frame, 0.0)], 0, 0.0)
    weights = {"deer": weight, "none": 1 - weight}
    answer = Classification(weights, {"deer": weight}, 0.95, 0.5, legible=True, leads={"deer": lead})

    (seen,) = watch.conclude(looks, [Seen(answer, DEER)], 0.0, 0.0)

    assert seen.label == label


def test_in_rain_what_was_there_before_is_looked_at_before_what_has_just_appeared() -> None:
    watch = CameraWatch("road", (640, 360), Scenery(), crops_per_frame=3, sweep_tiles_per_frame=0)
    found = 0
    for number in range(12):
        places = np.random.default_rng(number).uniform((0, 0), (600, 260), (9, 2))
        streaks = [Box(x, y, x + 36, y + 36) for x, y in places]
        deer, now_s = Box(400 + 8 * number, 300, 440 + 8 * number, 330), number / 5
        frame = Frame(
            camera="road", index=0, time_s=now_s, captured_s=now_s, image=IMAGE, slot=0, moving=(deer, *streaks)
        )
        looks = watch.looks(frame, [track for _, track in watch.follow(frame, now_s)], 0, now_s)
        answers = [
            Classification({"none": 1.0}, {}, 0.95 if look.box == deer else 0.02, 0.5, legible=True) for look in looks
        ]
        watch.conclude(looks, [Seen(answer, DEER) for answer in answers], now_s, 0.0)
        found += any(look.box == deer for look in looks)

    assert found >= 8

"""How a round's looks are shared out over cameras, with the real classifier."""

from __future__ import annotations

from collections import Counter

import cv2
import numpy as np
import pytest

from adapters.classes import ClassSet
from adapters.classifier import Classifier
from monitor.assembly import settings_of, zones_of
from monitor.config import Config
from monitor.pipeline import Budget, Outcome, Pipeline
from monitor.policy import Policy
from monitor.values import Box, Frame

CAMERAS = ("north", "south", "yard")
RATE_HZ = 5
MOVERS = 6  # a camera


@pytest.fixture
def make_pipeline(classifier: Classifier, starter: ClassSet, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("monitor.watch.SURELY_NONE", -1.0)  # else noise would soon be left alone

    def make(crops_per_round: int, *, tiles: int = 2) -> Pipeline:
        config = Config.model_validate({"cameras": {name: {"source": "road.mp4"} for name in CAMERAS}})
        policy = Policy(settings_of(config), zones_of(config, list(CAMERAS)))
        budgets = {name: Budget(sweep_tiles_per_frame=tiles) for name in CAMERAS}
        return Pipeline(classifier, starter, policy, budgets, crops_per_round=crops_per_round)

    return make


def frames(index: int, movers: int = MOVERS, cameras: tuple[str, ...] = CAMERAS) -> list[Frame]:
    image = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 255, (360, 640, 3), np.uint8), (0, 0), 2)
    boxes = tuple(Box(20 + 90 * n + index, 50, 70 + 90 * n + index, 100) for n in range(movers))
    time_s = index / RATE_HZ
    return [
        Frame(camera=camera, index=index, time_s=time_s, captured_s=time_s, image=image, slot=0, moving=boxes)
        for camera in cameras
    ]


def test_a_round_never_classifies_more_than_it_may_and_leaves_nobody_out(make_pipeline) -> None:
    pipeline, looked = make_pipeline(8), Counter[tuple[str, int]]()
    for index in range(12):
        before = pipeline.crops
        outcome: Outcome = pipeline.process(frames(index), index / RATE_HZ)
        assert pipeline.crops - before == 8 + 1  # and a tile
        for sighting in outcome.sightings:
            looked[sighting.camera, sighting.track] = sighting.looks

    assert len(looked) == len(CAMERAS) * MOVERS
    assert max(looked.values()) - min(looked.values()) <= 2


def test_the_sweep_goes_on_in_turn_where_movers_take_all(make_pipeline) -> None:
    pipeline = make_pipeline(6)
    for index in range(9):
        pipeline.process(frames(index), index / RATE_HZ)

    sweeps = [watch._sweep._tiles for watch in pipeline._watches.values()]
    assert [sweep.tiles.index(sweep.next(1)[0]) for sweep in sweeps] == [3, 3, 3]


def test_a_track_that_was_looked_at_often_is_looked_at_twice_a_second(make_pipeline) -> None:
    pipeline, crops = make_pipeline(32, tiles=0), []
    for index in range(40):
        pipeline.process(frames(index, movers=1, cameras=("north",)), index / RATE_HZ)
        crops.append(pipeline.crops)

    assert crops[9] == 10
    assert crops[-1] - crops[9] <= 0.5 + (30 / RATE_HZ) / 0.5

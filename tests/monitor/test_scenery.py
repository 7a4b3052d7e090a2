"""What a person has dismissed once, and an animal that stands there later."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from adapters.classes import ClassSet
from adapters.classifier import Classifier
from adapters.errors import StoreError
from adapters.site_knowledge import Background
from monitor.pipeline import Budget, Pipeline
from monitor.policy import Phase, Policy, Settings, Situation
from monitor.policy_table import Rule, Table
from monitor.scenery import LEARN_S, Scenery, View
from monitor.values import Box, Frame
from monitor.zones import whole_view
from tests.conftest import DEMO_CLIP

RULE = Rule(action="warn", min_probability=0.5, confirm_frames=3, confirm_s=0.4, hold_s=1.0)
WATCH_S = 9.0
RATE_HZ = 3.0


@pytest.fixture(scope="module")
def road() -> NDArray[np.uint8]:
    """The demo's road, empty."""
    capture = cv2.VideoCapture(str(DEMO_CLIP))
    ok, image = capture.read()
    assert ok
    return image


def test_a_view_that_another_watcher_learned_is_known_and_kept_once() -> None:
    scenery, look = Scenery(), np.eye(4, dtype=np.float32)[0]
    view = View("north", Box(10, 10, 50, 50), look)

    scenery.dismiss(view, 0.0)
    scenery.add(View("north", Box(10, 10, 50, 50), look.copy()))
    scenery.add(View("north", Box(10, 10, 50, 50), np.eye(4, dtype=np.float32)[1]))

    assert len(scenery._views) == 2
    elsewhere = Scenery()
    elsewhere.add(view)
    assert elsewhere.knows(view, 100.0)


def standing(road: NDArray[np.uint8], animal: NDArray[np.uint8]) -> NDArray[np.uint8]:
    scene = road.copy()
    scene[150:300, 250:400] = cv2.resize(animal, (150, 150))
    return scene


@pytest.fixture
def make_pipeline(classifier: Classifier, starter: ClassSet) -> Callable[[Scenery], Pipeline]:
    def make(scenery: Scenery) -> Pipeline:
        settings = Settings(
            table=Table(taught=RULE, unknown_animal=RULE),
            standing_s=2.0,
            standing_probability=0.7,
            min_side_px=18.0,
            update_s=30.0,
        )
        policy = Policy(settings, {"road": (whole_view("road"),)})
        return Pipeline(classifier, starter, policy, {"road": Budget(sweep_tiles_per_frame=4)}, scenery=scenery)

    return make


def watch(pipeline: Pipeline, scene: NDArray[np.uint8], begin_s: float) -> list[Situation]:
    """Show a scene until it alerts, for a while at most; a sensor's noise makes every frame another."""
    rng, told = np.random.default_rng(5), []
    for index in range(int(WATCH_S * RATE_HZ)):
        time_s = begin_s + index / RATE_HZ
        noisy = np.clip(scene + rng.normal(0, 2, scene.shape), 0, 255).astype(np.uint8)
        frame = Frame(camera="road", index=index, time_s=time_s, captured_s=time_s, image=noisy, slot=0, moving=())
        told += [situation for situation in pipeline.process([frame], time_s).told if situation.phase is Phase.START]
        if told:
            break
    return told


def test_what_stands_there_is_dismissed_once_for_ever_and_an_animal_at_its_place_is_not(
    make_pipeline: Callable[[Scenery], Pipeline],
    classifier: Classifier,
    road: NDArray[np.uint8],
    demo_animals: dict[str, NDArray[np.uint8]],
    tmp_path: Path,
) -> None:
    names = sorted(demo_animals)
    statue, animal = standing(road, demo_animals[names[0]]), standing(road, demo_animals[names[1]])
    background = Background(classifier, tmp_path)
    pipeline = make_pipeline(Scenery(background))
    found = watch(pipeline, statue, 0.0)
    assert len(found) == 1
    (ended,) = pipeline.dismiss(found[0].id, "operator 3", WATCH_S)
    assert ended.end_reason == "false-alarm"
    assert watch(pipeline, statue, WATCH_S) == []
    background.close()

    after_restart = Background(classifier, tmp_path)
    again = make_pipeline(Scenery(after_restart))
    assert watch(again, statue, 0.0) == []
    assert len(watch(again, animal, 100.0)) == 1
    assert len(watch(make_pipeline(Scenery()), statue, 0.0)) == 1, "it is the memory that keeps it quiet"
    after_restart.close()


def test_a_place_that_the_disk_does_not_take_holds_for_the_run(caplog: pytest.LogCaptureFixture) -> None:
    class FullDisk:
        def dismissed(self) -> list[object]:
            return []

        def keep_dismissed(self, *place: object) -> None:
            raise StoreError("knowledge.sqlite3: database or disk is full; nothing was changed")

    look, other = np.array([1, 0], np.float32), np.array([0.5, 0.87], np.float32)
    scenery, later_s = Scenery(FullDisk()), 2 * LEARN_S
    scenery.dismiss(View("road", Box(10, 10, 50, 50), look), 0.0)

    assert scenery.knows(View("road", Box(12, 10, 52, 50), look), later_s)
    assert not scenery.knows(View("yard", Box(12, 10, 52, 50), look), later_s), "another camera"
    assert not scenery.knows(View("road", Box(40, 10, 80, 50), look), later_s), "another place"
    assert not scenery.knows(View("road", Box(0, 0, 300, 300), look), later_s), "much larger"
    assert not scenery.knows(View("road", Box(12, 10, 52, 50), other), later_s), "looks otherwise"
    assert "camera road: a dismissed place holds for this run only" in caplog.text


def test_other_views_of_a_place_are_learned_while_it_was_just_dismissed() -> None:
    scenery = Scenery()
    near, wide = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    scenery.dismiss(View("road", Box(10, 10, 50, 50), near), 0.0)

    assert scenery.knows(View("road", Box(0, 0, 80, 80), wide), LEARN_S / 2)
    assert scenery.knows(View("road", Box(0, 0, 80, 80), wide), 2 * LEARN_S)
    assert not scenery.knows(View("road", Box(200, 0, 280, 80), wide), 2 * LEARN_S)

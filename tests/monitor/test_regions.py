from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from monitor.regions import MOST_BOXES, MotionRegions, TileSweep, crop_box
from monitor.values import Box

SIZE = (640, 360)


def scene(seed: int) -> NDArray[np.uint8]:
    """A noisy grey road."""
    return np.random.default_rng(seed).integers(110, 122, (SIZE[1], SIZE[0], 3), dtype=np.uint8)


def learned() -> MotionRegions:
    motion = MotionRegions()
    for seed in range(20):
        motion.find(scene(seed))
    return motion


@pytest.mark.parametrize("grey", [40, 230], ids=["darker", "brighter"])
def test_a_moving_thing_is_found_where_it_is_whether_darker_or_brighter(grey: int) -> None:
    motion = learned()
    for step in range(5):
        frame = scene(100 + step)
        x = 200 + 20 * step
        frame[150:190, x : x + 50] = grey
        boxes = motion.find(frame)

    assert len(boxes) == 1
    assert boxes[0].iou(Box(280, 150, 330, 190)) > 0.6


def test_what_moves_behind_a_mask_is_not_found_and_what_comes_out_is() -> None:
    motion = MotionRegions([np.array([[0, 0], [320, 0], [320, 360], [0, 360]], np.int32)])
    seen = []
    for index in range(40):
        frame, x = scene(index), 20 * (index - 20)
        if index >= 20:
            frame[150:190, x : x + 50] = 40
        seen.append(motion.find(frame))

    assert not any(seen[:34]), "all of it is behind the mask"
    assert [len(boxes) for boxes in seen[37:]] == [1, 1, 1]
    assert all(box.x1 >= 318 for boxes in seen for box in boxes)


def test_noise_alone_is_not_motion() -> None:
    motion = learned()

    assert sum(len(motion.find(scene(seed))) for seed in range(100, 120)) <= 1


def test_an_animal_of_twenty_pixels_in_a_large_frame_is_found() -> None:
    motion = MotionRegions()
    rng = np.random.default_rng(2)
    ground = [rng.integers(110, 122, (1080, 1920, 3), dtype=np.uint8) for _ in range(3)]
    found = 0
    for index in range(16):
        frame = ground[index % 3].copy()
        if index >= 8:
            frame[600:620, 900 + 8 * index : 928 + 8 * index] = 40
        found += bool(motion.find(frame)) and index >= 8

    assert found >= 7


def test_a_light_that_goes_on_everywhere_is_no_storm_of_boxes() -> None:
    motion = learned()

    assert motion.find(np.clip(scene(200).astype(int) + 60, 0, 255).astype(np.uint8)) == []


def test_a_patch_that_only_grows_brighter_or_darker_is_no_motion() -> None:
    """A shadow or a headlight lies on the same ground."""
    ground = scene(0).astype(int)
    ground[100:250, 200:400] += np.kron(
        np.random.default_rng(5).integers(-40, 40, (15, 20, 1)), np.ones((10, 10, 1), int)
    )
    motion = MotionRegions()
    rng = np.random.default_rng(6)

    def shown(gain: float) -> NDArray[np.uint8]:
        frame = ground + rng.integers(-3, 4, ground.shape)
        frame[120:220, 220:360] = frame[120:220, 220:360] * gain
        return np.clip(frame, 0, 255).astype(np.uint8)

    for _ in range(20):
        motion.find(shown(1.0))

    assert motion.find(shown(0.6)) == []
    assert motion.find(shown(1.5)) == []


@pytest.mark.parametrize("size", [(640, 360), (320, 240), (1920, 1080), (960, 1088), (300, 300)])
def test_the_sweep_covers_every_pixel(size: tuple[int, int]) -> None:
    sweep = TileSweep(size)
    covered = np.zeros(size[::-1], bool)

    for tile in sweep.next(len(sweep.tiles)):
        x1, y1, x2, y2 = (int(value) for value in tile)
        assert (x1, y1) >= (0, 0)
        assert x2 <= size[0]
        assert y2 <= size[1]
        covered[y1:y2, x1:x2] = True

    assert covered.mean() > 0.99


def test_every_tile_comes_by_in_turn() -> None:
    sweep = TileSweep(SIZE)
    seen = [tile for _ in range(len(sweep.tiles)) for tile in sweep.next(2)]

    assert set(seen) == set(sweep.tiles)
    assert all(seen.count(tile) == 2 for tile in sweep.tiles)


@given(st.floats(0, 639), st.floats(0, 359), st.floats(1, 700), st.floats(1, 400))
def test_crops_are_squares_inside_the_frame(x: float, y: float, w: float, h: float) -> None:
    box = Box(x, y, x + w, y + h).clipped(SIZE)

    square = crop_box(box, SIZE)

    assert square.width == pytest.approx(square.height)
    assert square.x1 >= -1e-6
    assert square.y1 >= -1e-6
    assert square.x2 <= SIZE[0] + 1e-6
    assert square.y2 <= SIZE[1] + 1e-6
    if max(box.width, box.height) * 1.3 <= min(SIZE):
        assert square.overlap(box) == pytest.approx(box.area)


def textured(seed: int) -> NDArray[np.uint8]:
    """A road with things on it: what a camera sees by day."""
    blocks = np.random.default_rng(7).integers(40, 200, (36, 64, 1))
    ground = np.kron(blocks, np.ones((10, 10, 3), int))
    return np.clip(ground + np.random.default_rng(seed).integers(-4, 5, ground.shape), 0, 255).astype(np.uint8)


def by_infra_red(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    grey = 230 - 0.7 * picture.mean(axis=2, keepdims=True)
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8), 3, axis=2)


def storm(motion: MotionRegions, pictures: list[NDArray[np.uint8]]) -> int:
    """The most boxes of any frame."""
    return max(len(motion.find(picture)) for picture in pictures)


def day_learned() -> MotionRegions:
    motion = MotionRegions()
    for seed in range(20):
        motion.find(textured(seed))
    return motion


def test_a_switch_to_infra_red_is_no_storm_and_an_animal_is_found_two_seconds_later() -> None:
    motion = day_learned()

    assert storm(motion, [by_infra_red(textured(100 + step)) for step in range(10)]) <= 1
    for step in range(5):
        frame = by_infra_red(textured(200 + step))
        frame[150:190, 200 + 20 * step : 250 + 20 * step] = 250
        boxes = motion.find(frame)
    assert any(box.iou(Box(280, 150, 330, 190)) > 0.5 for box in boxes)


def test_lightning_is_no_storm_and_leaves_the_background_as_it_was() -> None:
    motion = day_learned()
    flash = np.clip(textured(100).astype(int) * 1.8 + 40, 0, 255).astype(np.uint8)

    assert storm(motion, [flash, textured(101), flash, textured(102), textured(103)]) == 0


def test_headlights_that_sweep_over_the_road_are_no_storm() -> None:
    motion, x = day_learned(), np.arange(SIZE[0])
    sweep = []
    for step in range(20):
        light = 60 * np.exp(-(((x - 32 * step) / 60) ** 2))  # a soft cone that goes over the whole picture
        sweep.append(np.clip(textured(100 + step) + light[None, :, None], 0, 255).astype(np.uint8))

    assert storm(motion, sweep) <= 2


def test_rain_is_no_storm() -> None:
    rng = np.random.default_rng(8)

    def rainy(seed: int) -> NDArray[np.uint8]:
        picture = textured(seed)
        for x, y in rng.integers((0, 0), (SIZE[0], SIZE[1] - 14), (250, 2)):  # streaks a pixel wide
            picture[y : y + 14, x] = np.clip(picture[y : y + 14, x].astype(int) + 60, 0, 255)
        return picture

    motion = MotionRegions()
    for seed in range(20):
        motion.find(rainy(seed))

    assert storm(motion, [rainy(100 + step) for step in range(20)]) <= 5  # half of what is looked at in a frame


def test_of_many_things_that_move_at_once_the_largest_are_found_and_their_number_has_a_bound() -> None:
    motion, rng = learned(), np.random.default_rng(3)
    for step in range(3):
        frame = scene(300 + step)
        frame[200:240, 300 + 5 * step : 350 + 5 * step] = 230
        for x, y in rng.integers((0, 0), (630, 180), (400, 2)):  # snow, in the upper half
            frame[y : y + 7, x : x + 7] = 250
        boxes = motion.find(frame)

    assert len(boxes) <= MOST_BOXES
    assert any(box.iou(Box(310, 200, 360, 240)) > 0.5 for box in boxes)

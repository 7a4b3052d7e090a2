from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from monitor.regions import TileSweep
from monitor.sweep import RELOOK_S, PatientSweep
from monitor.values import Box, Frame

SIZE = (640, 360)
ROAD = np.random.default_rng(1).integers(60, 160, (SIZE[1], SIZE[0], 3), np.uint8)
TILES = TileSweep(SIZE).tiles


def noisy(picture: NDArray[np.uint8], seed: int, light: float, moving: tuple[Box, ...]) -> Frame:
    noise = np.random.default_rng(seed).normal(light, 3, picture.shape)
    image = np.clip(picture + noise, 0, 255).astype(np.uint8)
    return Frame(camera="road", index=seed, time_s=0.0, captured_s=0.0, image=image, slot=0, moving=moving)


def rounds(
    sweep: PatientSweep,
    picture: NDArray[np.uint8],
    begin_s: float,
    frames: int,
    light: float = 0.0,
    moving: tuple[Box, ...] = (),
) -> list[Box]:
    """Tiles that are looked at in so many frames, five a second."""
    return [
        tile
        for index in range(frames)
        for tile in sweep.next(noisy(picture, index, light * index, moving), 2, begin_s + index / 5)
    ]


def test_every_tile_is_looked_at_once_and_then_seldom() -> None:
    sweep = PatientSweep(SIZE)
    assert sorted(rounds(sweep, ROAD, 0.0, len(TILES))) == sorted(TILES)
    assert rounds(sweep, ROAD, 4.0, 10) == []
    assert set(rounds(sweep, ROAD, RELOOK_S + 5.0, len(TILES))) == set(TILES)


def test_light_that_comes_and_goes_is_no_reason_for_a_look() -> None:
    sweep = PatientSweep(SIZE)
    rounds(sweep, ROAD, 0.0, len(TILES))

    assert rounds(sweep, ROAD, 4.0, 20, light=1.0) == []


def test_what_stands_there_now_is_looked_at_when_its_turn_comes_though_it_is_small() -> None:
    sweep, changed = PatientSweep(SIZE), ROAD.copy()
    rounds(sweep, ROAD, 0.0, len(TILES))
    changed[200:216, 300:324] = 220
    seen = rounds(sweep, changed, 4.0, len(TILES))

    inside = Box(300, 200, 324, 216)
    assert seen
    assert all(tile.overlap(inside) > 0 for tile in seen)
    assert min(tile.width for tile in seen) == min(tile.width for tile in TILES)


def test_what_moves_is_followed_anyway_and_is_no_change() -> None:
    sweep, changed = PatientSweep(SIZE), ROAD.copy()
    rounds(sweep, ROAD, 0.0, len(TILES))
    changed[200:240, 300:360] = 220

    assert rounds(sweep, changed, 4.0, len(TILES), moving=(Box(300, 200, 360, 240),)) == []


def test_a_tile_in_doubt_is_looked_at_whenever_its_turn_comes() -> None:
    sweep = PatientSweep(SIZE)
    for tile in rounds(sweep, ROAD, 0.0, len(TILES)):
        sweep.saw(tile, 0.6 if tile in TILES[3:5] else 0.05, explained=tile == TILES[4])

    assert rounds(sweep, ROAD, 4.0, len(TILES)) == [TILES[3]]

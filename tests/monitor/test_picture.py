"""Pictures that can't be watched, made from those of the bundled clip; and those that only look odd for a moment."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from monitor.cameras.picture import PictureWatch
from monitor.values import FAULT_TIMES_S, Fault
from tests.conftest import DEMO_CLIP

Luma = NDArray[np.uint8]


@pytest.fixture(scope="module")
def clip() -> list[Luma]:
    """A picture a second."""
    capture, pictures = cv2.VideoCapture(str(DEMO_CLIP)), []
    while capture.grab():
        small = cv2.resize(capture.retrieve()[1], (480, 270), interpolation=cv2.INTER_AREA)
        pictures.append(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY))
    return pictures[::30]


def faults(pictures: list[Luma]) -> list[Fault | None]:
    watch = PictureWatch(FAULT_TIMES_S)
    return [watch.look(picture, float(second)) for second, picture in enumerate(pictures)]


def noisy(picture: Luma, spread: float = 2.0) -> Luma:
    noise = np.random.default_rng(int(picture.sum()) % 1000).normal(0, spread, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def black(picture: Luma) -> Luma:
    return noisy(np.full_like(picture, 6))


def white(picture: Luma) -> Luma:
    return np.maximum(picture, 252).astype(np.uint8)


def covered(picture: Luma) -> Luma:
    return noisy(np.full_like(picture, 90))


def turned(picture: Luma) -> Luma:
    return np.roll(picture[::-1, ::-1], 90, axis=1)


def soft(picture: Luma) -> Luma:
    return cv2.GaussianBlur(picture, (0, 0), 6)


SPOILT: dict[Fault, Callable[[Luma], Luma]] = {
    "dark": black,
    "overexposed": white,
    "covered": covered,
    "moved": turned,
    "defocused": soft,
}


@pytest.mark.parametrize("fault", SPOILT)
def test_a_fault_is_told_after_its_time_and_gone_with_its_cause(clip: list[Luma], fault: Fault) -> None:
    lasting = round(FAULT_TIMES_S[fault]) + 4
    well, spoilt = clip[:20], [SPOILT[fault](noisy(picture)) for _, picture in zip(range(lasting), cycle(clip))]

    told = faults([*well, *spoilt, *map(noisy, clip[:3])])

    begun = told.index(fault)
    assert 20 + FAULT_TIMES_S[fault] <= begun <= 20 + FAULT_TIMES_S[fault] + 2
    assert set(told[begun : 20 + lasting]) == {fault}
    assert set(told[20 + lasting :]) == {None}
    assert set(told[:begun]) == {None}


def test_the_same_picture_to_the_bit_is_frozen(clip: list[Luma]) -> None:
    told = faults([*clip[:10], *[clip[9].copy() for _ in range(10)]])

    assert told[10 + round(FAULT_TIMES_S["frozen"])] == "frozen"
    assert set(told[: 10 + round(FAULT_TIMES_S["frozen"])]) == {None}


def test_a_still_scene_through_a_real_sensor_is_not_frozen(clip: list[Luma]) -> None:
    noise = [np.random.default_rng(second).normal(0, 1, clip[0].shape) for second in range(60)]
    still = [np.clip(clip[0] + grains, 0, 255).astype(np.uint8) for grains in noise]

    assert set(faults(still)) == {None}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_what_passes_in_a_moment_is_no_fault(clip: list[Luma], spoil: Callable[[Luma], Luma]) -> None:
    """Lightning, a headlight, a lorry before the lens."""
    pictures = [spoil(noisy(picture)) if second % 6 > 3 else noisy(picture) for second, picture in enumerate(clip * 3)]

    assert set(faults(pictures)) == {None}


def test_a_switch_to_infra_red_and_dusk_are_no_faults(clip: list[Luma]) -> None:
    dusk = [np.clip(picture * (1 - 0.7 * second / 25), 0, 255).astype(np.uint8) for second, picture in enumerate(clip)]
    infra_red = [noisy(np.clip(255 - 0.6 * picture, 0, 255).astype(np.uint8), 6) for picture in clip]

    assert set(faults([*clip, *dusk, *infra_red])) == {None}


def test_after_a_quarter_of_an_hour_another_view_is_the_usual_one(clip: list[Luma]) -> None:
    seen = [noisy(picture) for picture in clip[:15]]
    turned_away = [turned(noisy(picture)) for _, picture in zip(range(940), cycle(clip))]

    told = faults([*seen, *turned_away])

    assert "moved" in told
    assert told[-1] is None


@pytest.mark.parametrize("fault", ["dark", "overexposed", "covered"])
def test_a_stream_that_begins_spoilt_is_not_taken_for_a_clear_road_first(clip: list[Luma], fault: Fault) -> None:
    spoilt = [SPOILT[fault](picture) for picture in clip[:3]]

    assert faults([*spoilt, *clip[:4]]) == [fault] * 3 + [None] * 4


def test_a_lens_that_stays_softer_is_the_usual_one_after_a_quarter_of_an_hour(clip: list[Luma]) -> None:
    told = faults([*clip[:12], *(soft(picture) for picture in clip * 40)][:1000])

    assert told[100] == "defocused"
    assert told[-1] is None


def test_a_camera_that_was_turned_while_its_stream_was_down_is_told(clip: list[Luma]) -> None:
    before = PictureWatch(FAULT_TIMES_S)
    assert before.usual is None
    for second, picture in enumerate(clip * 2):
        before.look(picture, float(second))
    after = PictureWatch(FAULT_TIMES_S, before.usual)
    told = [after.look(turned(picture), float(second)) for second, picture in enumerate(clip)]

    assert told[12] == "moved"
    same = PictureWatch(FAULT_TIMES_S, before.usual)
    assert {same.look(picture, float(second)) for second, picture in enumerate(clip)} == {None}

from __future__ import annotations

import numpy as np
import pytest

from monitor.cameras.timing import MOST_LAG_S, StreamTiming

LASTING_S = 5.0


def first_told_s(stamps_s: np.ndarray, times_s: np.ndarray) -> float | None:
    timing = StreamTiming(LASTING_S)
    told = [now_s for stamp_s, now_s in zip(stamps_s, times_s, strict=True) if timing.is_off(stamp_s, now_s)]
    return told[0] if told else None


TIMES_S = np.arange(1, 3_000, 1.0)
JITTER_S = np.random.default_rng(1).uniform(0, 0.5, len(TIMES_S))


@pytest.mark.parametrize(
    "stamps_s",
    [
        TIMES_S,
        TIMES_S * 1.0003,
        TIMES_S * 0.9997,
        TIMES_S - 4 * (TIMES_S < 3),
        np.where((TIMES_S > 100) & (TIMES_S < 104), 100, TIMES_S),
        np.zeros(len(TIMES_S)),
        np.where(TIMES_S < 5, TIMES_S + 4, TIMES_S - 2),
    ],
    ids=[
        "in step",
        "crystal a little fast",
        "a little slow",
        "burst at the start",
        "short stall",
        "no stamps",
        "one frame a second, counted anew",
    ],
)
def test_a_healthy_stream_is_never_off(stamps_s: np.ndarray) -> None:
    assert first_told_s(np.maximum(stamps_s - JITTER_S * (stamps_s > 0), 0), TIMES_S) is None


@pytest.mark.parametrize(
    ("stamps_s", "within_s"),
    [
        (TIMES_S * 0.5, 20),
        (TIMES_S * 0.97, 130),
        (TIMES_S * 1.2, 60),
        (TIMES_S - 10 * (TIMES_S > 50), 60),
    ],
    ids=["half speed", "three per cent slow", "a fifth fast", "ten seconds late at once"],
)
def test_a_stream_whose_time_leaves_ours_is_told(stamps_s: np.ndarray, within_s: float) -> None:
    told_s = first_told_s(stamps_s, TIMES_S)

    assert told_s is not None
    assert told_s <= within_s


def test_a_stream_that_catches_up_is_healthy_again() -> None:
    timing = StreamTiming(LASTING_S)
    for now_s in range(1, 100):
        timing.is_off(now_s - 2 * MOST_LAG_S * (20 < now_s < 60), now_s)
        if now_s == 50:
            assert timing.is_off(now_s - 2 * MOST_LAG_S, now_s)

    assert not timing.is_off(100, 100)

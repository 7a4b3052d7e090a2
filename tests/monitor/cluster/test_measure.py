"""The cost of a frame is compared over the same frames."""

from __future__ import annotations

import pytest

from adapters.errors import InputError
from monitor.bench import Sample
from monitor.cluster.measure import cost_of_same_frames


def test_frames_that_only_one_run_saw_do_not_count() -> None:
    # fifty frames of 10 ms, then a hundred of 30 ms, when an animal is there
    whole = [Sample(0.0, 0, 5.0), Sample(10.0, 50, 5.5), Sample(30.0, 150, 8.5)]
    later = [Sample(0.0, 100, 1.0), Sample(10.0, 150, 2.0), Sample(20.0, 200, 9.0)]

    assert cost_of_same_frames(whole, later) == pytest.approx((0.03, 0.02))
    assert cost_of_same_frames(whole, whole) == pytest.approx((3.5 / 150, 3.5 / 150))


def test_runs_without_a_frame_in_common_can_not_be_compared() -> None:
    early, late = [Sample(0.0, 0, 0.0), Sample(1.0, 9, 1.0)], [Sample(0.0, 9, 0.0), Sample(1.0, 20, 1.0)]

    with pytest.raises(InputError, match="too short"):
        cost_of_same_frames(early, late)

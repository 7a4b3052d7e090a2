"""A box in a cabinet runs for a year: what it holds in memory after an hour is what it holds after a day."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FRAMES = {"sample": 800, "full": 259_200}  # a day at three a second
MOST_GROWTH = 0.01


@pytest.mark.drill
@pytest.mark.timeout(7200)
def test_a_day_of_watching_takes_no_more_memory_than_its_second_hour(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    full = bool(request.config.getoption("--drills-in-full"))
    wanted = FRAMES["full" if full else "sample"]
    day = subprocess.run(
        [sys.executable, "-m", "tests.faults.day", str(tmp_path / "state"), str(wanted)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert day.returncode == 0, day.stderr
    told = [tuple(map(float, line.split())) for line in day.stdout.splitlines()]
    frames, situations, memory_mb = zip(*told, strict=True)

    assert frames[-1] == wanted
    assert situations[-1] > 0
    warm, growth = memory_mb[1], memory_mb[-1] / memory_mb[1] - 1
    print(
        f"{wanted} frames, {situations[-1]:.0f} situations: {memory_mb[0]:.1f} MB after the first, {warm:.1f} after "
        f"the second, {memory_mb[-1]:.1f} after the last of {len(told)} parts ({growth:+.2%})"
    )
    if full:  # in a few minutes the buffers have not their size yet
        assert growth < MOST_GROWTH

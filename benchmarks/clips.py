"""Replay the real clips and the bundled one: WILDLANE_DATA=../shared/data python benchmarks/clips.py

Counts situations on clips without animals, where each is false, and on clips with animals. These clips took part in
fitting p(animal), so the figures are of seen material; `python benchmarks/leave_one_clip_out.py` fits without the clip
it replays.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from adapters.training.pictures import ROAD_CLIPS

ROOT = Path(__file__).parents[1]
WITH_ANIMALS = ("cameratrap_chimp_zamba.mp4", "animal_cows_sanskar.mp4")


def main() -> None:
    clips = Path(os.environ["WILDLANE_DATA"]) / "clips"
    with tempfile.TemporaryDirectory() as state:
        for name in ROAD_CLIPS + WITH_ANIMALS:
            command = [sys.executable, "-m", "monitor", "replay", str(clips / name), "--json", "--state", state]
            answer = json.loads(subprocess.run(command, capture_output=True, check=True, text=True, cwd=ROOT).stdout)  # noqa: S603
            kind = "false" if name in ROAD_CLIPS else "animal"
            first = f", the first at {answer['situations'][0]['start_s']:.1f} s" if answer["situations"] else ""
            count = len(answer["situations"])
            print(f"{name:40} {answer['analysed']:5} frames analysed  {count:3} {kind} situations{first}", flush=True)


if __name__ == "__main__":
    main()

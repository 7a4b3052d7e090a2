"""A camera's days in simulated time: frames through classifier, tracks, policy and journal, as fast as they go.

    python -m tests.faults.day STATE_FOLDER FRAMES

Analysed three times a second, the road is empty nine times in ten, and then the demonstration clip passes. The site's
background is learned every half hour, as the daemon does. After each hour, or quarter of what is asked for where that
is less, it prints the frames done, the situations begun, and the resident memory in MB.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np

from adapters.classifier import Classifier
from monitor.alerts.journal import Journal
from monitor.assembly import settings_of, zones_of
from monitor.cameras.stream import Source, read_recording
from monitor.config import Config
from monitor.in_force import InForce
from monitor.pipeline import Budget, Pipeline
from monitor.policy import Phase, Policy
from monitor.scenery import Scenery
from monitor.values import Frame
from tests.conftest import DEMO_CLIP
from tests.monitor.test_alerts import draft

RATE_HZ = 3
HOUR = 3600 * RATE_HZ  # frames
QUIET_PASSES = 9  # lengths of the clip in which nothing passes, for each in which the clip does
STILLS, NOISE = 8, 2.0  # different pictures of the empty road, and their noise in grey levels


def frames() -> Iterator[Frame]:
    clip = [
        replace(event, image=event.image.copy())
        for event in read_recording(Source(name="road", url=str(DEMO_CLIP), analysis_rate_hz=RATE_HZ))
        if isinstance(event, Frame)
    ]
    rng = np.random.default_rng(1)
    empty = clip[0].image.astype(np.float32)
    stills = [np.clip(empty + rng.normal(0, NOISE, empty.shape), 0, 255).astype(np.uint8) for _ in range(STILLS)]
    number = count()
    while True:
        for _ in range(QUIET_PASSES * len(clip)):
            index = next(number)
            yield replace(clip[0], index=index, image=stills[index % STILLS], moving=())
        for frame in clip:
            yield replace(frame, index=next(number))


def resident_mb() -> float:
    return int(re.findall(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) / 1e3


def main() -> None:
    state, wanted = Path(sys.argv[1]), int(sys.argv[2])
    config = Config.model_validate({"cameras": {"road": {"source": "road.mp4"}}})
    classifier = Classifier(device="cpu", precision="int8", threads=1)
    in_force, journal = InForce(classifier, state), Journal(state)
    pipeline = Pipeline(
        classifier,
        in_force.class_set(),
        Policy(settings_of(config), zones_of(config, ["road"])),
        {"road": Budget(sweep_tiles_per_frame=1)},
        learn=in_force.background.offer,
        scenery=Scenery(in_force.background),
    )
    begun, told_every = 0, min(HOUR, wanted // 4)
    for index, frame in enumerate(frames(), start=1):
        outcome = pipeline.process([frame], index / RATE_HZ)
        for situation in outcome.told:
            begun += situation.phase is Phase.START
            attributes = pipeline.class_set.attributes.get(situation.label)
            journal.append([draft(situation, attributes)])
        if index % (HOUR // 2) == HOUR // 4:  # long before memory is read: a version that is being loaded would count
            in_force.learn_background()
        in_force.take_up(pipeline)
        if index % told_every == 0:
            print(index, begun, f"{resident_mb():.1f}", flush=True)
        if index == wanted:
            break
    journal.close()
    in_force.close()


if __name__ == "__main__":
    main()

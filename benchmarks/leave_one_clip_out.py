"""False situations on each clip without animals when p(animal) was fitted without that clip.

It is the honest figure for a new road:

    WILDLANE_DATA=../shared/data python benchmarks/leave_one_clip_out.py

Needs the extra `train`; about ten minutes on two cores.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from adapters.class_set import ClassSetStore
from adapters.classifier import Classifier
from adapters.encoder import Encoder
from adapters.runtime import MATCH, MODELS, PRETRAINED, SHIPPED, write_manifest
from adapters.training.animal_probe import Probe, add_clips
from adapters.training.export import deployed_head, export_match
from adapters.training.pictures import ROAD_CLIPS
from adapters.training.statistics import SEED, fit_base
from monitor.assembly import settings_of, zones_of
from monitor.config import Config
from monitor.pipeline import Budget, Pipeline
from monitor.policy import Policy
from monitor.replay import Replayed, recording, replay
from monitor.training_crops import cutout_crops, road_crops


def collect(data: Path) -> Probe:
    """Return p(animal)'s material, as the training collects it."""
    rng, encode = np.random.default_rng(SEED), Encoder(MODELS)
    _, _, probe = fit_base(encode, Encoder(MODELS, PRETRAINED), data, rng)
    add_clips(probe, encode, data, road_crops, cutout_crops, rng, print)
    return probe


def models_without(probe: Probe, clip: str, folder: Path) -> Path:
    """Export the graphs with p(animal) fitted on everything but one clip."""
    models = Path(shutil.copytree(MODELS, folder / "models"))
    head = deployed_head(models)
    head.match.animal.load_state_dict(probe.fit(without=clip)._asdict())
    export_match(head.match, models / MATCH)
    write_manifest(models, SHIPPED)
    return models


def replay_with(models: Path, clip: Path, state: Path) -> Replayed:
    classifier, settings = Classifier(models, device="cpu"), settings_of(Config())
    store = ClassSetStore(state)
    store.seed(models, classifier.encoder_hash)
    class_set = store.load(classifier)
    store.close()
    return replay(
        recording(clip, 5.0),
        lambda camera: Pipeline(
            classifier, class_set, Policy(settings, zones_of(Config(), [camera])), {camera: Budget()}
        ),
    )


def main() -> None:
    data = Path(os.environ["WILDLANE_DATA"])
    probe = collect(data)
    hours = false = 0.0
    for name in ROAD_CLIPS:
        with tempfile.TemporaryDirectory() as folder:
            replayed = replay_with(
                models_without(probe, name, Path(folder)), data / "clips" / name, Path(folder) / "state"
            )
        answer = replayed.answer()
        hours += replayed.frames / replayed.fps / 3600
        false += len(answer["situations"])
        told = ", ".join(f"{s['class']} {s['probability']:.2f} at {s['start_s']:.1f} s" for s in answer["situations"])
        print(f"{name:40} {len(answer['situations'])} false situations {told}", flush=True)
    print(
        f"{false:.0f} false situations in {60 * hours:.1f} minutes; "
        f"with none, the rate is known to be below {3 / hours:.0f} an hour (95 %)"
    )


if __name__ == "__main__":
    main()

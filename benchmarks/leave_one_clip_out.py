"""False situations on each clip without animals when p(animal) was fitted without that clip.

It is the honest figure for a new road:

    WILDLANE_DATA=../shared/data python benchmarks/leave_one_clip_out.py

Needs the extra `train`; about fifteen minutes on two cores.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from fit_head_statistics import ROAD_CLIPS, Probe, collect  # noqa: E402

from adapters.class_set import ClassSetStore  # noqa: E402
from adapters.classifier import Classifier  # noqa: E402
from adapters.runtime import ADAPT, ENCODE, KNOWLEDGE, MATCH, MODELS, write_manifest  # noqa: E402
from adapters.starter import STARTER  # noqa: E402
from adapters.training.attention import Match  # noqa: E402
from adapters.training.backbone import LITE0, load_backbone  # noqa: E402
from adapters.training.export import export_match, load_statistics  # noqa: E402
from monitor.assembly import settings_of, zones_of  # noqa: E402
from monitor.config import Config  # noqa: E402
from monitor.pipeline import Budget, Pipeline  # noqa: E402
from monitor.policy import Policy  # noqa: E402
from monitor.replay import Replayed, replay  # noqa: E402


def models_without(probe: Probe, clip: str, folder: Path) -> Path:
    """Export the graphs with p(animal) fitted on everything but one clip."""
    fitted = {name: torch.from_numpy(np.array(value, np.float32)) for name, value in probe.fit(without=clip).items()}
    statistics = replace(
        load_statistics(),
        animal_mean=fitted["animal_mean"],
        animal_weight=fitted["animal_weight"],
        animal_bias=float(fitted["animal_bias"]),
    )
    models = Path(shutil.copytree(MODELS, folder / "models"))
    export_match(Match(statistics), load_backbone(LITE0), models / MATCH)
    write_manifest(models, [ENCODE, ADAPT, MATCH, KNOWLEDGE])
    return models


def replay_with(models: Path, clip: Path, state: Path) -> Replayed:
    classifier, settings = Classifier(models, device="cpu"), settings_of(Config())
    store = ClassSetStore(state)
    store.seed(models / STARTER, classifier.encoder_hash)
    class_set = store.load(classifier)
    store.close()
    return replay(
        clip,
        lambda camera: Pipeline(
            classifier, class_set, Policy(settings, zones_of(Config(), [camera])), {camera: Budget()}
        ),
        analysis_rate_hz=5.0,
    )


def main() -> None:
    data = Path(os.environ["WILDLANE_DATA"])
    _, _, probe = collect(data)
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

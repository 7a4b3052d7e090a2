"""p(animal): a logistic regression on the pooled vector, against what roads without animals offer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from adapters.encoder import Encoder
from adapters.training.pictures import ROAD_CLIPS, cutouts

PROBE_C = 1e-3  # inverse of the L2 penalty; leave-one-clip-out chose it among 1e-3, 1e-2, 1e-1

Picture = NDArray[np.uint8]
RoadCrops = Callable[[Path, Generator], Iterator[Picture]]  # of a clip: what the daemon would crop out of it
CutoutCrops = Callable[[Path, list[Picture], Generator], Iterator[Picture]]  # the same with cut-outs pasted in


class Probe:
    """Collects pooled vectors of animals and of everything else, and fits the logistic regression of p(animal)."""

    def __init__(self, pooled: NDArray[np.float32], animal: NDArray[np.bool_]) -> None:
        self.pooled, self.animal = [pooled], [animal]
        self.clips = [np.full(len(pooled), "")]

    def add(self, clip: str, pooled: NDArray[np.float32], *, animal: bool) -> None:
        """Add the pooled vectors of a clip's crops (n, d), all of animals or none."""
        self.pooled.append(pooled)
        self.animal.append(np.full(len(pooled), animal))
        self.clips.append(np.full(len(pooled), clip))

    def fit(self, *, without: str | None = None) -> dict[str, NDArray[np.float32]]:
        """Fit on everything, or on everything but one clip."""
        kept = np.concatenate(self.clips) != without
        root, animal = np.sqrt(np.concatenate(self.pooled)[kept] + 1e-6), np.concatenate(self.animal)[kept]
        mean, std = root.mean(axis=0), root.std(axis=0) + 1e-3
        model = LogisticRegression(C=PROBE_C, max_iter=1000, class_weight="balanced").fit((root - mean) / std, animal)
        return {"animal_mean": mean, "animal_weight": model.coef_[0] / std, "animal_bias": model.intercept_[0]}


def add_clips(
    probe: Probe,
    encode: Encoder,
    data: Path,
    road_crops: RoadCrops,
    cutout_crops: CutoutCrops,
    rng: Generator,
    say: Callable[[str], None],
) -> None:
    """Add every road clip of the data, as it is and with cut-out animals pasted into it."""
    animals = cutouts(data)
    for name in ROAD_CLIPS:
        path = data / "clips" / name
        probe.add(name, encode(list(road_crops(path, rng))).glob, animal=False)
        probe.add(name, encode(list(cutout_crops(path, animals, rng))).glob, animal=True)
        say(f"p(animal): crops of {name}")

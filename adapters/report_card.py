"""How good a class is: each frame in turn left out and looked for, what it is taken for, what would help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from adapters.classifier import NONE, Classifier, ClassMemory
from adapters.encoder import Features, joined

FAR_PX = 48  # crops of this side or less show how the animal looks from afar
GREY = 4.0  # mean spread of the colour channels in grey levels; less is an infra-red picture
ENOUGH = 5
NEAR_CLASSES = 3
# cosine of two classes' prototypes: one of 100 pairs of tuning classes lies above, the halves of a class at 0.5 to 0.9
NEAR_DUPLICATE = 0.5


@dataclass(frozen=True)
class Support:
    """What a version is made of: the frames of each class, and what is not of it."""

    taught: Mapping[str, Sequence[Features]]
    negatives: Mapping[str, Sequence[Features]]

    def memory(self, classifier: Classifier, *, more_follow: bool = False) -> ClassMemory:
        """Return it as inputs of match.onnx; `more_follow` as in `Classifier.adapt`."""
        supports = {name: joined(shots) for name, shots in self.taught.items()}
        return classifier.adapt(supports, self.negatives, more_follow=more_follow)


def examine(
    classifier: Classifier, support: Support, name: str
) -> tuple[float | None, dict[str, float], dict[str, float]]:
    """Return (share found again, confusions, nearest classes) when each shot in turn is left out of its class."""
    own = support.taught[name]
    memory = support.memory(classifier, more_follow=len(own) > 1)
    row = memory.names.index(name)
    prototypes = memory.arrays["proto"]
    cosines = {other: float(prototypes[row] @ prototypes[i]) for i, other in enumerate(memory.names) if other != name}
    nearest = dict(sorted(cosines.items(), key=lambda item: -item[1])[:NEAR_CLASSES])
    if len(own) < 2:  # one shot can't be left out
        return None, {}, nearest
    answers = []
    for i, shot in enumerate(own):
        rest = Support({**support.taught, name: [*own[:i], *own[i + 1 :]]}, support.negatives)
        left_out = rest.memory(classifier, more_follow=i < len(own) - 1)
        weights = classifier.match(shot[:1], left_out)[0][0]
        answers.append((*left_out.names, NONE)[int(weights.argmax())])
    confused = {other: answers.count(other) / len(answers) for other in sorted(set(answers) - {name})}
    return answers.count(name) / len(answers), confused, nearest


def missing(frames: int, pictures: Sequence[NDArray[np.uint8]], nearest: Mapping[str, float]) -> list[str]:
    """Return in plain words which frames would help a class.

    Args:
        frames: how many it has, those of earlier lessons and those without a picture among them.
        pictures: its kept crops, uint8 (height, width, 3), BGR.
        nearest: cosines to the classes that look most like it.
    """
    wishes = []
    if frames < ENOUGH:
        wishes.append(f"{ENOUGH - frames} more frames, from other angles")
    if not any(_is_grey(crop) for crop in pictures):
        wishes.append("frames at night or in infra-red")
    if not any(min(crop.shape[:2]) <= FAR_PX for crop in pictures):
        wishes.append(f"frames from far away, {FAR_PX} pixels or less")
    wishes += [
        f"frames that tell it from '{other}': the two are {cosine:.2f} alike"
        for other, cosine in nearest.items()
        if cosine >= NEAR_DUPLICATE
    ]
    return wishes


def _is_grey(crop: NDArray[np.uint8]) -> bool:
    small = cv2.resize(crop, (32, 32), interpolation=cv2.INTER_AREA)
    return float(np.ptp(small, axis=2).mean()) < GREY

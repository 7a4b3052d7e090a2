"""Which labelled frames can be taught: legible, new, no contradiction, no stranger among the others; and why not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from adapters.classifier import is_legible
from adapters.crops import LabelledCrop
from adapters.encoder import Features, unit

SAME_PICTURE = 0.995  # cosine of pooled vectors above which two frames are one picture
# Centred cosine to the mean of the others. Of 3,000 draws from the tuning species 0.3 % of right frames lie below, and
# 54 % of frames of another animal; of mini-ImageNet's classes 1 % and 53 %.
STRANGER = 0.05
LEAST_OTHERS = 3  # fewer can't tell who is the stranger
LEAST_TAUGHT_PX = 16  # a crop's smaller side; what is recognised may be smaller, what everything is compared to not

Crop = LabelledCrop | str  # a crop, or why there is none
Usable = tuple[str, LabelledCrop]  # what the picture is called, and its crop


def sort_out(images: Sequence[str], crops: Sequence[Crop]) -> tuple[list[Usable], list[dict[str, str]]]:
    """Return the crops in which there is something to see, and which are refused and why."""
    usable: list[Usable] = []
    refused: list[dict[str, str]] = []
    for image, crop in zip(images, crops, strict=True):
        if isinstance(crop, str):
            refused.append({"image": image, "why": crop})
        elif min(crop.pixels.shape[:2]) < LEAST_TAUGHT_PX or not is_legible(crop.pixels):
            why = (
                f"too small or too flat: {crop.pixels.shape[1]} x {crop.pixels.shape[0]} pixels, "
                f"at least {LEAST_TAUGHT_PX} with some contrast are needed"
            )
            refused.append({"image": image, "why": why})
        else:
            usable.append((image, crop))
    return usable, refused


def without_repeats(
    usable: list[Usable], features: list[Features], known: Sequence[Features], refused: list[dict[str, str]]
) -> tuple[list[Usable], list[Features]]:
    """Leave out frames that show what another one, or an earlier lesson, shows already: they would count twice."""
    plain = [unit(shot.glob[0]) for shot in features]  # the first view is the crop itself
    earlier = [unit(shot.glob[0]) for shot in known]
    kept: list[int] = []
    for i, seen in enumerate(plain):
        twin = next((j for j in kept if float(seen @ plain[j]) > SAME_PICTURE), None)
        if twin is not None:
            refused.append({"image": usable[i][0], "why": f"shows the same as {usable[twin][0]}"})
        elif is_known(features[i], earlier):
            refused.append({"image": usable[i][0], "why": "was taught before"})
        else:
            kept.append(i)
    return [usable[i] for i in kept], [features[i] for i in kept]


def without_known(
    usable: list[Usable],
    features: list[Features],
    known: Sequence[Features],
    why: str,
    refused: list[dict[str, str]],
) -> tuple[list[Usable], list[Features]]:
    """Leave out frames of which the contrary was said: the earlier word must be taken back first."""
    earlier = [unit(shot.glob[0]) for shot in known]
    kept = [i for i, seen in enumerate(features) if not is_known(seen, earlier)]
    refused += [
        {"image": image, "why": f"{why}; take that back first"} for i, (image, _) in enumerate(usable) if i not in kept
    ]
    return [usable[i] for i in kept], [features[i] for i in kept]


def without_strangers(
    usable: list[Usable],
    features: list[Features],
    known: Sequence[Features],
    mu: NDArray[np.float32],
    refused: list[dict[str, str]],
) -> tuple[list[Usable], list[Features]]:
    """Leave out frames that look like none of the others, the strangest first: most likely a slip of the operator.

    Who teaches a single frame means it.
    """
    usable, features = list(usable), list(features)
    while len(features) > 1 and len(features) + len(known) > LEAST_OTHERS:
        looks = unit(np.stack([shot.glob[0] for shot in [*features, *known]]) - mu)
        others = unit(looks.sum(axis=0) - looks)
        likeness = (looks * others).sum(axis=1)[: len(features)]
        worst = int(likeness.argmin())
        if likeness[worst] >= STRANGER:
            break
        image, _ = usable.pop(worst)
        features.pop(worst)
        refused.append({"image": image, "why": "looks like none of the other frames; if it is one, teach it alone"})
    return usable, features


def is_known(shot: Features, earlier: Sequence[NDArray[np.float32]]) -> bool:
    """Tell whether a frame shows what an earlier one does, given as a unit vector."""
    return any(float(unit(shot.glob[0]) @ other) > SAME_PICTURE for other in earlier)

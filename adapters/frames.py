"""Which labelled frames can be taught: legible, sharp, new, no contradiction, no stranger; and why not."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
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
# Sharpness at 48 px: a larger crop is no blurrier for its size, a smaller one is measured as it is. Of the 4,172
# pictures under data/images/species 0.3 % lie below; of the 542 boxes of demo/crossing.mp4 that can be taught none, the
# least has 0.29, the median 0.63. Blurred by a Gaussian of 2 % of the side (1 px at 48) 9 of 10 lie below, by 3 % all.
# Divided by the variance: contrast is judged elsewhere, and a picture at night has little.
SHARPNESS_PX, LEAST_SHARPNESS = 48, 0.2
LEAST_TAUGHT_PX = 16  # a crop's smaller side; what is recognised may be smaller, what everything is compared to not

Crop = LabelledCrop | str  # a crop, or why there is none
Usable = tuple[str, LabelledCrop]  # what the picture is called, and its crop


def sort_out(
    images: Sequence[str], crops: Sequence[Crop], *, sharp: bool = False
) -> tuple[list[Usable], list[dict[str, str]]]:
    """Return the crops in which there is something to see, and which are refused and why.

    Args:
        images: what each crop is called.
        crops: what was labelled, or why there is none.
        sharp: refuse what is blurred too. What is no animal may be: fog, a glare.
    """
    usable: list[Usable] = []
    refused: list[dict[str, str]] = []
    for image, crop in zip(images, crops, strict=True):
        why = crop if isinstance(crop, str) else illegible(crop) or (blurred(crop) if sharp else None)
        if isinstance(crop, str) or why is not None:
            refused.append({"image": image, "why": str(why)})
        else:
            usable.append((image, crop))
    return usable, refused


def illegible(crop: LabelledCrop) -> str | None:
    """Return why nothing can be seen in a crop; None where something can."""
    height, width = crop.pixels.shape[:2]
    if min(height, width) >= LEAST_TAUGHT_PX and is_legible(crop.pixels):
        return None
    return f"too small or too flat: {width} x {height} pixels, at least {LEAST_TAUGHT_PX} with some contrast are needed"


def blurred(crop: LabelledCrop) -> str | None:
    """Return why an animal is too blurred to learn from; None where it is not."""
    found = sharpness(crop)
    if found >= LEAST_SHARPNESS:
        return None
    return (
        f"too blurred: sharpness {found:.2f}, at least {LEAST_SHARPNESS} is needed; take a frame where it stands still"
    )


def sharpness(crop: LabelledCrop) -> float:
    """Return the variance of the animal's Laplacian over its own, at `SHARPNESS_PX` or what it has less.

    Only its box counts: behind an animal that is smeared by its speed the ground is sharp.
    """
    x1, y1, x2, y2 = crop.animal or (0, 0, crop.pixels.shape[1], crop.pixels.shape[0])
    inside = crop.pixels[y1:y2, x1:x2]
    if not inside.size:  # a box thinner than a pixel
        return 0.0
    grey = cv2.cvtColor(inside, cv2.COLOR_BGR2GRAY)
    scale = SHARPNESS_PX / max(grey.shape)
    if scale < 1:
        size = [max(1, round(side * scale)) for side in grey.shape[::-1]]
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    luma = grey.astype(np.float32)
    return float(cv2.Laplacian(luma, cv2.CV_32F).var() / max(float(luma.var()), 1e-3))


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

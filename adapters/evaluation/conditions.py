"""What `evaluate` does to the queries before they are asked; the support set always stays clean.

Fixed recipes, so that figures stay comparable over years and between systems. Training must use none of them.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from adapters.evaluation.corruptions import CORRUPTIONS, corrupt

SIDE_PX = 224  # the size that ImageNet-C is defined for, and that crops are squeezed to anyway

# A condition is a set of views; an episode's queries take them in turn.
VIEWS: dict[str, tuple[str, ...]] = {
    "clean": ("clean",),
    "imagenet-c": tuple(CORRUPTIONS),
    "32px": ("32px",),
    "infrared": ("infrared",),
}


def view(picture: NDArray[np.uint8], name: str, rng: Generator) -> NDArray[np.uint8]:
    """Return the picture as one view shows it.

    Args:
        picture: uint8 (height, width, 3), BGR, of any size.
        name: one of the values of `VIEWS`.
        rng: noise and angles come from it.

    Returns:
        uint8 (SIDE_PX, SIDE_PX, 3), BGR; a clean picture keeps its size.
    """
    if name == "clean":
        return picture
    if name == "32px":
        return _enlarged(np.asarray(cv2.resize(picture, (32, 32), interpolation=cv2.INTER_AREA), np.uint8))
    if name == "infrared":
        return _infrared(picture, rng)
    shrinks = min(picture.shape[:2]) > SIDE_PX
    square = cv2.resize(picture, (SIDE_PX,) * 2, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return corrupt(np.asarray(square, np.uint8), name, rng)


def _infrared(picture: NDArray[np.uint8], rng: Generator) -> NDArray[np.uint8]:
    """Grey, 96 px, low contrast, noise of 6 grey levels, enlarged again."""
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, (96, 96), interpolation=cv2.INTER_AREA).astype(np.float32)
    seen = np.clip(small * 0.45 + 20 + rng.normal(0, 6, small.shape), 0, 255).astype(np.uint8)
    return np.repeat(_enlarged(seen)[:, :, None], 3, axis=2)


def _enlarged(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return cv2.resize(picture, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC)  # type: ignore[return-value]

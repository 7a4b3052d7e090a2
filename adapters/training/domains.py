"""How cameras degrade a picture, and how a cut-out animal is put onto a road: the training side's own recipes.

Nothing here repeats a recipe that `evaluate` judges with (ImageNet-C, `32px`, `infrared`): ranges are wider and drawn at random.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Picture = NDArray[np.uint8]  # (height, width, 3), BGR


def degrade(picture: Picture, rng: Generator, *, side_px: tuple[int, int] = (24, 160)) -> Picture:
    """Return the picture as a roadside camera might deliver it: small, grey, flat, blurred, noisy, compressed.

    Args:
        picture: uint8 (height, width, 3), BGR.
        rng: every draw comes from it.
        side_px: smallest and largest side of the square result, drawn log-uniformly.

    Returns:
        uint8 (side, side, 3), BGR.
    """
    side = round(float(np.exp(rng.uniform(*np.log(side_px)))))
    x = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
    if rng.random() < 0.3:  # infra-red and mono cameras
        x[:] = x.mean(axis=2, keepdims=True)
    if rng.random() < 0.3:
        x = cv2.filter2D(x, -1, _motion_kernel(rng))
    if rng.random() < 0.5:
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.3, 1.1))
    x = (x - 128) * rng.uniform(0.45, 1.2) + 128 + rng.uniform(-50, 40)
    x += rng.normal(0, rng.uniform(0, 7), x.shape)
    return compress(np.clip(x, 0, 255).astype(np.uint8), rng) if rng.random() < 0.6 else np.clip(x, 0, 255).astype(np.uint8)


def compress(picture: Picture, rng: Generator) -> Picture:
    """Return the picture after JPEG at a quality drawn from 30 to 90."""
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 90))])
    return cv2.imdecode(encoded, cv2.IMREAD_COLOR)  # type: ignore[return-value]  # own bytes always decode


def random_square(picture: Picture, rng: Generator, *, share: tuple[float, float] = (0.65, 1.0)) -> Picture:
    """Return a random square whose side is a share of the picture's shorter side: partial views, off-centre boxes."""
    height, width = picture.shape[:2]
    side = int(min(height, width) * rng.uniform(*share))
    y = int(rng.integers(0, height - side + 1))
    x = int(rng.integers(0, width - side + 1))
    return picture[y : y + side, x : x + side]


def paste_cutout(frame: Picture, cutout: NDArray[np.uint8], x: int, y: int, *, gain: float = 1.0, offset: float = 0.0) -> Picture:
    """Return a copy of the frame with a cut-out over it; parts outside the frame are left off.

    Args:
        frame: uint8 (height, width, 3), BGR.
        cutout: uint8 (h, w, 4), BGR and alpha, already at its final size.
        x: left edge of the cut-out in the frame, in pixels; may be negative.
        y: its upper edge.
        gain: contrast about mid-grey, applied to the cut-out.
        offset: brightness in grey levels, added after the gain.
    """
    frame = frame.copy()
    top, left = max(0, y), max(0, x)
    bottom, right = min(frame.shape[0], y + cutout.shape[0]), min(frame.shape[1], x + cutout.shape[1])
    if top >= bottom or left >= right:
        return frame
    part = cutout[top - y : bottom - y, left - x : right - x].astype(np.float32)
    alpha = part[:, :, 3:] / 255
    body = np.clip((part[:, :, :3] - 128) * gain + 128 + offset, 0, 255)
    under = frame[top:bottom, left:right]
    under[:] = np.clip(under * (1 - alpha) + body * alpha, 0, 255).astype(np.uint8)
    return frame


def resize_cutout(cutout: NDArray[np.uint8], height_px: float, *, mirrored: bool = False) -> NDArray[np.uint8]:
    """Return the cut-out at the given height with a softened edge, uint8 (h, w, 4)."""
    scale = height_px / cutout.shape[0]
    small = cv2.resize(cutout, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    small[:, :, 3] = cv2.GaussianBlur(small[:, :, 3], (0, 0), 0.6)
    return small[:, ::-1].copy() if mirrored else small


def _motion_kernel(rng: Generator) -> NDArray[np.float32]:
    length = int(rng.integers(2, 5))
    kernel = np.zeros((length, length), np.float32)
    kernel[length // 2] = 1 / length
    return kernel.T if rng.random() < 0.5 else kernel

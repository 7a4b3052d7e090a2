"""Ten corruptions of ImageNet-C at severity 3; for judging only, training must never see them.

Reference:
    Hendrycks and Dietterich 2019, https://arxiv.org/abs/1903.12261; constants and order of operations as in
    https://github.com/hendrycks/robustness, checked against its packaged form in the tests.
"""

from __future__ import annotations

import io
import math
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import zoom

FROST = Path(__file__).with_name("frost")
Unit = NDArray[Any]  # float64 (height, width, 3), BGR, 0 to 1; cv2 and scipy type their answers loosely


def gaussian_noise(x: Unit, rng: Generator) -> Unit:
    """Add normal noise."""
    return x + rng.normal(0, 0.18, x.shape)


def shot_noise(x: Unit, rng: Generator) -> Unit:
    """Count twelve photons at full scale."""
    return rng.poisson(x * 12) / 12


def defocus_blur(x: Unit, _rng: Generator) -> Unit:
    """Blur with a disc of radius 6."""
    steps = np.arange(-8, 9)
    disc = (steps[:, None] ** 2 + steps**2 <= 36).astype(np.float32)
    return cv2.filter2D(x, -1, cv2.GaussianBlur(disc / disc.sum(), (3, 3), 0.5))


def motion_blur(x: Unit, rng: Generator) -> Unit:
    """Blur along a line at an angle of -45 to 45 degrees."""
    return _moved(x, radius=15, sigma=8, angle_deg=rng.uniform(-45, 45))


def snow(x: Unit, rng: Generator) -> Unit:
    """Whiten the picture and let streaked flakes fall over it from two sides."""
    height, width = x.shape[:2]
    h, w = math.ceil(height / 4), math.ceil(width / 4)
    noise = rng.normal(0.55, 0.3, (height, width))[(height - h) // 2 :, (width - w) // 2 :][:h, :w]
    flakes = zoom(noise, 4, order=1)[:height, :width]
    flakes = np.clip(np.where(flakes < 0.9, 0, flakes), 0, 1)
    flakes = np.round(_moved(flakes, radius=12, sigma=8, angle_deg=rng.uniform(-135, -45)) * 255)[:, :, None] / 255
    grey = cv2.cvtColor(x.astype(np.float32), cv2.COLOR_BGR2GRAY)[:, :, None]
    return np.asarray(0.7 * x + 0.3 * np.maximum(x, grey * 1.5 + 0.5) + flakes + flakes[::-1, ::-1])


def frost(x: Unit, rng: Generator) -> Unit:
    """Lay a random part of a photograph of frost over the picture."""
    height, width = x.shape[:2]
    ice = _frost(int(rng.integers(6)))
    scale = 1.1 * max(1, height / ice.shape[0], width / ice.shape[1])
    size = (math.ceil(ice.shape[1] * scale), math.ceil(ice.shape[0] * scale))
    ice = cv2.resize(ice, size, interpolation=cv2.INTER_CUBIC)
    y, left = int(rng.integers(ice.shape[0] - height)), int(rng.integers(ice.shape[1] - width))
    return np.asarray(0.7 * x + 0.7 * ice[y : y + height, left : left + width] / 255)


def brightness(x: Unit, _rng: Generator) -> Unit:
    """Raise the value of HSV by 0.3."""
    value = x.max(axis=2, keepdims=True)
    raised = np.clip(value + 0.3, 0, 1)
    return np.asarray(np.where(value > 0, x * raised / np.maximum(value, 1e-9), raised))


def contrast(x: Unit, _rng: Generator) -> Unit:
    """Keep a fifth of each channel's contrast."""
    mean = x.mean(axis=(0, 1), keepdims=True)
    return np.asarray((x - mean) * 0.2 + mean)


def pixelate(x: Unit, _rng: Generator) -> Unit:
    """Shrink to 0.4 with a box filter and enlarge by repeating pixels."""
    picture = Image.fromarray(_bytes(x))
    small = picture.resize((int(picture.width * 0.4), int(picture.height * 0.4)), Image.Resampling.BOX)
    return np.asarray(small.resize(picture.size, Image.Resampling.NEAREST)) / 255


def jpeg_compression(x: Unit, _rng: Generator) -> Unit:
    """Compress as JPEG of quality 15."""
    file = io.BytesIO()
    Image.fromarray(_bytes(x)[:, :, ::-1]).save(file, "JPEG", quality=15)
    return np.asarray(Image.open(file))[:, :, ::-1] / 255


CORRUPTIONS = {
    corruption.__name__: corruption
    for corruption in (
        gaussian_noise,
        shot_noise,
        defocus_blur,
        motion_blur,
        snow,
        frost,
        brightness,
        contrast,
        pixelate,
        jpeg_compression,
    )
}


def corrupt(picture: NDArray[np.uint8], name: str, rng: Generator) -> NDArray[np.uint8]:
    """Return the corrupted picture; uint8 (height, width, 3), BGR, defined for 224 x 224."""
    return _bytes(np.clip(CORRUPTIONS[name](picture / 255.0, rng), 0, 1))


def _moved(x: Unit, *, radius: int, sigma: float, angle_deg: float) -> Unit:
    """Blur one-sidedly along a line, edge pixels repeated."""
    width = 2 * radius + 1
    weights = np.exp(-(np.arange(width) ** 2) / (2 * sigma**2))
    kernel = np.zeros((2 * width + 1, 2 * width + 1))
    for i, weight in enumerate(weights / weights.sum()):
        dy = math.ceil(i * math.sin(math.radians(angle_deg)) - 0.5)
        dx = math.ceil(i * math.cos(math.radians(angle_deg)) - 0.5)
        kernel[width + dy, width + dx] += weight
    return cv2.filter2D(x, -1, kernel, borderType=cv2.BORDER_REPLICATE)


def _bytes(x: Unit) -> NDArray[np.uint8]:
    return (x * 255 + 1e-6).astype(np.uint8)  # truncated, as the published code does


@cache
def _frost(index: int) -> Unit:
    ice = cv2.imread(str(FROST / f"frost{index + 1}.jpg"))
    assert ice is not None  # it ships with the package
    return ice

"""How cameras degrade a picture, and how a cut-out animal is put onto a road: the training side's own recipes.

Nothing here repeats a recipe that `evaluate` judges with (ImageNet-C, `32px`, `infrared`): ranges are wider and drawn
at random.
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
    return (
        compress(np.clip(x, 0, 255).astype(np.uint8), rng)
        if rng.random() < 0.6
        else np.clip(x, 0, 255).astype(np.uint8)
    )


def compress(picture: Picture, rng: Generator) -> Picture:
    """Return the picture after JPEG at a quality drawn from 30 to 90."""
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 90))])
    return cv2.imdecode(encoded, cv2.IMREAD_COLOR)  # type: ignore[return-value]  # own bytes always decode


def random_square(picture: Picture, rng: Generator, *, share: tuple[float, float] = (0.65, 1.0)) -> Picture:
    """Return a random square whose side is a share of the picture's shorter side: partial views, off-centre boxes."""
    height, width = picture.shape[:2]
    side = max(1, int(min(height, width) * rng.uniform(*share)))
    y = int(rng.integers(0, height - side + 1))
    x = int(rng.integers(0, width - side + 1))
    return picture[y : y + side, x : x + side]


def paste_cutout(
    frame: Picture, cutout: NDArray[np.uint8], x: int, y: int, *, gain: float = 1.0, offset: float = 0.0
) -> Picture:
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


DOMAINS = ("clean", "small", "night", "blur", "noise", "weather", "exposure", "compressed")
DOMAIN_SHARES = (
    0.0,
    0.26,
    0.28,
    0.1,
    0.12,
    0.12,
    0.06,
    0.06,
)  # of degraded views; the worst come most
SIDE_PX = 224  # of a picture that was shot


def shoot(picture: Picture, domain: str, rng: Generator) -> Picture:
    """Return the picture as a camera of the given domain would deliver it, resized to `SIDE_PX`.

    Args:
        picture: uint8 (height, width, 3), BGR.
        domain: one of `DOMAINS`; outside `clean` a second, weaker degradation joins in every other time.
        rng: every draw comes from it.

    Returns:
        uint8 (SIDE_PX, SIDE_PX, 3), BGR.
    """
    x = cv2.resize(picture, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    if domain == "clean":
        return _to_bytes(x)
    if rng.random() < 0.5:
        x = _RECIPES[DOMAINS[1 + int(rng.integers(len(DOMAINS) - 1))]](x, rng, 0.4)
    return _to_bytes(_RECIPES[domain](x, rng, 1.0))


def _small(x: NDArray[np.float32], rng: Generator, strength: float) -> NDArray[np.float32]:
    smallest = 18 if strength == 1 else 80
    side = round(float(np.exp(rng.uniform(np.log(smallest), np.log(130)))))
    shrink = cv2.INTER_AREA if rng.random() < 0.7 else cv2.INTER_LINEAR
    enlarge = (cv2.INTER_CUBIC, cv2.INTER_LINEAR, cv2.INTER_NEAREST)[int(rng.choice(3, p=(0.5, 0.3, 0.2)))]
    return cv2.resize(cv2.resize(x, (side, side), interpolation=shrink), (SIDE_PX, SIDE_PX), interpolation=enlarge)


def _night(x: NDArray[np.float32], rng: Generator, strength: float) -> NDArray[np.float32]:
    """Infra-red or starved of light: grey, small, low gain, sensor noise before the enlargement."""
    side = round(float(np.exp(rng.uniform(np.log(40), np.log(180)))))
    y = cv2.resize(x, (side, side), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.85:
        y[:] = (y @ np.float32(rng.dirichlet((2, 4, 2))))[:, :, None]
    y = y * rng.uniform(1 - 0.8 * strength, 0.9) + rng.uniform(0, 60)
    grain = rng.normal(0, rng.uniform(1, 12 * strength), y.shape[:2] if rng.random() < 0.5 else y.shape)
    y = y + (grain if grain.ndim == 3 else grain[:, :, None])
    return cv2.resize(y.astype(np.float32), (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC)


def _blur(x: NDArray[np.float32], rng: Generator, strength: float) -> NDArray[np.float32]:
    """Out of focus (a disc), or moving (a line at any angle)."""
    reach = max(2, round(rng.uniform(2, 1 + 8 * strength)))
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    if rng.random() < 0.5:
        cv2.circle(kernel, (reach, reach), max(1, round(0.7 * reach)), 1.0, -1)
    else:
        angle = rng.uniform(0, np.pi)
        step = (round(reach * float(np.cos(angle))), round(reach * float(np.sin(angle))))
        cv2.line(kernel, (reach - step[0], reach - step[1]), (reach + step[0], reach + step[1]), 1.0, 1)
    return cv2.filter2D(x, -1, kernel / kernel.sum())


def _noise(x: NDArray[np.float32], rng: Generator, strength: float) -> NDArray[np.float32]:
    if rng.random() < 0.5:
        return x + rng.standard_normal(x.shape, np.float32) * np.float32(rng.uniform(6, 50 * strength))
    photons = rng.uniform(6, 80) / strength  # per full scale: few photons, much noise
    spread = np.sqrt(np.clip(x, 0, 255) * np.float32(255 / photons))  # of a Poisson count, as a normal one
    return x + rng.standard_normal(x.shape, np.float32) * spread


def _weather(x: NDArray[np.float32], rng: Generator, strength: float) -> NDArray[np.float32]:
    """Fog, streaks of rain, flakes, or a lens with wet or frozen patches."""
    kind = int(rng.integers(4))
    if kind == 0:
        veil = rng.uniform(0.2, 0.75) * strength * (0.5 + 0.5 * _clouds(rng, 4))[:, :, None]
        return x * (1 - veil) + rng.uniform(150, 235) * veil
    if kind == 3:
        patches = np.clip((_clouds(rng, 12) - rng.uniform(0.4, 0.7)) * 4, 0, 1)[:, :, None] * strength
        return x * (1 - 0.8 * patches) + rng.uniform(140, 240) * 0.8 * patches + 12 * strength
    density = rng.uniform(0.0015, 0.02) * strength
    specks = (rng.random(x.shape[:2]) < density).astype(np.float32)
    if kind == 1:
        length = int(rng.integers(9, 31))
        fall = np.zeros((length, length), np.float32)
        lean = int(rng.integers(-length // 3, length // 3 + 1))
        cv2.line(fall, (length // 2 - lean, 0), (length // 2 + lean, length - 1), 1.0, 1)
        specks = np.clip(cv2.filter2D(specks, -1, fall) * 0.7, 0, 1)
    else:
        specks = np.clip(cv2.GaussianBlur(specks, (0, 0), rng.uniform(0.7, 2.2)) * 6, 0, 1)
    over = specks[:, :, None] * rng.uniform(0.5, 0.95)
    return (x * (1 - 0.15 * strength) + 25 * strength) * (1 - over) + 235 * over


def _exposure(x: NDArray[np.float32], rng: Generator, strength: float) -> NDArray[np.float32]:
    """Too bright, too dark, too flat, or off in colour."""
    contrast = rng.uniform(1 - 0.75 * strength, 1 + 0.3 * strength)
    tint = rng.normal(0, 12 * strength, 3).astype(np.float32)
    return (x - 128) * contrast + 128 + rng.uniform(-80, 90) * strength + tint


def _compressed(x: NDArray[np.float32], rng: Generator, strength: float) -> NDArray[np.float32]:
    side = round(rng.uniform(90, SIDE_PX))
    small = _to_bytes(cv2.resize(x, (side, side), interpolation=cv2.INTER_AREA))
    quality = int(rng.integers(6, 40)) if strength == 1 else int(rng.integers(40, 80))
    _, encoded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, quality])
    blocky = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    return cv2.resize(blocky, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_LINEAR).astype(np.float32)


def _clouds(rng: Generator, cells: int) -> NDArray[np.float32]:
    """Return smooth noise, 0 to 1, (SIDE_PX, SIDE_PX)."""
    coarse = rng.random((cells, cells)).astype(np.float32)
    fine = rng.random((4 * cells, 4 * cells)).astype(np.float32)
    size = (SIDE_PX, SIDE_PX)
    field = 0.7 * cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC) + 0.3 * cv2.resize(fine, size)
    return np.clip(field, 0, 1).astype(np.float32)


def _to_bytes(x: NDArray[np.float32]) -> Picture:
    return np.clip(x, 0, 255).astype(np.uint8)


_RECIPES = {
    "small": _small,
    "night": _night,
    "blur": _blur,
    "noise": _noise,
    "weather": _weather,
    "exposure": _exposure,
    "compressed": _compressed,
}

"""What light, weather and a bad line make of a recording: each a function of a frame and its number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Floats = NDArray[np.float32]
Shown = Callable[[Picture, int], Floats]
Size = tuple[int, int]  # width, height
FPS = 25.0


@dataclass(frozen=True)
class Condition:
    """A condition of a whole clip.

    Attributes:
        light, weather: what the truth file says.
        begin: draws what stays the same over the clip, and returns what is done to each frame.
        crf: of x264; higher is a worse line.
    """

    light: str
    weather: str
    begin: Callable[[Generator, Size], Shown]
    crf: int = 23


def _noise(rng: Generator, x: Floats, grey_levels: float) -> Floats:
    return x + rng.standard_normal(x.shape, np.float32) * np.float32(grey_levels)


def _day(rng: Generator, size: Size) -> Shown:
    return lambda frame, index: _noise(rng, frame.astype(np.float32), 1.5)


def _dusk(rng: Generator, size: Size) -> Shown:
    tint = np.float32([1.1, 0.95, 0.85])  # bluish

    def shown(frame: Picture, index: int) -> Floats:
        return _noise(rng, 255 * (frame / np.float32(255)) ** 1.3 * np.float32(0.38) * tint + 6, 4)

    return shown


def _infrared(rng: Generator, size: Size) -> Shown:
    """Grey, lit from the camera, brightest in the middle."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]].astype(np.float32)
    away = np.hypot((x - size[0] / 2) / size[0], (y - size[1] * 0.6) / size[1])
    lamp = (1.05 - 1.1 * away)[:, :, None].clip(0.15, 1)

    def shown(frame: Picture, index: int) -> Floats:
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)[:, :, None].astype(np.float32)
        grain = rng.standard_normal(grey.shape, np.float32) * np.float32(6)
        return np.repeat((grey * 0.6 + 15) * lamp + grain, 3, axis=2)

    return shown


def _headlights(rng: Generator, size: Size) -> Shown:
    """Dusk, and now and then a pair of lamps that sweeps through and blinds."""
    dusk = _dusk(rng, size)
    every_s, pass_s = 7.0, 2.5
    y, x = np.mgrid[0 : size[1], 0 : size[0]].astype(np.float32)

    def shown(frame: Picture, index: int) -> Floats:
        out = dusk(frame, index)
        share = (index / FPS % every_s) / pass_s
        if share > 1:
            return out
        cx, cy = size[0] * (1.1 - 1.2 * share), size[1] * 0.7
        near = np.exp(-(((x - cx) / (0.09 * size[0])) ** 2) - ((y - cy) / (0.06 * size[1])) ** 2)
        veil = np.exp(-(((x - cx) / (0.4 * size[0])) ** 2) - ((y - cy) / (0.35 * size[1])) ** 2)
        return out + (230 * near + 45 * veil)[:, :, None]

    return shown


def _rain(rng: Generator, size: Size) -> Shown:
    lean = int(rng.integers(-4, 5))
    length = 15
    fall = np.zeros((length, length), np.float32)
    cv2.line(fall, (length // 2 - lean, 0), (length // 2 + lean, length - 1), 1.0, 1)

    def shown(frame: Picture, index: int) -> Floats:
        drops = (rng.random((size[1], size[0])) < 0.0025).astype(np.float32)
        streaks = cv2.GaussianBlur(cv2.filter2D(drops, -1, fall), (0, 0), 0.6).clip(0, 1)[:, :, None]
        wet = cv2.GaussianBlur(frame, (0, 0), 0.9).astype(np.float32) * 0.8 + 22
        return _noise(rng, wet * (1 - 0.5 * streaks) + 200 * 0.5 * streaks, 2.5)

    return shown


def _snow(rng: Generator, size: Size) -> Shown:
    """Flakes that fall, each with a speed and a size of its own."""
    count = size[0] * size[1] // 900
    at = rng.random((count, 2)) * size
    speed = np.stack([rng.normal(25, 15, count), rng.uniform(60, 220, count)], axis=1)  # px a second
    radius = rng.uniform(0.6, 2.4, count)

    def shown(frame: Picture, index: int) -> Floats:
        flakes = np.zeros((size[1], size[0]), np.float32)
        for (x, y), r in zip((at + speed * (index / FPS)) % size, radius, strict=True):
            cv2.circle(flakes, (round(x * 16), round(y * 16)), round(r * 16), 1.0, -1, cv2.LINE_AA, 4)
        flakes = cv2.GaussianBlur(flakes, (0, 0), 0.8)[:, :, None]
        pale = frame.astype(np.float32) * 0.75 + 45
        return _noise(rng, pale * (1 - 0.8 * flakes) + 240 * 0.8 * flakes, 2)

    return shown


def _fog(rng: Generator, size: Size) -> Shown:
    """Thicker with the distance, which in these views is upwards; it drifts."""
    height = np.linspace(0.8, 0.4, size[1], dtype=np.float32)[:, None]
    cloud = cv2.resize(rng.random((6, 12)).astype(np.float32), (2 * size[0], size[1]), interpolation=cv2.INTER_CUBIC)

    def shown(frame: Picture, index: int) -> Floats:
        drift = round(index / FPS * 12) % size[0]
        veil = (height * (0.8 + 0.3 * cloud[:, drift : drift + size[0]]))[:, :, None].clip(0, 0.9)
        return _noise(rng, frame * (1 - veil) + 205 * veil, 2)

    return shown


def _shaken(rng: Generator, size: Size) -> Shown:
    """A mast in the wind: a few pixels, a few times a second."""
    phase = rng.random(4) * 2 * np.pi

    def shown(frame: Picture, index: int) -> Floats:
        t = 2 * np.pi * index / FPS
        dx = 1.8 * np.sin(1.3 * t + phase[0]) + 0.9 * np.sin(3.1 * t + phase[1])
        dy = 1.1 * np.sin(1.7 * t + phase[2]) + 0.6 * np.sin(4.3 * t + phase[3])
        move = np.float32([[1, 0, dx], [0, 1, dy]])
        moved = cv2.warpAffine(frame, move, size, borderMode=cv2.BORDER_REPLICATE)
        return _noise(rng, moved.astype(np.float32), 1.5)

    return shown


CONDITIONS = {
    "day": Condition("day", "dry", _day),
    "dusk": Condition("dusk", "dry", _dusk),
    "infrared": Condition("infra-red", "dry", _infrared),
    "headlights": Condition("headlights", "dry", _headlights),
    "rain": Condition("day", "rain", _rain),
    "snow": Condition("day", "snow", _snow),
    "fog": Condition("day", "fog", _fog),
    "low-bit-rate": Condition("day", "low bit rate", _day, crf=40),
    "shake": Condition("day", "wind", _shaken),
}
GOALS = frozenset({"day", "infrared", "rain"})  # something was promised of them

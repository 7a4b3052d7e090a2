"""What the daemon would crop out of a road clip: material for p(animal), cut by the very code that crops live."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from adapters.training.domains import paste_cutout, resize_cutout
from adapters.training.pictures import clip_frames, frame_rate
from monitor.regions import MotionRegions, TileSweep, crop_box
from monitor.values import Box

CROPS_A_CLIP = 900
RANDOM_A_CLIP = 450
CUTOUTS_A_CLIP = 500


def road_crops(path: Path, rng: Generator) -> Iterator[NDArray[np.uint8]]:
    """Yield what a camera without animals offers the classifier: moving things, tiles, random squares."""
    moving, tiles, squares, motion, sweep = [], [], [], MotionRegions(), None
    for frame in clip_frames(path, every=max(1, round(frame_rate(path) / 5))):
        size = (frame.shape[1], frame.shape[0])
        sweep = sweep or TileSweep(size)
        moving += [
            _cut(frame, crop_box(box, size)) for box in motion.find(frame)[:12] if max(box.width, box.height) >= 8
        ]
        tiles += [_cut(frame, tile) for tile in sweep.next(1)]
        side = round(float(np.exp(rng.uniform(np.log(20), np.log(min(200, *size))))))
        x, y = int(rng.integers(0, size[0] - side + 1)), int(rng.integers(0, size[1] - side + 1))
        squares.append(_cut(frame, Box(x, y, x + side, y + side)))
    yield from _some(moving, CROPS_A_CLIP, rng)
    yield from _some(tiles + squares, RANDOM_A_CLIP, rng)


def cutout_crops(path: Path, animals: list[NDArray[np.uint8]], rng: Generator) -> Iterator[NDArray[np.uint8]]:
    """Yield crops of cut-out animals pasted at random onto the clip's frames."""
    frames = _some(list(clip_frames(path, every=31)), 40, rng)
    for _ in range(CUTOUTS_A_CLIP):
        frame = frames[rng.integers(len(frames))]
        height, width = frame.shape[:2]
        animal = animals[rng.integers(len(animals))]
        tall = float(np.exp(rng.uniform(np.log(18), np.log(150))))
        tall = min(tall, 0.6 * width * animal.shape[0] / animal.shape[1], 0.9 * height)
        cutout = resize_cutout(animal, tall, mirrored=bool(rng.random() < 0.5))
        h, w = cutout.shape[:2]
        x, y = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
        if np.ptp(frame, axis=2).mean() < 3:  # an infra-red camera
            cutout[:, :, :3] = cutout[:, :, :3].mean(axis=2, keepdims=True)
        scene = paste_cutout(frame, cutout, x, y, gain=rng.uniform(0.6, 1.05), offset=rng.uniform(-35, 25))
        if rng.random() < 0.6:
            scene = cv2.GaussianBlur(scene, (0, 0), rng.uniform(0.3, 0.9))
        left, top, right, bottom = rng.uniform(-0.12, 0.12, 4)
        yield _cut(
            scene, crop_box(Box(x + left * w, y + top * h, x + w + right * w, y + h + bottom * h), (width, height))
        )


def _some(items: list[NDArray[np.uint8]], count: int, rng: Generator) -> list[NDArray[np.uint8]]:
    return [items[i] for i in rng.permutation(len(items))[:count]]


def _cut(frame: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    x1, y1, x2, y2 = (round(value) for value in box)
    return frame[y1:y2, x1:x2].copy()

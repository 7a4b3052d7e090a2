"""Fit what the untrained head needs from base pictures.

Writes adapters/training/head_statistics.npz and adapters/models/knowledge.npz:

    python tools/fit_head_statistics.py --data ../shared/data

About five minutes on two cores. Seeded; the pictures themselves are not kept, only what was learned from them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from adapters.encoder import Encoder, unit
from adapters.runtime import MODELS, PRETRAINED
from adapters.training.domains import degrade, paste_cutout, random_square, resize_cutout
from adapters.training.pictures import NOT_ON_A_ROAD, ROAD_CLIPS, base_pictures, clip_frames, cutouts
from monitor.regions import MotionRegions, TileSweep, crop_box
from monitor.values import Box

ROOT = Path(__file__).parents[1]
SEED = 20261123
D_KEY = 192
N_REGIONS = 8
PROBE_C = 1e-3  # inverse of the L2 penalty; leave-one-clip-out chose it among 1e-3, 1e-2, 1e-1
CROPS_A_CLIP = 900
RANDOM_A_CLIP = 450
CUTOUTS_A_CLIP = 500


Arrays = dict[str, NDArray[np.float32]]


def fit_base(encode: Encoder, data: Path, rng: Generator) -> tuple[Arrays, dict[str, object], Probe]:
    """Fit centring, token projection, regions, temperature and the keys of M on base classes, clean and degraded."""
    pictures = list(base_pictures(data))
    images = [cv2.imread(str(picture.path)) for picture in pictures]
    labels = np.array([picture.label for picture in pictures])
    seen = encode(images)
    clean_tok, clean = seen.tok, seen.glob
    worse = [degrade(random_square(image, rng), rng) for image in images]
    degraded = encode(worse).glob
    mu = np.concatenate([clean, degraded]).mean(axis=0)
    sample = clean_tok[rng.permutation(len(clean_tok))[:1500]].reshape(-1, clean_tok.shape[2])
    pca = PCA(D_KEY, random_state=SEED).fit(sample)
    regions = KMeans(N_REGIONS, n_init=2, random_state=SEED).fit(unit(pca.transform(sample[::5]))).cluster_centers_
    temperature, none_cosine = fit_temperature(clean, degraded, labels, mu, rng)
    statistics = {
        "mu": mu,
        "projection": pca.components_.T,
        "token_mean": pca.mean_,
        "regions": unit(regions),
        "temperature": np.float32(temperature),
        "none_cosine": np.float32(none_cosine),
    }
    names = np.unique(labels)
    keys = np.stack([class_key(clean_tok[labels == name], pca) for name in names])
    pretrained = Encoder(MODELS, PRETRAINED)
    knowledge = {
        "pretrained_mu": np.concatenate([pretrained(images).glob, pretrained(worse).glob]).mean(axis=0),
        "keys": np.float32(keys),
        "labels": names,
        "counts": np.array([(labels == name).sum() for name in names], np.int32),
    }
    on_road = ~np.isin(labels, list(NOT_ON_A_ROAD))
    animal = np.array([picture.animal for picture in pictures])
    return statistics, knowledge, Probe(degraded[on_road], animal[on_road])


def class_key(tokens: NDArray[np.float32], pca: PCA) -> NDArray[np.float32]:
    flat = tokens.reshape(-1, tokens.shape[2])
    keys = unit(pca.transform(flat)).reshape(*tokens.shape[:2], -1)
    return unit(unit(keys.mean(axis=1)).mean(axis=0))


def fit_temperature(
    clean: NDArray[np.float32],
    degraded: NDArray[np.float32],
    labels: NDArray[np.str_],
    mu: NDArray[np.float32],
    rng: Generator,
) -> tuple[float, float]:
    """Fit p(same class | cosine) = sigmoid(temperature * (cosine - none_cosine)) for five shots and balanced pairs."""
    cosines, same = [], []
    names = np.unique(labels)
    for _ in range(300):
        a, b = rng.choice(names, 2, replace=False)
        rows = rng.permutation(np.flatnonzero(labels == a))
        proto = unit(unit(clean[rows[:5]] - mu).mean(axis=0))
        other = rng.permutation(np.flatnonzero(labels == b))
        for features, target in (
            (clean, rows[5:10]),
            (degraded, rows[10:15]),
            (clean, other[:5]),
            (degraded, other[5:10]),
        ):
            cosines += list(unit(features[target] - mu) @ proto)
            same += [labels[target[0]] == a] * len(target)
    model = LogisticRegression(C=1e4).fit(np.array(cosines)[:, None], same)
    slope = float(model.coef_[0, 0])
    return slope, -float(model.intercept_[0]) / slope


class Probe:
    """Collects pooled vectors of animals and of everything else, and fits the logistic regression of p(animal)."""

    def __init__(self, pooled: NDArray[np.float32], animal: NDArray[np.bool_]) -> None:
        self.pooled, self.animal = [pooled], [animal]
        self.clips = [np.full(len(pooled), "")]

    def add_clip(self, encode: Encoder, path: Path, animals: list[NDArray[np.uint8]], rng: Generator) -> None:
        """Add what a clip without animals offers, and cut-out animals pasted into it."""
        for crops, animal in ((list(road_crops(path, rng)), False), (list(cutout_crops(path, animals, rng)), True)):
            self.pooled.append(encode(crops).glob)
            self.animal.append(np.full(len(crops), animal))
            self.clips.append(np.full(len(crops), path.name))

    def fit(self, *, without: str | None = None) -> dict[str, NDArray[np.float32]]:
        """Fit on everything, or on everything but one clip."""
        kept = np.concatenate(self.clips) != without
        root, animal = np.sqrt(np.concatenate(self.pooled)[kept] + 1e-6), np.concatenate(self.animal)[kept]
        mean, std = root.mean(axis=0), root.std(axis=0) + 1e-3
        model = LogisticRegression(C=PROBE_C, max_iter=1000, class_weight="balanced").fit((root - mean) / std, animal)
        print(
            f"p(animal): {len(root)} crops, training accuracy {model.score((root - mean) / std, animal):.4f}",
            flush=True,
        )
        return {"animal_mean": mean, "animal_weight": model.coef_[0] / std, "animal_bias": model.intercept_[0]}


def road_crops(path: Path, rng: Generator) -> Iterator[NDArray[np.uint8]]:
    """Yield what a camera without animals offers the classifier: moving things, tiles, random squares."""
    moving, tiles, squares, motion, sweep = [], [], [], MotionRegions(), None
    for frame in clip_frames(path, every=max(1, round(fps_of(path) / 5))):
        size = (frame.shape[1], frame.shape[0])
        sweep = sweep or TileSweep(size)
        moving += [
            cut(frame, crop_box(box, size)) for box in motion.find(frame)[:12] if max(box.width, box.height) >= 8
        ]
        tiles += [cut(frame, tile) for tile in sweep.next(1)]
        side = round(float(np.exp(rng.uniform(np.log(20), np.log(min(200, *size))))))
        x, y = int(rng.integers(0, size[0] - side + 1)), int(rng.integers(0, size[1] - side + 1))
        squares.append(cut(frame, Box(x, y, x + side, y + side)))
    yield from some(moving, CROPS_A_CLIP, rng)
    yield from some(tiles + squares, RANDOM_A_CLIP, rng)


def cutout_crops(path: Path, animals: list[NDArray[np.uint8]], rng: Generator) -> Iterator[NDArray[np.uint8]]:
    """Yield crops of cut-out animals pasted at random onto the clip's frames."""
    frames = some(list(clip_frames(path, every=31)), 40, rng)
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
        yield cut(
            scene, crop_box(Box(x + left * w, y + top * h, x + w + right * w, y + h + bottom * h), (width, height))
        )


def some(items: list[NDArray[np.uint8]], count: int, rng: Generator) -> list[NDArray[np.uint8]]:
    return [items[i] for i in rng.permutation(len(items))[:count]]


def cut(frame: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    x1, y1, x2, y2 = (round(value) for value in box)
    return frame[y1:y2, x1:x2].copy()


def fps_of(path: Path) -> float:
    return float(cv2.VideoCapture(str(path), cv2.CAP_FFMPEG).get(cv2.CAP_PROP_FPS))


def collect(data: Path) -> tuple[Arrays, dict[str, object], Probe]:
    """Return everything but the fit of p(animal): statistics, knowledge base, and the collected crops."""
    rng = np.random.default_rng(SEED)
    encode = Encoder(MODELS)
    statistics, knowledge, probe = fit_base(encode, data, rng)
    print(f"temperature {statistics['temperature']:.2f}, none cosine {statistics['none_cosine']:.3f}", flush=True)
    animals = cutouts(data)
    for name in ROAD_CLIPS:
        probe.add_clip(encode, data / "clips" / name, animals, rng)
        print(name, flush=True)
    return statistics, knowledge, probe


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Fit what the untrained head needs from base pictures; "
        "writes adapters/training/head_statistics.npz and adapters/models/knowledge.npz."
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with images/, clips/ and stamps/")
    statistics, knowledge, probe = collect(parser.parse_args().data)
    fitted = {name: np.float32(value) for name, value in (statistics | probe.fit()).items()}
    np.savez(ROOT / "adapters/training/head_statistics.npz", **fitted)
    np.savez(ROOT / "adapters/models/knowledge.npz", **knowledge, mu=fitted["mu"])


if __name__ == "__main__":
    main()

"""Fit what the head starts from, on base pictures: centring, token projection, regions, temperature."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from adapters.encoder import Encoder, unit
from adapters.training.animal_probe import Probe
from adapters.training.attention import AnimalWeights, HeadStatistics
from adapters.training.domains import degrade, random_square
from adapters.training.pictures import NOT_ON_A_ROAD, LabelledPicture, base_pictures, read_for_training
from adapters.training.variants import N_CALIBRATION

SEED = 20261123
D_KEY = 192
N_REGIONS = 8
PER_CLASS = 40  # pictures
CALIBRATION_PX = 224

Arrays = dict[str, NDArray[np.generic]]


def fit_base(
    encode: Encoder, pretrained: Encoder, data: Path, rng: Generator
) -> tuple[Arrays, NDArray[np.uint8], Probe]:
    """Fit on the training classes, clean and degraded.

    Returns:
        what `HeadStatistics` holds but for p(animal), with mu, pretrained_mu of the encoder before training, and the
        mean pooled vectors of species that live on land; pictures to calibrate a quantised encoder on; and the fit of
        p(animal) with the pictures in it.
    """
    pictures = list(base_pictures(data, per_class=PER_CLASS))
    images = [read_for_training(picture.path) for picture in pictures]
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
    numbers = {
        "mu": mu,
        "pretrained_mu": _mean_of_some(pretrained, images, worse, rng),
        "projection": pca.components_.T,
        "token_mean": pca.mean_,
        "regions": unit(regions),
        "temperature": temperature,
        "none_cosine": none_cosine,
    }
    statistics = {name: np.asarray(value, np.float32) for name, value in numbers.items()}
    statistics |= _land_animals(pictures, (clean + degraded) / 2)
    chosen = rng.permutation(len(images))[:N_CALIBRATION]
    samples = [_square(worse[i] if number % 2 else images[i]) for number, i in enumerate(chosen)]
    on_road = ~np.isin(labels, list(NOT_ON_A_ROAD))
    animal = np.array([picture.animal for picture in pictures])
    return statistics, np.stack(samples), Probe(degraded[on_road], animal[on_road])


def _land_animals(pictures: list[LabelledPicture], pooled: NDArray[np.float32]) -> Arrays:
    """Return the names of the species that a road may meet, and their mean pooled vectors (n, d_pooled).

    Only species: among mini-ImageNet's classes are breeds of dogs, which are no rivals of a dog.
    """
    labels = np.array([picture.label for picture in pictures])
    animals = sorted({p.label for p in pictures if p.source == "species"} - NOT_ON_A_ROAD)
    means = [pooled[labels == name].mean(axis=0) for name in animals]
    return {"animals": np.array(animals), "means": np.stack(means)}


def _mean_of_some(
    encode: Encoder, clean: list[NDArray[np.uint8]], degraded: list[NDArray[np.uint8]], rng: Generator
) -> NDArray[np.float32]:
    """Return the mean pooled vector of clean and degraded pictures; two thousand fix it well enough."""
    some = rng.permutation(len(clean))[:1000]
    return encode([crop for i in some for crop in (clean[i], degraded[i])]).glob.mean(axis=0)


def _square(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    side = (CALIBRATION_PX, CALIBRATION_PX)
    return np.asarray(cv2.resize(picture, side, interpolation=cv2.INTER_AREA), np.uint8)


def head_statistics(path: Path) -> HeadStatistics:
    """Read what the head starts from, as `train` stores it."""
    with np.load(path, allow_pickle=False) as stored:

        def tensor(name: str) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(stored[name]))

        return HeadStatistics(
            **{name: tensor(name) for name in ("projection", "token_mean", "regions")},
            **{name: float(tensor(name).reshape(())) for name in ("temperature", "none_cosine")},
            animal=AnimalWeights(*(tensor(f"animal_{name}") for name in AnimalWeights._fields)),
        )


def fit_temperature(
    clean: NDArray[np.float32],
    degraded: NDArray[np.float32],
    labels: NDArray[np.str_],
    mu: NDArray[np.float32],
    rng: Generator,
) -> tuple[float, float]:
    """Fit p(same class | cosine) = sigmoid(temperature * (cosine - none_cosine)) for five shots and balanced pairs."""
    cosines, same = [], []
    names, counts = np.unique(labels, return_counts=True)
    names = names[counts >= 16]  # five shots, and five queries clean and degraded
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

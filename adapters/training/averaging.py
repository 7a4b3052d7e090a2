"""How far to go from the pretrained weights to the trained ones: between the two lies the best of both.

A bad camera changes what the first layers see; what the last ones make of it is best left nearly as it was pretrained.

References:
    Wortsman et al. 2022, https://arxiv.org/abs/2109.01903 (WiSE-FT)
    Lee et al. 2023, https://arxiv.org/abs/2210.11466 (the first layers for corrupted inputs)
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from adapters.encoder import Encoder, unit
from adapters.evaluation.methods import nearest_centroid
from adapters.runtime import ENCODE, write_manifest
from adapters.training.backbone import folded_lite
from adapters.training.domains import DOMAIN_SHARES, DOMAINS, random_square, shoot
from adapters.training.export import export_encode
from adapters.training.pictures import read_for_training
from adapters.training.splits import class_folders
from adapters.workers import Say

NONE = (0.0, 0.0)
SHARES = (
    (0.6, 0.6),
    (0.75, 0.5),
    (0.75, 0.75),
    (1.0, 0.25),
    (1.0, 0.5),
    (1.0, 0.6),
    (1.0, 0.75),
    (1.0, 1.0),
)  # first, last layer
PICTURES = 30  # of a tuning class
DEGRADED = 4  # views of a picture
EPISODES, WAYS = 400, 5
MOST_LOST = 0.3  # points on clean pictures that the shares to choose among may lose to the pretrained network

Weights = dict[str, Tensor]
Shares = tuple[float, float]


def average(pretrained: Weights, trained: Weights, shares: Shares) -> Weights:
    """Return pretrained weights moved towards the trained ones, by shares of 0 to 1.

    Args:
        pretrained: by name, in the order of the layers.
        trained: the same names.
        shares: of the trained weights in the first layer and in the last; those between lie on a line.
    """
    by_layer = np.linspace(*shares, len(pretrained)).tolist()
    return {
        name: value.lerp(trained[name], share)
        for (name, value), share in zip(pretrained.items(), by_layer, strict=True)
    }


def best_average(data: Path, trained: Weights, seed: int, say: Say) -> tuple[Shares, Weights]:
    """Return the shares that name degraded tuning classes best and clean ones hardly worse, and their weights."""
    backbone = folded_lite()
    pretrained = {name: value.clone() for name, value in backbone.state_dict().items()}
    clean, degraded, labels = _tuning_pictures(data, seed)
    best, best_degraded, least_clean = SHARES[0], 0.0, 0.0
    with TemporaryDirectory() as folder:
        for shares in (NONE, *SHARES):
            backbone.load_state_dict(average(pretrained, trained, shares))
            export_encode(backbone, Path(folder) / ENCODE)
            write_manifest(Path(folder), [ENCODE])
            encode = Encoder(Path(folder), device="cpu")
            right = _accuracy(encode(clean).glob, encode(degraded).glob, labels, seed)
            of_trained = f"{shares[0]:.2f} to {shares[1]:.2f} of the trained weights"
            say(f"{of_trained}: clean {right[0]:.2f}, degraded {right[1]:.2f}")
            if shares == NONE:
                least_clean = right[0] - MOST_LOST
            elif right[0] >= least_clean and right[1] > best_degraded:
                best, best_degraded = shares, right[1]
    return best, average(pretrained, trained, best)


def _tuning_pictures(
    data: Path, seed: int
) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]], NDArray[np.int64]]:
    rng = np.random.default_rng((seed, 11))
    clean, degraded, labels = [], [], []
    folders = class_folders(data, "species", "tune") + class_folders(data, "mini-imagenet", "tune")
    for label, folder in enumerate(folders):
        for i in rng.permutation(len(folder.pictures))[:PICTURES]:
            picture = read_for_training(folder.pictures[i])
            clean.append(picture)
            labels.append(label)
            for domain in rng.choice(DOMAINS, DEGRADED, p=DOMAIN_SHARES):
                degraded.append(shoot(random_square(picture, rng, share=(0.9, 1.0)), str(domain), rng))
    return clean, degraded, np.array(labels)


def _accuracy(
    clean: NDArray[np.float32], degraded: NDArray[np.float32], labels: NDArray[np.int64], seed: int
) -> tuple[float, float]:
    """Return the accuracy of nearest centroids of 1 and 5 clean shots, in per cent, on clean and degraded queries."""
    mu = np.concatenate([clean, degraded]).mean(axis=0)
    support, views = unit(clean - mu), unit(degraded - mu).reshape(len(clean), DEGRADED, -1)
    rng, right = np.random.default_rng((seed, 12)), np.zeros((EPISODES, 2))
    for number in range(EPISODES):
        shots = 1 if number % 2 else 5
        rows = [rng.permutation(np.flatnonzero(labels == c)) for c in rng.choice(labels.max() + 1, WAYS, replace=False)]
        taught = [support[r[:shots]] for r in rows]
        asked = np.concatenate([r[5:20] for r in rows])
        truth = np.repeat(np.arange(WAYS), [len(r[5:20]) for r in rows])
        right[number, 0] = (nearest_centroid(taught, support[asked]).argmax(axis=1) == truth).mean()
        right[number, 1] = (nearest_centroid(taught, views[asked]).argmax(axis=2) == truth[:, None]).mean()
    return tuple(100 * right.mean(axis=0))  # type: ignore[return-value]  # two columns

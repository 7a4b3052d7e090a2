"""What an operator has said a crop is not: it competes with the taught frames for what looks alike.

`adapt.onnx` takes negatives too, but they hardly move it: three frames of an animal given to it as negatives lowered
p of other frames of the same animal by 0.02 at most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapters.encoder import Features, unit

Looks = NDArray[np.float32]  # centred unit vectors (n, d_pooled)

# Cosine of centred pooled vectors. Demonstration clip, frames of one passing against three others of it: 0.68 to 0.97;
# against those of another animal -0.03 to 0.49. `monitor/scenery.py` has the same bound for places.
ALIKE = 0.6
SHARPNESS = 40.0  # at 0.1 beyond the bound all but a fiftieth of p is gone, at 0.1 before it a fiftieth


@dataclass(frozen=True)
class Negatives:
    """Crops that are not what they were taken for, beside the frames that are.

    Attributes:
        animals: what is no animal at all.
        classes: for each class of a memory, in its order, what is not of it.
        taught: for each class of a memory, in its order, its frames.
    """

    animals: Looks
    classes: tuple[Looks, ...]
    taught: tuple[Looks, ...]

    @classmethod
    def beside(
        cls,
        supports: Mapping[str, Features],
        animals: Sequence[Features],
        classes: Mapping[str, Sequence[Features]],
        mu: NDArray[np.float32],
    ) -> Negatives:
        """Return the negatives of a support set; `animals` are those of all classes."""
        return cls(
            _looks(animals, mu),
            tuple(_looks(classes.get(name, ()), mu) for name in supports),
            tuple(_looks([shots], mu) for shots in supports.values()),
        )

    def refute(
        self, looks: Looks, weights: NDArray[np.float32], p_class: NDArray[np.float32], p_animal: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Return N(x) of crops less what they are said not to be; *none* gets the weight that a class loses.

        Args:
            looks: of the crops (B, d_pooled).
            weights: (B, C + 1), *none* last.
            p_class: (B, C).
            p_animal: (B,).
        """
        own = [_nearest(looks, frames) for frames in self.taught]
        animal = 1 - _refuted(looks, self.animals, np.max(own, axis=0, initial=-1.0))
        left = np.empty_like(p_class)
        for column, (frames, nearest) in enumerate(zip(self.classes, own, strict=True)):
            left[:, column] = animal * (1 - _refuted(looks, frames, nearest))
        named = weights[:, :-1] * left
        weights = np.concatenate([named, 1 - named.sum(axis=1, keepdims=True)], axis=1)
        return weights, p_class * left, p_animal * animal


def _refuted(looks: Looks, negatives: Looks, own: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how surely each crop is one of the negatives, 0 to 1 (B,): alike, and more so than to its own frames."""
    beyond = _nearest(looks, negatives) - np.maximum(own, ALIKE)
    return np.asarray(1 / (1 + np.exp(-SHARPNESS * beyond)), np.float32)


def _nearest(looks: Looks, frames: Looks) -> NDArray[np.float32]:
    return np.asarray((looks @ frames.T).max(axis=1, initial=-1.0), np.float32)


def _looks(shots: Sequence[Features], mu: NDArray[np.float32]) -> Looks:
    return unit(np.concatenate([np.zeros((0, len(mu)), np.float32), *(shot.glob for shot in shots)]) - mu)

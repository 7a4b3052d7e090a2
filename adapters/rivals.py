"""Other animals that the knowledge base M knows: what a crop is nearer to than to any of them may be named.

N(x) divides its weight among what was taught and *none*, and learned to tell *none* from few classes: an animal that
nobody taught gets the name of the class that it resembles most. Base classes stand in for all that was not taught.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapters.encoder import Features, unit
from adapters.knowledge import sound

Looks = NDArray[np.float32]  # centred unit vectors (n, d_pooled)

# Cosine of a class's prototype to a base class that is the same animal. Tuning species, five frames against the rest
# of their pictures: 0.6 to 0.9; the nearest other species 0.5 to 0.8.
SAME = 0.75
FAR = 1.0  # the lead over rivals that are not there


@dataclass(frozen=True)
class Rivals:
    """The prototypes of what was taught (C, d_pooled), and of the animals beside them (R, d_pooled)."""

    own: Looks
    others: Looks

    @classmethod
    def beside(cls, supports: Mapping[str, Features], animals: Looks, mu: NDArray[np.float32]) -> Rivals:
        """Return the rivals of a support set: base classes (R, d_pooled) that are none of what is taught."""
        own = np.stack([unit(unit(sound(shots.glob) - mu).mean(axis=0)) for shots in supports.values()])
        return cls(own, animals[(animals @ own.T).max(axis=1) < SAME])

    def lead(self, looks: Looks) -> NDArray[np.float32]:
        """Return by how much crops (B, d_pooled) are nearer to each class than to its nearest rival, (B, C)."""
        nearest = (looks @ self.others.T).max(axis=1, initial=-FAR, keepdims=True)
        return np.asarray(looks @ self.own.T - nearest, np.float32)

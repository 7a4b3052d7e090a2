"""Which of the pictures that have passed are most worth labelling: uncertain or unknown, large enough, one a track.

No camera and no name takes the place of all others.

Reference:
    Settles 2009, "Active Learning Literature Survey" (uncertainty and margin sampling)
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from adapters.classifier import NONE
from monitor.console.picture import Picture
from monitor.values import Sighting

MOST = 40
LEAST = 0.3  # what is worth less teaches nothing new
LARGE_PX = 64.0  # from this size on a larger picture teaches no more


def worth(sighting: Sighting) -> float:
    """Return how much a label of a sighting would teach, 0 to 1.

    An animal that has no name, one that has two, or what may be none.
    """
    first, second = sorted((*sighting.weights.values(), 0.0, 0.0), reverse=True)[:2]
    unknown = sighting.p_animal * sighting.weights.get(NONE, 0.0)
    unsure_of_name = sighting.p_animal * (1 - (first - second))
    unsure_at_all = 4 * sighting.p_animal * (1 - sighting.p_animal)
    size_px = max(sighting.box.width, sighting.box.height)
    return max(unknown, unsure_of_name, unsure_at_all) * min(1.0, size_px / LARGE_PX)


@dataclass(frozen=True)
class _Found:
    value: float
    picture: Picture
    label: str

    @property
    def kind(self) -> tuple[str, str]:
        """What there may be too many of: a name on a camera."""
        return self.picture.camera, self.label


class LabelQueue:
    """The best picture of each track that a label would help, the worthiest tracks of each camera and name."""

    def __init__(self) -> None:
        self._best: dict[tuple[str, int], _Found] = {}  # by camera and track

    def offer(self, picture: Picture) -> None:
        """Take in a picture for each of its tracks that it shows better than any before."""
        for sighting in picture.sightings:
            key, value = (picture.camera, sighting.track), worth(sighting)
            before = self._best.get(key)
            if value >= max(LEAST, before.value if before else 0.0):
                self._best[key] = _Found(value, picture, sighting.label)
        while len(self._best) > MOST:
            self._drop_one()

    def _drop_one(self) -> None:
        """Drop the least worthy of the most frequent kind, a name on a camera."""
        ((often, _),) = Counter(found.kind for found in self._best.values()).most_common(1)
        alike = [key for key, found in self._best.items() if found.kind == often]
        del self._best[min(alike, key=lambda key: self._best[key].value)]

    def forget(self, camera: str) -> None:
        """Drop the pictures of a camera."""
        self._best = {key: found for key, found in self._best.items() if key[0] != camera}

    def pictures(self) -> list[Picture]:
        """Return the pictures, the worthiest last, as a camera's newest is; none twice."""
        ordered = sorted(self._best.values(), key=lambda found: found.value)
        return list({(found.picture.camera, found.picture.number): found.picture for found in ordered}.values())

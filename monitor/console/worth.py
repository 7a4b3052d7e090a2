"""Which of the pictures that have passed are most worth labelling: uncertain or unknown, large enough, one a track.

No camera and no name takes the place of all others.

Reference:
    Settles 2009, "Active Learning Literature Survey" (uncertainty and margin sampling)
"""

from __future__ import annotations

from collections import Counter

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


class LabelQueue:
    """The best picture of each track that a label would help, the worthiest tracks of each camera and name."""

    def __init__(self) -> None:
        self._best: dict[tuple[str, int], tuple[float, Picture]] = {}  # by camera and track
        self._label: dict[tuple[str, int], str] = {}

    def offer(self, picture: Picture) -> None:
        """Take in a picture for each of its tracks that it shows better than any before."""
        for sighting in picture.sightings:
            key, value = (picture.camera, sighting.track), worth(sighting)
            if value >= max(LEAST, self._best.get(key, (0.0, None))[0]):
                self._best[key], self._label[key] = (value, picture), sighting.label
        while len(self._best) > MOST:
            self._drop_one()

    def _drop_one(self) -> None:
        """Drop the least worthy of the most frequent kind, a name on a camera."""
        kinds = Counter((camera, self._label[camera, track]) for camera, track in self._best)
        ((often, _),) = kinds.most_common(1)
        alike = [key for key in self._best if (key[0], self._label[key]) == often]
        least = min(alike, key=lambda key: self._best[key][0])
        del self._best[least], self._label[least]

    def forget(self, camera: str) -> None:
        """Drop the pictures of a camera."""
        self._best = {key: found for key, found in self._best.items() if key[0] != camera}
        self._label = {key: self._label[key] for key in self._best}

    def pictures(self) -> list[Picture]:
        """Return the pictures, the worthiest last, as a camera's newest is; none twice."""
        ordered = sorted(self._best.values(), key=lambda found: found[0])
        return list({(picture.camera, picture.number): picture for _, picture in ordered}.values())

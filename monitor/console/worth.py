"""Which of the pictures that have passed are most worth labelling: uncertain or unknown, large enough, one a track.

Reference:
    Settles 2009, "Active Learning Literature Survey" (uncertainty and margin sampling)
"""

from __future__ import annotations

from monitor.console.picture import Picture
from monitor.values import Sighting

MOST = 40
LEAST = 0.3  # what is worth less teaches nothing new
LARGE_PX = 64.0  # from this size on a larger picture teaches no more


def worth(sighting: Sighting) -> float:
    """Return how much a label of a sighting would teach, 0 to 1: unsure of its name, or of whether it is an animal."""
    first, second = sorted((*sighting.weights.values(), 0.0, 0.0), reverse=True)[:2]
    unsure_of_name = sighting.p_animal * (1 - (first - second))
    unsure_at_all = 4 * sighting.p_animal * (1 - sighting.p_animal)
    size_px = max(sighting.box.width, sighting.box.height)
    return max(unsure_of_name, unsure_at_all) * min(1.0, size_px / LARGE_PX)


class LabelQueue:
    """The best picture of each track that a label would help, the worthiest tracks alone."""

    def __init__(self) -> None:
        self._best: dict[tuple[str, int], tuple[float, Picture]] = {}

    def offer(self, picture: Picture) -> None:
        """Take in a picture for each of its tracks that it shows better than any before."""
        for sighting in picture.sightings:
            key, value = (picture.camera, sighting.track), worth(sighting)
            if value >= max(LEAST, self._best.get(key, (0.0, None))[0]):
                self._best[key] = (value, picture)
        while len(self._best) > MOST:
            del self._best[min(self._best, key=lambda key: self._best[key][0])]

    def forget(self, camera: str) -> None:
        """Drop the pictures of a camera."""
        self._best = {key: found for key, found in self._best.items() if key[0] != camera}

    def pictures(self) -> list[Picture]:
        """Return the pictures, the worthiest last, as a camera's newest is; none twice."""
        ordered = sorted(self._best.values(), key=lambda found: found[0])
        return list({(picture.camera, picture.number): picture for _, picture in ordered}.values())

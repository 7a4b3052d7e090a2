"""What stands somewhere for ever and a person has seen to be none: a stump, a statue, a painted deer.

A place is remembered with how it looks, so that an animal that stands there one day is seen all the same.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from adapters.errors import StoreError
from monitor.values import Box

log = logging.getLogger(__name__)

# Cosine of centred pooled vectors. On nine clips, 27 places: the same place again 0.5 to 0.99, but where something
# drove by; with one of 108 animals pasted into it -0.12 to 0.45.
ALIKE = 0.6
SHARED = 0.3  # of the smaller box, from which two boxes are of one place: neighbouring tiles see the same thing
MOST_GROWTH = 6.0  # how many times as large a box of the same place may be
LEARN_S = 20.0  # after a dismissal, in which all that looks at the place is learned: a few rounds of the sweep


@dataclass(frozen=True)
class View:
    """How a place of a camera's picture looked: a unit vector (d_pooled,)."""

    camera: str
    box: Box
    looks_like: NDArray[np.float32]

    def is_same(self, other: View) -> bool:
        """Tell whether it is the same view, not only one of the same place."""
        same_place = self.camera == other.camera and self.box == other.box
        return same_place and np.array_equal(self.looks_like, other.looks_like)

    def is_of(self, camera: str, box: Box) -> bool:
        """Tell whether a box is of the same place."""
        small, large = sorted((self.box.area, box.area))
        return self.camera == camera and large <= MOST_GROWTH * small and self.box.overlap(box) >= SHARED * small


class Keeper(Protocol):
    """What keeps dismissed places over a restart."""

    def dismissed(self) -> list[tuple[str, tuple[float, ...], NDArray[np.float32]]]:
        """Return camera, box (x1, y1, x2, y2) and look of each."""

    def keep_dismissed(self, camera: str, box: tuple[float, ...], looks_like: NDArray[np.float32]) -> None:
        """Keep one more.

        Raises:
            StoreError: it can't be kept.
        """


class Scenery:
    """The dismissed places of a site."""

    def __init__(self, keeper: Keeper | None = None) -> None:
        """Take up what the keeper has; without one all is forgotten at the end of the run."""
        self._keeper = keeper
        kept = keeper.dismissed() if keeper is not None else []
        self._views = [View(camera, Box(*box), looks_like) for camera, box, looks_like in kept]
        self._learning: list[tuple[View, float]] = []  # what was just dismissed, and until when

    def dismiss(self, view: View, now_s: float) -> None:
        """Remember a place; other views of it are learned as they come."""
        self._learning = [(place, until_s) for place, until_s in self._learning if now_s < until_s]
        self._learning.append((view, now_s + LEARN_S))
        self._remember(view)

    def add(self, view: View) -> None:
        """Know a view that is kept already; one that is known is not added again. Any thread may call it."""
        if not any(known.is_same(view) for known in self._views):
            self._views.append(view)

    def knows(self, view: View, now_s: float) -> bool:
        """Tell whether a place looks as it did when it was dismissed."""
        for known in self._views:
            if known.is_of(view.camera, view.box) and float(known.looks_like @ view.looks_like) >= ALIKE:
                return True
        if any(now_s < until_s and place.is_of(view.camera, view.box) for place, until_s in self._learning):
            self._remember(view)
            return True
        return False

    def _remember(self, view: View) -> None:
        """Remember a view; where it can't be kept on disk, it holds until the program ends."""
        self._views.append(view)
        try:
            if self._keeper is not None:
                self._keeper.keep_dismissed(view.camera, tuple(view.box), view.looks_like)
        except StoreError as error:
            words, about = "camera %s: a dismissed place holds for this run only: %s", {"camera": view.camera}
            log.error(words, view.camera, error, extra=about)  # noqa: TRY400

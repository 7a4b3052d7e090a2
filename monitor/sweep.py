"""Which tiles of the sweep deserve a look: what has changed since its last one, what was in doubt, the rest seldom.

Most of what a camera sees all day is the same empty road. Looking at it again says nothing new, and costs what the
moving things need.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from monitor.regions import TileSweep
from monitor.values import Box, Frame

GRID = 16  # blocks across a tile whose brightness is remembered
SAMPLES = 96  # pixels across a tile that are read: six by six a block, so that a sensor's noise is no change
CHANGED = 8.0  # grey levels that a block must differ by, once the light of the whole tile is taken off
RELOOK_S = 30.0  # after so long a tile is looked at again, changed or not
DOUBT = 0.3  # p(animal) of a tile that is looked at whenever its turn comes
CONSIDERED = 2  # tiles for each that may be looked at

Blocks = NDArray[np.float32]


class PatientSweep:
    """The sweep of one camera."""

    def __init__(self, size: tuple[int, int]) -> None:
        """Lay the tiles over frames of `size` = (width, height) in pixels."""
        self._tiles = TileSweep(size)
        self._seen: dict[Box, tuple[Blocks, float]] = {}  # at its last look, and when that was

    def next(self, frame: Frame, count: int, now_s: float) -> list[Box]:
        """Return at most `count` tiles of a frame to look at; all come by in turn.

        What moves is followed anyway: where it is, and where it was at the last look, no change is seen.
        """
        chosen: list[Box] = []
        for _ in range(CONSIDERED * count):
            if len(chosen) == count:
                break
            (tile,) = self._tiles.next(1)
            blocks = _blocks(frame, tile)
            before, looked_s = self._seen.get(tile, (None, 0.0))
            if before is None or now_s - looked_s >= RELOOK_S or _differ(blocks, before):
                chosen.append(tile)
                self._seen[tile] = blocks, now_s
        return chosen

    def saw(self, tile: Box, p_animal: float, *, explained: bool) -> None:
        """Take in what a look said; a tile in doubt is looked at again at its next turn.

        `explained`: something is followed there, which is looked at anyway.
        """
        if p_animal >= DOUBT and not explained:
            self._seen.pop(tile, None)

    def look_again(self, place: Box) -> None:
        """Look at each tile with a part of a place at its next turn, changed or not."""
        self._seen = {tile: seen for tile, seen in self._seen.items() if tile.overlap(place) == 0}


def _blocks(frame: Frame, tile: Box) -> Blocks:
    """Return the brightness of a tile's blocks, (GRID, GRID); no number where something moves."""
    x1, y1, x2, y2 = (int(value) for value in tile)
    step = max(1, (x2 - x1) // SAMPLES)
    some = np.ascontiguousarray(frame.image[y1:y2:step, x1:x2:step, 1])  # green is most of luma
    blocks = cv2.resize(some, (GRID, GRID), interpolation=cv2.INTER_AREA).astype(np.float32)
    for box in frame.moving:
        if box.overlap(tile) > 0:
            left, top, right, bottom = (np.array(box) - (x1, y1, x1, y1)) * GRID / (x2 - x1)
            # a block more on each side: a shadow, a leg that motion has missed
            blocks[max(0, int(top) - 1) : int(bottom) + 2, max(0, int(left) - 1) : int(right) + 2] = np.nan
    return np.asarray(blocks, np.float32)


def _differ(now: Blocks, before: Blocks) -> bool:
    change = (now - before)[~np.isnan(now - before)]
    return len(change) > 0 and float(np.abs(change - np.median(change)).max()) >= CHANGED

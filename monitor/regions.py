"""Hard attention, first stage: where in a frame to look.

Motion finds what moves, a slow sweep of tiles what stands still.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from monitor.values import Box

MOTION_WIDTH_PX = 480  # a 20 px animal of a 1920 px frame is 5 px here, the smallest that survives opening
MIN_BLOB_AREA_PX = 14  # at MOTION_WIDTH_PX; smaller blobs are noise and compression blocks
MIN_BLOB_SIDE_PX = 4  # thinner is a streak of rain, not an animal of 5
MERGE_GAP_PX = 7  # blobs nearer than this are one thing (a leg and its body)
MAX_MOVING_SHARE = 0.35  # more of the picture in motion at once is a moving camera or a light change, not animals
STORMS = 3  # frames of that in a row, and the picture is another one (infra-red, a new view): learn it anew
HISTORY_FRAMES = 150  # 30 s at 5 analysed frames a second
VARIANCE_THRESHOLD = 20.0  # squared Mahalanobis distance; OpenCV's default is 16
UNCHANGED = 0.75  # likeness to the background from which a place is lit otherwise, not taken by something
MOST_BOXES = 60  # the largest; more are snow, or a mast that shakes, and would keep all cameras waiting
CROP_MARGIN = 0.15  # share of the longer side added around a moving blob, so that legs and ears are inside
TILE_SHARES = (1.0, 0.5)  # tile side as a share of the frame's shorter side
TILE_STEP = 0.66  # distance between tiles as a share of their side, so that no animal is cut by every tile


class MotionRegions:
    """Boxes around what moves against a background learned from the stream itself.

    Mixture-of-Gaussians background subtraction on a small luma picture. One instance a camera; the frames must come
    in order and keep their size.

    References:
        Zivkovic 2004, "Improved adaptive Gaussian mixture model for background subtraction", ICPR.
    """

    def __init__(self, masks: Sequence[NDArray[np.int32]] = ()) -> None:
        """Begin with nothing learned; motion inside the `masks`, polygons (n, 2) in the frame's pixels, is none."""
        self._masks = masks
        self._begin()
        self._opening = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
        self._closing = cv2.getStructuringElement(cv2.MORPH_RECT, (MERGE_GAP_PX, MERGE_GAP_PX))
        self.luma: NDArray[np.uint8] | None = None  # the last picture, small

    def _begin(self) -> None:
        """Learn the background from nothing."""
        self._background = cv2.createBackgroundSubtractorMOG2(
            history=HISTORY_FRAMES, varThreshold=VARIANCE_THRESHOLD, detectShadows=False
        )
        self._frames_seen = self._storms = 0

    def find(self, frame_bgr: NDArray[np.uint8]) -> list[Box]:
        """Return the moving boxes of a frame, largest first, in the frame's own pixels.

        Args:
            frame_bgr: uint8 (height, width, 3).

        Returns:
            Boxes without margin; empty while the background is being learned, and when most of the picture moves.
        """
        height, width = frame_bgr.shape[:2]
        self.luma = _small_luma(frame_bgr)
        scale = self.luma.shape[1] / width
        luma = cv2.GaussianBlur(self.luma, (3, 3), 0)
        mask = self._background.apply(luma)
        self._frames_seen += 1
        if self._frames_seen <= 2:  # the first frame is all background, the second often a codec's key-frame jump
            return []
        for polygon in self._masks:
            cv2.fillPoly(mask, [(polygon * scale).round().astype(np.int32)], 0)
        moving = cv2.morphologyEx(mask, cv2.MORPH_OPEN, self._opening)
        if cv2.countNonZero(moving) > MAX_MOVING_SHARE * moving.size:
            self._storms += 1
            if self._storms >= STORMS:
                self._begin()
            return []
        self._storms = 0
        blobs = _blobs(cv2.morphologyEx(moving, cv2.MORPH_CLOSE, self._closing))
        if not blobs:
            return []
        background = self._background.getBackgroundImage()
        changed = [blob for blob in blobs if _likeness(luma, background, blob) < UNCHANGED]
        boxes = [Box(*(value / scale for value in blob)).clipped((width, height)) for blob in changed]
        return sorted(boxes, key=lambda box: box.area, reverse=True)[:MOST_BOXES]


def _small_luma(frame_bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the luma of a frame, at most `MOTION_WIDTH_PX` wide.

    Half of the rows are left unread: reading all of a large frame takes as long as the rest of motion detection.
    What is read is averaged, two neighbours each way, as a sensor's noise needs.
    """
    small: NDArray[Any] = frame_bgr
    while small.shape[1] > 4 * MOTION_WIDTH_PX:  # halving by linear interpolation is the mean of 2 x 2 pixels
        small = cv2.resize(small, (small.shape[1] // 2, max(1, small.shape[0] // 2)), interpolation=cv2.INTER_LINEAR)
    height, width = small.shape[:2]
    if width > MOTION_WIDTH_PX:
        rows = small[::2] if width >= 4 * MOTION_WIDTH_PX else small
        size = (MOTION_WIDTH_PX, max(1, round(height * MOTION_WIDTH_PX / width)))
        small = cv2.resize(rows, size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), np.uint8)


def _blobs(moving: NDArray[Any]) -> list[Box]:
    contours, _ = cv2.findContours(moving, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [
        Box(x, y, x + w, y + h)
        for x, y, w, h in map(cv2.boundingRect, contours)
        if min(w, h) >= MIN_BLOB_SIDE_PX and cv2.countNonZero(moving[y : y + h, x : x + w]) >= MIN_BLOB_AREA_PX
    ]


def _likeness(luma: NDArray[Any], background: NDArray[Any], blob: Box) -> float:
    """Return the normalised cross-correlation of a place with its background, -1 to 1.

    A shadow, a headlight or a swaying camera changes how bright a place is, not what is there.
    """
    x1, y1, x2, y2 = (int(value) for value in blob)
    now, before = luma[y1:y2, x1:x2].astype(np.float32), background[y1:y2, x1:x2].astype(np.float32)
    now, before = now - now.mean(), before - before.mean()
    return float((now * before).sum() / (np.sqrt((now**2).sum() * (before**2).sum()) + 1e-6))


class TileSweep:
    """Square tiles of two sizes over the whole frame, a few at a time, for ever.

    It finds an animal that stands still or stood there before the start. One instance a camera.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        """Lay the tiles over frames of `size` = (width, height) in pixels."""
        self.tiles = _lay_tiles(size)
        self._order = cycle(self.tiles)

    def next(self, count: int) -> list[Box]:
        """Return the next `count` tiles; all of them come by in turn."""
        return list(islice(self._order, min(count, len(self.tiles))))


def _lay_tiles(size: tuple[int, int]) -> list[Box]:
    tiles = []
    for share in TILE_SHARES:
        side = int(min(size) * share)
        for y in _starts(size[1], side):
            tiles += [Box(x, y, x + side, y + side) for x in _starts(size[0], side)]
    return tiles


def _starts(length: int, side: int) -> list[int]:
    """Return evenly spread starts so that tiles of `side` cover `length` and overlap by at least 1 - TILE_STEP."""
    if length <= side:
        return [0]
    count = int(np.ceil((length - side) / (side * TILE_STEP))) + 1
    return [round(value) for value in np.linspace(0, length - side, count)]


def crop_box(box: Box, size: tuple[int, int]) -> Box:
    """Return the square that is cut out for a moving box: with margin, shifted to stay inside the frame."""
    side = min(max(box.width, box.height) * (1 + 2 * CROP_MARGIN), *size)
    x = float(np.clip(box.center[0] - side / 2, 0, size[0] - side))
    y = float(np.clip(box.center[1] - side / 2, 0, size[1] - side))
    return Box(x, y, x + side, y + side)

"""Whether a camera's picture can be watched: frozen, dark, over-exposed, covered, out of focus, turned away.

It works on the small luma picture that motion is found in. A condition must hold without a break for its own time
before it is told, so that a headlight, a lightning or a lorry before the lens is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from monitor.values import Fault

DARK = 18.0  # mean of luma, in grey levels, below which and
FLAT = 5.0  # standard deviation of luma below which nothing can be made out
WHITE, WHITE_SHARE = 250, 0.7  # share of pixels at the upper end
SOFT = 0.3  # of the usual sharpness; a lens out of focus, or wet
ELSEWHERE = 0.25  # correlation with the usual edges; what a camera sees after it was turned
ENCODER_NOISE = 1  # grey levels by which an encoder changes a picture that stands still
STILL_SHARE = (
    0.001  # of the pixels that may change by more; within a second a sensor's noise alone changes ten times that
)
EDGES_PX = (120, 68)  # width, height
LEARN_S = 60.0  # time constant of what is usual
SETTLE_S = 8.0  # until something counts as usual
ADOPT_S = 900.0  # after so long another view, or a softer one, is the usual one
ADOPTED: tuple[Fault, ...] = ("moved", "defocused")
AT_ONCE: tuple[Fault, ...] = ("dark", "overexposed", "covered")  # where a stream begins with it
ORDER: tuple[Fault, ...] = ("dark", "overexposed", "covered", "frozen", "moved", "defocused")


@dataclass(frozen=True)
class UsualView:
    """What a camera usually shows: its sharpness, and the edges of `EDGES_PX`, row by row, in hundredths."""

    sharpness: float
    edges: tuple[int, ...]


class PictureWatch:
    """The pictures of one camera, in order."""

    def __init__(self, times_s: Mapping[Fault, float], usual: UsualView | None = None) -> None:
        """Begin.

        Args:
            times_s: how long each fault must last before it is told.
            usual: what the camera showed before its stream broke.
        """
        self._times_s = times_s
        self._since_s: dict[Fault, float] = {}
        self._before: NDArray[Any] | None = None
        self._sharpness, self._edges = 0.0, np.zeros(EDGES_PX[::-1], np.float32)
        self._learned_s = self._last_s = 0.0
        self._was_good = False  # once since the stream began
        if usual is not None and len(usual.edges) == self._edges.size:
            self._sharpness, self._learned_s = usual.sharpness, SETTLE_S
            self._edges = np.array(usual.edges, np.float32).reshape(self._edges.shape) / 100

    @property
    def usual(self) -> UsualView | None:
        """What the camera usually shows; None while that is being learned."""
        if self._learned_s < SETTLE_S:
            return None
        return UsualView(round(self._sharpness, 4), tuple((100 * self._edges).round().astype(int).ravel().tolist()))

    def look(self, luma: NDArray[np.uint8], time_s: float) -> Fault | None:
        """Take in a picture and return the gravest fault that has lasted long enough.

        Args:
            luma: uint8 (height, width), a few hundred pixels wide.
            time_s: when, in seconds; never runs backwards.
        """
        now = self._conditions(luma, time_s)
        for fault in ORDER:
            if not now[fault]:
                self._since_s.pop(fault, None)
            else:
                self._since_s.setdefault(fault, time_s)
        lasting = (fault for fault in ORDER if fault in self._since_s)
        found = next((fault for fault in lasting if time_s - self._since_s[fault] >= self._due_s(fault)), None)
        self._last_s = time_s
        self._was_good |= not any(now[fault] for fault in AT_ONCE)
        return found

    def _due_s(self, fault: Fault) -> float:
        """Return how long a fault must last; a stream that begins with one must not be taken for a clear road."""
        return 0.0 if fault in AT_ONCE and not self._was_good else self._times_s[fault]

    def _conditions(self, luma: NDArray[np.uint8], time_s: float) -> dict[Fault, bool]:
        mean, deviation = (float(value[0, 0]) for value in cv2.meanStdDev(luma))
        frozen = self._before is not None and _is_the_same(luma, self._before)
        self._before = luma
        dark = mean < DARK and deviation < FLAT
        white = float((luma >= WHITE).mean()) > WHITE_SHARE
        flat = deviation < FLAT
        sharpness = float(cv2.Laplacian(luma, cv2.CV_32F).var()) / (deviation**2 + 1)
        edges = _edges(luma)
        settled = self._learned_s >= SETTLE_S
        blurred = settled and not flat and sharpness < SOFT * self._sharpness
        elsewhere = settled and not flat and not white and _correlation(edges, self._edges) < ELSEWHERE
        if any(time_s - self._since_s.get(fault, time_s) > ADOPT_S for fault in ADOPTED):
            self._learned_s = 0.0
        if not (frozen or flat or white or blurred or elsewhere) or self._learned_s == 0.0:
            self._learn(sharpness, edges, time_s)
        return {
            "frozen": frozen,
            "dark": dark,
            "overexposed": white,
            "covered": flat and not dark and not white,
            "moved": elsewhere,
            "defocused": blurred and not elsewhere,
        }

    def _learn(self, sharpness: float, edges: NDArray[np.float32], time_s: float) -> None:
        passed_s = time_s - self._last_s if self._learned_s else 0.0
        self._learned_s += max(passed_s, 1e-3)
        share = 1.0 if passed_s == 0.0 else max(passed_s / self._learned_s, passed_s / LEARN_S)
        self._sharpness += share * (sharpness - self._sharpness)
        self._edges += np.float32(share) * (edges - self._edges)


def _is_the_same(luma: NDArray[Any], before: NDArray[Any]) -> bool:
    """Tell whether nothing has changed but what an encoder makes of it."""
    changed = int(np.count_nonzero(cv2.absdiff(luma, before) > ENCODER_NOISE))
    return changed <= STILL_SHARE * luma.size


def _edges(luma: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return how much the picture changes around each point, in units of its own mean; light leaves it alone."""
    small = cv2.resize(luma, EDGES_PX, interpolation=cv2.INTER_AREA).astype(np.float32)
    gradient = cv2.magnitude(cv2.Sobel(small, cv2.CV_32F, 1, 0), cv2.Sobel(small, cv2.CV_32F, 0, 1))
    gradient = cv2.GaussianBlur(gradient, (0, 0), 1.5)  # a pole that sways by a pixel is no other view
    return np.asarray(np.sqrt(gradient / (gradient.mean() + 1e-3)), np.float32)


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / (np.sqrt((a**2).sum() * (b**2).sum()) + 1e-6))

"""Boxes over time -> tracks, and what was learned of each track from its crops.

Tentative -> confirmed -> lost, as in deep_sort, but counted in seconds, since analysis rates differ from camera to
camera.

References:
    Wojke et al. 2017, "Simple online and realtime tracking with a deep association metric", https://arxiv.org/abs/1703.07402
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np
from numpy.typing import NDArray

from adapters.classifier import Classification
from monitor.values import Box

MAX_STEP = 1.2  # how far a thing may be from where it was expected, in multiples of its size
MAX_GROWTH = 3.0  # how much its area may differ,
MAX_GROWTH_OF_NONE, SURELY_NONE = (
    2.0,
    0.05,
)  # and that of what is surely no animal, by p(animal): one may have joined it
LOST_AFTER_S = 1.6  # without being seen; a car passing in front takes about that long
VELOCITY_GAIN = 0.5  # share of the newest step in the smoothed velocity
MEMORY = 0.9  # weight of the past when a look is added: about the last ten looks count,
MEMORY_S = 3.0  # and about the last three seconds: a track may slip from one thing to another
TRAVELLED = 0.6  # sizes from its origin that a track must come to count as moving
LOGIT_LIMIT = 6.0  # one overwhelming look must not outvote ten
FULL_QUALITY_PX = 64.0  # a crop of this side or more counts whole


@dataclass
class Evidence:
    """What the looks at one track add up to: a running mean, weighted by the quality of each crop."""

    looks: int = 0
    weight: float = 0.0
    animal_logit: float = 0.0
    weights: dict[str, float] = field(default_factory=dict)
    leads: dict[str, float] = field(default_factory=dict)
    similarity_m: float = 0.0
    last_s: float = -math.inf

    def add(self, look: Classification, side_px: float, now_s: float) -> None:
        """Add a look at a crop of the given side. An illegible crop says nothing and is left out."""
        if not look.legible:
            return
        quality = min(1.0, side_px / FULL_QUALITY_PX)
        past = self.weight * MEMORY * math.exp((self.last_s - now_s) / MEMORY_S)
        share = quality / (past + quality)
        self.looks, self.last_s = self.looks + 1, now_s
        self.weight = past + quality
        self.animal_logit += share * (_logit(look.p_animal) - self.animal_logit)
        self.similarity_m += share * (look.similarity_m - self.similarity_m)
        self.weights, self.leads = _mixed(self.weights, look.weights, share), _mixed(self.leads, look.leads, share)

    @property
    def p_animal(self) -> float:
        """Probability that the track is an animal; 0 before the first look."""
        return 1 / (1 + math.exp(-self.animal_logit)) if self.looks else 0.0


@dataclass
class Track:
    """One thing that is followed through the frames of a camera."""

    number: int
    box: Box
    first_seen_s: float
    last_seen_s: float
    standing: bool = False  # found by the sweep or stopped moving; kept alive by looks, not by motion
    velocity: tuple[float, float] = (0.0, 0.0)  # pixels a second
    evidence: Evidence = field(default_factory=Evidence)
    last_look_s: float = -math.inf
    looks_like: NDArray[np.float32] | None = None  # of its last look: centred, a unit vector (d_pooled,)
    origin: tuple[float, float] = field(init=False)
    travelled: float = 0.0  # farthest from the origin so far, in multiples of its size

    def __post_init__(self) -> None:
        self.origin = self.box.center

    def expected(self, now_s: float) -> Box:
        """Return where the track should be now."""
        elapsed = now_s - self.last_seen_s
        dx, dy = self.velocity[0] * elapsed, self.velocity[1] * elapsed
        return Box(self.box.x1 + dx, self.box.y1 + dy, self.box.x2 + dx, self.box.y2 + dy)

    def see(self, box: Box, now_s: float) -> None:
        """Move the track to where it was seen."""
        known_none = self.evidence.looks > 0 and self.evidence.p_animal < SURELY_NONE
        most = MAX_GROWTH_OF_NONE if known_none else MAX_GROWTH
        if not 1 / MAX_GROWTH <= (box.area + 1) / (self.box.area + 1) <= most:
            self._begin_anew(box, now_s)
        elapsed = now_s - self.last_seen_s
        if elapsed > 0:
            step = ((box.center[0] - self.box.center[0]) / elapsed, (box.center[1] - self.box.center[1]) / elapsed)
            keep = 1 - VELOCITY_GAIN
            self.velocity = (
                keep * self.velocity[0] + VELOCITY_GAIN * step[0],
                keep * self.velocity[1] + VELOCITY_GAIN * step[1],
            )
        self.box, self.last_seen_s, self.standing = box, now_s, False
        self.travelled = max(self.travelled, math.dist(box.center, self.origin) / max(1.0, math.sqrt(box.area)))

    def _begin_anew(self, box: Box, now_s: float) -> None:
        """Forget what was learned: what joins or splits so suddenly is no longer the thing that was looked at."""
        self.evidence, self.first_seen_s, self.origin, self.travelled = Evidence(), now_s, box.center, 0.0
        self.last_look_s = -math.inf

    def stand(self, now_s: float) -> None:
        """Note that the track was seen where it was, without motion."""
        self.last_seen_s, self.standing, self.velocity = now_s, True, (0.0, 0.0)


class Tracker:
    """The tracks of one camera."""

    def __init__(self) -> None:
        self.tracks: list[Track] = []
        self._numbers = count(1)

    def advance(self, moving: Sequence[Box], now_s: float) -> None:
        """Give each moving box to the track it continues, or to a new one, and drop the tracks that are lost.

        The nearest pair is joined first (greedy): at road densities it differs from the optimal assignment only where
        boxes overlap, and there appearance, not distance, would have to decide.
        """
        self.tracks = [track for track in self.tracks if now_s - track.last_seen_s <= LOST_AFTER_S]
        distances = _distances([track.expected(now_s) for track in self.tracks], moving)
        near = zip(*np.nonzero(np.isfinite(distances)), strict=True)
        pairs = sorted((float(distances[i, j]), int(i), int(j)) for i, j in near)
        taken_tracks: set[int] = set()
        taken_boxes: set[int] = set()
        for _, i, j in pairs:
            if i not in taken_tracks and j not in taken_boxes:
                self.tracks[i].see(moving[j], now_s)
                taken_tracks.add(i)
                taken_boxes.add(j)
        for j, box in enumerate(moving):
            if j not in taken_boxes:
                self.begin(box, now_s)

    def begin(self, box: Box, now_s: float, *, standing: bool = False) -> Track:
        """Begin a new track."""
        track = Track(next(self._numbers), box, now_s, now_s, standing)
        self.tracks.append(track)
        return track


def _mixed(past: Mapping[str, float], look: Mapping[str, float], share: float) -> dict[str, float]:
    """Return a mean with a look's share in it; a class that was taught meanwhile starts from nothing."""
    return {name: (1 - share) * past.get(name, 0.0) + share * value for name, value in look.items()}


def _distances(expected: Sequence[Box], boxes: Sequence[Box]) -> NDArray[np.float64]:
    """Return how far apart boxes are in multiples of their size, (n, m); infinite where they can be no one thing."""
    a, b = np.reshape(expected, (-1, 1, 4)).astype(np.float64), np.reshape(boxes, (1, -1, 4)).astype(np.float64)
    size_a, size_b = a[..., 2:] - a[..., :2], b[..., 2:] - b[..., :2]
    area_a, area_b = size_a.clip(0).prod(axis=-1), size_b.clip(0).prod(axis=-1)
    scale = (np.sqrt(area_a) + np.sqrt(area_b)) / 2
    growth = (area_b + 1) / (area_a + 1)
    centers = np.linalg.norm((a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2, axis=-1)
    distances = np.divide(centers, scale, out=np.full(growth.shape, np.inf), where=scale > 0)
    overlap = (np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])).clip(0).prod(axis=-1)
    inside = overlap > 0.5 * np.minimum(area_a, area_b)  # parts joining or splitting
    alike = (scale > 0) & (growth >= 1 / MAX_GROWTH) & (growth <= MAX_GROWTH)
    distances = np.where(alike, distances, np.where(inside, MAX_STEP, np.inf))
    return np.asarray(np.where(distances <= MAX_STEP, distances, np.inf), np.float64)


def _logit(probability: float) -> float:
    bounded = min(max(probability, 1e-9), 1 - 1e-9)
    return max(-LOGIT_LIMIT, min(LOGIT_LIMIT, math.log(bounded / (1 - bounded))))

"""What the main loop leaves for the pages, and the last half minute of every camera.

The loop writes, the pages' threads read. A frame is kept twice a second in its native size, so that what has just
passed can still be labelled; nothing of it is written to disk.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from monitor.cameras.health import Health
from monitor.clock import Every
from monitor.console.picture import Picture
from monitor.console.worth import LabelQueue
from monitor.policy import Situation
from monitor.values import Frame, Sighting

KEEP_S = 30.0
KEEP_EVERY_S = 0.5
MOST_BYTES = 24_000_000  # of a camera's kept frames; the oldest go first
LIVE_PX = 640  # width of the live picture
JPEG_QUALITY, LIVE_QUALITY = 90, 75


@dataclass
class _Camera:
    live: Picture | None = None
    live_s: float = 0.0
    kept: deque[tuple[float, Picture]] = field(default_factory=deque)  # since when, and what
    keeping: Every = field(default_factory=lambda: Every(KEEP_EVERY_S))
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))  # in each state of health

    def drop_old(self, now_s: float) -> None:
        """Let go what is older than `KEEP_S`, also where nothing new comes, or more than there is room for."""
        kept = self.kept
        while kept and (now_s - kept[0][0] > KEEP_S or sum(len(one.jpeg) for _, one in kept) > MOST_BYTES):
            kept.popleft()
        if now_s - self.live_s > KEEP_S:
            self.live = None


class Board:
    """The newest of everything. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cameras: dict[str, _Camera] = {}
        self._healths: Mapping[str, Health] = {}
        self._situations: Sequence[Situation] = ()
        self._queue, self._told_s = LabelQueue(), 0.0
        self._watched_at_s = 0.0  # nobody encodes live pictures while nobody looks

    def frame(self, frame: Frame, sightings: Sequence[Sighting], now_s: float) -> None:
        """Take in an analysed frame, while its image is valid."""
        own = tuple(sighting for sighting in sightings if sighting.camera == frame.camera)
        with self._lock:
            camera = self._cameras.setdefault(frame.camera, _Camera())
            keep, show = camera.keeping.is_due(now_s), now_s - self._watched_at_s < KEEP_S
        kept = _picture(frame, own, frame.size[0], JPEG_QUALITY) if keep else None
        live = _picture(frame, own, min(LIVE_PX, frame.size[0]), LIVE_QUALITY) if show else None
        with self._lock:
            if live is not None:
                camera.live, camera.live_s = live, now_s
            if kept is not None:
                camera.kept.append((now_s, kept))
                camera.drop_old(now_s)
                self._queue.offer(kept)

    def site(self, healths: Mapping[str, Health], situations: Sequence[Situation], now_s: float) -> None:
        """Take in the health of the cameras and the open situations; drop what is too old or of no camera now."""
        with self._lock:
            for gone in [name for name in self._cameras if name not in healths]:
                del self._cameras[gone]
                self._queue.forget(gone)
            since_s = now_s - self._told_s if self._told_s else 0.0
            for name, health in healths.items():
                camera = self._cameras.setdefault(name, _Camera())
                camera.seconds[health.state] += since_s
                camera.drop_old(now_s)
            self._healths, self._situations, self._told_s = dict(healths), tuple(situations), now_s

    def availability(self) -> dict[str, float]:
        """Return the share of the time since the start in which each camera was not blind."""
        with self._lock:
            totals = {
                name: (camera.seconds["blind"], sum(camera.seconds.values())) for name, camera in self._cameras.items()
            }
        return {name: 1 - blind / total for name, (blind, total) in totals.items() if total > 0}

    def worth_labelling(self) -> list[Picture]:
        """Return the pictures whose labels would help most, the best last."""
        with self._lock:
            return self._queue.pictures()

    def healths(self) -> Mapping[str, Health]:
        """Return the health of each camera."""
        with self._lock:
            return self._healths

    def situations(self) -> Sequence[Situation]:
        """Return the open situations."""
        with self._lock:
            return self._situations

    def live(self, camera: str, now_s: float) -> Picture | None:
        """Return the newest picture of a camera; from now on live ones are made for a while."""
        with self._lock:
            self._watched_at_s = now_s
            found = self._cameras.get(camera)
            return found.live or (found.kept[-1][1] if found.kept else None) if found else None

    def kept(self, camera: str) -> list[Picture]:
        """Return the pictures of the last half minute of a camera, oldest first."""
        with self._lock:
            found = self._cameras.get(camera)
            return [picture for _, picture in found.kept] if found else []


def _picture(frame: Frame, sightings: tuple[Sighting, ...], width: int, quality: int) -> Picture:
    image = frame.image
    if width < frame.size[0]:
        size = (width, round(frame.size[1] * width / frame.size[0]))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return Picture.of(frame, image, at=frame.captured_s, quality=quality, sightings=sightings)

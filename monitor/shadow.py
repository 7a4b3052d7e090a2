"""A version of the class set that runs beside the live one, and what it would have said otherwise."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from adapters.classes import ClassSet
from adapters.classifier import Classification

EXAMPLES = 24
JPEG_QUALITY = 85


@dataclass(frozen=True)
class Difference:
    """A crop that the two versions call differently; its picture, a JPEG, is never written to disk."""

    live: str
    other: str
    jpeg: bytes


@dataclass(frozen=True)
class Comparison:
    """What was compared so far: crops, changes of name and how often, and the newest examples."""

    version: str
    crops: int
    changes: tuple[tuple[str, str, int], ...]
    examples: tuple[Difference, ...]


class Shadow:
    """Compares as long as it is asked to. The main loop writes, the pages read."""

    def __init__(self, class_set: ClassSet) -> None:
        self.class_set = class_set
        self._lock, self._crops = threading.Lock(), 0
        self._changes: Counter[tuple[str, str]] = Counter()
        self._examples: deque[Difference] = deque(maxlen=EXAMPLES)

    def compare(
        self, crops: Sequence[NDArray[np.uint8]], live: Sequence[Classification], other: Sequence[Classification]
    ) -> None:
        """Take in what both versions made of some crops."""
        with self._lock:
            self._crops += len(crops)
            for crop, was, would in zip(crops, live, other, strict=True):
                if was.label != would.label:
                    self._changes[was.label, would.label] += 1
                    _, coded = cv2.imencode(".jpg", crop, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
                    self._examples.append(Difference(was.label, would.label, coded.tobytes()))

    def comparison(self) -> Comparison:
        """Return what was compared so far, the newest examples first."""
        with self._lock:
            changes = tuple((*names, count) for names, count in self._changes.most_common())
            return Comparison(self.class_set.version, self._crops, changes, tuple(reversed(self._examples)))

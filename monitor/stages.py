"""Where the time goes: seconds by stage, summed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stages:
    """Seconds that each stage has taken so far; cheap enough to be on for ever."""

    def __init__(self, observe: Callable[[str, float], None] = lambda stage, seconds: None) -> None:
        """Begin at zero; `observe` is told of each time that was taken."""
        self.seconds: dict[str, float] = {}
        self._observe, self._told = observe, dict[str, float]()

    def since_last(self) -> dict[str, float]:
        """Return the seconds that each stage has taken since the last call."""
        new = {stage: total - self._told.get(stage, 0.0) for stage, total in self.seconds.items()}
        self._told = dict(self.seconds)
        return new

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time of the block to a stage."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            took = time.perf_counter() - begun
            self.seconds[stage] = self.seconds.get(stage, 0.0) + took
            self._observe(stage, took)

"""Whether a camera sees: from what its stream does to the states that are published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from monitor.values import Fault

State = Literal["ok", "degraded", "blind"]
Reason = Literal[
    "lost", "stalled", "frozen", "dark", "overexposed", "covered", "defocused", "moved", "wrong-rate", "clock"
]

STALLED_AFTER_S = 5.0  # an open stream that gives no frame for so long is blind
RATE_WINDOW_S = 10.0
LEAST_RATE = 0.5  # of the wanted analysis rate; less is a wrong rate
GOOD_RATE = 0.65  # from which a wrong rate is a right one again
SEES_NOTHING: frozenset[Fault] = frozenset({"frozen", "dark", "overexposed", "covered"})
assert set(get_args(Fault)) <= set(get_args(Reason))  # each fault is a reason of the contract


@dataclass(frozen=True)
class Health:
    """A camera's state, and since when on the clock of the run."""

    state: State
    reason: Reason | None
    since_s: float


class HealthMonitor:
    """The health of one camera. A camera is blind until its first frame came."""

    def __init__(self, now: Callable[[], float], wanted_per_s: float) -> None:
        """Begin blind.

        Args:
            now: the clock of the run, in seconds.
            wanted_per_s: analysed frames a second.
        """
        self._now, self._wanted_per_s = now, wanted_per_s
        self._opened_s = now()
        self._last_frame_s: float | None = None
        self._frames: list[float] = []
        self.health = Health("blind", "lost", now())

    def frame(self, fault: Fault | None = None) -> None:
        """Note that a frame came, and what is wrong with its picture."""
        if self._last_frame_s is None:
            self._opened_s = self._now()
        self._last_frame_s = self._now()
        self._frames = [s for s in self._frames if s > self._last_frame_s - RATE_WINDOW_S] + [self._last_frame_s]
        if fault is not None:
            self._become("blind" if fault in SEES_NOTHING else "degraded", fault)
        elif self._comes_too_rarely():
            self._become("degraded", "wrong-rate")
        else:
            self._become("ok", None)

    def _comes_too_rarely(self) -> bool:
        watched_s = self._now() - self._opened_s
        least = GOOD_RATE if self.health.reason == "wrong-rate" else LEAST_RATE  # or it would flicker between the two
        return watched_s >= RATE_WINDOW_S and self.analysed_per_s < least * self._wanted_per_s

    def lost(self) -> None:
        """Note that the stream broke."""
        self._last_frame_s = None
        self._become("blind", "lost")

    def check(self) -> Health:
        """Return the health, after noticing a stream that is open but gives nothing."""
        if self._last_frame_s is not None and self._now() - self._last_frame_s > STALLED_AFTER_S:
            self._become("blind", "stalled")
        return self.health

    @property
    def analysed_per_s(self) -> float:
        """Frames analysed a second, over the last ten."""
        recent = [s for s in self._frames if s > self._now() - RATE_WINDOW_S]
        return len(recent) / RATE_WINDOW_S

    def _become(self, state: State, reason: Reason | None) -> None:
        if (state, reason) != (self.health.state, self.health.reason):
            self.health = Health(state, reason, self._now())

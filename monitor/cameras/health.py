"""Whether a camera sees: from what its stream does to the states that are published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from monitor.values import STALLED_S, WRONG_RATE_S, Fault

State = Literal["ok", "degraded", "blind"]
Reason = Literal[
    "lost", "stalled", "frozen", "dark", "overexposed", "covered", "defocused", "moved", "wrong-rate", "clock"
]

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

    def __init__(
        self,
        now: Callable[[], float],
        wanted_per_s: float,
        *,
        stalled_s: float = STALLED_S,
        wrong_rate_s: float = WRONG_RATE_S,
    ) -> None:
        """Begin blind.

        Args:
            now: the clock of the run, in seconds.
            wanted_per_s: analysed frames a second.
            stalled_s: for how long an open stream may give no frame.
            wrong_rate_s: over how long frames are counted, and too few are told of.
        """
        self._now, self._wanted_per_s = now, wanted_per_s
        self._stalled_s, self._window_s = stalled_s, wrong_rate_s
        self._opened_s = now()
        self._last_frame_s: float | None = None
        self._frames: list[tuple[float, int]] = []  # when one was taken up, and how many were due since the one before
        self._left_out = 0
        self.health = Health("blind", "lost", now())

    def frame(self, fault: Fault | None = None, left_out: int = 0) -> None:
        """Note that a frame came.

        Args:
            fault: what is wrong with its picture.
            left_out: how many due frames of this stream nobody took in time, so far.
        """
        now_s = self._now()
        if self._last_frame_s is None:
            self._opened_s, self._left_out = now_s, 0
        due, self._left_out = 1 + left_out - self._left_out, left_out
        self._last_frame_s = now_s
        self._frames = [(at_s, n) for at_s, n in self._frames if at_s > now_s - self._window_s] + [(now_s, due)]
        if fault is not None:
            self._become("blind" if fault in SEES_NOTHING else "degraded", fault)
        elif self._comes_too_rarely():
            self._become("degraded", "wrong-rate")
        else:
            self._become("ok", None)

    def _comes_too_rarely(self) -> bool:
        """Tell whether the camera gives too few frames, whether or not this machine takes them all."""
        watched_s = self._now() - self._opened_s
        least = GOOD_RATE if self.health.reason == "wrong-rate" else LEAST_RATE  # or it would flicker between the two
        due_per_s = sum(due for _, due in self._recent()) / self._window_s
        return watched_s >= self._window_s and due_per_s < least * self._wanted_per_s

    def lost(self) -> None:
        """Note that the stream broke."""
        self._last_frame_s = None
        self._become("blind", "lost")

    def check(self) -> Health:
        """Return the health, after noticing a stream that is open but gives nothing."""
        if self._last_frame_s is not None and self._now() - self._last_frame_s > self._stalled_s:
            self._become("blind", "stalled")
        return self.health

    @property
    def analysed_per_s(self) -> float:
        """Frames analysed a second, over the last seconds."""
        return len(self._recent()) / self._window_s

    @property
    def overloaded(self) -> bool:
        """Whether this machine took less than half of what the camera gave."""
        recent = self._recent()
        return len(recent) < LEAST_RATE * sum(due for _, due in recent)

    def _recent(self) -> list[tuple[float, int]]:
        return [(at_s, due) for at_s, due in self._frames if at_s > self._now() - self._window_s]

    def _become(self, state: State, reason: Reason | None) -> None:
        if (state, reason) != (self.health.state, self.health.reason):
            self.health = Health(state, reason, self._now())

"""Whether a stream's own time keeps step with ours.

A lag that grows means that the frames are old, whatever shows in them: a server that keeps frames back, a network that
is too slow, a camera whose clock is wrong.
"""

from __future__ import annotations

from collections import deque
from statistics import median

from monitor.clock import Every

SETTLE_S = 5.0  # at first FFmpeg hands out at once what it has probed, and counts the stamps anew
MOST_LAG_S = 3.0
BEHIND_WINDOW_S, AHEAD_WINDOW_S = 600, 60  # a crystal drifts by a hundredth of that within these
SAMPLE_EVERY_S = 1.0


class StreamTiming:
    """The stamps of one stream against our monotonic clock."""

    def __init__(self, lasting_s: float) -> None:
        """Begin; the stream must be off for `lasting_s` seconds to be told so."""
        self._lasting_s = lasting_s
        self._lags_s: deque[float] = deque(maxlen=BEHIND_WINDOW_S)
        self._sampling = Every(SAMPLE_EVERY_S)
        self._off_since_s: float | None = None

    def is_off(self, stamp_s: float, now_s: float) -> bool:
        """Tell whether the stream has been off for long enough.

        Args:
            stamp_s: of a frame that came now, in the stream's own time.
            now_s: since the first frame came.
        """
        if now_s < SETTLE_S or stamp_s <= 0:  # the latter has no stamps
            return False
        lag_s = now_s - stamp_s
        if self._sampling.is_due(now_s):
            self._lags_s.append(lag_s)
        behind = lag_s - min(self._lags_s) > MOST_LAG_S
        ahead = median(list(self._lags_s)[-AHEAD_WINDOW_S:]) - lag_s > MOST_LAG_S
        if not (behind or ahead):
            self._off_since_s = None
        elif self._off_since_s is None:
            self._off_since_s = now_s
        return self._off_since_s is not None and now_s - self._off_since_s >= self._lasting_s

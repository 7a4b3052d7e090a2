"""The wall clock, and whether its stamps can be trusted; timers run on the monotonic clock and do not care."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

EARLIEST = datetime(
    2026, 11, 1, tzinfo=UTC
).timestamp()  # no run is older than the program; a clock before was never set
STEP_S = 5.0  # a clock that is slewed drifts by 0.5 ms a second; more than this at once, and somebody set it
SETTLE_S = 600.0  # how long a clock is mistrusted after that
TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised


@dataclass(frozen=True, kw_only=True)
class ClockState:
    """What is known of the wall clock.

    Attributes:
        synced: the kernel holds it in step with a time server, and nothing speaks against it.
        source: `ntp`, or `system` where nothing keeps it.
        error_ms: the kernel's upper bound of its error; None where it knows none.
        trusted: its stamps make sense: it was set, and not set anew within the last `SETTLE_S`.
        steady: nobody has set it in this run, or the kernel holds it in step since.
    """

    synced: bool
    source: str
    error_ms: float | None
    trusted: bool
    steady: bool


class Every:
    """Something that is due again and again."""

    def __init__(self, period_s: float, *, first_s: float = 0.0) -> None:
        self._period_s, self._due_s = period_s, first_s

    def is_due(self, now_s: float) -> bool:
        """Tell whether it is due; if so, it is next due a period from now."""
        if now_s < self._due_s:
            return False
        self._due_s = now_s + self._period_s
        return True


class Clock:
    """Watches the wall clock against the monotonic one; to be asked every few seconds."""

    def __init__(
        self,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        kernel: Callable[[], float | None] | None = None,
    ) -> None:
        """Begin to watch.

        Args:
            wall: seconds since 1970.
            monotonic: seconds since whenever.
            kernel: upper bound of the error in ms, None where the clock is not synchronised.
        """
        self._wall, self._monotonic, self._kernel = wall, monotonic, kernel or kernel_error_ms
        self._offset_s = wall() - monotonic()
        self._stepped_s: float | None = None

    def state(self) -> ClockState:
        """Return what is known of the clock now."""
        now_s = self._monotonic()
        offset_s = self._wall() - now_s
        if abs(offset_s - self._offset_s) > STEP_S:
            self._stepped_s = now_s
        self._offset_s = offset_s
        settled = self._stepped_s is None or now_s - self._stepped_s > SETTLE_S
        trusted = settled and now_s + offset_s >= EARLIEST
        error_ms = self._kernel()
        return ClockState(
            synced=trusted and error_ms is not None,
            source="system" if error_ms is None else "ntp",
            error_ms=error_ms if trusted else None,
            trusted=trusted,
            steady=trusted and (self._stepped_s is None or error_ms is not None),
        )


LIBC = ctypes.CDLL(None)  # opened once: the clock is asked for every sighting


class _Timex(ctypes.Structure):
    """`struct timex` of adjtimex(2)."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),  # microseconds
        ("rest", ctypes.c_long * 60),
    )


def kernel_error_ms() -> float | None:
    """Return the kernel's upper bound of the clock's error in ms; None where it is not synchronised."""
    try:
        asked = _Timex()
        state = LIBC.adjtimex(ctypes.byref(asked))
    except AttributeError:
        return None
    return None if state in (-1, TIME_ERROR) else asked.maxerror / 1000

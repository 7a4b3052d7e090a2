"""Tells the service manager that we are up, and feeds its watchdog while every loop goes round.

The protocol is a datagram to the socket named by NOTIFY_SOCKET, as sd_notify(3) has it; the packages that wrap these
lines are unmaintained or need libsystemd. Without a service manager all of it is silent.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)


class Promise:
    """A loop's word on when it will be round again; given by the loop's thread, read by the one that feeds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """Begin without a word: a loop that has not begun is not late."""
        self._now = now
        self._due_s: float | None = None

    def back_within(self, seconds: float) -> None:
        """Promise to be here again within so long."""
        self._due_s = self._now() + seconds

    def late_s(self) -> float:
        """Return for how long the promise has been broken; 0 where it holds."""
        return max(0.0, self._now() - self._due_s) if self._due_s is not None else 0.0


class Watchdog:
    """What the service manager hears of us.

    The main loop feeds: frames come in, are classified and reach the journal on its way round, so that none of these
    can stand still while it feeds. The loops on other threads give promises.
    """

    def __init__(self, loops: Mapping[str, Promise], environment: Mapping[str, str] = os.environ) -> None:
        """Look whether a service manager is there.

        Args:
            loops: the promises of the loops on other threads, by name.
            environment: where the manager has left the socket's name and the watchdog's time in microseconds.
        """
        self._loops, self._socket = loops, environment.get("NOTIFY_SOCKET", "")
        self._period_s = int(environment.get("WATCHDOG_USEC", "0")) / 1e6 / 4
        self._fed_s, self._gave_up = float("-inf"), False

    def ready(self, status: str) -> None:
        """Say that we watch, and what."""
        self._notify(f"READY=1\nSTATUS={status}")

    def stopping(self) -> None:
        """Say that we end because we were asked to."""
        self._notify("STOPPING=1")

    def stuck(self) -> str:
        """Return which loop stands still; nothing where all go round."""
        late = {name: promise.late_s() for name, promise in self._loops.items()}
        return ", ".join(f"the {name} is {late_s:.0f} s late" for name, late_s in late.items() if late_s)

    def feed(self, now_s: float) -> None:
        """Feed where it is due, to be called each time round; ask for a restart where a loop stands still."""
        if not self._period_s or self._gave_up or now_s - self._fed_s < self._period_s:
            return
        self._fed_s = now_s
        if stuck := self.stuck():
            self._gave_up = True
            log.critical("%s: asking for a restart", stuck)
            self._notify(f"STATUS={stuck}\nWATCHDOG=trigger")
        else:
            self._notify("WATCHDOG=1")

    def _notify(self, message: str) -> None:
        if not self._socket:
            return
        address = "\0" + self._socket[1:] if self._socket.startswith("@") else self._socket
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(1.0)
                sender.sendto(message.encode(), address)
        except OSError as error:
            log.warning("the service manager does not hear us (%s)", error)

"""Standard output and error of a program that must go on, whoever reads them or no longer does."""

from __future__ import annotations

import io
import logging
import os
import queue
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

MOST_WAITING = 2_000  # pieces of text, a line of the log or an alert each: some megabytes
LAST_WORDS_S = 1.0  # at the end, for what still waits

log = logging.getLogger(__name__)


class Outlet(io.TextIOBase):
    """A stream that never makes its writer wait: a thread of its own hands on what was written.

    A pager that was left open, a terminal after Ctrl-S, a log collector that hangs: each would stop the main loop, and
    with it the alerts. What does not fit into the queue meanwhile is dropped, which the log tells.
    """

    def __init__(self, stream: TextIO, called: str, most_waiting: int = MOST_WAITING) -> None:
        """Begin.

        Args:
            stream: a real one, with a file descriptor; nothing else may write to it meanwhile.
            called: how the log calls it.
            most_waiting: pieces of text that are kept for a reader who is slow.
        """
        super().__init__()
        self._descriptor, self._called = stream.fileno(), called
        self._waiting: queue.Queue[str | None] = queue.Queue(most_waiting)
        self._dropped, self._gone = 0, False
        self._thread = threading.Thread(target=self._hand_on, name=called, daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        """Return the file descriptor of the stream behind it."""
        return self._descriptor

    def writable(self) -> bool:
        """Tell that it can be written to."""
        return True

    def write(self, text: str) -> int:
        """Take a piece of text; it is handed on whole or not at all."""
        try:
            self._waiting.put_nowait(text)
        except queue.Full:
            self._dropped += 1
            if self._dropped == 1:  # not again: the log may be what nobody reads
                log.warning("%s is not read; what is written there is dropped, alerts still go out", self._called)
        return len(text)

    def stop(self) -> None:
        """Hand on what waits, where somebody reads it within a second."""
        try:
            self._waiting.put(None, timeout=LAST_WORDS_S)
        except queue.Full:
            return
        self._thread.join(LAST_WORDS_S)

    def _hand_on(self) -> None:
        while (text := self._waiting.get()) is not None:
            if self._gone:
                continue
            try:
                self._write_whole(text.encode(errors="backslashreplace"))
            except OSError as error:  # nobody has the other end any more, or the disk is full
                self._gone = True
                log.warning("%s is gone (%s); alerts still go to the broker", self._called, error)
            if self._dropped and self._waiting.empty():
                dropped, self._dropped = self._dropped, 0
                log.warning("%s is read again; %d lines were dropped", self._called, dropped)

    def _write_whole(self, text: bytes) -> None:
        while text:
            text = text[os.write(self._descriptor, text) :]


@contextmanager
def outlets() -> Iterator[None]:
    """Put an outlet before standard output and standard error."""
    before = sys.stdout, sys.stderr
    after = Outlet(sys.stdout, "standard output"), Outlet(sys.stderr, "standard error")
    sys.stdout, sys.stderr = after
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for outlet in after:
            outlet.stop()

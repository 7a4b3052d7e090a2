"""Frames from the decoder process to its parent: one at a time, and the newest next.

While the parent works on a frame, the newest due one waits in the other slot of the ring, and takes the place of one
that waits there already. So none is queued, and none grows older than what the parent needs for one.
"""

from __future__ import annotations

import json
import threading
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.cameras.ring import FrameRing


class HandOver:
    """The decoder's end of the ring. A thread listens for slots that come back, since decoding blocks."""

    def __init__(self, parent: Connection, ring: FrameRing) -> None:
        self._parent, self._ring = parent, ring
        self._changed = threading.Condition()
        self._theirs: int | None = None  # slot that the parent works on
        self._next = 0  # slot that is being filled
        self._waiting: dict[str, Any] | None = None  # frame that goes next
        self._gone = False
        self._dropped = 0
        threading.Thread(target=self._listen, name="hand-over", daemon=True).start()

    def room(self) -> NDArray[np.uint8]:
        """Return the memory for the next frame, uint8 (height, width, 3); one that waits there is dropped."""
        with self._changed:
            self._dropped += self._waiting is not None
            self._waiting, self._next = None, 0 if self._theirs is None else 1 - self._theirs
            return self._ring.slot(self._next)

    def offer(self, **about: Any) -> None:  # noqa: ANN401  # JSON values
        """Hand over what lies in `room` now or, where the parent is busy, next.

        Raises:
            BrokenPipeError: the parent is gone.
        """
        with self._changed:
            self._waiting = {"event": "frame", "slot": self._next, **about}
            self._send_waiting()

    def wait_for_room(self) -> None:
        """Return once no frame waits: for a recording, of which none may be left out.

        Raises:
            BrokenPipeError: the parent is gone.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is None or self._gone)
            if self._gone:
                raise BrokenPipeError

    def say(self, **message: Any) -> None:  # noqa: ANN401  # JSON values
        """Tell the parent something else."""
        with self._changed:
            self._parent.send_bytes(json.dumps(message).encode())

    def _send_waiting(self) -> None:
        if self._gone:
            raise BrokenPipeError
        if self._theirs is None and self._waiting is not None:
            self._parent.send_bytes(json.dumps(self._waiting | {"dropped": self._dropped}).encode())
            self._theirs, self._waiting = self._waiting["slot"], None

    def _listen(self) -> None:
        try:
            while True:
                self._parent.recv_bytes()  # the slot that the parent had is free
                with self._changed:
                    self._theirs = None
                    self._send_waiting()
                    self._changed.notify_all()
        except (EOFError, OSError):
            with self._changed:
                self._gone = True
                self._changed.notify_all()

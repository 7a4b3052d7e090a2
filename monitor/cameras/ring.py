"""Shared memory in which a decoder process leaves frames for the daemon; `handover.py` says whose turn it is.

The memory has no name in the file system: it is gone when both processes are.
"""

from __future__ import annotations

import mmap
import os
import tempfile

import numpy as np
from numpy.typing import NDArray

SLOTS = 2  # one is being worked on, in the other the newest frame waits


def make_memory() -> int:
    """Return the descriptor of an empty anonymous file that both processes map."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("wildlane-frames")
    with tempfile.TemporaryFile() as file:  # macOS: a file that has no name any more
        return os.dup(file.fileno())


class FrameRing:
    """A few frames of one size in shared memory."""

    def __init__(self, descriptor: int, size: tuple[int, int]) -> None:
        """Map the memory, growing it to hold `SLOTS` frames of `size` = (width, height)."""
        width, height = size
        self._shape = (SLOTS, height, width, 3)
        length = int(np.prod(self._shape))
        if os.fstat(descriptor).st_size < length:
            os.ftruncate(descriptor, length)
        self._memory = mmap.mmap(descriptor, length)

    def slot(self, number: int) -> NDArray[np.uint8]:
        """Return a view of a slot, uint8 (height, width, 3); its content changes once the slot is handed back."""
        frames: NDArray[np.uint8] = np.frombuffer(self._memory, np.uint8).reshape(self._shape)
        frame: NDArray[np.uint8] = frames[number]
        return frame

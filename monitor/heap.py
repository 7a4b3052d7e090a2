"""Memory that was freed goes back to the operating system."""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Return freed memory to the system, in tens of milliseconds; where the C library can't, do nothing.

    glibc keeps what a thread has freed in that thread's arena, in case it asks again. A lesson frees a hundred
    megabytes, and the next one is given by another thread: each would keep its own.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)

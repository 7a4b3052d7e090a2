"""The limit that no program can beat: a loop that only decodes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

import cv2

from adapters.errors import InputError


def bare_fps(clip: Path, how: Literal["read", "grab"]) -> float:
    """Return how many frames a second a bare loop decodes of a clip; `grab` leaves out the conversion to a picture.

    Raises:
        InputError: no frame of it can be decoded.
    """
    capture = cv2.VideoCapture(str(clip.absolute()), cv2.CAP_FFMPEG)
    frames, begun = 0, time.perf_counter()
    while capture.read()[0] if how == "read" else capture.grab():
        frames += 1
    seconds = time.perf_counter() - begun
    capture.release()
    if frames == 0:
        raise InputError(f"{clip}: no frame of it can be decoded")
    return frames / seconds

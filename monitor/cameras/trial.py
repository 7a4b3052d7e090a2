"""A camera that is not one of the site's yet: whether it can be opened, and what it shows."""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing.connection import wait
from urllib.parse import unquote, urlsplit

import cv2

from monitor.cameras.stream import CameraError, DecoderProcess, Ended, Opened, Source
from monitor.values import Frame

JPEG_QUALITY = 85
RATE_HZ = 5.0


@dataclass(frozen=True)
class FirstPicture:
    """What a camera showed: (width, height) in pixels, frames a second as it declares them, a JPEG."""

    size: tuple[int, int]
    fps: float
    jpeg: bytes


def first_picture(name: str, url: str) -> FirstPicture:
    """Return the first picture of a source; takes as long as its time-outs at most.

    Raises:
        CameraError: it can't be opened or shows nothing; the message holds neither address nor password.
    """
    decoder = DecoderProcess(Source(name=name, url=url, analysis_rate_hz=RATE_HZ), "live")
    fps = 0.0
    try:
        while not isinstance(event := decoder.receive(), Frame | Ended):
            if isinstance(event, Opened):
                fps = event.fps
            wait([decoder.connection], timeout=0.1)
        if isinstance(event, Ended):
            raise CameraError(f"camera {name}: {_without_secrets(event.reason or 'it shows nothing', url)}")
        _, coded = cv2.imencode(".jpg", event.image, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
        return FirstPicture(event.size, fps, coded.tobytes())
    finally:
        decoder.stop()


def _without_secrets(reason: str, url: str) -> str:
    """What a decoder says at its end may name what it was given."""
    parts = urlsplit(url)
    secrets = {url, parts.netloc, parts.password or "", unquote(parts.password or ""), parts.query}
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        reason = reason.replace(secret, "...")
    return reason

"""Pictures from an operator's own machine: judged by what they say of their size, decoded one at a time, coded anew."""

from __future__ import annotations

import io
import time
import warnings
from threading import Lock

import cv2
import numpy as np
from PIL import Image

from adapters.errors import InputError
from adapters.stills import FORMATS, LEAST_PX, decode_picture
from monitor.console.board import JPEG_QUALITY
from monitor.console.picture import Picture

UPLOADED = "uploaded"  # stands in a camera's place
MOST_PIXELS, MOST_SIDE_PX = 25_000_000, 16_384  # more than cameras give; decoding takes up to 25 bytes a pixel
HELD_SIDE_PX = 4096  # at most, of the picture as it is held

_decoding = Lock()


def uploaded(content: bytes, name: str) -> Picture:
    """Return the picture that a file's content is; `name` tells which in an error.

    Raises:
        InputError: it is none, or larger or narrower than what a camera gives.
    """
    with _decoding:
        _check_size(content, name)
        pixels = decode_picture(content, name)
    scale = HELD_SIDE_PX / max(pixels.shape[:2])
    if scale < 1:
        pixels = np.asarray(cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    _, coded = cv2.imencode(".jpg", pixels, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
    size = (pixels.shape[1], pixels.shape[0])
    return Picture(camera=UPLOADED, number=0, at=time.time(), size=size, jpeg=coded.tobytes(), sightings=())


def _check_size(content: bytes, name: str) -> None:
    """Raise by the header alone: a file of a few hundred kB can say that it is gigabytes."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
                width, height = picture.size
    except Image.DecompressionBombError:
        raise InputError(f"{name}: more than {MOST_PIXELS // 1_000_000} megapixels") from None
    except (OSError, SyntaxError, ValueError):
        return  # the decoder says better what is wrong
    if width * height > MOST_PIXELS or max(width, height) > MOST_SIDE_PX or min(width, height) < LEAST_PX:
        raise InputError(
            f"{name}: {width} x {height} pixels; expected {LEAST_PX} to {MOST_SIDE_PX:,} a side, "
            f"{MOST_PIXELS // 1_000_000} megapixels in all"
        )

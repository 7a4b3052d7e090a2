"""Picture files -> arrays, strictly: what a decoder would only warn about is an error that names the file."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from adapters.errors import InputError, WildlaneError

MAX_PIXELS = 89_000_000  # just below where Pillow calls it a decompression bomb; no camera gives more
PNG_START, PNG_END, PNG_TAIL_BYTES = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82", 65_536
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
LEAST_PX = 10  # of a side: less holds no shape


class PictureFile(Protocol):
    """A file, as far as it is asked for here: a path, or a member of an archive."""

    def exists(self) -> bool:
        """Tell whether there is anything."""

    def is_file(self) -> bool:
        """Tell whether it is a regular file."""

    def is_dir(self) -> bool:
        """Tell whether it is a folder."""

    def read_bytes(self) -> bytes:
        """Return its content."""


def read_picture(path: PictureFile) -> NDArray[np.uint8]:
    """Return a still as uint8 (height, width, 3), BGR, turned upright by its EXIF orientation.

    Grey, CMYK, palette and 16-bit pictures are converted; transparency is laid on grey.

    Raises:
        InputError: the file is missing, unreadable, cut short, of another format, or larger than `MAX_PIXELS`.
    """
    with reading(path):
        try:
            if path.exists() and not path.is_file() and not path.is_dir():
                raise InputError(f"{path}: is no regular file, expected a picture")
            content = path.read_bytes()
        except FileNotFoundError:
            raise InputError(f"{path}: no such picture") from None
        except IsADirectoryError:
            raise InputError(f"{path}: is a folder, expected a picture") from None
    return decode_picture(content, str(path))


def store_of(path: object) -> Any | None:  # noqa: ANN401  # of fsspec, which has no types
    """Return what a URL's path, or a picture behind one, is read through; None for what is on this machine."""
    return getattr(path, "fs", None)


@contextmanager
def reading(path: object) -> Iterator[None]:
    """Say in a line what a disk, or the store that a path is in, does not give.

    Raises:
        InputError: it does not.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror or error})") from None
    except Exception as error:
        if isinstance(error, WildlaneError) or store_of(path) is None:
            raise
        raise InputError(f"{path}: can't be read ({error})") from None  # each kind of store has errors of its own


def read_learnable(path: PictureFile) -> NDArray[np.uint8]:
    """Return a still as `read_picture` does.

    Raises:
        InputError: as there, or it is too small to learn from or be asked about.
    """
    picture = read_picture(path)
    height, width = picture.shape[:2]
    if min(height, width) < LEAST_PX:
        raise InputError(f"{path}: {width} x {height} pixels; at least {LEAST_PX} x {LEAST_PX} are needed")
    return picture


def decode_picture(content: bytes, name: str) -> NDArray[np.uint8]:
    """Return the still that a file's content is, as `read_picture` does; `name` tells which in an error.

    Raises:
        InputError: it is unreadable, cut short, of another format, or larger than `MAX_PIXELS`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # broken EXIF and the like: the pixels count
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            _check_whole(content)
            with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise InputError(
                        f"{name}: {picture.width} x {picture.height} pixels, at most {MAX_PIXELS:,} are read"
                    )
                picture.load()
                return _bgr(ImageOps.exif_transpose(picture))
    except UnidentifiedImageError:
        raise InputError(f"{name}: not a picture; expected one of {', '.join(FORMATS)}") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{name}: can't be decoded ({error})") from None


def _check_whole(content: bytes) -> None:
    """Raise where a PNG fails its own checksums or lacks its end: the decoder would fill up what is missing."""
    if not content.startswith(PNG_START):
        return
    if PNG_END not in content[-PNG_TAIL_BYTES:]:
        raise OSError("its end is missing")
    with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
        picture.verify()


def _bgr(picture: Image.Image) -> NDArray[np.uint8]:
    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        deep = np.asarray(picture, np.float32)
        if not np.isfinite(deep).all():
            raise ValueError("its pixels hold values that are no numbers")
        spread = max(float(deep.max() - deep.min()), 1.0)  # sensors fill 10 to 16 of the 16 bits: stretch what is there
        grey = ((deep - deep.min()) * (255 / spread)).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        over = picture.convert("RGBA")
        ground = Image.new("RGBA", over.size, (128, 128, 128, 255))
        picture = Image.alpha_composite(ground, over)
    return np.ascontiguousarray(np.asarray(picture.convert("RGB"))[:, :, ::-1])

"""The crops that classes were taught from: PNG files named by the SHA-256 of their pixels."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from adapters.errors import StoreError
from adapters.provenance import UNKNOWN, Provenance

NAME = re.compile(r"[0-9a-f]{64}")
PART = ".part"  # of a file that is being written
MOSAIC_BLOCKS = 10  # across the crop, outside the animal's box: neither a face nor a number plate survives that


@dataclass(frozen=True)
class LabelledCrop:
    """What an operator labelled.

    Attributes:
        pixels: the animal with a margin, uint8 (height, width, 3), BGR.
        animal: its box in these pixels, x1, y1, x2, y2; None where all of the picture counts as the animal.
        provenance: where it came from.
    """

    pixels: NDArray[np.uint8]
    animal: tuple[int, int, int, int] | None = None
    provenance: Provenance = UNKNOWN

    def masked(self) -> NDArray[np.uint8]:
        """Return what may be kept: a mosaic outside the animal's box."""
        if self.animal is None:
            return self.pixels
        height, width = self.pixels.shape[:2]
        blocks = (min(MOSAIC_BLOCKS, width), min(MOSAIC_BLOCKS, height))
        coarse = cv2.resize(self.pixels, blocks, interpolation=cv2.INTER_AREA)
        masked = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)
        x1, y1, x2, y2 = self.animal
        masked[y1:y2, x1:x2] = self.pixels[y1:y2, x1:x2]
        return masked


class Crops:
    """A folder of crops. A crop is written before anything names it, so that a killed process leaves no loose end."""

    def __init__(self, folder: Path) -> None:
        """Use a folder; it is made when the first crop is kept."""
        self._folder = folder

    def keep(self, crop: NDArray[np.uint8]) -> None:
        """Write a crop, flushed to the disk; one that is there already is left alone.

        Raises:
            StoreError: it can't be kept.
        """
        path = self._path(crop_hash(crop))
        if path.exists():
            return
        _, encoded = cv2.imencode(".png", crop)
        draft = path.with_suffix(f".{os.getpid()}{PART}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with draft.open("wb") as file:
                file.write(encoded.tobytes())
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise StoreError(f"{path}: the crop can't be kept ({error.strerror}); nothing was taught") from None

    def picture(self, sha256: str | None) -> NDArray[np.uint8] | None:
        """Return a crop, uint8 (height, width, 3), BGR; None where it is not kept or can't be read."""
        return None if sha256 is None else cv2.imread(str(self._path(sha256)))  # type: ignore[return-value]  # cv2 types it as any array

    def png(self, sha256: str | None) -> bytes | None:
        """Return the content of a crop's file; None where it is not kept."""
        if sha256 is None or not NAME.fullmatch(sha256):
            return None
        path = self._path(sha256)
        return path.read_bytes() if path.exists() else None

    def others(self, kept: Container[str | None]) -> list[Path]:
        """Return the files of crops that are not among `kept`, and of those that were never written to their end."""
        files = [path for path in self._folder.glob("*") if path.suffix in (".png", PART)]
        return [path for path in files if path.suffix == PART or path.stem not in kept]

    def delete_others(self, kept: Container[str | None]) -> None:
        """Erase the crops that are not among `kept`. Nobody may be about to name one meanwhile.

        Raises:
            StoreError: one can't be erased.
        """
        for path in self.others(kept):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise StoreError(
                    f"{path}: can't be erased ({error.strerror}); it is tried again at the start"
                ) from None

    def set_aside(self) -> None:
        """Leave the crops of a store whose file is gone: whoever moved it away may want to repair it."""
        if any(self._folder.glob("*")):
            self._folder.rename(self._folder.with_name(f"{self._folder.name}-{time.time_ns()}"))

    def _path(self, sha256: str) -> Path:
        return self._folder / f"{sha256}.png"


def crop_hash(crop: NDArray[np.uint8]) -> str:
    """Return the name of a crop: the SHA-256 of its shape and pixels."""
    return hashlib.sha256(str(crop.shape).encode() + crop.tobytes()).hexdigest()

"""Stills for `classify` and `teach`: cut out the box, as the live path cuts moving things, and word the answer."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.classes import ClassSet
from adapters.classifier import Classifier
from adapters.crops import LabelledCrop
from adapters.errors import InputError
from adapters.stills import read_picture
from monitor.regions import crop_box
from monitor.values import Box

Region = tuple[float, float, float, float]  # x, y, w, h


def crop_still(image: Path, region: Region | None) -> LabelledCrop:
    """Return the crop of a still; the whole picture without a region.

    Raises:
        InputError: the picture can't be read, or the region lies outside it.
    """
    picture = read_picture(image)
    return LabelledCrop(picture) if region is None else cut(picture, region, str(image))


def cut(picture: NDArray[np.uint8], region: Region, name: str) -> LabelledCrop:
    """Return a region of a picture, uint8 (height, width, 3), BGR, with a margin; `name` tells which in an error.

    Raises:
        InputError: the region lies outside the picture.
    """
    x, y, w, h = region
    size = (picture.shape[1], picture.shape[0])
    box = Box(x, y, x + w, y + h).clipped(size)
    if box.width < 1 or box.height < 1:
        raise InputError(
            f"{name}: the box {x:g},{y:g},{w:g},{h:g} lies outside the picture of {size[0]} x {size[1]} pixels"
        )
    x1, y1, x2, y2 = (round(value) for value in crop_box(box, size))
    left, top, right, bottom = (round(value) for value in box)
    return LabelledCrop(
        picture[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)],
        (max(0, left - x1), max(0, top - y1), right - x1, bottom - y1),
    )


def crop_or_refusal(image: Path, region: Region | None) -> LabelledCrop | str:
    """Return the crop of a still, or why there is none: one bad frame does not spoil a lesson."""
    try:
        return crop_still(image, region)
    except InputError as error:
        return str(error).removeprefix(f"{image}: ")


def classify_still(
    classifier: Classifier, class_set: ClassSet, image: Path, region: Region | None, crop: NDArray[np.uint8]
) -> dict[str, Any]:
    """Return the answer for one still as the contract words it; without a region the box is the whole picture."""
    started = time.monotonic()
    answer = classifier.classify([crop], class_set.memory)[0]
    return {
        "image": str(image),
        "box": list(region or (0, 0, crop.shape[1], crop.shape[0])),
        "class": answer.label,
        "probability": answer.probability,
        "weights": answer.weights,
        "p_animal": answer.p_animal,
        "similarity_m": answer.similarity_m,
        "seconds": round(time.monotonic() - started, 4),
    }

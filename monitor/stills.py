"""Stills for `classify` and `teach`: cut out the box, as the live path cuts moving things, and word the answer."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.classes import ClassSet
from adapters.classifier import Classifier
from adapters.crops import LabelledCrop
from adapters.errors import InputError
from adapters.provenance import UNKNOWN, Provenance
from adapters.stills import read_picture
from monitor.regions import crop_box
from monitor.values import Box

Region = tuple[float, float, float, float]  # x, y, w, h
LEAST_INSIDE = 0.6  # of a box: what is left of less shows another part of an animal than was meant, or none
LARGEST_PX = 1e6  # of a coordinate; beyond any picture


def crop_still(image: Path, region: Region | None) -> LabelledCrop:
    """Return the crop of a still; the whole picture without a region.

    Raises:
        InputError: the picture can't be read, or the region lies outside it.
    """
    picture, whence = read_picture(image), Provenance(file=str(image))
    if region is None:
        height, width = picture.shape[:2]
        return LabelledCrop(picture, provenance=replace(whence, box=(0, 0, width, height)))
    return cut(picture, region, str(image), whence)


def cut(picture: NDArray[np.uint8], region: Region, name: str, whence: Provenance = UNKNOWN) -> LabelledCrop:
    """Return a region of a picture with a margin.

    Args:
        picture: uint8 (height, width, 3), BGR.
        region: what sticks out of the picture a little is cut off.
        name: tells which in an error.
        whence: what is known of the picture; the box is added.

    Raises:
        InputError: less than `LEAST_INSIDE` of the region lies inside the picture.
    """
    size = (picture.shape[1], picture.shape[0])
    box = _inside(region, size, name)
    x1, y1, x2, y2 = (round(value) for value in crop_box(box, size))
    left, top, right, bottom = (round(value) for value in box)
    return LabelledCrop(
        picture[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)],
        (max(0, left - x1), max(0, top - y1), right - x1, bottom - y1),
        replace(whence, box=(box.x1, box.y1, box.width, box.height)),
    )


def _inside(region: Region, size: tuple[int, int], name: str) -> Box:
    """Return the part of a region that lies inside a picture of (width, height), where that is most of it."""
    x, y, w, h = region
    told, picture = f"{name}: the box {x:g},{y:g},{w:g},{h:g}", f"the picture of {size[0]} x {size[1]} pixels"
    if not all(abs(value) <= LARGEST_PX for value in region) or w <= 0 or h <= 0:  # no number is below anything
        raise InputError(f"{told} is none of {picture}")
    drawn = Box(x, y, x + w, y + h)
    box = drawn.clipped(size)
    if box.width < 1 or box.height < 1:
        raise InputError(f"{told} lies outside {picture}")
    share = box.area / drawn.area
    if share < LEAST_INSIDE:
        raise InputError(
            f"{told} lies to {100 * share:.0f} % inside {picture}; at least {100 * LEAST_INSIDE:.0f} % are needed"
        )
    return box


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

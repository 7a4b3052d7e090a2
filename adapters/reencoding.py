"""What becomes of taught shots when another encoder is put in: encoded anew, from pictures or the starter set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from adapters.classes import Shot
from adapters.classifier import Classifier
from adapters.crops import Crops
from adapters.encoder import Features
from adapters.runtime import STARTER
from adapters.starter import read_starter

REASON = "new encoder: frames without pictures are left out"


class Rebuilt(NamedTuple):
    """What became of a store's shots: how many were encoded anew, and which classes nothing is left of."""

    shots: int
    lost: tuple[str, ...]


def encoded_anew(
    stale: Sequence[tuple[int, str | None, str]], crops: Crops, classifier: Classifier
) -> dict[int, Features]:
    """Return features of what another encoder made: those of its kept crop, else of the starter set's next shot.

    Args:
        stale: (number, crop, class) of each shot.
        crops: the kept ones.
        classifier: encodes them, and may bring a starter set.
    """
    starter: dict[str, list[Shot]] = {}
    if any(crop is None for _, crop, _ in stale) and (classifier.folder / STARTER).exists():
        read = read_starter(classifier.folder, classifier.encoder_hash)
        starter = {attributes.name: list(shots) for attributes, shots in read.items()}
    encoded: dict[int, Features] = {}
    for number, crop, name in stale:
        picture = crops.picture(crop)
        if picture is not None:
            encoded[number] = classifier.encode.shots([picture])[0]
        elif crop is None and starter.get(name):
            encoded[number] = starter[name].pop(0).features
    return encoded

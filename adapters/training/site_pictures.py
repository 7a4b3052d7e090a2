"""A site's own pictures as training material: a folder of class folders, checked, shuffled, read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from adapters.errors import InputError
from adapters.evaluation.episodes import Pool, read_pool
from adapters.training.pictures import read_for_training

Labelled = tuple[int, int]  # a picture of the pool, and its class


@dataclass(frozen=True)
class SitePictures:
    """Class names, and the pictures of each class in drawn order, to be split by whoever learns from them."""

    pool: Pool
    shuffled: tuple[tuple[int, ...], ...]

    def read(self, rows: Sequence[Labelled]) -> tuple[list[NDArray[np.uint8]], NDArray[np.int64]]:
        """Return pictures and labels (n,)."""
        pictures = [read_for_training(self.pool.pictures[row]) for row, _ in rows]
        return pictures, np.array([label for _, label in rows])


def site_pictures(images: Path, rng: Generator, *, least: int, purpose: str, why_two: str) -> SitePictures:
    """List a folder of class folders.

    Args:
        images: the folder.
        rng: shuffles.
        least: pictures that each class must have.
        purpose: who needs them, for the message.
        why_two: what it needs two classes for.

    Raises:
        InputError: one class alone, a class with too few pictures, or see `read_pool`.
    """
    pool = read_pool(images, rng)
    if len(pool.classes) < 2:
        raise InputError(f"{images}: 1 class folder; {why_two}")
    shuffled = []
    for name, members in zip(pool.classes, pool.of_class, strict=True):
        if len(members) < least:
            raise InputError(f"{images / name}: {len(members)} pictures; {purpose} needs {least} of each class")
        shuffled.append(tuple(rng.permutation(members).tolist()))
    return SitePictures(pool, tuple(shuffled))

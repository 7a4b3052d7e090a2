"""Pictures of an evaluation -> features: each once, by the deployed encoder and by the pretrained one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapters.classifier import Classifier
from adapters.encoder import Encoder, Features, joined
from adapters.evaluation.conditions import VIEWS, view
from adapters.evaluation.episodes import Episode, Item, Pool, generator, needed
from adapters.evaluation.methods import Encoded, Vectors
from adapters.runtime import MODELS, PRETRAINED
from adapters.stills import read_learnable
from adapters.workers import Say, Workers

BATCH = 64  # pictures that are encoded together
MOST_BYTES = 400_000_000  # of them in memory, roughly
TOLD_EVERY = 10  # batches


class Views:
    """The pictures of a pool, as the views of a condition show them."""

    def __init__(self, pool: Pool, condition: str, seed: int) -> None:
        self._pictures, self._seed = pool.pictures, seed
        self._names = [*VIEWS[condition], "clean"]  # so that -1 is clean
        # of the support, which is always clean: the view of the queries where they are clean too, else the last
        self.clean = VIEWS[condition].index("clean") if "clean" in VIEWS[condition] else -1
        self._newest: tuple[int, NDArray[np.uint8]] | None = None

    def __call__(self, item: Item) -> NDArray[np.uint8]:
        """Return a picture in a view; all views of a picture are best asked for one after another."""
        row, number = item
        newest = self._newest
        if newest is None or newest[0] != row:
            newest = self._newest = row, read_learnable(self._pictures[row])
        return view(newest[1], self._names[number], generator(self._seed, 2, row, number + 1))


@dataclass(frozen=True)
class EncodeItems:
    """Encodes (picture, view) pairs with both encoders; those to learn from in the views that they are learned in."""

    encode: Encoder
    pretrained: Encoder
    picture: Views
    learned: frozenset[Item]

    def __call__(self, items: Sequence[Item]) -> tuple[Features, Vectors, dict[int, Features]]:
        """Return the looks at n items, the pretrained encoder's vectors (n, d), and shots by their picture."""
        looks: list[Features] = []
        frozen: list[Vectors] = []
        seen: dict[int, Features] = {}
        for some, crops in _batches(items, self.picture):
            looks.append(_halved(self.encode.looks(crops)))
            frozen.append(self.pretrained(crops).glob)
            taught = [
                (row, crop) for (row, number), crop in zip(some, crops, strict=True) if (row, number) in self.learned
            ]
            shots = self.encode.shots([crop for _, crop in taught])
            seen |= {row: _halved(features) for (row, _), features in zip(taught, shots, strict=True)}
        return joined(looks), np.concatenate(frozen), seen


def encoded_items(
    classifier: Classifier, episodes: Sequence[Episode], picture: Views, workers: Workers, progress: Say
) -> Encoded:
    """Return all that episodes ask for, as the classifier and the pretrained encoder see it.

    Raises:
        InputError: a picture can't be read.
        ModelError: the pretrained encoder is missing.
    """
    support, asked = needed(episodes)
    learned = frozenset((row, picture.clean) for row in support)
    items = sorted(learned | set(asked))
    work = EncodeItems(classifier.encode, Encoder(MODELS, PRETRAINED, device="auto"), picture, learned)
    batches = [items[i : i + BATCH] for i in range(0, len(items), BATCH)]
    parts: dict[int, tuple[Features, Vectors, dict[int, Features]]] = {}
    for number, part in workers.map(work, batches, cpus=classifier.encode.threads, gpu=True):
        parts[number] = part
        if len(parts) % TOLD_EVERY == 0:
            progress(f"encoding: {len(parts) * BATCH} of {len(items)} pictures")
    looks, frozen, shots = zip(*(parts[number] for number in range(len(batches))), strict=True)
    rows = {item: number for number, item in enumerate(items)}
    by_picture = {row: features for part in shots for row, features in part.items()}
    return Encoded(by_picture, joined(looks), np.concatenate(frozen), rows, picture)


def _batches(
    items: Sequence[Item], picture: Callable[[Item], NDArray[np.uint8]]
) -> Iterator[tuple[list[Item], list[NDArray[np.uint8]]]]:
    """Yield items with their pictures, a few at a time where they are huge."""
    some: list[Item] = []
    crops: list[NDArray[np.uint8]] = []
    for item in items:
        some.append(item)
        crops.append(picture(item))
        if sum(crop.size for crop in crops) > MOST_BYTES:
            yield some, crops
            some, crops = [], []
    if some:
        yield some, crops


def _halved(features: Features) -> Features:
    """Return features that take half the memory."""
    return Features(features.tok.astype(np.float16), features.glob)

"""The feature bank: every base picture in several views through encode.onnx, kept on disk.

The encoder stays frozen while the head is trained, so features are computed once: an episode then costs milliseconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from adapters.encoder import SHOT_VIEWS, Encoder, shot_views
from adapters.training.domains import DOMAIN_SHARES, DOMAINS, random_square, shoot
from adapters.training.pictures import ROAD_CLIPS, clip_frames, read_for_training
from adapters.training.splits import Role, class_folders

CLEAN_VIEWS, DEGRADED_VIEWS = SHOT_VIEWS, 3  # of each picture: as it would be taught, and seen through bad cameras
N_VIEWS = CLEAN_VIEWS + DEGRADED_VIEWS
MOST_PICTURES = 60  # of a class
N_ROAD = 150  # squares of each road clip
ROAD = "road:"  # begins the name of a class that is a clip without animals
BATCH = 32
FACTS = "bank.json"


@dataclass(frozen=True, kw_only=True)
class Bank:
    """Features of n pictures in `N_VIEWS` views.

    Attributes:
        classes: names; those of road clips begin with `road:` and are never taught.
        labels: class of each picture, int (n,).
        domains: index into `DOMAINS`, int (n, N_VIEWS).
        tok: tokens, float16 (n, N_VIEWS, T, d_token), mapped from disk.
        glob: pooled vectors, float32 (n, N_VIEWS, d).
    """

    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    domains: NDArray[np.int64]
    tok: NDArray[np.float16]
    glob: NDArray[np.float32]

    @cached_property
    def taught(self) -> list[int]:
        """Classes that an episode may teach."""
        return [number for number, name in enumerate(self.classes) if not name.startswith(ROAD)]

    @cached_property
    def members(self) -> list[NDArray[np.int64]]:
        """The pictures of each class."""
        return [np.flatnonzero(self.labels == number) for number in range(len(self.classes))]

    def features(self, pictures: NDArray[np.int64], views: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return tokens (..., T, d_token) and pooled vectors (..., d) of pictures (...) in views (...)."""
        return torch.from_numpy(self.tok[pictures, views].astype(np.float32)), torch.from_numpy(
            self.glob[pictures, views]
        )


Material = tuple[list[NDArray[np.uint8]], NDArray[np.int64], list[str]]  # pictures, their labels, the labels' names


def build(data: Path, role: Role, folder: Path, encode: Encoder, seed: int, say: Callable[[str], None]) -> Bank:
    """Return the bank of a role, from disk where this encoder's is there already."""
    facts = {"encoder": encode.hash, "seed": seed, "role": role, "views": N_VIEWS, "pictures": MOST_PICTURES}
    if (folder / FACTS).exists():
        stored = json.loads((folder / FACTS).read_text())
        if {name: stored.get(name) for name in facts} == facts:
            return _load(folder, tuple(stored["classes"]))
    rng = np.random.default_rng((seed, 7))
    return fill(_pictures(data, role, rng), folder, encode, rng, facts, say)


def fill(
    material: Material,
    folder: Path,
    encode: Encoder,
    rng: Generator,
    facts: dict[str, object],
    say: Callable[[str], None],
) -> Bank:
    """Encode pictures in all views and keep them in a folder; the facts, written last, say what they were made of."""
    pictures, labels, classes = material
    folder.mkdir(parents=True, exist_ok=True)
    say(f"bank: {len(pictures)} pictures of {len(classes)} classes, {N_VIEWS} views each")
    domains = np.zeros((len(pictures), N_VIEWS), np.int64)
    tok = glob = None
    for start in range(0, len(pictures), BATCH):
        some = pictures[start : start + BATCH]
        views, seen = zip(*(view for picture in some for view in _views(picture, rng)), strict=True)
        features = encode(views)
        if tok is None or glob is None:
            tok = np.lib.format.open_memmap(
                folder / "tok.npy", "w+", np.float16, (len(pictures), N_VIEWS, *features.tok.shape[1:])
            )
            glob = np.zeros((len(pictures), N_VIEWS, features.glob.shape[1]), np.float32)
        rows = slice(start, start + len(some))
        tok[rows] = features.tok.reshape(len(some), N_VIEWS, *features.tok.shape[1:])
        glob[rows] = features.glob.reshape(len(some), N_VIEWS, -1)
        domains[rows] = np.array(seen).reshape(len(some), N_VIEWS)
        if start // BATCH % 20 == 19:
            say(f"bank: {start + len(some)} of {len(pictures)} pictures")
    np.save(folder / "glob.npy", glob)
    np.save(folder / "labels.npy", labels)
    np.save(folder / "domains.npy", domains)
    (folder / FACTS).write_text(json.dumps(facts | {"classes": classes}))
    return _load(folder, tuple(classes))


def _load(folder: Path, classes: tuple[str, ...]) -> Bank:
    def load(name: str, mode: str | None = None) -> NDArray[np.generic]:
        return np.load(folder / f"{name}.npy", mmap_mode=mode, allow_pickle=False)

    return Bank(
        classes=classes, labels=load("labels"), domains=load("domains"), tok=load("tok", "r"), glob=load("glob")
    )


def _pictures(data: Path, role: Role, rng: Generator) -> Material:
    pictures: list[NDArray[np.uint8]] = []
    labels: list[int] = []
    classes: list[str] = []
    for source in ("species", "mini-imagenet"):
        for folder in class_folders(data, source, role):
            chosen = sorted(rng.permutation(len(folder.pictures))[:MOST_PICTURES])
            pictures += [read_for_training(folder.pictures[i]) for i in chosen]
            labels += [len(classes)] * len(chosen)
            classes.append(folder.name)
    for name in ROAD_CLIPS:
        squares = list(_road_squares(data / "clips" / name, rng))
        pictures += squares
        labels += [len(classes)] * len(squares)
        classes.append(f"{ROAD}{name}")
    return pictures, np.array(labels), classes


def _road_squares(clip: Path, rng: Generator) -> Iterator[NDArray[np.uint8]]:
    """Yield squares of 20 to 200 px of a clip without animals: cars, people, asphalt, signs."""
    frames = list(clip_frames(clip, every=10))
    for _ in range(min(N_ROAD, 8 * len(frames))):
        frame = frames[rng.integers(len(frames))]
        height, width = frame.shape[:2]
        side = round(float(np.exp(rng.uniform(np.log(20), np.log(min(200, height, width))))))
        y, x = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
        yield frame[y : y + side, x : x + side].copy()


def _views(picture: NDArray[np.uint8], rng: Generator) -> Iterator[tuple[NDArray[np.uint8], int]]:
    yield from ((view, 0) for view in shot_views(picture))
    for _ in range(DEGRADED_VIEWS):
        domain = int(rng.choice(len(DOMAINS), p=DOMAIN_SHARES))
        yield shoot(random_square(picture, rng, share=(0.7, 1.0)), DOMAINS[domain], rng), domain

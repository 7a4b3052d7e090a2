"""The feature bank: every base picture in several views through encode.onnx, kept on disk.

The encoder stays frozen while the head is trained, so features are computed once: an episode then costs milliseconds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from adapters.class_folders import ClassFolder, folders_of_classes
from adapters.encoder import SHOT_VIEWS, Encoder, Features, shot_views
from adapters.errors import InputError
from adapters.files import write_whole
from adapters.stills import PictureFile
from adapters.training.domains import DOMAIN_SHARES, DOMAINS, Picture, random_square, shoot
from adapters.training.pictures import ROAD_CLIPS, clip_frames, read_for_training
from adapters.training.splits import SOURCES, Role, class_folders
from adapters.workers import Say, Workers

CLEAN_VIEWS, DEGRADED_VIEWS = SHOT_VIEWS, 3  # of each picture: as it would be taught, and seen through bad cameras
N_VIEWS = CLEAN_VIEWS + DEGRADED_VIEWS
MOST_PICTURES = 60  # of a class
N_ROAD = 150  # squares of each road clip
ROAD = "road:"  # begins the name of a class that is a clip without animals
LEAST_PICTURES = 3  # of a further class: one is taught, two are asked
DRAWN: dict[str, object] = {"views": N_VIEWS, "pictures": MOST_PICTURES, "drawn": "by picture"}  # how, in the facts
BATCH = 32
FACTS, BEGUN = "bank.json", "begun.json"  # the first is written last
ARRAYS: dict[str, Literal["r"] | None] = {"labels": None, "domains": None, "tok": "r", "glob": "r"}
KEPT_EVERY = 640  # pictures


@dataclass(frozen=True, kw_only=True)
class Bank:
    """Features of n pictures in `N_VIEWS` views.

    Attributes:
        classes: names; those of road clips begin with `road:` and are never taught.
        labels: class of each picture, int (n,).
        domains: index into `DOMAINS`, int (n, N_VIEWS).
        tok: tokens, float16 (n, N_VIEWS, T, d_token), mapped from disk.
        glob: pooled vectors, float32 (n, N_VIEWS, d), mapped from disk.
    """

    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    domains: NDArray[np.int64]
    tok: NDArray[np.float16]
    glob: NDArray[np.float32]

    @classmethod
    def load(cls, folder: Path) -> Bank:
        """Return the bank of a folder.

        Raises:
            InputError: there is none.
        """
        if not (folder / FACTS).exists():
            raise InputError(f"{folder}: no feature bank; a run's folder must be where every node sees it")
        classes = json.loads((folder / FACTS).read_text())["classes"]
        arrays = {
            name: np.load(folder / f"{name}.npy", mmap_mode=mode, allow_pickle=False) for name, mode in ARRAYS.items()
        }
        return cls(classes=tuple(classes), **arrays)

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


@dataclass(frozen=True)
class Material:
    """What a bank is made of: pictures or where they lie, their labels, the labels' names."""

    pictures: list[PictureFile | Picture]
    labels: NDArray[np.int64]
    classes: list[str]

    def digest(self) -> str:
        """Return what tells it from another list of pictures."""
        names = [str(one.shape) if isinstance(one, np.ndarray) else str(one) for one in self.pictures]
        return hashlib.sha256("\n".join([*names, *self.classes]).encode()).hexdigest()


@dataclass(frozen=True)
class EncodeViews:
    """Encodes pictures in all views; the views of a picture depend on the seed and its number alone."""

    encode: Encoder
    seed: int

    def __call__(self, some: Sequence[tuple[int, PictureFile | Picture]]) -> tuple[Features, NDArray[np.int64]]:
        """Return features (n * N_VIEWS, ...), tokens as float16, and domains (n, N_VIEWS) of numbered pictures."""
        crops, domains = [], []
        for number, picture in some:
            pixels = picture if isinstance(picture, np.ndarray) else read_for_training(picture)
            views, seen = zip(*_views(pixels, np.random.default_rng((self.seed, 7, number))), strict=True)
            crops += views
            domains.append(seen)
        features = self.encode(crops)
        return Features(features.tok.astype(np.float16), features.glob), np.array(domains)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a bank's pictures come from.

    Attributes:
        data: folder with images/ and clips/.
        role: of the classes.
        more: folders of further class folders.
    """

    data: Path
    role: Role
    more: tuple[Path, ...] = ()


def build(source: Source, folder: Path, encode: Encoder, seed: int, workers: Workers, say: Say) -> Bank:
    """Return the bank of a role, from disk where this encoder's is there already; a killed one is gone on with."""
    more = [str(path) for path in source.more]
    facts = {"encoder": encode.hash, "seed": seed, "role": source.role, "more": more, **DRAWN}
    if _holds(folder / FACTS, facts):
        return Bank.load(folder)
    material = _material(source, np.random.default_rng((seed, 7)))
    return fill(material, folder, EncodeViews(encode, seed), facts, workers, say)


def fill(
    material: Material, folder: Path, work: EncodeViews, facts: dict[str, object], workers: Workers, say: Say
) -> Bank:
    """Encode pictures in all views and keep them in a folder; the facts, written last, say what they were made of."""
    say(f"bank: {len(material.pictures)} pictures of {len(material.classes)} classes, {N_VIEWS} views each")
    _encode(material, folder, work, facts, workers, say)
    write_whole(folder / FACTS, json.dumps(facts | {"classes": material.classes}).encode())
    return Bank.load(folder)


def _holds(path: Path, facts: dict[str, object]) -> bool:
    """Tell whether a file of facts is there and says the same."""
    if not path.exists():
        return False
    stored = json.loads(path.read_text())
    return {name: stored.get(name) for name in facts} == facts


def _encode(
    material: Material, folder: Path, work: EncodeViews, facts: dict[str, object], workers: Workers, say: Say
) -> None:
    """Encode what is not encoded yet, and write each picture's features to its row."""
    count, seen = len(material.pictures), work.encode([np.zeros((8, 8, 3), np.uint8)])
    facts = facts | {"listed": material.digest()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FACTS).unlink(missing_ok=True)
    if not (goes_on := _holds(folder / BEGUN, facts)):
        (folder / BEGUN).unlink(missing_ok=True)  # or what another began would be taken for its own
    shapes = {
        "done": ((count,), np.bool_),
        "labels": ((count,), np.int64),
        "domains": ((count, N_VIEWS), np.int64),
        "tok": ((count, N_VIEWS, *seen.tok.shape[1:]), np.float16),
        "glob": ((count, N_VIEWS, seen.glob.shape[1]), np.float32),
    }
    arrays = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", "r+" if goes_on else "w+", dtype, shape)
        for name, (shape, dtype) in shapes.items()
    }
    arrays["labels"][:] = material.labels
    for array in arrays.values():
        array.flush()  # or the file below could outlive a power cut without them
    write_whole(folder / BEGUN, json.dumps(facts).encode())
    left = np.flatnonzero(~arrays["done"]).tolist()
    batches = [[(row, material.pictures[row]) for row in left[i : i + BATCH]] for i in range(0, len(left), BATCH)]
    ready: list[int] = []
    for number, (features, domains) in workers.map(work, batches, cpus=work.encode.threads, gpu=True):
        rows = [row for row, _ in batches[number]]
        arrays["domains"][rows] = domains
        arrays["tok"][rows] = features.tok.reshape(len(rows), *shapes["tok"][0][1:])
        arrays["glob"][rows] = features.glob.reshape(len(rows), *shapes["glob"][0][1:])
        ready += rows
        if len(ready) >= KEPT_EVERY:
            _keep(arrays, ready)
            say(f"bank: {int(arrays['done'].sum())} of {count} pictures")
            ready = []
    _keep(arrays, ready)


def _keep(arrays: dict[str, np.memmap[Any, Any]], rows: list[int]) -> None:
    """Note rows as done once they are on the disk: a power cut must not leave empty ones that seem whole."""
    for array in arrays.values():
        array.flush()
    arrays["done"][rows] = True
    arrays["done"].flush()


def _material(source: Source, rng: Generator) -> Material:
    pictures: list[PictureFile | Picture] = []
    labels: list[int] = []
    classes: list[str] = []

    def add(name: str, members: Sequence[PictureFile | Picture]) -> None:
        pictures.extend(members)
        labels.extend([len(classes)] * len(members))
        classes.append(name)

    for folder in [*_of_role(source), *_more(source)]:
        chosen = sorted(rng.permutation(len(folder.pictures))[:MOST_PICTURES])
        add(folder.name, [folder.pictures[i] for i in chosen])
    for name in ROAD_CLIPS:
        add(f"{ROAD}{name}", list(_road_squares(source.data / "clips" / name, rng)))
    return Material(pictures, np.array(labels), classes)


def _of_role(source: Source) -> list[ClassFolder]:
    return [folder for name in ("species", "mini-imagenet") for folder in class_folders(source.data, name, source.role)]


def _more(source: Source) -> Iterator[ClassFolder]:
    """Yield further classes; refuse those that are held back, and a class that is there already.

    Raises:
        InputError: see there, or in a class too few pictures to be taught and asked about.
    """
    taken = {folder.name for folder in _of_role(source)}
    held_back = {
        folder.name
        for name in SOURCES
        for role in get_args(Role)
        if role != "train"
        for folder in class_folders(source.data, name, role)
    }
    for root in source.more:
        for folder in folders_of_classes(root):
            if folder.name in held_back:
                raise InputError(f"{root}: class {folder.name} is held back for tuning or reporting; leave it out")
            if folder.name in taken:
                raise InputError(f"{root}: there is a class {folder.name} already; classes need names of their own")
            if len(folder.pictures) < LEAST_PICTURES:
                raise InputError(
                    f"{root}: class {folder.name} has {len(folder.pictures)} pictures, training needs {LEAST_PICTURES}"
                )
            taken.add(folder.name)
            yield folder


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

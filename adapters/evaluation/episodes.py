"""Episodes: small recognition tasks drawn from a folder of class folders, stored so that every method sees the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator

from adapters.class_folders import folders_of_classes
from adapters.errors import InputError
from adapters.stills import PictureFile

N_QUERY = 15  # a class, where the folder has as many
MAX_PICTURES = 150  # of a class; more would only lengthen the run

Item = tuple[int, int]  # index of a picture, index of a view of the condition


@dataclass(frozen=True)
class Pool:
    """The pictures that episodes are drawn from.

    Attributes:
        folder: holds a folder for each class.
        classes: name of each class.
        pictures: all files.
        of_class: indices into `pictures`, class by class.
    """

    folder: Path
    classes: tuple[str, ...]
    pictures: tuple[PictureFile, ...]
    of_class: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One task.

    Attributes:
        support: pictures of each class to learn from, the same number each, in the order in which shots are taken.
        queries: (picture, view) pairs to recognise, class by class.
        unknown: (picture, view) pairs of classes that the episode does not teach.
    """

    support: list[list[int]]
    queries: list[list[Item]]
    unknown: list[Item]


def read_pool(folder: Path, rng: Generator) -> Pool:
    """List a folder of class folders; of large classes a drawn part.

    Raises:
        InputError, ConfigError: see `folders_of_classes`.
    """
    pictures: list[PictureFile] = []
    of_class = []
    classes = folders_of_classes(folder)
    for found in classes:
        kept = sorted(rng.permutation(len(found.pictures))[:MAX_PICTURES])
        of_class.append(tuple(range(len(pictures), len(pictures) + len(kept))))
        pictures += [found.pictures[i] for i in kept]
    return Pool(folder, tuple(found.name for found in classes), tuple(pictures), tuple(of_class))


def draw(pool: Pool, rng: Generator, *, ways: int, shots: int, count: int, n_views: int) -> Iterator[Episode]:
    """Yield episodes; unknown queries come from as many other classes, or as many as there are.

    Args:
        pool: what to draw from.
        rng: every draw comes from it.
        ways: classes to tell apart.
        shots: pictures of each to learn from; fewer shots take the first of them.
        count: episodes.
        n_views: views of the condition; queries take them in turn.

    Raises:
        InputError: too few classes, or a class with too few pictures.
    """
    if len(pool.classes) < ways:
        raise InputError(f"{pool.folder}: {len(pool.classes)} class folders; {ways} ways need at least {ways}")
    for name, members in zip(pool.classes, pool.of_class, strict=True):
        if len(members) <= shots:
            raise InputError(
                f"{pool.folder / name}: {len(members)} pictures; {shots} shots and a query need {shots + 1}"
            )
    for _ in range(count):
        order = rng.permutation(len(pool.classes))
        support, queries = [], []
        for member in order[:ways]:
            rows = rng.permutation(pool.of_class[member]).tolist()
            support.append(rows[:shots])
            queries.append(_with_views(rows[shots : shots + N_QUERY], rng, n_views))
        unknown = [rng.permutation(pool.of_class[member])[:N_QUERY].tolist() for member in order[ways : 2 * ways]]
        yield Episode(
            support=support,
            queries=queries,
            unknown=[item for rows in unknown for item in _with_views(rows, rng, n_views)],
        )


def _with_views(rows: list[int], rng: Generator, n_views: int) -> list[Item]:
    first = int(rng.integers(n_views))
    return [(row, (first + i) % n_views) for i, row in enumerate(rows)]


def store(path: Path, pool: Pool, episodes: Sequence[Episode], facts: Mapping[str, object]) -> None:
    """Write pool, episodes and what they were drawn for as JSON, so that another program can judge on the same."""
    listed = [str(picture).removeprefix(f"{pool.folder}/") for picture in pool.pictures]
    drawn = [asdict(episode) for episode in episodes]
    path.write_text(json.dumps({"folder": str(pool.folder), **facts, "pictures": listed, "episodes": drawn}) + "\n")


def needed(episodes: Sequence[Episode]) -> tuple[list[int], list[Item]]:
    """Return the pictures that serve as support, and the (picture, view) pairs that are asked, each once, sorted."""
    support = {row for episode in episodes for rows in episode.support for row in rows}
    asked = {item for episode in episodes for rows in (*episode.queries, episode.unknown) for item in rows}
    return sorted(support), sorted(asked)


def generator(seed: int, *parts: int) -> Generator:
    """Return the generator of a seed and what it is for."""
    return np.random.default_rng((seed, *parts))
